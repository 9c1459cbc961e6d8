//! A registry as a process, and what its documents say.
#![allow(dead_code)]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hit7::archive::{Archive, Document};
use hit7::store::Disk;
use hit7::window::Window;

/// A registry; dropped, it is killed.
pub(crate) struct Registry {
    child: Child,
    pub(crate) addr: SocketAddr,
    /// What it has printed since it listens.
    pub(crate) lines: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    /// Starts one on that port of 127.0.0.1 (0: any) and waits until it listens.
    pub(crate) fn start(port: u16, window: &str, data: &Path) -> Registry {
        Registry::start_with(port, &["--window", window], data)
    }

    /// The same, with other flags.
    pub(crate) fn start_with(port: u16, flags: &[&str], data: &Path) -> Registry {
        Registry::start_in(port, flags, data, &[])
    }

    /// The same, with some environment.
    pub(crate) fn start_in(
        port: u16,
        flags: &[&str],
        data: &Path,
        env: &[(&str, PathBuf)],
    ) -> Registry {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hit7"))
            .args(["serve", "127.0.0.1", &port.to_string(), "--data"])
            .arg(data)
            .args(flags)
            .envs(env.iter().map(|(key, value)| (*key, value)))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(first) = lines.lock().unwrap().first() {
                let addr = first.strip_prefix("listening on ").expect("it listens");
                let addr = addr.parse().unwrap();
                return Registry { child, addr, lines: lines.clone() };
            }
            assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it for a while, by SIGSTOP and SIGCONT.
    pub(crate) fn pause(&self, span: Duration) {
        self.signal("-STOP");
        std::thread::sleep(span);
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// SIGTERM; it ends in time, and well.
    pub(crate) fn stop(mut self) {
        self.signal("-TERM");
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Gathers the lines that a process prints, so that it never waits for its reader.
pub(crate) fn lines_of(out: ChildStdout) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let gathered = lines.clone();
    std::thread::spawn(move || {
        let read = BufReader::new(out).lines().map_while(Result::ok);
        read.for_each(|line| gathered.lock().unwrap().push(line));
    });
    lines
}

/// Every document on disk.
pub(crate) fn documents(data: &Path) -> HashMap<Window, Document> {
    let archive = Archive::new(Disk, data.join("windows"));
    let windows = archive.windows().unwrap();
    windows.iter().map(|listed| (listed.window, archive.read(listed.window).unwrap())).collect()
}

/// How many windows have a log on disk.
pub(crate) fn logs(data: &Path) -> usize {
    let entries =
        |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|it| it.path());
    let is_log = |path: &PathBuf| path.extension().is_some_and(|end| end == "jsonl");
    let days: Vec<_> = entries(&data.join("journal")).collect();
    days.iter().map(|day| entries(day).filter(is_log).count()).sum()
}
