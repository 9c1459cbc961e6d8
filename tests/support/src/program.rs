//! Runs the program as a process: reads its output, sends signals and waits for its end.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{DEADLINE, Home, Registry, SOON, assert_has};

/// The program under test, by its path: `Hit7(env!("CARGO_BIN_EXE_hit7"))`, which only the tests of
/// hit7's own package know.
#[derive(Clone, Copy, Debug)]
pub struct Hit7(pub &'static str);

impl Hit7 {
    /// Returns a command with these arguments and a clean environment.
    pub fn command(self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(if ignores_signals() { "env" } else { self.0 });
        if ignores_signals() {
            command.args(["--default-signal", self.0]);
        }
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HIT7_") {
                command.env_remove(name);
            }
        }
        command.args(args).stdin(Stdio::null());
        command
    }

    /// Starts the program with these arguments.
    pub fn start(self, args: &[&str]) -> Program {
        Program::start(self.command(args))
    }

    /// Runs the program to its end.
    pub fn run(self, args: &[&str]) -> Exit {
        self.start(args).end()
    }

    /// Makes an empty folder for a registry's data.
    pub fn home(self) -> Home {
        Home::in_memory(self)
    }

    /// Starts a registry on loopback, with a home of its own.
    pub fn serve(self, args: &[&str]) -> Registry {
        self.home().serve(args)
    }
}

/// Returns whether the tests run with SIGHUP, SIGINT or SIGQUIT ignored, as under nohup(1) or behind
/// `&` in a script; what they start would ignore these too.
fn ignores_signals() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0) & 0b111 != 0
}

/// The exit of a program, with the output that was not read before.
#[derive(Debug)]
pub struct Exit {
    /// The exit code; `None` if a signal ended the program.
    pub code: Option<i32>,
    /// The unread lines on stdout.
    pub out: Vec<String>,
    /// The unread lines on stderr.
    pub err: Vec<String>,
}

impl Exit {
    /// Fails unless the program exited with `code` and printed one line on stderr, which contains
    /// the pieces.
    #[track_caller]
    pub fn failed(&self, code: i32, pieces: &[&str]) {
        assert_eq!((self.code, self.err.len()), (Some(code), 1), "{self:?}");
        assert_has(&self.err[0], pieces);
        assert!(self.err[0].starts_with("hit7: "), "{self:?}");
    }

    /// Returns the lines on stdout; fails unless the exit code is 0 and stderr is empty.
    #[track_caller]
    pub fn succeeded(self) -> Vec<String> {
        assert_eq!((self.code, self.err.len()), (Some(0), 0), "{self:?}");
        self.out
    }
}

/// A running program; killed when dropped.
pub struct Program {
    child: Child,
    out: Lines,
    err: Lines,
}

impl Program {
    /// Starts a program, and reads what it prints.
    pub fn start(command: Command) -> Program {
        Program::spawn(command).unwrap()
    }

    /// Starts a program that this machine may lack, which is an error then.
    pub fn spawn(mut command: Command) -> io::Result<Program> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (out, err) = (Lines::of(child.stdout.take()), Lines::of(child.stderr.take()));
        Ok(Program { child, out, err })
    }

    /// Starts a program with the given stdout, which is not read.
    pub fn start_into(mut command: Command, stdout: Stdio) -> Program {
        let mut child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (Lines::of(None::<io::Empty>), Lines::of(child.stderr.take()));
        Program { child, out, err }
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads the program's next line on stdout.
    #[track_caller]
    pub fn line(&mut self) -> String {
        self.out.next().unwrap_or_else(|why| {
            let (status, err) = (self.child.try_wait(), self.err.all());
            panic!("no line: {why}; it ended: {status:?}; on stderr: {err:?}")
        })
    }

    /// Reads the program's next line on stderr.
    #[track_caller]
    pub fn error_line(&mut self) -> String {
        self.err.next().expect("a line on stderr")
    }

    /// Reads stdout up to a line that contains `piece`, and returns that line.
    #[track_caller]
    pub fn line_with(&mut self, piece: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(piece) {
                return line;
            }
        }
    }

    /// Reads stdout up to the JSON event with this name, and returns it.
    #[track_caller]
    pub fn event(&mut self, name: &str) -> Value {
        let line = self.line_with(&format!("\"event\":\"{name}\""));
        serde_json::from_str(&line).unwrap()
    }

    /// Reads stdout up to the JSON event with this name; returns `None` if the program ends without.
    #[track_caller]
    pub fn event_or_end(&mut self, name: &str) -> Option<Value> {
        loop {
            let line = match self.out.next() {
                Err(RecvTimeoutError::Disconnected) => return None,
                line => line.expect("a line, or the end"),
            };
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == name {
                return Some(event);
            }
        }
    }

    /// Returns all lines printed on stdout since the start.
    pub fn lines(&self) -> Vec<String> {
        self.out.all()
    }

    /// Returns all lines printed on stderr since the start.
    pub fn error_lines(&self) -> Vec<String> {
        self.err.all()
    }

    /// Returns whether the program still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends the program a signal: `INT`, `TERM`, `KILL` …
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.pid());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Stops the program for `span`, by SIGSTOP and SIGCONT.
    pub fn pause(&self, span: Duration) {
        self.signal("STOP");
        thread::sleep(span);
        self.signal("CONT");
    }

    /// Kills the program, and waits until the process is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until the program ends.
    #[track_caller]
    pub fn end(self) -> Exit {
        self.end_within(DEADLINE)
    }

    /// Sends the program a signal; fails unless it ends soon.
    #[track_caller]
    pub fn stop(self, signal: &str) -> Exit {
        self.signal(signal);
        self.end_within(SOON)
    }

    /// Waits until the program ends; fails if that takes longer than `span`.
    #[track_caller]
    pub fn end_within(mut self, span: Duration) -> Exit {
        let begun = Instant::now();
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            assert!(begun.elapsed() < span, "still running after {span:?}");
            thread::sleep(Duration::from_millis(2));
        };
        Exit { code, out: self.out.rest(), err: self.err.rest() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("on stderr of process {}: {:#?}", self.pid(), self.err.all());
        }
    }
}

/// The lines of a stream, read on a thread as they come, so that the program never blocks.
struct Lines {
    from: Receiver<String>,
    seen: RefCell<Vec<String>>,
    next: usize,
}

impl Lines {
    fn of(stream: Option<impl Read + Send + 'static>) -> Lines {
        let (lines, from) = channel();
        if let Some(stream) = stream {
            thread::spawn(move || {
                for line in BufReader::new(stream).lines() {
                    let _ = lines.send(line.unwrap());
                }
            });
        }
        Lines { from, seen: RefCell::default(), next: 0 }
    }

    fn all(&self) -> Vec<String> {
        let mut seen = self.seen.borrow_mut();
        seen.extend(self.from.try_iter());
        seen.clone()
    }

    fn next(&mut self) -> Result<String, RecvTimeoutError> {
        let seen = self.seen.get_mut();
        if self.next == seen.len() {
            seen.push(self.from.recv_timeout(DEADLINE)?);
        }
        self.next += 1;
        Ok(seen[self.next - 1].clone())
    }

    /// Returns the unread lines, up to the stream's end.
    fn rest(&mut self) -> Vec<String> {
        loop {
            match self.from.recv_timeout(DEADLINE) {
                Ok(line) => self.seen.get_mut().push(line),
                Err(RecvTimeoutError::Disconnected) => {
                    return self.seen.get_mut().split_off(self.next);
                }
                Err(why) => panic!("the lines have no end: {why}"),
            }
        }
    }
}
