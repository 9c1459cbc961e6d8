//! Prints events as lines or draws them in a live view, prints results, and sets up logging.

use std::env;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::process::ExitCode;
use std::time::Duration;

use hit7::clock::Clock;
use hit7::thread;
use hit7::view::{Line, Live, Logs, Screen, escape_controls, in_foreground};
use nix::errno::Errno;
use tokio::sync::{mpsc, oneshot};
use tracing::Level;

use super::stop::{self, Stop};
use super::streams::{self, Waiting};
use super::{Failure, panic};
use crate::cli::{self, Format};

/// How long the last events and the summary may take to be shown after a stop is requested.
const SHOW_TIMEOUT: Duration = Duration::from_millis(400);

/// How long shutdown tries to restore a terminal that takes nothing.
const RESTORE_TIMEOUT: Duration = Duration::from_millis(50);

/// Returns whether stdout is a terminal for colour: not with `NO_COLOR`, or with `TERM` unset or
/// `dumb`.
fn has_colour() -> bool {
    let is = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let drawn = is("TERM").is_some_and(|term| term != "dumb") && is("NO_COLOR").is_none();
    drawn && io::stdout().is_terminal()
}

/// Returns whether stdout is a terminal for live views: as for colour, and in the foreground.
pub(crate) fn can_draw() -> bool {
    has_colour() && in_foreground(io::stdout())
}

/// Starts logging to stderr as text or JSON; in colour on a terminal without a live view.
pub(crate) fn log(args: &cli::Logs, live: bool) -> Logs {
    let logs = Logs::new(streams::write_stderr, io::stderr().is_terminal());
    let level = match args.log_level {
        cli::Level::Error => Level::ERROR,
        cli::Level::Warn => Level::WARN,
        cli::Level::Info => Level::INFO,
        cli::Level::Debug => Level::DEBUG,
    };
    let colour = !live && io::stderr().is_terminal() && has_colour();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(logs.clone())
        .with_max_level(level)
        .with_ansi(colour)
        .with_target(false);
    match args.log_format {
        Format::Text => subscriber.init(),
        Format::Json => subscriber.json().flatten_event(true).init(),
    }
    logs
}

/// A live view that is to be shown, with the logs and the clock that it needs.
pub(crate) struct View<L> {
    pub(crate) logs: Logs,
    pub(crate) live: L,
    pub(crate) clock: Clock,
    /// Whether the command goes on without the view if the terminal fails.
    pub(crate) is_optional: bool,
}

/// A handle of the thread that prints or draws events.
pub(crate) struct Printer {
    end: oneshot::Receiver<Result<(), Failure>>,
}

impl Printer {
    /// Waits until all events are shown; once a stop is requested, only for a limited time, as the
    /// reader of stdout may be stalled.
    pub(crate) async fn wait_until_shown(self, stop: &Stop) -> Result<(), Failure> {
        tokio::select! {
            biased;
            shown = self.end => shown.unwrap_or(Ok(())),
            () = stop.requested_for(SHOW_TIMEOUT) => {
                panic::write_last(String::new(), RESTORE_TIMEOUT);
                Ok(())
            }
        }
    }
}

/// Starts a thread that draws `events` in `view`; if there is none, or the terminal cannot be taken
/// over, the thread runs `begin` and then passes each event to `print`. A slow terminal slows down
/// nothing else; when nothing more can be shown, the thread requests a stop.
pub(crate) fn spawn_printer<L: Live>(
    mut events: mpsc::Receiver<L::Event>,
    view: Option<View<L>>,
    stop: Stop,
    begin: impl FnOnce() -> Result<(), Failure> + Send + 'static,
    print: impl FnMut(L::Event) -> Result<(), Failure> + Send + 'static,
) -> Result<Printer, Failure> {
    let (done, end) = oneshot::channel();
    let show = move || {
        stop::take_suspension();
        let screen =
            |view: View<L>| Some((Screen::enter(streams::stdout, view.logs.clone()).ok()?, view));
        let shown = match view.and_then(screen) {
            Some((screen, view)) => view.show(screen, &mut events, &stop),
            None => begin(),
        };
        let shown =
            shown.and_then(|()| std::iter::from_fn(|| events.blocking_recv()).try_for_each(print));
        if shown.is_err() {
            stop.request("the output is closed");
        }
        let _ = done.send(shown);
    };
    thread::start("show", show)?;
    Ok(Printer { end })
}

impl<L: Live> View<L> {
    /// Draws `events` until there are no more. If the terminal fails, an optional view returns early.
    fn show(
        mut self,
        mut screen: Screen<Waiting<io::Stdout>>,
        events: &mut mpsc::Receiver<L::Event>,
        stop: &Stop,
    ) -> Result<(), Failure> {
        let quit = || stop.request("q or Ctrl-C");
        let shown = screen.run(&mut self.live, events, self.clock, quit);
        drop(screen);
        match shown {
            Ok(()) => print_lines(self.live.summary()),
            Err(error) if self.is_optional => {
                tracing::warn!("the live view has ended: {error}; the registry goes on");
                Ok(())
            }
            // A terminal that fails is treated like a closed pipe.
            Err(_) => Err(Failure::ClosedPipe),
        }
    }
}

pub(crate) fn print(line: Line) -> Result<(), Failure> {
    match line {
        Line::Out(text) => print_line(&text),
        Line::Err(text) => {
            print_message(&text);
            Ok(())
        }
    }
}

pub(crate) fn print_lines(lines: impl IntoIterator<Item = String>) -> Result<(), Failure> {
    lines.into_iter().try_for_each(|line| print_line(&line))
}

pub(crate) fn print_line(line: &str) -> Result<(), Failure> {
    print_bytes(format!("{line}\n").as_bytes())
}

pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = streams::stdout();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::ClosedPipe),
        Err(error) if is_closed_terminal(&error) => Err(Failure::ClosedPipe),
        Err(error) => Err(Failure::Message(format!("cannot write to stdout: {error}"))),
    }
}

/// Prints a help text, or why the command line cannot be used; returns the exit code.
pub(crate) fn print_usage(usage: &clap::Error) -> ExitCode {
    match usage.print() {
        Err(error) if !usage.use_stderr() && error.kind() != ErrorKind::BrokenPipe => {
            print_message(&format!("cannot write to stdout: {error}"));
            ExitCode::FAILURE
        }
        _ => u8::try_from(usage.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from),
    }
}

/// Returns whether `error` is that of a terminal behind stdout that is gone: a file has it only if
/// its disk fails.
fn is_closed_terminal(error: &io::Error) -> bool {
    let stdout = || io::stdout().as_fd().try_clone_to_owned().map(File::from)?.metadata();
    let is_io = error.raw_os_error() == Some(Errno::EIO as i32);
    is_io && stdout().is_ok_and(|stdout| stdout.file_type().is_char_device())
}

/// Prints a message on stderr, with control characters escaped: it may quote a registry's text or a
/// file name.
pub(crate) fn print_message(message: &str) {
    streams::write_stderr(format!("hit7: {}\n", escape_controls(message)).as_bytes());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;

    use hit7::client::Watched;
    use hit7::view::Watch;

    use super::*;

    /// Runs a printer on three events, whose third `print` fails if `fails`; returns what was done,
    /// in order, and what came of it.
    async fn shown(fails: bool) -> (Vec<String>, bool, Result<(), Failure>) {
        let (events, shown) = mpsc::channel(3);
        (0..3).for_each(|n| events.try_send(Watched::NotShown(n)).unwrap());
        drop(events);
        let (stop, done) = (Stop::new(), Arc::new(Mutex::new(Vec::new())));
        let (begun, printed) = (done.clone(), done.clone());
        let begin = move || {
            begun.lock().unwrap().push("begin".to_owned());
            Ok(())
        };
        let print = move |watched| match watched {
            Watched::NotShown(n) if fails && n == 1 => Err(Failure::ClosedPipe),
            watched => {
                printed.lock().unwrap().push(format!("{watched:?}"));
                Ok(())
            }
        };
        let printer = spawn_printer(shown, None::<View<Watch>>, stop.clone(), begin, print);
        let Ok(printer) = printer else { panic!("a thread is given") };
        let result = printer.end.await.unwrap();
        let done = done.lock().unwrap().clone();
        (done, stop.is_requested(), result)
    }

    #[tokio::test]
    async fn the_place_is_printed_before_the_events_and_all_of_them_in_order() {
        let (done, is_stopped, result) = shown(false).await;
        assert_eq!(done, ["begin", "NotShown(0)", "NotShown(1)", "NotShown(2)"]);
        assert!(result.is_ok() && !is_stopped);
    }

    #[tokio::test]
    async fn an_output_that_is_closed_stops_the_command() {
        let (done, is_stopped, result) = shown(true).await;
        assert_eq!(done, ["begin", "NotShown(0)"], "no further event is printed");
        assert!(matches!(result, Err(Failure::ClosedPipe)) && is_stopped);
    }

    #[tokio::test]
    async fn after_a_stop_nobody_waits_for_ever_for_what_is_not_shown() {
        let (_hangs, end) = oneshot::channel();
        let stop = Stop::new();
        stop.request("a test");
        assert!(Printer { end }.wait_until_shown(&stop).await.is_ok());
        let (done, end) = oneshot::channel();
        assert!(done.send(Err(Failure::ClosedPipe)).is_ok());
        let shown = Printer { end }.wait_until_shown(&stop).await;
        assert!(matches!(shown, Err(Failure::ClosedPipe)), "what is known is told");
    }
}
