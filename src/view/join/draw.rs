//! How a client's model is drawn.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;

use super::meeting::{Meeting, Row};
use super::{Join, Registration};
use crate::clock::Now;
use crate::view::parts::{
    boxed, cell, column, countdown, counting, cut, footer, header, inside, log_lines, share, short,
    slice,
};
use crate::view::{count, millis, plain};

/// Between two columns.
const GAP: usize = 2;

pub(super) fn draw(join: &Join, now: Now, logs: &[String], frame: &mut Frame<'_>) {
    let height = frame.area().height;
    let events = if height < 16 { 0 } else { (height / 3).clamp(5, 12) };
    let keys = u16::from(height >= 10);
    let [top, next, table, recent, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(4),
        Constraint::Min(0),
        Constraint::Length(events),
        Constraint::Length(keys),
    ])
    .areas(frame.area());
    header(frame, top, &title(join), now);
    draw_next(join, now, frame, next);
    draw_table(join, frame, table);
    draw_recent(join, logs, frame, recent);
    footer(frame, bottom, "q or Ctrl-C leaves · ↑ ↓ scroll");
}

fn title(join: &Join) -> String {
    let name = join.who.name.as_ref().map_or("no name", |name| name.as_str());
    let (name, room) = (plain(name), plain(join.who.room.as_str()));
    format!("hit7 join · {name} in room {room} · {}", plain(&join.who.registry))
}

fn draw_next(join: &Join, now: Now, frame: &mut Frame<'_>, area: Rect) {
    let (width, _) = inside(area);
    let bar = match join.wait {
        None => Line::from("waiting for the registry's answer".dim()),
        Some(wait) => {
            let left = wait.until.saturating_sub(now.mono);
            let whole = wait.until.saturating_sub(wait.from);
            let label = if left.is_zero() { "now".to_owned() } else { countdown(left) };
            counting(width, share(left, whole), &format!("{label:>5}"))
        }
    };
    let (title, line) = match &join.registration {
        Registration::For { window, text } => (
            format!("next window {}", short(*window)),
            Line::from(format!("registered {text}").green()),
        ),
        Registration::Asking => ("next window".to_owned(), Line::from(asking(join).yellow())),
        Registration::Out(why) => ("next window".to_owned(), Line::from(cut(why, width).red())),
    };
    boxed(frame, area, &title, vec![bar, line]);
}

fn asking(join: &Join) -> &'static str {
    match &join.meeting {
        Some(_) if join.who.once => "not registered again: this window only",
        Some(meeting) if !meeting.closed => "registers again in the first half of this window",
        _ => "registering",
    }
}

fn draw_table(join: &Join, frame: &mut Frame<'_>, area: Rect) {
    let Some(meeting) = &join.meeting else {
        let text = "nobody knows who is in a window before it opens".dim();
        return boxed(frame, area, "current window", vec![text.into()]);
    };
    let (width, height) = inside(area);
    let (rows, rest) = slice(meeting.rows.len(), height.saturating_sub(1), join.scrolled);
    let columns = Columns::of(meeting, width);
    let head = Line::from(columns.head().dim());
    let shown = meeting.rows[rows].iter().map(|row| columns.row(row, meeting.closed));
    let lines = std::iter::once(head).chain(shown).collect();
    boxed(frame, area, &table_title(meeting, &rest), lines);
}

fn table_title(meeting: &Meeting, rest: &str) -> String {
    let Meeting { window, members, rows, closed, .. } = meeting;
    let kind = if *closed { "closed" } else { "current" };
    let members = count(*members as usize, "member");
    let met = meeting.met_count();
    let window = short(*window);
    format!("{kind} window {window} · {members} · met {met} of {}{rest}", rows.len())
}

fn draw_recent(join: &Join, logs: &[String], frame: &mut Frame<'_>, area: Rect) {
    let (width, rows) = inside(area);
    let told = log_lines(logs, (width, rows / 2));
    let mut lines = join.recent.lines((width, rows - told.len()));
    lines.extend(told.into_iter().map(|line| line.style(Style::new().yellow())));
    boxed(frame, area, "what happened", lines);
}

/// How wide each column of peers is.
struct Columns {
    address: usize,
    name: usize,
    text: usize,
}

impl Columns {
    fn of(meeting: &Meeting, width: usize) -> Columns {
        let addresses: Vec<String> = meeting.rows.iter().map(|row| row.addr.to_string()).collect();
        let address = column(addresses.iter().map(String::as_str), 7, 48);
        let names = meeting.rows.iter().map(|row| row.name.as_str());
        let name = column(names, 4, (width / 5).min(32));
        let fixed = address + name + "met".len() + "round trip".len() + "greeted by".len();
        Columns { address, name, text: width.saturating_sub(fixed + 5 * GAP) }
    }

    fn line(&self, [address, name, met, rtt, greeted, text]: [&str; 6]) -> String {
        let cells = [
            cell(address, self.address),
            cell(name, self.name),
            cell(met, 3),
            format!("{rtt:>10}"),
            cell(greeted, 10),
            cut(text, self.text),
        ];
        cells.join("  ")
    }

    fn head(&self) -> String {
        self.line(["address", "name", "met", "round trip", "greeted by", "text"])
    }

    fn row(&self, row: &Row, closed: bool) -> Line<'static> {
        let tick = |done: bool| match done {
            true => "yes",
            false if closed => "no",
            false => "…",
        };
        let rtt = row.met.map(millis).unwrap_or_default();
        let (met, greeted) = (tick(row.met.is_some()), tick(row.greeted));
        let text = self.line([&row.addr.to_string(), &row.name, met, &rtt, greeted, &row.text]);
        match (row.met.is_some(), closed) {
            (true, false) => text.green().into(),
            (true, true) => text.into(),
            (false, false) => text.yellow().into(),
            (false, true) => text.red().into(),
        }
    }
}
