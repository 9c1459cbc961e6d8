//! The live view of a room for someone who does not take part: a pure model, and how it is drawn.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Stylize;
use ratatui::text::Line;

use super::lines::silent;
use super::parts::{
    Recent, bar, boxed, cell, column, countdown, counting, footer, header, inside, log_lines,
    scrolled, share, short, slice,
};
use super::screen::Live;
use super::{count, plain};
use crate::client::{Roster, Watched};
use crate::clock::Now;
use crate::proto::Room;

/// A roster, and when on the monotonic clock it was first seen and will close.
#[derive(Clone, Debug)]
struct Seen {
    roster: Roster,
    from: Duration,
    until: Duration,
}

/// What a watcher has seen of a room.
#[derive(Clone, Debug)]
pub struct Watch {
    room: Room,
    registry: String,
    seen: Option<Seen>,
    silent: Option<Duration>,
    recent: Recent,
    windows: usize,
    scrolled: usize,
}

impl Watch {
    /// Nothing has been seen yet.
    pub fn new(room: Room, registry: String) -> Watch {
        let recent = Recent::default();
        Watch { room, registry, seen: None, silent: None, recent, windows: 0, scrolled: 0 }
    }

    fn see(&mut self, now: Now, roster: Roster) {
        let until = now.mono.saturating_add(roster.closes_in);
        let same = self.seen.as_ref().filter(|seen| seen.roster.window == roster.window);
        let from = same.map(|seen| seen.from);
        if from.is_none() {
            (self.windows, self.scrolled) = (self.windows + 1, 0);
            let members = count(roster.count as usize, "member");
            self.recent.add(now.wall, format!("window {}: {members}", roster.window));
        }
        self.silent = None;
        self.seen = Some(Seen { from: from.unwrap_or(now.mono), until, roster });
    }

    fn draw_turn(&self, now: Now, frame: &mut Frame<'_>, area: Rect) {
        let (width, _) = inside(area);
        let bar = match &self.seen {
            None => Line::from(bar(width, 0.0).dim()),
            Some(seen) => {
                let left = seen.until.saturating_sub(now.mono);
                let share = share(left, seen.until.saturating_sub(seen.from));
                counting(width, share, &format!("{:>5}", countdown(left)))
            }
        };
        let state = match (self.silent, &self.seen) {
            (Some(waited), _) => silent(waited).red(),
            (None, Some(_)) => "until the next window opens".into(),
            (None, None) => "asking the registry".yellow(),
        };
        boxed(frame, area, "next window", vec![bar, state.into()]);
    }

    fn draw_members(&self, frame: &mut Frame<'_>, area: Rect) {
        let Some(Seen { roster, .. }) = &self.seen else {
            return boxed(frame, area, "current window", Vec::new());
        };
        let addrs: Vec<String> = roster.peers.iter().map(ToString::to_string).collect();
        let (width, height) = inside(area);
        let wide = column(addrs.iter().map(String::as_str), 1, 48) + 3;
        let across = (width / wide).max(1);
        let (rows, rest) = slice(addrs.len().div_ceil(across), height, self.scrolled);
        let row =
            |row: &[String]| Line::from(row.iter().map(|it| cell(it, wide)).collect::<String>());
        let lines = addrs.chunks(across).skip(rows.start).take(rows.len()).map(row).collect();
        let members = count(roster.count as usize, "member");
        let rest = if rest.is_empty() { rest } else { format!("{rest} rows") };
        boxed(
            frame,
            area,
            &format!("current window {} · {members}{rest}", short(roster.window)),
            lines,
        );
    }
}

impl Live for Watch {
    type Event = Watched;

    fn handle(&mut self, now: Now, event: Watched) {
        match event {
            Watched::Window(roster) => self.see(now, roster),
            Watched::Silent(waited) => {
                self.silent = Some(waited);
                self.recent.add(now.wall, silent(waited));
            }
        }
    }

    fn draw(&self, now: Now, logs: &[String], frame: &mut Frame<'_>) {
        let height = frame.area().height;
        let events = if height < 16 { 0 } else { (height / 4).clamp(4, 10) };
        let [top, turn, members, recent, bottom] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(4),
            Constraint::Min(0),
            Constraint::Length(events),
            Constraint::Length(u16::from(height >= 10)),
        ])
        .areas(frame.area());
        let (room, registry) = (plain(self.room.as_str()), plain(&self.registry));
        header(frame, top, &format!("hit7 watch · room {room} · {registry}"), now);
        self.draw_turn(now, frame, turn);
        self.draw_members(frame, members);
        let mut lines = self.recent.lines(inside(recent));
        lines.extend(log_lines(logs, (inside(recent).0, 1)));
        boxed(frame, recent, "what happened", lines);
        footer(frame, bottom, "q or Ctrl-C ends · ↑ ↓ scroll");
    }

    fn scroll(&mut self, by: isize) {
        let all = self.seen.as_ref().map_or(0, |seen| seen.roster.peers.len());
        self.scrolled = scrolled(self.scrolled, by, all);
    }

    fn summary(&self) -> Vec<String> {
        let room = plain(self.room.as_str());
        let last = self.seen.as_ref().map(|seen| {
            let members = count(seen.roster.count as usize, "member");
            format!(", the last at {} with {members}", short(seen.roster.window))
        });
        let windows = count(self.windows, "window");
        vec![format!("{windows} of room {room} seen{}", last.unwrap_or_default())]
    }
}

#[cfg(test)]
mod tests;
