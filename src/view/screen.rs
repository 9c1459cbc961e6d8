//! Takes the terminal for a live view, and gives it back as it was: at the end, on Ctrl-C, on a
//! signal and on a panic.

use std::io::{self, Write};
use std::panic;
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
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;

use super::Logs;
use super::scroll::Motion;
use crate::clock::{Clock, Now};

/// How often keys and events are looked at.
const LOOK: Duration = Duration::from_millis(40);

/// How often it is drawn if nothing happens: for the countdown.
const DRAW: Duration = Duration::from_millis(200);

/// Log lines that are handed to a drawing.
const LOG_LINES: usize = 50;

/// Whether the terminal is taken.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// What a live view shows: a model that follows events, and how it is drawn.
pub trait Live: Send + 'static {
    /// The events that the model follows.
    type Event: Send + 'static;
    /// Updates the model after an event.
    fn handle(&mut self, now: Now, event: Self::Event);
    /// Updates the model with what no event tells, before it is drawn.
    fn refresh(&mut self, _now: Now) {}
    /// Draws the model, with the last lines of the logs; notes how much of its list fits.
    fn draw(&mut self, now: Now, logs: &[String], frame: &mut Frame<'_>);
    /// Scrolls the list of the view.
    fn scroll(&mut self, _motion: Motion) {}
    /// The lines that stay on the screen when the view has ended.
    fn summary(&self) -> Vec<String>;
}

/// The terminal, while a view has it.
pub struct Screen<W: Write> {
    terminal: Terminal<CrosstermBackend<W>>,
    open: fn() -> W,
    logs: Logs,
}

impl<W: Write + 'static> Screen<W> {
    /// Takes the terminal behind `open`; while it is taken, logs are shown in it.
    pub fn enter(open: fn() -> W, logs: Logs) -> io::Result<Screen<W>> {
        let terminal = Terminal::new(CrosstermBackend::new(open()))?;
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        logs.hold();
        let screen = Screen { terminal, open, logs };
        execute!(open(), EnterAlternateScreen, Hide)?;
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            give_back(open);
            told(panicked);
        }));
        Ok(screen)
    }

    /// Shows `live` until its events end; `leave` is called when Ctrl-C or q is pressed.
    pub fn run<L: Live>(
        &mut self,
        live: &mut L,
        mut events: UnboundedReceiver<L::Event>,
        clock: Clock,
        leave: impl Fn(),
    ) -> io::Result<()> {
        let mut draw_at = Duration::ZERO;
        loop {
            let now = clock.now();
            match take_events(live, &mut events, now) {
                Taken::Over => return Ok(()),
                Taken::Some => draw_at = now.mono,
                Taken::None => {}
            }
            if now.mono >= draw_at {
                draw_at = now.mono + DRAW;
                live.refresh(now);
                self.draw(live, now)?;
            }
            if event::poll(LOOK)? && read_key(live, &leave)? {
                draw_at = Duration::ZERO;
            }
        }
    }

    fn draw(&mut self, live: &mut impl Live, now: Now) -> io::Result<()> {
        // After a panic elsewhere the screen is not the view's any more.
        if TAKEN.load(Ordering::SeqCst) {
            let logs = self.logs.last(LOG_LINES);
            self.terminal.draw(|frame| live.draw(now, &logs, frame))?;
        }
        Ok(())
    }
}

impl<W: Write> Drop for Screen<W> {
    fn drop(&mut self) {
        give_back(self.open);
        self.logs.release();
    }
}

/// Makes the terminal what it was, once.
fn give_back<W: Write>(open: fn() -> W) {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // If this fails, there is no terminal any more.
        let _ = execute!(open(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

/// What has come.
enum Taken {
    None,
    Some,
    Over,
}

fn take_events<L: Live>(live: &mut L, events: &mut UnboundedReceiver<L::Event>, now: Now) -> Taken {
    let mut taken = Taken::None;
    loop {
        match events.try_recv() {
            Ok(event) => live.handle(now, event),
            Err(TryRecvError::Empty) => return taken,
            Err(TryRecvError::Disconnected) => return Taken::Over,
        }
        taken = Taken::Some;
    }
}

/// Reads one event of the terminal; whether to draw again.
fn read_key(live: &mut impl Live, leave: &impl Fn()) -> io::Result<bool> {
    let key = match event::read()? {
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        Event::Resize(..) => return Ok(true),
        _ => return Ok(false),
    };
    if leaves(key) {
        leave();
    } else if let Some(motion) = motion(key.code) {
        live.scroll(motion);
    }
    Ok(true)
}

/// In raw mode Ctrl-C is a key like others.
fn leaves(key: KeyEvent) -> bool {
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
    fn control_c_and_q_leave() {
        let key = |c, modifiers| KeyEvent::new(KeyCode::Char(c), modifiers);
        assert!(leaves(key('c', KeyModifiers::CONTROL)) && leaves(key('q', KeyModifiers::NONE)));
        assert!(!leaves(key('c', KeyModifiers::NONE)));
    }
}
