//! Prints events as lines or draws them in a live view, prints results, and sets up logging.

use std::env;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use hit7::clock::Clock;
use hit7::thread;
use hit7::view::{Line, Live, Logs, Screen, escape_controls};
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tracing::Level;

use super::{Failure, SHUTDOWN_TIMEOUT};
use crate::cli::{self, Format};

/// How long shutdown waits until a live view has restored the terminal.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns whether stdout is a terminal for live views and colour: not with `NO_COLOR`, or with
/// `TERM` unset or `dumb`.
pub(crate) fn can_draw() -> bool {
    let is = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let drawn = is("TERM").is_some_and(|term| term != "dumb") && is("NO_COLOR").is_none();
    drawn && io::stdout().is_terminal()
}

/// Starts logging to stderr as text or JSON; in colour on a terminal without a live view.
pub(crate) fn log(args: &cli::Logs, live: bool) -> Logs {
    let logs = Logs::new(io::stderr);
    let level = match args.log_level {
        cli::Level::Error => Level::ERROR,
        cli::Level::Warn => Level::WARN,
        cli::Level::Info => Level::INFO,
        cli::Level::Debug => Level::DEBUG,
    };
    let colour = !live && io::stderr().is_terminal() && can_draw();
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

/// Takes over the terminal for a live view; `None` if that fails, and lines are printed instead.
pub(crate) fn enter_screen(logs: Logs) -> Option<Screen<io::Stdout>> {
    Screen::enter(io::stdout, logs).ok()
}

/// A live view with the screen, clock and quit signal that it needs to run.
pub(crate) struct View<L> {
    pub(crate) screen: Screen<io::Stdout>,
    pub(crate) live: L,
    pub(crate) clock: Clock,
    /// Notified when the user presses a quit key.
    pub(crate) quit: Arc<Notify>,
}

/// A handle of the thread that prints or draws events.
pub(crate) struct Printer {
    end: Receiver<Result<(), Failure>>,
    patience: Duration,
}

impl Printer {
    /// Waits until all events are shown; if the command was stopped, only for a limited time, as
    /// the reader of stdout may be stalled.
    pub(crate) fn wait_until_shown(self, stopped: bool) -> Result<(), Failure> {
        match stopped {
            true => self.end.recv_timeout(self.patience).unwrap_or(Ok(())),
            false => self.end.recv().unwrap_or(Ok(())),
        }
    }
}

/// Starts a thread that draws `events` in `view`, or passes each to `print` if there is no view: a
/// slow terminal slows down nothing else.
pub(crate) fn spawn_printer<L: Live>(
    mut events: mpsc::Receiver<L::Event>,
    view: Option<View<L>>,
    print: impl FnMut(L::Event) -> Result<(), Failure> + Send + 'static,
) -> Result<Printer, Failure> {
    let (done, end) = sync_channel(1);
    let patience = if view.is_some() { RESTORE_TIMEOUT } else { SHUTDOWN_TIMEOUT };
    let show = move || {
        let shown = match view {
            Some(view) => view.show(events),
            None => std::iter::from_fn(|| events.blocking_recv()).try_for_each(print),
        };
        let _ = done.send(shown);
    };
    thread::start("show", show)?;
    Ok(Printer { end, patience })
}

impl<L: Live> View<L> {
    fn show(mut self, events: mpsc::Receiver<L::Event>) -> Result<(), Failure> {
        let quit = || self.quit.notify_one();
        let shown = self.screen.run(&mut self.live, events, self.clock, quit);
        drop(self.screen);
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
    // If stderr is closed, there is nowhere to report it.
    let _ = writeln!(io::stderr(), "hit7: {}", escape_controls(message));
}
