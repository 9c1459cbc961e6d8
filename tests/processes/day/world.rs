//! What the registry of the day runs on, and what can be done to it: a clock and a disk that obey
//! the test.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hit7_support::{announce, skip};

use crate::steps::Faketime;

/// Syncs fail, or take as many milliseconds as the file named by `SYNCS` says; they hang as long as it
/// says so.
const LIBRARY: &str = r#"#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
static int obey(const char *call, int fd) {
    char says[16] = {0};
    int file;
    do {
        usleep(says[0] == 'h' ? 20000 : 0);
        says[0] = 0;
        file = open(getenv("SYNCS"), O_RDONLY | O_CLOEXEC);
        if (file >= 0) {
            if (read(file, says, 15) < 0) says[0] = 0;
            close(file);
        }
    } while (says[0] == 'h');
    if (says[0] == 'f') { errno = EIO; return -1; }
    if (says[0]) usleep(1000 * atoi(says));
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, call);
    return real(fd);
}
int fdatasync(int fd) { return obey("fdatasync", fd); }
int fsync(int fd) { return obey("fsync", fd); }
"#;

/// The clock, the disk and the limits of the registry.
pub(super) struct World {
    pub(super) clock: Option<Faketime>,
    disk: Option<Disk>,
    library: Option<PathBuf>,
    /// A group of processes of which the number of threads can be limited.
    pub(super) threads: Option<Group>,
    folder: tempfile::TempDir,
}

impl World {
    /// Makes a world whose disk is at `home`; says what this machine lacks for it.
    pub(super) fn new(home: &Path) -> World {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::mount(home, &folder.path().join("disk"));
        if disk.is_none() {
            skip("mounting a small disk needs root: no disk gets full");
        }
        let threads = Group::new();
        if threads.is_none() {
            announce("a group of processes with few threads needs root and cgroups");
        }
        let library = library(folder.path());
        World { clock: Faketime::find(), disk, library, threads, folder }
    }

    fn syncs(&self) -> PathBuf {
        self.folder.path().join("syncs")
    }

    /// Makes syncs hang (`h`), fail (`f`) or take milliseconds (a number).
    pub(super) fn set_syncs(&self, says: &str) {
        let next = self.folder.path().join("next");
        fs::write(&next, says).unwrap();
        fs::rename(next, self.syncs()).unwrap();
    }

    /// Fills the disk, if it is a small one, until the returned file is removed.
    pub(super) fn fill(&self) -> Option<PathBuf> {
        let path = self.disk.as_ref()?.at.join("ballast");
        let mut ballast = fs::File::create(&path).ok()?;
        while ballast.write(&[7; 65536]).is_ok() {}
        while ballast.write(&[7; 512]).is_ok() {}
        Some(path)
    }

    /// Makes the command's program run in this world.
    pub(super) fn applied_to(&self, mut command: Command) -> Command {
        command.env("SYNCS", self.syncs());
        if let Some(clock) = &self.clock {
            command = clock.applied_to(command);
        }
        let clock = command.get_envs().find(|(name, _)| *name == "LD_PRELOAD");
        let clock = clock.and_then(|(_, value)| Some(value?.to_str()?.to_owned()));
        let disk = self.library.as_ref().map(|path| path.to_str().unwrap().to_owned());
        let preload: Vec<String> = clock.into_iter().chain(disk).collect();
        command.env("LD_PRELOAD", preload.join(":"));
        command
    }
}

fn library(folder: &Path) -> Option<PathBuf> {
    let path = folder.join("syncs.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-x", "c", "-", "-ldl", "-o"]).arg(&path).stdin(Stdio::piped());
    let Ok(mut cc) = cc.spawn() else {
        skip("there is no C compiler here (apt-get install gcc): no sync fails");
        return None;
    };
    cc.stdin.take().unwrap().write_all(LIBRARY.as_bytes()).unwrap();
    assert!(cc.wait().unwrap().success());
    Some(path)
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|done| done.status.success())
}

/// A small file system, unmounted when dropped.
struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts an ext4 of 400 MB from the file `image`, or a file system in memory.
    fn mount(at: &Path, image: &Path) -> Option<Disk> {
        let ext4 = succeeds(Command::new("truncate").args(["-s", "400M"]).arg(image))
            && succeeds(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(image))
            && succeeds(Command::new("mount").args(["-o", "loop"]).arg(image).arg(at));
        let tmpfs = ["-t", "tmpfs", "-o", "size=200m", "tmpfs"];
        (ext4 || succeeds(Command::new("mount").args(tmpfs).arg(at)))
            .then(|| Disk { at: at.to_owned() })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// A control group of the kernel (cgroup), for the limit of its threads.
pub(super) struct Group(PathBuf);

impl Group {
    fn new() -> Option<Group> {
        let name = format!("hit7-day-{}", std::process::id());
        let at = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(|dir| Path::new(dir).join(&name));
        let is_made = |at: &&PathBuf| {
            let made = fs::create_dir(at).is_ok();
            made && at.join("pids.max").exists() || {
                let _ = fs::remove_dir(at);
                false
            }
        };
        at.iter().find(is_made).cloned().map(Group)
    }

    /// Puts a process into the group, which has as many threads as it may have then.
    pub(super) fn limit(&self, pid: u32, more: u64) {
        let _ = fs::write(self.0.join("cgroup.procs"), pid.to_string());
        let now = fs::read_to_string(self.0.join("pids.current")).unwrap_or_default();
        let now: u64 = now.trim().parse().unwrap_or(1);
        let _ = fs::write(self.0.join("pids.max"), (now + more).to_string());
    }

    pub(super) fn free(&self) {
        let _ = fs::write(self.0.join("pids.max"), "max");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
