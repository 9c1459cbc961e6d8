//! Decides what each signal does, on a thread of its own, and ends the program if a stop takes too
//! long, whatever hangs.

use std::fs;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;
use std::{mem, process};

use hit7::thread::{self, Runtime};
use hit7::view;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
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

/// The signals that are handled, unless `stays_ignored`; all others keep their default actions.
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
        // Where there is no `/proc`, no signal counts as ignored.
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let on_hangup = OnHangup {
            hangup,
            is_ignored: ignores(&status, Signal::SIGHUP),
            had_terminal: has_terminal(),
            stop: stop.clone(),
        };
        let runtime = Runtime::new()?;
        let (tell, signals) = mpsc::unbounded_channel();
        for handled in HANDLED.into_iter().filter(|signal| !stays_ignored(&status, *signal)) {
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
        self.0.send_if_modified(|requested| {
            let is_first = !mem::replace(requested, true);
            // Logged before anyone sees the request: what stops at once logs after it.
            if is_first {
                tracing::info!(why, "stopping");
            }
            is_first
        });
    }

    /// Waits until a stop is requested.
    pub(crate) async fn requested(&self) {
        let mut requests = self.0.subscribe();
        requests.wait_for(|requested| *requested).await.expect("its sender is this");
    }

    /// Waits until a stop is requested, and then for `span`.
    pub(crate) async fn requested_for(&self, span: Duration) {
        self.requested().await;
        sleep(span).await;
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
    fn handle(&self, has_terminal: bool) {
        let is_gone = self.had_terminal && !has_terminal;
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
    loop {
        tokio::select! {
            Some(signal) = signals.recv() => handle_signal(signal, &on_hangup),
            () = on_hangup.stop.requested() => break,
        }
    }
    let _ = timeout(REPEAT_TIME, async { while signals.recv().await.is_some() {} }).await;
    let why = match timeout(STOP_TIMEOUT - REPEAT_TIME, second_stop(&mut signals)).await {
        Ok(()) => "a second signal ended it at once",
        Err(_) => "the stop took too long",
    };
    let kept = match on_hangup.hangup {
        Hangup::Rereads(_) => "; what was acked is on disk",
        Hangup::Stops => "",
    };
    let text = format!("hit7: {why}: not all was finished{kept}\n");
    panic::write_last(text, LAST_LINE_TIMEOUT);
    process::exit(1)
}

fn handle_signal(signal: Signal, on_hangup: &OnHangup) {
    match signal {
        Signal::SIGHUP => on_hangup.handle(has_terminal()),
        Signal::SIGCONT => view::note_continued(),
        Signal::SIGUSR1 | Signal::SIGUSR2 => {
            tracing::warn!("{signal} means nothing to hit7: ignored");
        }
        Signal::SIGXCPU => {
            tracing::error!("SIGXCPU: no more processor time is allowed (ulimit -t)");
            on_hangup.stop.request(signal.as_str());
        }
        _ => on_hangup.stop.request(signal.as_str()),
    }
}

/// Waits for a signal that ends a stop at once.
async fn second_stop(signals: &mut UnboundedReceiver<Signal>) {
    while let Some(signal) = signals.recv().await
        && !matches!(signal, Signal::SIGINT | Signal::SIGTERM | Signal::SIGQUIT)
    {}
}

fn has_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
}

/// Returns whether `signal` was ignored when the program was started, by its `/proc/PID/status`, and
/// is not handled then: a shell without job control has SIGINT and SIGQUIT ignored by what runs with
/// `&` (POSIX, Shell Command Language 2.11), and Ctrl-C is for others.
fn stays_ignored(status: &str, signal: Signal) -> bool {
    matches!(signal, Signal::SIGINT | Signal::SIGQUIT) && ignores(status, signal)
}

/// Returns whether a process ignores `signal`, by its `/proc/PID/status`.
fn ignores(status: &str, signal: Signal) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal as u32 - 1)) != 0
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

/// Runs `work`, which may take long before there is a view, and has Ctrl-Z stop the process meanwhile.
pub(crate) fn suspendable<T>(work: impl FnOnce() -> T) -> T {
    let before = suspension().thread_swap_mask(SigmaskHow::SIG_UNBLOCK);
    let done = work();
    let _ = before.and_then(|before| before.thread_set_mask());
    done
}

fn suspension() -> SigSet {
    [Signal::SIGTSTP].into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    impl Stop {
        /// Makes a stop that no signal requests.
        pub(crate) fn new() -> Stop {
            Stop(Arc::new(watch::Sender::new(false)))
        }

        pub(crate) fn is_requested(&self) -> bool {
            *self.0.borrow()
        }
    }

    fn on_hangup(hangup: Hangup) -> OnHangup {
        OnHangup { hangup, is_ignored: false, had_terminal: false, stop: Stop::new() }
    }

    fn is_stopped(it: &OnHangup) -> bool {
        it.stop.is_requested()
    }

    #[test]
    fn a_hangup_stops_a_client_unless_it_was_ignored_from_the_start() {
        for is_ignored in [false, true] {
            let it = OnHangup { is_ignored, ..on_hangup(Hangup::Stops) };
            it.handle(false);
            assert_eq!(is_stopped(&it), !is_ignored);
        }
    }

    #[test]
    fn a_hangup_has_a_registry_reread_its_keys_unless_its_terminal_is_gone() {
        for (had_terminal, has_terminal) in [(false, false), (false, true), (true, true)] {
            let (reread, hangups) = sync_channel(1);
            let it = OnHangup { had_terminal, ..on_hangup(Hangup::Rereads(Some(reread))) };
            // The second finds the first still there.
            [(), ()].iter().for_each(|()| it.handle(has_terminal));
            assert_eq!((hangups.try_iter().count(), is_stopped(&it)), (1, false));
        }
        let (reread, hangups) = sync_channel(1);
        let it = OnHangup { had_terminal: true, ..on_hangup(Hangup::Rereads(Some(reread))) };
        it.handle(false);
        assert_eq!((hangups.try_iter().count(), is_stopped(&it)), (0, true));
        let it = on_hangup(Hangup::Rereads(None));
        it.handle(false);
        assert!(!is_stopped(&it), "there is nothing to read");
    }

    #[test]
    fn each_signal_that_asks_for_it_stops_and_no_other() {
        for signal in HANDLED.into_iter().filter(|signal| *signal != Signal::SIGHUP) {
            let it = on_hangup(Hangup::Stops);
            handle_signal(signal, &it);
            let ends = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGXCPU];
            let stops = ends.contains(&signal);
            assert_eq!(is_stopped(&it), stops, "{signal}");
        }
    }

    #[tokio::test]
    async fn a_stop_ends_at_once_only_by_a_signal_that_asks_for_it() {
        let (tell, mut signals) = mpsc::unbounded_channel();
        let all =
            [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGCONT, Signal::SIGTERM, Signal::SIGINT];
        all.iter().for_each(|signal| tell.send(*signal).unwrap());
        second_stop(&mut signals).await;
        assert_eq!(signals.try_recv(), Ok(Signal::SIGINT), "the last is not taken");
    }

    #[tokio::test]
    async fn a_stop_is_known_to_who_asks_before_and_after() {
        let stop = Stop::new();
        let asking = stop.clone();
        let before = tokio::spawn(async move { asking.requested().await });
        tokio::task::yield_now().await;
        assert!(!before.is_finished());
        stop.request("a test");
        before.await.unwrap();
        stop.requested_for(Duration::ZERO).await;
    }

    #[test]
    fn the_mask_of_a_process_tells_which_signals_it_ignores() {
        let status = "Name:\thit7\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n";
        assert!(ignores(status, Signal::SIGHUP) && ignores(status, Signal::SIGPIPE));
        assert!(!ignores(status, Signal::SIGTERM));
        for none in ["", "SigIgn:\t0000000000001000\n", "SigIgn:\twhat\n", "SigBlk:\t1\n"] {
            assert!(!ignores(none, Signal::SIGHUP), "{none:?}");
        }
    }

    #[test]
    fn control_z_stops_what_takes_long_before_there_is_a_view() {
        let is_blocked = || SigSet::thread_get_mask().unwrap().contains(Signal::SIGTSTP);
        assert!(!suspendable(is_blocked) && !is_blocked(), "without a view, it always does");
        leave_suspension_to_view();
        assert!(is_blocked() && !suspendable(is_blocked) && is_blocked());
    }

    #[test]
    fn of_the_ignored_signals_only_those_of_the_keyboard_are_not_handled() {
        let all = "SigIgn:\tffffffffffffffff\n";
        let left: Vec<Signal> =
            HANDLED.into_iter().filter(|signal| stays_ignored(all, *signal)).collect();
        assert_eq!(left, [Signal::SIGINT, Signal::SIGQUIT]);
        assert!(!HANDLED.into_iter().any(|signal| stays_ignored("SigIgn:\t1\n", signal)));
    }
}
