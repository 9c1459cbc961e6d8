//! The program: runs what the command line asks for, prints, and sets the exit code.

mod cli;
#[path = "main/history.rs"]
mod history;
#[path = "main/hosts.rs"]
mod hosts;
#[path = "main/join.rs"]
mod join;
#[path = "main/keys.rs"]
mod keys;
#[path = "main/panic.rs"]
mod panic;
#[path = "main/serve.rs"]
mod serve;
#[path = "main/show.rs"]
mod show;

use std::cell::Cell;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use hit7::view::{self, Logs};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use cli::{Cli, Command, pages};
use show::{print_bytes, print_message};

/// How long a stop waits for output that nobody reads.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(200);

/// How many events may wait to be shown; what is beyond is counted and dropped.
const EVENTS: usize = 1024;

/// Why the program ends early.
enum Failure {
    /// Something failed, and this message says what.
    Message(String),
    /// The reader of the output has closed it: that is success.
    ClosedPipe,
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Message(error.to_string())
    }
}

fn main() -> ExitCode {
    panic::install();
    let Cli { command, logs } = Cli::parse();
    let live = command.wants_live() && show::can_draw();
    let logs = show::log(&logs, live);
    match run(command, live.then_some(logs)) {
        Ok(()) | Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(Failure::Message(why)) => {
            print_message(&why);
            ExitCode::FAILURE
        }
    }
}

/// Runs a command; with `logs` in a live view, which shows them.
fn run(command: Command, logs: Option<Logs>) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => in_runtime(|runtime| serve::serve(runtime, args, logs)),
        Command::Join(args) => in_runtime(|runtime| join::join(runtime, args, logs)),
        Command::Peers(args) => in_runtime(|runtime| join::peers(runtime, &args)),
        Command::Watch(args) => in_runtime(|runtime| join::watch(runtime, args, logs)),
        Command::History(args) => history::history(&args),
        Command::Completions(args) => print_bytes(&pages::completions(args.shell)),
        Command::Man(args) => manuals(args.dir.as_deref()),
    }
}

fn in_runtime(work: impl FnOnce(&Runtime) -> Result<(), Failure>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = work(&runtime);
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    done
}

fn manuals(dir: Option<&Path>) -> Result<(), Failure> {
    let Some(dir) = dir else { return print_bytes(&pages::manual()?) };
    let shown = || view::plain(&dir.display().to_string());
    pages::write_manuals(dir).map_err(|error| {
        Failure::Message(format!("cannot write manual pages to {}: {error}", shown()))
    })
}

/// What stops a command that runs on.
#[derive(Default)]
struct Stop {
    /// Notified by a live view, where Ctrl-C is a key.
    quit: Arc<Notify>,
    /// Whether there was a signal or a key to stop.
    stopped: Cell<bool>,
}

impl Stop {
    /// Resolves at SIGINT or SIGTERM, or when a live view is left, and notes that.
    fn signal(&self) -> Result<impl Future<Output = ()>, Failure> {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(async move {
            let why = tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
                () = self.quit.notified() => "q or Ctrl-C",
            };
            tracing::info!(why, "stopping");
            self.stopped.set(true);
        })
    }
}
