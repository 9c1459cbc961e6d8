//! Takes over the terminal for a live view, and restores it at the end, on Ctrl-C and on a signal;
//! on a panic, the panic hook calls `restore_terminal`.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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
    terminal: Terminal<CrosstermBackend<W>>,
    open: fn() -> W,
    logs: Logs,
}

impl<W: Write + 'static> Screen<W> {
    /// Takes over the terminal that `open` opens; until it is restored, the view shows the logs.
    pub fn enter(open: fn() -> W, logs: Logs) -> io::Result<Screen<W>> {
        let terminal = Terminal::new(CrosstermBackend::new(open()))?;
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        logs.hold();
        let screen = Screen { terminal, open, logs };
        execute!(open(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    /// Shows `live` until its events end; `quit` is called when Ctrl-C or q is pressed.
    pub fn run<L: Live>(
        &mut self,
        live: &mut L,
        mut events: Receiver<L::Event>,
        clock: Clock,
        quit: impl Fn(),
    ) -> io::Result<()> {
        let mut draw_at = Duration::ZERO;
        loop {
            let now = clock.now();
            match handle_events(live, &mut events, now) {
                Handled::Ended => return Ok(()),
                Handled::Some => draw_at = now.mono,
                Handled::None => {}
            }
            if now.mono >= draw_at {
                draw_at = now.mono + REDRAW_INTERVAL;
                live.refresh(now);
                self.draw(live, now)?;
            }
            if event::poll(KEY_POLL_TIMEOUT)? && read_key(live, &quit)? {
                draw_at = Duration::ZERO;
            }
        }
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
        // If this fails, the terminal is gone.
        let _ = execute!(out, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
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

/// Reads one event of the terminal, like a key, and acts on it; returns whether to draw again.
fn read_key(live: &mut impl Live, quit: &impl Fn()) -> io::Result<bool> {
    let key = match event::read()? {
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        Event::Resize(..) => return Ok(true),
        _ => return Ok(false),
    };
    if quits(key) {
        quit();
    } else if let Some(motion) = motion(key.code) {
        live.scroll(motion);
    }
    Ok(true)
}

/// Returns whether a key ends the view. In raw mode, Ctrl-C is a key like any other.
fn quits(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c' | 'C') => control,
        KeyCode::Char('q' | 'Q') => true,
        _ => false,
    }
}

fn motion(key: KeyCode) -> Option<Motion> {
    Some(match key {
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
    fn control_c_and_q_quit() {
        let key = |c, modifiers| KeyEvent::new(KeyCode::Char(c), modifiers);
        assert!(quits(key('c', KeyModifiers::CONTROL)) && quits(key('q', KeyModifiers::NONE)));
        assert!(!quits(key('c', KeyModifiers::NONE)));
    }
}
