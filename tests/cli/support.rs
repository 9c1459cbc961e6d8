//! Programs and sockets that tests hold by the hand: nothing waits for ever, nothing is left over.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// Nothing that is waited for takes longer, on whatever machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A stop takes less than a second; as much again for a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(2);

/// The program with these words, and without the environment of whoever runs the tests.
pub(crate) fn hit7(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hit7"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HIT7_") {
            command.env_remove(name);
        }
    }
    command.args(words).stdin(Stdio::null());
    command
}

/// What a program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<String>,
    pub(crate) err: Vec<String>,
}

impl Ended {
    /// It failed with that code, saying one line.
    pub(crate) fn failed(&self, code: i32, pieces: &[&str]) {
        assert_eq!((self.code, self.err.len()), (Some(code), 1), "{self:?}");
        says(&self.err[0], pieces);
        assert!(self.err[0].starts_with("hit7: "), "{self:?}");
    }

    /// It succeeded, and had nothing to complain of.
    pub(crate) fn succeeded(self) -> Vec<String> {
        assert_eq!((self.code, self.err.len()), (Some(0), 0), "{self:?}");
        self.out
    }
}

/// The line has each of the pieces.
pub(crate) fn says(line: &str, pieces: &[&str]) {
    for piece in pieces {
        assert!(line.contains(piece), "{piece:?} is not in {line:?}");
    }
}

/// Runs the program to its end.
pub(crate) fn run(words: &[&str]) -> Ended {
    Program::start(hit7(words)).end()
}

/// A running program; killed when dropped.
pub(crate) struct Program {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Program {
    pub(crate) fn run(words: &[&str]) -> Program {
        Program::start(hit7(words))
    }

    /// Starts it, reading what it says unless that goes elsewhere.
    pub(crate) fn start(mut command: Command) -> Program {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (lines(child.stdout.take()), lines(child.stderr.take()));
        Program { child, out, err }
    }

    /// Starts it with a stdout of the test's own.
    pub(crate) fn start_into(mut command: Command, stdout: Stdio) -> Program {
        let mut child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (lines(None::<std::io::Empty>), lines(child.stderr.take()));
        Program { child, out, err }
    }

    /// Its next line on stdout.
    pub(crate) fn line(&mut self) -> String {
        match self.out.recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(why) => {
                let (status, said) = (self.child.try_wait(), self.complaints());
                panic!("no line: {why}; it ended: {status:?}; on stderr: {said:?}")
            }
        }
    }

    /// Its next line on stderr.
    pub(crate) fn complaint(&mut self) -> String {
        self.err.recv_timeout(DEADLINE).expect("a line on stderr")
    }

    fn complaints(&self) -> Vec<String> {
        self.err.try_iter().collect()
    }

    /// Reads on to a line with that piece.
    pub(crate) fn line_with(&mut self, piece: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(piece) {
                return line;
            }
        }
    }

    /// Reads on to the event of that name.
    pub(crate) fn event(&mut self, name: &str) -> Value {
        let line = self.line_with(&format!("\"event\":\"{name}\""));
        serde_json::from_str(&line).unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends it a signal: `INT`, `TERM` or `KILL`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for its end.
    pub(crate) fn end(self) -> Ended {
        self.end_within(DEADLINE)
    }

    /// Sends it a signal, and sees that it ends soon.
    pub(crate) fn stop(self, name: &str) -> Ended {
        self.signal(name);
        self.end_within(SOON)
    }

    fn end_within(mut self, span: Duration) -> Ended {
        let began = Instant::now();
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            assert!(began.elapsed() < span, "still running after {span:?}");
            thread::sleep(Duration::from_millis(2));
        };
        Ended { code, out: rest(&self.out), err: rest(&self.err) }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (lines, read) = channel();
    if let Some(from) = from {
        thread::spawn(move || {
            for line in BufReader::new(from).lines() {
                let _ = lines.send(line.unwrap());
            }
        });
    }
    read
}

/// What comes until the end.
fn rest(lines: &Receiver<String>) -> Vec<String> {
    let mut rest = Vec::new();
    loop {
        match lines.recv_timeout(DEADLINE) {
            Ok(line) => rest.push(line),
            Err(RecvTimeoutError::Disconnected) => return rest,
            Err(RecvTimeoutError::Timeout) => panic!("the end of the lines never came"),
        }
    }
}

/// A folder for data, removed when dropped.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Home {
        // In memory where that is to be had: on a busy disk one sync takes longer than a client that
        // goes waits for LEFT. What a real disk does is for `tests/processes`.
        Home(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.0.path().join("hit7-data")
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The words to serve on loopback with this data, and some more.
    pub(crate) fn command(&self, more: &[&str]) -> Command {
        let mut command = hit7(&["serve", "127.0.0.1", "0"]);
        command.args(more).arg("--data").arg(self.data());
        command
    }

    /// Starts a registry.
    pub(crate) fn serve(&self, more: &[&str]) -> Registry {
        Registry::start(self.command(more))
    }

    /// Runs a registry that does not start.
    pub(crate) fn refused(&self, more: &[&str]) -> Ended {
        Program::start(self.command(more)).end()
    }

    pub(crate) fn history(&self, more: &[&str]) -> Ended {
        let mut command = hit7(&["history"]);
        command.args(more).arg("--data").arg(self.data());
        Program::start(command).end()
    }

    /// The document of a window, once it is there.
    pub(crate) fn document(&self, window: &str) -> Value {
        let began = Instant::now();
        while began.elapsed() < DEADLINE {
            let ended = self.history(&[window, "--json"]);
            if ended.code == Some(0) {
                return serde_json::from_str(&ended.succeeded()[0]).unwrap();
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("no document of {window}")
    }

    /// Everything in the log that is not removed yet.
    pub(crate) fn log(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = Vec::new();
        for day in std::fs::read_dir(self.data().join("journal")).unwrap() {
            files.extend(
                std::fs::read_dir(day.unwrap().path()).unwrap().map(|file| file.unwrap().path()),
            );
        }
        files.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
        files.sort();
        files
    }
}

/// A running registry.
pub(crate) struct Registry {
    pub(crate) program: Program,
    pub(crate) addr: SocketAddr,
}

impl Registry {
    /// Starts it; it listens when this returns.
    pub(crate) fn start(command: Command) -> Registry {
        let mut program = Program::start(command);
        let addr = listening(&program.line());
        assert!(program.line_with("data in ").contains("hit7-data"));
        Registry { program, addr }
    }

    pub(crate) fn port(&self) -> String {
        self.addr.port().to_string()
    }

    /// Starts a client of it.
    pub(crate) fn join(&self, more: &[&str]) -> Program {
        Program::run(&[&["join", "127.0.0.1", &self.port()], more].concat())
    }

    pub(crate) fn peers(&self, more: &[&str]) -> Ended {
        run(&[&["peers", "127.0.0.1", &self.port()], more].concat())
    }

    /// It still serves.
    pub(crate) fn serves(&self) {
        assert_eq!(Netcat::to(self.addr).ask(r#"{"type":"QUERY","seq":77}"#)["seq"], 77);
    }

    pub(crate) fn stop(self, signal: &str) -> Ended {
        self.program.stop(signal)
    }
}

/// The address in `listening on ADDR`.
pub(crate) fn listening(line: &str) -> SocketAddr {
    line.strip_prefix("listening on ").expect(line).parse().unwrap()
}

/// What a person with `nc -u` does.
pub(crate) struct Netcat {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Netcat {
    pub(crate) fn to(to: SocketAddr) -> Netcat {
        let own = if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = UdpSocket::bind(own).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Netcat { socket, to }
    }

    pub(crate) fn addr(&self) -> String {
        self.socket.local_addr().unwrap().to_string()
    }

    /// From now on it talks to another registry.
    pub(crate) fn turn_to(&mut self, to: SocketAddr) {
        self.to = to;
    }

    pub(crate) fn say(&self, datagram: impl AsRef<[u8]>) {
        self.socket.send_to(datagram.as_ref(), self.to).unwrap();
    }

    /// The next datagram from where it talks to, as it came. Another test's registry may still tell
    /// somebody who had this port before.
    pub(crate) fn hear_text(&self) -> String {
        let mut bytes = [0; 2048];
        loop {
            let (length, from) = self.socket.recv_from(&mut bytes).expect("an answer");
            assert!(length <= 1232);
            if from == self.to {
                return String::from_utf8(bytes[..length].to_vec()).unwrap();
            }
        }
    }

    pub(crate) fn hear(&self) -> Value {
        serde_json::from_str(&self.hear_text()).unwrap()
    }

    /// The next datagram of that type, whatever comes before.
    pub(crate) fn hear_type(&self, kind: &str) -> Value {
        loop {
            let heard = self.hear();
            if heard["type"] == kind {
                return heard;
            }
        }
    }

    pub(crate) fn ask(&self, datagram: impl AsRef<[u8]>) -> Value {
        self.say(datagram);
        self.hear()
    }

    /// Registers, and tells for which window.
    pub(crate) fn register(&self) -> String {
        self.say(r#"{"type":"REGISTER"}"#);
        text(&self.hear_type("REGISTERED")["window"])
    }
}

/// A JSON text as a plain one.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// The keys of a JSON object in the order in which they stand.
pub(crate) fn keys(line: &str) -> String {
    let Keys(keys) = serde_json::from_str(line).expect(line);
    keys.join(" ")
}

struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Keys, D::Error> {
        struct AnObject;

        impl<'de> Visitor<'de> for AnObject {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Keys, M::Error> {
                let mut keys = Vec::new();
                while let Some((key, _)) = map.next_entry::<String, Value>()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }

        deserializer.deserialize_map(AnObject)
    }
}

/// Whether this machine has IPv6; said aloud if a test is skipped for that.
pub(crate) fn has_ipv6() -> bool {
    let has = UdpSocket::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("skipped: this machine has no IPv6");
    }
    has
}
