//! The panic hook: a panic in any thread or task is a bug, prints a report and ends the program.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::panic::{self, Location, PanicHookInfo};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use hit7::view::{escape_controls, restore_terminal};

/// How long the exit waits for the panic report to be written: nobody may be reading stderr.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether an earlier panic is already ending the program.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Installs a panic hook that ends the program with exit code 1.
pub(crate) fn install() {
    panic::set_hook(Box::new(|panic| report_and_exit(report(panic))));
}

fn report(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let mut report = report_line(text.unwrap_or("no message"), panic.location());
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        report += &trace.to_string();
    }
    report
}

/// Formats the one line that reports a panic: version, message and source location.
fn report_line(message: &str, location: Option<&Location<'_>>) -> String {
    let place = location.map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
    format!(
        "hit7: this is a bug in hit7 {}: {}{place}; please report this line, and what hit7 was \
         doing before\n",
        env!("CARGO_PKG_VERSION"),
        escape_controls(message),
    )
}

/// Writes the report and exits.
fn report_and_exit(report: String) -> ! {
    if ENDING.swap(true, Ordering::SeqCst) {
        // Another thread is already ending the program: gives it time to write its report.
        thread::sleep(2 * REPORT_TIMEOUT);
        process::exit(1);
    }
    write_last(report, REPORT_TIMEOUT);
    process::exit(1)
}

/// Restores the terminal, and writes `text` to stderr past its queue, even if another thread holds
/// the lock of stdout or stderr; waits for that at most for `timeout`.
pub(crate) fn write_last(text: String, timeout: Duration) {
    let (done, written) = mpsc::channel();
    let own = text.clone();
    let writer = move || {
        write(&own);
        let _ = done.send(());
    };
    match thread::Builder::new().spawn(writer) {
        Ok(_) => drop(written.recv_timeout(timeout)),
        Err(_) => write(&text),
    }
}

fn write(report: &str) {
    if let Some(stdout) = unlocked(io::stdout()) {
        restore_terminal(stdout);
    }
    // If this fails, there is nowhere left to report it.
    let _ = match unlocked(io::stderr()) {
        Some(mut stderr) => stderr.write_all(report.as_bytes()),
        None => io::stderr().write_all(report.as_bytes()),
    };
}

/// Returns a duplicate of a standard stream's file, to be written without the stream's lock.
fn unlocked(stream: impl AsFd) -> Option<File> {
    stream.as_fd().try_clone_to_owned().ok().map(File::from)
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};

    use super::*;

    /// The environment variable that tells the child process in which place to panic.
    const PANIC_IN: &str = "HIT7_TEST_PANIC_IN";

    /// Returns a command that runs only the test `test` of this binary, and panics in `place`.
    fn child(test: &str, place: &str) -> Command {
        let mut child = Command::new(env::current_exe().unwrap());
        let name = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
        child.args(["--exact", &name, "--nocapture"]).env(PANIC_IN, place);
        child.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
        child
    }

    /// Panics in `place` while this thread holds the locks of stdout and stderr.
    fn fail_in(place: &str) -> ! {
        install();
        let _locks = (io::stdout().lock(), io::stderr().lock());
        match place {
            "a thread" => {
                let _ = thread::spawn(|| panic!("a bug\non purpose")).join();
            }
            "a task" => {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let task = async { panic!("a bug\non purpose") };
                let _ = runtime.block_on(async { tokio::spawn(task).await });
            }
            _ => panic!("a bug\non purpose"),
        }
        unreachable!("a panic ends the program");
    }

    #[test]
    fn a_panic_anywhere_ends_the_program_with_one_line_on_stderr() {
        if let Ok(place) = env::var(PANIC_IN) {
            fail_in(&place);
        }
        for place in ["this thread", "a thread", "a task"] {
            let test = "a_panic_anywhere_ends_the_program_with_one_line_on_stderr";
            let output = child(test, place).output().unwrap();
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{place}: {text}");
            assert_eq!(text.lines().count(), 1, "{place}: {text}");
            let start = format!(
                "hit7: this is a bug in hit7 {}: a bug\\non purpose at {}:",
                env!("CARGO_PKG_VERSION"),
                file!()
            );
            assert!(text.starts_with(&start) && text.contains("please report"), "{text}");
        }
    }

    #[test]
    fn a_stderr_that_nobody_reads_does_not_keep_the_program_from_ending() {
        if let Ok(place) = env::var(PANIC_IN) {
            fail_in(&place);
        }
        let (mut full, _unread) = UnixStream::pair().unwrap();
        full.set_nonblocking(true).unwrap();
        while full.write(&[0; 4096]).is_ok() {}
        full.set_nonblocking(false).unwrap();
        let test = "a_stderr_that_nobody_reads_does_not_keep_the_program_from_ending";
        let mut child = child(test, "a thread");
        let status = child.stderr(Stdio::from(OwnedFd::from(full))).status().unwrap();
        assert_eq!(status.code(), Some(1));
    }

    #[test]
    fn the_line_names_the_message_and_the_place() {
        let here = Location::caller();
        let text = report_line("index out of bounds\u{1b}[2J", Some(here));
        let place = format!("index out of bounds\\u{{1b}}[2J at {}:{}; ", here.file(), here.line());
        assert!(text.contains(&place) && text.ends_with('\n'), "{text}");
        assert!(report_line("a bug", None).contains(": a bug; please report"));
    }
}
