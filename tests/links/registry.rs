//! Starts a registry as a process on one host of the lab.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

use crate::lab::Lab;

/// A running registry, killed when dropped.
pub(crate) struct Registry {
    child: Child,
    /// The port that the registry listens on, at all addresses of its host.
    pub(crate) port: u16,
    _data: TempDir,
}

impl Registry {
    /// Starts a registry on `host` and waits until it listens.
    pub(crate) fn start(lab: &Lab, host: &str, flags: &[&str]) -> Registry {
        let data = data();
        let mut child = lab.at(host, || {
            Command::new(env!("CARGO_BIN_EXE_hit7"))
                .args(["serve", "0", "--rate", "0", "--max-per-ip", "0", "--data"])
                .arg(data.path())
                .args(flags)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let first = lines.next().expect("it says where it listens");
        // The rest of the output is read too, so that the registry never blocks on the pipe.
        thread::spawn(move || lines.for_each(drop));
        let port = first.rsplit_once(':').expect("an address").1.parse().expect("a port");
        Registry { child, port, _data: data }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes the data folder, in `/dev/shm` if there is one: the disk's speed must not matter.
fn data() -> TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap()
}
