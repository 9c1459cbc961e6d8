//! A data folder for a test's registry, and the running registry.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::{Exit, Hit7, Program, UdpClient, until};

/// A folder for a registry's data, removed with the last handle to it.
#[derive(Clone)]
pub struct Home {
    hit7: Hit7,
    folder: Arc<TempDir>,
}

impl Home {
    /// Makes a folder in `/dev/shm` if there is one: on a busy disk one sync takes longer than a
    /// client that exits waits for LEFT.
    pub fn in_memory(hit7: Hit7) -> Home {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Home { hit7, folder: Arc::new(folder) }
    }

    /// Makes a folder for temporary files, which is on a real disk on most machines.
    pub fn on_disk(hit7: Hit7) -> Home {
        Home { hit7, folder: Arc::new(tempfile::tempdir().unwrap()) }
    }

    /// Returns the folder that contains the data folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the path of the data folder, which the registry makes.
    pub fn data(&self) -> PathBuf {
        self.path().join("hit7-data")
    }

    /// Returns a command that runs `hit7 serve` on a free port of loopback with this data.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_at(0, args)
    }

    /// Returns the command of a registry on loopback at `port` with this data.
    pub fn command_at(&self, port: u16, args: &[&str]) -> Command {
        self.with_data(&[&["serve", "127.0.0.1", &port.to_string()], args].concat())
    }

    /// Returns a command that runs the program with `args` and this data folder.
    pub fn with_data(&self, args: &[&str]) -> Command {
        let mut command = self.hit7.command(args);
        command.arg("--data").arg(self.data());
        command
    }

    /// Starts a registry on a free port of loopback.
    pub fn serve(&self, args: &[&str]) -> Registry {
        self.start(self.command(args))
    }

    /// Starts a registry on loopback at `port`.
    pub fn serve_at(&self, port: u16, args: &[&str]) -> Registry {
        self.start(self.command_at(port, args))
    }

    /// Starts a registry by the test's own command, and waits until the registry listens.
    pub fn start(&self, command: Command) -> Registry {
        let has_page = command.get_args().any(|arg| arg == "--http");
        let mut program = Program::start(command);
        let addr = listening(&program.line());
        assert!(program.line_with("data in ").contains("hit7-data"));
        let page = has_page.then(|| program.line_with("page on http://"));
        let page = page.map(|line| line["page on http://".len()..].parse().unwrap());
        Registry { program, addr, page, home: self.clone() }
    }

    /// Runs a registry that is expected to refuse to start, until it exits.
    pub fn refused(&self, args: &[&str]) -> Exit {
        Program::start(self.command(args)).end()
    }

    /// Runs `hit7 history` on this data folder.
    pub fn history(&self, args: &[&str]) -> Exit {
        Program::start(self.with_data(&[&["history"], args].concat())).end()
    }

    /// Waits for the document of a window, and returns it.
    pub fn document(&self, window: &str) -> Value {
        until(format!("the document of {window}"), || {
            let exit = self.history(&[window, "--json"]);
            (exit.code == Some(0)).then(|| serde_json::from_str(&exit.succeeded()[0]).unwrap())
        })
    }

    /// Returns the files of the journal, the oldest first.
    pub fn journals(&self) -> Vec<PathBuf> {
        let entries = |folder: &Path| {
            fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
        };
        let days = entries(&self.data().join("journal"));
        let mut files: Vec<PathBuf> =
            days.flat_map(|day| entries(&day).collect::<Vec<_>>()).collect();
        files.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
        files.sort();
        files
    }
}

/// Parses the address in a line `listening on ADDR`.
pub fn listening(line: &str) -> SocketAddr {
    line.strip_prefix("listening on ").expect(line).parse().unwrap()
}

/// A running registry; killed when dropped.
pub struct Registry {
    /// The registry's process, and what it prints.
    pub program: Program,
    /// The UDP address that the registry listens on.
    pub addr: SocketAddr,
    page: Option<SocketAddr>,
    /// The folder with the registry's data, kept as long as the registry runs.
    pub home: Home,
}

impl Registry {
    /// Returns the registry's port, as a command-line argument.
    pub fn port(&self) -> String {
        self.addr.port().to_string()
    }

    /// Returns the address of the registry's status page.
    pub fn http(&self) -> SocketAddr {
        self.page.expect("it was started with --http")
    }

    /// Makes a client of this registry that has sent nothing yet.
    pub fn client(&self) -> UdpClient {
        UdpClient::to(self.addr)
    }

    /// Starts `hit7 join` with this registry.
    pub fn join(&self, args: &[&str]) -> Program {
        self.home.hit7.start(&[&["join", "127.0.0.1", &self.port()], args].concat())
    }

    /// Runs `hit7 peers` with this registry.
    pub fn peers(&self, args: &[&str]) -> Exit {
        self.home.hit7.run(&[&["peers", "127.0.0.1", &self.port()], args].concat())
    }

    /// Fails unless the registry answers a QUERY.
    #[track_caller]
    pub fn serves(&self) {
        assert_eq!(self.client().ask(r#"{"type":"QUERY","seq":77}"#)["seq"], 77);
    }

    /// Sends the registry a signal; fails unless it ends soon.
    #[track_caller]
    pub fn stop(self, signal: &str) -> Exit {
        self.program.stop(signal)
    }

    /// Sends SIGTERM; fails unless the registry exits with success, in a time that is enough for a
    /// slow disk too.
    #[track_caller]
    pub fn close(self) -> Exit {
        self.program.signal("TERM");
        let exit = self.program.end_within(Duration::from_secs(5));
        assert_eq!(exit.code, Some(0), "{exit:?}");
        exit
    }
}
