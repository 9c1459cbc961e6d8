//! A registry as a process, and the journal that it starts with.

use std::fs::{DirBuilder, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use hit7::path;
use hit7::proto::Profile;
use hit7::record::{Header, Record, Registration};
use hit7::window::{Wall, Window};

use crate::wire::source;

/// The path of a window's file below the folder of the journal or the documents, without extension.
pub fn file_of(window: Window) -> PathBuf {
    window.to_string().replace('T', "/").replace(":00Z", "").replace(':', "-").into()
}

/// Writes the journal of a window with so many members, at these ports by turns.
pub fn write_journal(data: &Path, header: Header, members: usize, ports: &[u16]) -> io::Result<()> {
    let path = data.join("journal").join(file_of(header.window)).with_extension("jsonl");
    let day = path.parent().expect("a journal is in the folder of its day");
    DirBuilder::new().recursive(true).mode(0o700).create(day)?;
    let mut lines = Vec::new();
    header.write_line(&mut lines);
    for member in 0..members {
        let peer = SocketAddr::from((source(member / ports.len()), ports[member % ports.len()]));
        let registration = Registration {
            window: header.window,
            at: Wall::from_millis(header.window.opens().millis() - 30_000),
            path: path::Path::new(peer, Ipv4Addr::LOCALHOST.into()),
            id: format!("{member:011x}").parse().ok(),
            seq: Some(1),
            profile: Profile {
                room: "main".parse().expect("a room"),
                name: format!("member-{member}").parse().ok(),
                lan: None,
            },
        };
        Record::Register(registration).write_line(&mut lines, 0);
    }
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&lines)?;
    file.flush()
}

/// A running registry without caps; killed when dropped.
pub struct Process {
    child: Child,
    /// The address that it listens on.
    pub addr: SocketAddr,
    /// Kept open: a registry that cannot print any more ends.
    _out: BufReader<ChildStdout>,
}

impl Process {
    /// Starts the program `hit7` on `core`; it listens when this returns.
    pub fn start(hit7: &Path, core: usize, data: &Path, more: &[&str]) -> io::Result<Process> {
        let mut child = Command::new("taskset")
            .args(["-c", &core.to_string()])
            .arg(hit7)
            .args(["serve", "127.0.0.1", "0", "--plain", "--workers", "1"])
            .args(["--max-room", "0", "--max-window", "0"])
            .args(more)
            .arg("--data")
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut first = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
        out.read_line(&mut first)?;
        let addr = first.trim().strip_prefix("listening on ").and_then(|it| it.parse().ok());
        let addr = addr.ok_or_else(|| io::Error::other(format!("no registry: {first}")))?;
        Ok(Process { child, addr, _out: out })
    }

    /// The id of the process: `taskset` becomes the program.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
