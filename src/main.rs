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
#[path = "main/open_files.rs"]
mod open_files;
#[path = "main/panic.rs"]
mod panic;
#[path = "main/serve.rs"]
mod serve;
#[path = "main/show.rs"]
mod show;
#[path = "main/stop.rs"]
mod stop;
#[path = "main/streams.rs"]
mod streams;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use hit7::view::{self, Logs};
use tokio::runtime::Runtime;

use cli::{Cli, Command, environment, pages};
use show::{print_bytes, print_message};

/// How long shutdown waits for queued output if nobody reads stdout or stderr.
const OUTPUT_TIMEOUT: Duration = Duration::from_millis(200);

/// How long a failure waits until its message is written.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(1);

/// The capacity of the queue of events to show; further events are dropped and counted.
const MAX_QUEUED_EVENTS: usize = 1024;

/// The reason why a command ended early.
enum Failure {
    /// A failure, with the message for stderr; the exit code is 1.
    Message(String),
    /// The reader of stdout has closed the pipe; the exit code is 0.
    ClosedPipe,
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Message(error.to_string())
    }
}

fn main() -> ExitCode {
    panic::install();
    stop::block_default_actions();
    let Cli { command, logs } = match environment::parse() {
        Ok(cli) => cli,
        Err(error) => return show::print_usage(&error),
    };
    let live = command.wants_live() && show::can_draw();
    if live {
        stop::leave_suspension_to_view();
    }
    let logs = show::log(&logs, live);
    let (code, timeout) = match run(command, live.then_some(logs)) {
        Ok(()) | Err(Failure::ClosedPipe) => (ExitCode::SUCCESS, OUTPUT_TIMEOUT),
        Err(Failure::Message(why)) => {
            print_message(&environment::explained(&why));
            (ExitCode::FAILURE, MESSAGE_TIMEOUT)
        }
    };
    streams::close_stderr(timeout);
    code
}

/// Runs a command; `Some(logs)` asks for a live view, which then shows the logs.
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
    streams::start_stderr()?;
    open_files::raise_limit()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = work(&runtime);
    runtime.shutdown_timeout(OUTPUT_TIMEOUT);
    done
}

fn manuals(dir: Option<&Path>) -> Result<(), Failure> {
    let Some(dir) = dir else { return print_bytes(&pages::manual()?) };
    let shown = || view::escape_controls(&dir.display().to_string());
    pages::write_manuals(dir).map_err(|error| {
        Failure::Message(format!("cannot write manual pages to {}: {error}", shown()))
    })
}
