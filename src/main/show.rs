//! How what happens reaches people: as lines, or in a live view; and where logs go.

use std::env;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use hit7::clock::Clock;
use hit7::view::{Line, Live, Logs, Screen, plain};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::Level;

use super::{Failure, SHUTDOWN_TIMEOUT};
use crate::cli::{self, Format};

/// How long a stop waits for the terminal to be given back.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// Whether there is a terminal that can be drawn on.
pub(crate) fn can_draw() -> bool {
    let is = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let drawn = is("TERM").is_some_and(|term| term != "dumb") && is("NO_COLOR").is_none();
    drawn && io::stdout().is_terminal()
}

/// Begins to log: as text or JSON, coloured on a terminal that is not drawn on.
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

/// A live view and what it needs.
pub(crate) struct View<L> {
    pub(crate) screen: Screen<io::Stdout>,
    pub(crate) live: L,
    pub(crate) clock: Clock,
    /// Told when someone in front of it wants to leave.
    pub(crate) leave: Arc<Notify>,
}

/// A thread that shows what happens.
pub(crate) struct Printer {
    end: Receiver<Result<(), Failure>>,
    patience: Duration,
}

impl Printer {
    /// Waits until all is shown; after a stop only a little, for whoever reads may have stalled.
    pub(crate) fn finish(self, stopped: bool) -> Result<(), Failure> {
        match stopped {
            true => self.end.recv_timeout(self.patience).unwrap_or(Ok(())),
            false => self.end.recv().unwrap_or(Ok(())),
        }
    }
}

/// Shows events on a thread of their own: a slow terminal must not slow what they are about.
pub(crate) fn show<L: Live>(
    mut events: UnboundedReceiver<L::Event>,
    view: Option<View<L>>,
    print: impl FnMut(L::Event) -> Result<(), Failure> + Send + 'static,
) -> Printer {
    let (done, end) = sync_channel(1);
    let patience = if view.is_some() { GIVE_BACK } else { SHUTDOWN_TIMEOUT };
    thread::spawn(move || {
        let shown = match view {
            Some(view) => view.show(events),
            None => std::iter::from_fn(|| events.blocking_recv()).try_for_each(print),
        };
        let _ = done.send(shown);
    });
    Printer { end, patience }
}

impl<L: Live> View<L> {
    fn show(mut self, events: UnboundedReceiver<L::Event>) -> Result<(), Failure> {
        let leave = || self.leave.notify_one();
        let shown = self.screen.run(&mut self.live, events, self.clock, leave);
        drop(self.screen);
        // A terminal that is gone is read by nobody.
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
        Err(error) => Err(Failure::Told(format!("cannot write to stdout: {error}"))),
    }
}

/// A message for who runs the program; whatever it quotes, a registry's args or a file's name, is
/// made harmless to a terminal.
pub(crate) fn print_message(message: &str) {
    // Whoever closed stderr does not want to know.
    let _ = writeln!(io::stderr(), "hit7: {}", plain(message));
}
