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
use crate::clock::{Clock, Now};

/// How often keys and events are looked at.
const LOOK: Duration = Duration::from_millis(40);

/// How often it is drawn if nothing happens: for the countdown.
const DRAW: Duration = Duration::from_millis(200);

/// Log lines that are handed to a drawing.
const LOG_LINES: usize = 50;

/// Whether the terminal is taken.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// What is shown live: a model, and how it is drawn.
pub trait Live: Send + 'static {
    /// What happens to it.
    type Event: Send + 'static;
    /// Something has happened.
    fn handle(&mut self, now: Now, event: Self::Event);
    /// Looks at what is not told.
    fn look(&mut self, _now: Now) {}
    /// Draws it with the last lines of the logs.
    fn draw(&self, now: Now, logs: &[String], frame: &mut Frame<'_>);
    /// Moves the list by so many lines.
    fn scroll(&mut self, _by: isize) {}
    /// What stays on the screen when it is over.
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
                live.look(now);
                self.draw(live, now)?;
            }
            if event::poll(LOOK)? && read_key(live, &leave)? {
                draw_at = Duration::ZERO;
            }
        }
    }

    fn draw(&mut self, live: &impl Live, now: Now) -> io::Result<()> {
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
    } else if let Some(lines) = scrolled(key.code) {
        live.scroll(lines);
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

fn scrolled(key: KeyCode) -> Option<isize> {
    Some(match key {
        KeyCode::Up | KeyCode::Char('k') => -1,
        KeyCode::Down | KeyCode::Char('j') => 1,
        KeyCode::PageUp => -10,
        KeyCode::PageDown | KeyCode::Char(' ') => 10,
        KeyCode::Home => isize::MIN,
        KeyCode::End => isize::MAX,
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
