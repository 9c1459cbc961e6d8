//! The live view of `hit7 watch`: a pure model of a room's windows, and how it is drawn.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Stylize;
use ratatui::widgets::{Row, Table};

use super::lines::{not_shown_line, silent_line};
use super::parts::{
    boxed, boxed_gauge, column, countdown, cut, footer, gauge, header, inside, opening_time, widest,
};
use super::recent::{Recent, log_lines};
use super::screen::Live;
use super::scroll::{Motion, Scroll};
use super::{count, escape_controls};
use crate::client::{Cause, Roster, Watched};
use crate::clock::Now;
use crate::proto::Room;
use crate::window::Window;

/// The number of blank columns between two addresses.
const COLUMN_GAP: usize = 3;

/// The room's current window; `from` and `until` are when it was first seen and when it closes, on
/// the monotonic clock.
#[derive(Clone, Debug)]
struct Current {
    window: Window,
    members: String,
    /// The addresses of the window's members; `widest` is how many columns the widest takes.
    addrs: Vec<String>,
    widest: usize,
    from: Duration,
    until: Duration,
}

/// The model of a watched room, updated by the watcher's events.
#[derive(Clone, Debug)]
pub struct Watch {
    room: Room,
    registry: String,
    current: Option<Current>,
    /// How long the registry has been silent, and why; `None` if it answers.
    silent: Option<(Duration, Cause)>,
    recent: Recent,
    windows: usize,
    scroll: Scroll,
}

impl Watch {
    /// Creates the model of a watcher that has had no event yet.
    pub fn new(room: Room, registry: String) -> Watch {
        let (recent, scroll) = (Recent::default(), Scroll::default());
        Watch { room, registry, current: None, silent: None, recent, windows: 0, scroll }
    }

    fn update(&mut self, now: Now, roster: Roster) {
        let Roster { window, count: members, peers, closes_in, .. } = roster;
        let members = count(members as usize, "member");
        let same = self.current.as_ref().filter(|current| current.window == window);
        let from = same.map(|current| current.from).unwrap_or_else(|| {
            (self.windows, self.scroll) = (self.windows + 1, Scroll::default());
            self.recent.add(now.wall, format!("window {window}: {members}"));
            now.mono
        });
        let addrs: Vec<String> = peers.iter().map(ToString::to_string).collect();
        let widest = widest(addrs.iter().map(String::as_str), 1, 48);
        let until = now.mono.saturating_add(closes_in);
        self.silent = None;
        self.current = Some(Current { window, members, addrs, widest, from, until });
    }

    fn draw_next(&self, now: Now, frame: &mut Frame<'_>, area: Rect) {
        let gauge = self.current.as_ref().map(|current| {
            let left = current.until.saturating_sub(now.mono);
            gauge(left, current.until.saturating_sub(current.from), &countdown(left))
        });
        let state = match (&self.silent, &self.current) {
            (Some((waited, cause)), _) => cut(&silent_line(*waited, cause), inside(area).0).red(),
            (None, Some(_)) => "until the next window opens".into(),
            (None, None) => "asking the registry".yellow(),
        };
        boxed_gauge(frame, area, "next window", gauge, state.into());
    }

    fn draw_members(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let Some(Current { window, members, addrs, widest, .. }) = &self.current else {
            return boxed(frame, area, "current window", Vec::new());
        };
        let (width, height) = inside(area);
        let across = ((width + COLUMN_GAP) / (widest + COLUMN_GAP)).max(1);
        let shown = self.scroll.fit(addrs.len().div_ceil(across), height);
        let rows = addrs.chunks(across).skip(shown.start).take(shown.len());
        let rows = rows.map(|row| Row::new(row.iter().map(String::as_str)));
        let table =
            Table::new(rows, vec![column(*widest); across]).column_spacing(COLUMN_GAP as u16);
        let hidden = self.scroll.title();
        let hidden = if hidden.is_empty() { hidden } else { format!("{hidden} rows") };
        let title = format!("current window {} · {members}{hidden}", opening_time(*window));
        self.scroll.draw(frame, area, &title, table);
    }
}

impl Live for Watch {
    type Event = Watched;

    fn handle(&mut self, now: Now, event: Watched) {
        match event {
            Watched::Window(roster) => self.update(now, roster),
            Watched::Silent(waited, cause) => {
                self.recent.add(now.wall, silent_line(waited, &cause));
                self.silent = Some((waited, cause));
            }
            Watched::NotShown(events) => self.recent.add(now.wall, not_shown_line(events)),
        }
    }

    fn draw(&mut self, now: Now, logs: &[String], frame: &mut Frame<'_>) {
        let height = frame.area().height;
        let events = if height < 16 { 0 } else { (height / 3).clamp(5, 12) };
        let [top, next, members, recent, bottom] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(4),
            Constraint::Min(0),
            Constraint::Length(events),
            Constraint::Length(u16::from(height >= 10)),
        ])
        .areas(frame.area());
        let (room, registry) =
            (escape_controls(self.room.as_str()), escape_controls(&self.registry));
        header(frame, top, &format!("hit7 watch · room {room} at {registry}"), now);
        self.draw_next(now, frame, next);
        self.draw_members(frame, members);
        let (width, rows) = inside(recent);
        let logs = log_lines(logs, (width, rows.min(1)));
        let mut lines = self.recent.lines((width, rows - logs.len()));
        lines.extend(logs);
        boxed(frame, recent, "what happened", lines);
        footer(frame, bottom, "q or Ctrl-C ends · ↑ ↓ scroll");
    }

    fn scroll(&mut self, motion: Motion) {
        self.scroll.go(motion);
    }

    fn summary(&self) -> Vec<String> {
        let room = escape_controls(self.room.as_str());
        let last = self.current.as_ref().map(|Current { window, members, .. }| {
            format!(", the last at {} with {members}", opening_time(*window))
        });
        let windows = count(self.windows, "window");
        let mut lines = vec![format!("{windows} of room {room} seen{}", last.unwrap_or_default())];
        if let Some((waited, cause)) = &self.silent {
            lines.push(format!("last: {}", silent_line(*waited, cause)));
        }
        lines
    }
}

#[cfg(test)]
mod tests;
