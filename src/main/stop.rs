//! Decides what each signal does, on a thread of its own, and ends the program if a stop takes too
//! long, whatever hangs.

use std::fs;
use std::io::{self, IsTerminal};
use std::process;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use hit7::thread::{self, Runtime};
use hit7::view;
use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Failure, panic};

/// How long a stop may take: with `LAST_LINE_TIMEOUT`, the program ends within a second.
const STOP_TIMEOUT: Duration = Duration::from_millis(850);

/// How long the last line may take to be written: nobody may be reading stderr.
const LAST_LINE_TIMEOUT: Duration = Duration::from_millis(100);

/// How long a further signal counts as the same one: timeout(1) sends each to the process, and then
/// to its group.
const REPEAT_TIME: Duration = Duration::from_millis(100);

/// The signals that are handled; all others keep their default actions.
const HANDLED: [Signal; 8] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGXCPU,
    Signal::SIGCONT,
];

/// What SIGHUP does to a command.
pub(crate) enum Hangup {
    /// SIGHUP stops the command, unless the program ignored it from the start.
    Stops,
    /// Has the key file read again, if there is one; stops the command if its terminal is gone.
    Rereads(Option<SyncSender<()>>),
}

/// The request to stop a long-running command, by a signal, a quit key or a closed output.
#[derive(Clone)]
pub(crate) struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    /// Starts to handle signals. Once a stop is requested, the program ends within a second.
    pub(crate) fn on_signals(hangup: Hangup) -> Result<Stop, Failure> {
        let stop = Stop(Arc::new(watch::Sender::new(false)));
        let on_hangup = OnHangup {
            hangup,
            is_ignored: ignores_hangup(),
            had_terminal: has_terminal(),
            stop: stop.clone(),
        };
        let runtime = Runtime::new()?;
        let (tell, signals) = mpsc::unbounded_channel();
        for handled in HANDLED {
            let _runtime = runtime.enter();
            let mut received = signal(SignalKind::from_raw(handled as i32))?;
            let tell = tell.clone();
            tokio::spawn(async move {
                while received.recv().await.is_some() && tell.send(handled).is_ok() {}
            });
        }
        let handle = move || runtime.block_on(handle_signals(signals, on_hangup));
        thread::start("signals", handle)?;
        Ok(stop)
    }

    /// Requests a stop, and logs `why`, unless one was requested before.
    pub(crate) fn request(&self, why: &'static str) {
        if !self.0.send_replace(true) {
            tracing::info!(why, "stopping");
        }
    }

    /// Waits until a stop is requested.
    pub(crate) async fn requested(&self) {
        let mut requests = self.0.subscribe();
        requests.wait_for(|requested| *requested).await.expect("its sender is this");
    }

    /// Waits until a stop is requested, and then for `patience`.
    pub(crate) async fn requested_for(&self, patience: Duration) {
        self.requested().await;
        sleep(patience).await;
    }
}

/// What is needed to decide what a SIGHUP does.
struct OnHangup {
    hangup: Hangup,
    is_ignored: bool,
    had_terminal: bool,
    stop: Stop,
}

impl OnHangup {
    fn handle(&self) {
        let is_gone = self.had_terminal && !has_terminal();
        match &self.hangup {
            Hangup::Rereads(reread) if !is_gone => match reread {
                // One that comes while the file is being read is queued; further ones are dropped.
                Some(reread) => drop(reread.try_send(())),
                None => tracing::warn!("SIGHUP: there is no --key-file to read again"),
            },
            _ if self.is_ignored => {}
            _ => self.stop.request("SIGHUP"),
        }
    }
}

/// Handles signals until a stop is requested; then ends the program if the stop takes longer than
/// `STOP_TIMEOUT`, or at a second signal.
async fn handle_signals(mut signals: UnboundedReceiver<Signal>, on_hangup: OnHangup) {
    let stop = &on_hangup.stop;
    loop {
        tokio::select! {
            Some(signal) = signals.recv() => match signal {
                Signal::SIGHUP => on_hangup.handle(),
                Signal::SIGCONT => view::note_continued(),
                Signal::SIGUSR1 | Signal::SIGUSR2 => {
                    tracing::warn!("{signal} means nothing to hit7: ignored");
                }
                Signal::SIGXCPU => {
                    tracing::error!("SIGXCPU: no more processor time is allowed (ulimit -t)");
                    stop.request(signal.as_str());
                }
                _ => stop.request(signal.as_str()),
            },
            () = stop.requested() => break,
        }
    }
    let _ = timeout(REPEAT_TIME, async { while signals.recv().await.is_some() {} }).await;
    let second = async {
        while let Some(signal) = signals.recv().await
            && !matches!(signal, Signal::SIGINT | Signal::SIGTERM | Signal::SIGQUIT)
        {}
    };
    let why = match timeout(STOP_TIMEOUT - REPEAT_TIME, second).await {
        Ok(()) => "a second signal ended it at once",
        Err(_) => "the stop took too long",
    };
    let text = format!("hit7: {why}: not all was finished; what a registry acked is on disk\n");
    panic::write_last(text, LAST_LINE_TIMEOUT);
    process::exit(1)
}

fn has_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
}

/// Returns whether SIGHUP was ignored when the program was started, as by nohup(1); `false` where
/// `/proc` does not tell.
fn ignores_hangup() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (Signal::SIGHUP as u32 - 1)) != 0
}

/// Blocks the signals by which a terminal stops a background process that writes to the terminal or
/// reads from it, and the one that ends a process at the limit of a file's size (`ulimit -f`): the
/// write fails all the same. Threads inherit this, so it comes before they are started.
pub(crate) fn block_default_actions() {
    let blocked = [Signal::SIGTTOU, Signal::SIGTTIN, Signal::SIGXFSZ];
    // If this fails, the signals have their default actions.
    let _ = blocked.into_iter().collect::<SigSet>().thread_block();
}

/// Leaves Ctrl-Z's signal to the thread that shows the live view, which calls `take_suspension`:
/// its own signal then stops it before killpg(2) returns, and only once (POSIX, kill). With another
/// thread to take the signal, the process could be continued before the view knows of the stop.
/// Threads inherit this, so it comes before they are started.
pub(crate) fn leave_suspension_to_view() {
    let _ = suspension().thread_block();
}

/// Has this thread take the signal that `leave_suspension_to_view` left to it.
pub(crate) fn take_suspension() {
    let _ = suspension().thread_unblock();
}

fn suspension() -> SigSet {
    [Signal::SIGTSTP].into_iter().collect()
}
