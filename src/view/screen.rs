//! Takes over the terminal for a live view, and restores it at the end, on Ctrl-C and on a signal;
//! on a panic, the panic hook calls `restore_terminal`.
//!
//! The terminal belongs to its foreground process group: in the background (Ctrl-Z, `bg`) the view
//! goes on without drawing, and it takes the terminal again once it is back in the foreground.

use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{getpgrp, tcgetpgrp};
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::{Frame, Terminal};
use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::error::TryRecvError;

use super::Logs;
use super::scroll::Motion;
use crate::clock::{Clock, Now};

/// How long the view waits for a key before it handles events.
const KEY_POLL_TIMEOUT: Duration = Duration::from_millis(40);

/// The longest time between two drawings of the view, which has a countdown.
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);

/// The most log lines that are passed to a view to draw.
const LOG_LINES: usize = 50;

/// Whether a live view has taken over the terminal.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether the program was continued after it had been stopped, and the view has not noticed yet.
static CONTINUED: AtomicBool = AtomicBool::new(false);

/// A live view: a model that follows events, and how the model is drawn.
pub trait Live: Send + 'static {
    /// The events that the model follows.
    type Event: Send + 'static;
    /// Updates the model after an event.
    fn handle(&mut self, now: Now, event: Self::Event);
    /// Updates the model with state that comes without events, before each drawing.
    fn refresh(&mut self, _now: Now) {}
    /// Draws the model with the last log lines, and stores how many rows of its list fit.
    fn draw(&mut self, now: Now, logs: &[String], frame: &mut Frame<'_>);
    /// Scrolls the list of the view.
    fn scroll(&mut self, _motion: Motion) {}
    /// Returns the lines to print when the view has ended.
    fn summary(&self) -> Vec<String>;
}

/// A terminal that a live view has taken over; dropping this restores the terminal.
pub struct Screen<W: Write> {
    /// Not dropped, which prints an error to stderr where the terminal is gone, or panics if that
    /// fails too.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<W>>>,
    open: fn() -> W,
    logs: Logs,
    /// Whether the view does not draw, because it is suspended or in the background.
    is_away: bool,
}

/// Returns whether this process may use `terminal`: it is in the foreground there, or is not
/// controlled by that terminal.
pub fn in_foreground(terminal: impl AsFd) -> bool {
    tcgetpgrp(terminal).map_or(true, |group| group == getpgrp())
}

/// Tells the live view that the program was continued after a stop (SIGCONT): the terminal may have
/// other modes now, and show something else.
pub fn note_continued() {
    CONTINUED.store(true, Ordering::SeqCst);
}

impl<W: Write + AsFd + 'static> Screen<W> {
    /// Takes over the terminal that `open` opens; until it is restored, the view shows the logs.
    pub fn enter(open: fn() -> W, logs: Logs) -> io::Result<Screen<W>> {
        let terminal = ManuallyDrop::new(Terminal::new(CrosstermBackend::new(open()))?);
        logs.hold();
        let mut screen = Screen { terminal, open, logs, is_away: false };
        screen.take()?;
        Ok(screen)
    }

    /// Takes the terminal, also again, whatever modes it has and whatever it shows.
    fn take(&mut self) -> io::Result<()> {
        disable_raw_mode()?;
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        execute!((self.open)(), EnterAlternateScreen, Hide)?;
        // Clears the screen, so that the next drawing is whole.
        let size = self.terminal.size()?;
        self.terminal.resize(size.into())
    }

    /// Takes the terminal again if the program was continued in the foreground, and leaves the
    /// terminal to others in the background; returns whether the view has the terminal.
    fn follow_foreground(&mut self) -> io::Result<bool> {
        let is_away = !in_foreground((self.open)());
        let continued = CONTINUED.swap(false, Ordering::SeqCst);
        if !is_away && (continued || self.is_away) {
            self.take()?;
        } else if is_away && TAKEN.swap(false, Ordering::SeqCst) {
            // The modes are the shell's by now.
            execute!((self.open)(), LeaveAlternateScreen, Show)?;
        }
        self.is_away = is_away;
        Ok(!is_away)
    }

    /// Restores the terminal and stops the process group, as the terminal does at Ctrl-Z outside of
    /// raw mode; returns when the program is continued, or at once if nobody could continue it. All
    /// other threads have SIGTSTP blocked, so that it stops the process here.
    fn suspend(&mut self) {
        restore_terminal((self.open)());
        self.is_away = true;
        let _ = killpg(getpgrp(), Signal::SIGTSTP);
    }

    /// Shows `live` until its events end; `quit` is called when Ctrl-C or q is pressed.
    pub fn run<L: Live>(
        &mut self,
        live: &mut L,
        events: &mut Receiver<L::Event>,
        clock: Clock,
        quit: impl Fn(),
    ) -> io::Result<()> {
        let mut draw_at = Duration::ZERO;
        loop {
            let now = clock.now();
            match handle_events(live, events, now) {
                Handled::Ended => return Ok(()),
                Handled::Some => draw_at = now.mono,
                Handled::None => {}
            }
            match self.show(live, now, &mut draw_at, &quit) {
                Err(error) if in_foreground((self.open)()) => return Err(error),
                Ok(true) => {}
                // In the background; an error may come from that, too.
                _ => thread::sleep(KEY_POLL_TIMEOUT),
            }
        }
    }

    /// Draws the view if that is due, and handles a key if one is pressed within `KEY_POLL_TIMEOUT`;
    /// returns whether the view has the terminal.
    fn show(
        &mut self,
        live: &mut impl Live,
        now: Now,
        draw_at: &mut Duration,
        quit: &impl Fn(),
    ) -> io::Result<bool> {
        let was_away = self.is_away;
        if !self.follow_foreground()? {
            return Ok(false);
        }
        if now.mono >= *draw_at || was_away {
            *draw_at = now.mono + REDRAW_INTERVAL;
            live.refresh(now);
            self.draw(live, now)?;
        }
        if event::poll(KEY_POLL_TIMEOUT)? {
            match read_key(live)? {
                Act::None => {}
                Act::Redraw => *draw_at = Duration::ZERO,
                Act::Quit => quit(),
                Act::Suspend => self.suspend(),
            }
        }
        Ok(true)
    }

    fn draw(&mut self, live: &mut impl Live, now: Now) -> io::Result<()> {
        // After a panic in another thread, the view no longer has the screen.
        if TAKEN.load(Ordering::SeqCst) {
            let logs = self.logs.last(LOG_LINES);
            self.terminal.draw(|frame| live.draw(now, &logs, frame))?;
        }
        Ok(())
    }
}

impl<W: Write> Drop for Screen<W> {
    fn drop(&mut self) {
        restore_terminal((self.open)());
        self.logs.release();
    }
}

/// Restores the terminal behind `out` if a live view has taken it over.
pub fn restore_terminal(mut out: impl Write) {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // If this fails, the terminal is gone. The modes are first: writing may block.
        let _ = disable_raw_mode();
        let _ = execute!(out, LeaveAlternateScreen, Show);
    }
}

/// The result of handling queued events: none, some, or the queue is closed.
enum Handled {
    None,
    Some,
    Ended,
}

fn handle_events<L: Live>(live: &mut L, events: &mut Receiver<L::Event>, now: Now) -> Handled {
    let mut handled = Handled::None;
    loop {
        match events.try_recv() {
            Ok(event) => live.handle(now, event),
            Err(TryRecvError::Empty) => return handled,
            Err(TryRecvError::Disconnected) => return Handled::Ended,
        }
        handled = Handled::Some;
    }
}

/// What an event of the terminal, like a key, asks for.
#[derive(Debug, PartialEq, Eq)]
enum Act {
    None,
    Redraw,
    Quit,
    Suspend,
}

/// Reads one event of the terminal, and scrolls if it asks for that.
fn read_key(live: &mut impl Live) -> io::Result<Act> {
    let key = match event::read()? {
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        Event::Resize(..) => return Ok(Act::Redraw),
        _ => return Ok(Act::None),
    };
    if let Some(motion) = motion(key) {
        live.scroll(motion);
        return Ok(Act::Redraw);
    }
    Ok(act(key))
}

/// Returns what a key asks for. In raw mode, Ctrl-C, Ctrl-\ and Ctrl-Z are keys like any other.
fn act(key: KeyEvent) -> Act {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        // Ctrl-4 is Ctrl-\: terminals send the same for both.
        KeyCode::Char('c' | 'C' | '\\' | '4') if control => Act::Quit,
        KeyCode::Char('z' | 'Z') if control => Act::Suspend,
        KeyCode::Char('q' | 'Q') if is_plain(key) => Act::Quit,
        _ => Act::None,
    }
}

/// Returns whether a key is pressed alone or with Shift: Ctrl-S and Ctrl-Q, which hold a terminal's
/// output and let it go on outside of raw mode, mean nothing here.
fn is_plain(key: KeyEvent) -> bool {
    KeyModifiers::SHIFT.contains(key.modifiers)
}

fn motion(key: KeyEvent) -> Option<Motion> {
    if !is_plain(key) {
        return None;
    }
    Some(match key.code {
        KeyCode::Up | KeyCode::Char('k') => Motion::LineUp,
        KeyCode::Down | KeyCode::Char('j') => Motion::LineDown,
        KeyCode::PageUp => Motion::PageUp,
        KeyCode::PageDown | KeyCode::Char(' ') => Motion::PageDown,
        KeyCode::Home => Motion::First,
        KeyCode::End => Motion::Last,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_c_and_q_quit_and_control_z_suspends() {
        let act = |c, modifiers| super::act(KeyEvent::new(KeyCode::Char(c), modifiers));
        for (c, modifiers, acts) in [
            ('c', KeyModifiers::CONTROL, Act::Quit),
            ('4', KeyModifiers::CONTROL, Act::Quit),
            ('q', KeyModifiers::NONE, Act::Quit),
            ('Q', KeyModifiers::SHIFT, Act::Quit),
            ('q', KeyModifiers::CONTROL, Act::None),
            ('q', KeyModifiers::ALT, Act::None),
            ('s', KeyModifiers::CONTROL, Act::None),
            ('z', KeyModifiers::CONTROL, Act::Suspend),
            ('c', KeyModifiers::NONE, Act::None),
            ('z', KeyModifiers::NONE, Act::None),
        ] {
            assert_eq!(act(c, modifiers), acts, "{modifiers} {c}");
        }
    }

    #[test]
    fn only_plain_keys_scroll() {
        let motion = |modifiers| motion(KeyEvent::new(KeyCode::Char('j'), modifiers));
        assert!(motion(KeyModifiers::NONE).is_some());
        // Ctrl-J is Enter, and Alt-j is a key of the terminal's own menu.
        assert!(motion(KeyModifiers::CONTROL).is_none() && motion(KeyModifiers::ALT).is_none());
    }
}
