//! Prints events as lines or draws them in a live view, prints results, and sets up logging.

use std::env;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use hit7::clock::Clock;
use hit7::thread;
use hit7::view::{Line, Live, Logs, Screen, escape_controls, in_foreground};
use tokio::sync::{mpsc, oneshot};
use tracing::Level;

use super::stop::Stop;
use super::{Failure, SHUTDOWN_TIMEOUT, panic, stderr};
use crate::cli::{self, Format};

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
    let logs = Logs::new(stderr::write, io::stderr().is_terminal());
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
            () = stop.requested_for(SHUTDOWN_TIMEOUT) => {
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
    events: mpsc::Receiver<L::Event>,
    view: Option<View<L>>,
    stop: Stop,
    begin: impl FnOnce() -> Result<(), Failure> + Send + 'static,
    print: impl FnMut(L::Event) -> Result<(), Failure> + Send + 'static,
) -> Result<Printer, Failure> {
    let (done, end) = oneshot::channel();
    let show = move || {
        let screen =
            |view: View<L>| Some((Screen::enter(io::stdout, view.logs.clone()).ok()?, view));
        let shown = match view.and_then(screen) {
            Some((screen, view)) => view.show(screen, events, &stop),
            None => begin().and_then(|()| print_all(events, print)),
        };
        if shown.is_err() {
            stop.request("the output is closed");
        }
        let _ = done.send(shown);
    };
    thread::start("show", show)?;
    Ok(Printer { end })
}

fn print_all<E>(
    mut events: mpsc::Receiver<E>,
    print: impl FnMut(E) -> Result<(), Failure>,
) -> Result<(), Failure> {
    std::iter::from_fn(|| events.blocking_recv()).try_for_each(print)
}

impl<L: Live> View<L> {
    fn show(
        mut self,
        mut screen: Screen<io::Stdout>,
        events: mpsc::Receiver<L::Event>,
        stop: &Stop,
    ) -> Result<(), Failure> {
        let quit = || stop.request("q or Ctrl-C");
        let shown = screen.run(&mut self.live, events, self.clock, quit);
        drop(screen);
        // A terminal that fails is treated like a closed pipe.
        shown.map_err(|_| Failure::ClosedPipe)?;
        print_lines(self.live.summary())
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
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::ClosedPipe),
        Err(error) => Err(Failure::Message(format!("cannot write to stdout: {error}"))),
    }
}

/// Prints a message on stderr, with control characters escaped: it may quote a registry's text or a
/// file name.
pub(crate) fn print_message(message: &str) {
    stderr::write(format!("hit7: {}\n", escape_controls(message)).as_bytes());
}
