//! Draws the live view of a client that takes part.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Row as TableRow, Table};

use super::peers::{PeerTable, Row};
use super::{Join, Registration};
use crate::clock::Now;
use crate::view::parts::{
    boxed, boxed_gauge, column, countdown, cut, footer, gauge, header, inside, opening_time, right,
    widest,
};
use crate::view::recent::log_lines;
use crate::view::{count, escape_controls, millis};

/// The number of blank columns between two cells of the table of peers.
const COLUMN_GAP: usize = 2;

/// The column heads of the table of peers.
const COLUMN_TITLES: [&str; 6] = ["address", "name", "met", "round trip", "greeted by", "text"];

pub(super) fn draw(join: &mut Join, now: Now, logs: &[String], frame: &mut Frame<'_>) {
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
    draw_peers(join, frame, table);
    draw_recent(join, logs, frame, recent);
    footer(frame, bottom, "q or Ctrl-C leaves · ↑ ↓ scroll");
}

fn title(join: &Join) -> String {
    let name = join.participant.name.as_ref().map_or("no name", |name| name.as_str());
    let (name, room) = (escape_controls(name), escape_controls(join.participant.room.as_str()));
    format!("hit7 join · {name} in room {room} at {}", escape_controls(&join.participant.registry))
}

fn draw_next(join: &Join, now: Now, frame: &mut Frame<'_>, area: Rect) {
    let gauge = join.wait.map(|wait| {
        let left = wait.until.saturating_sub(now.mono);
        let label = if left.is_zero() { "now".to_owned() } else { countdown(left) };
        gauge(left, wait.until.saturating_sub(wait.from), &label)
    });
    let (title, state) = match &join.registration {
        Registration::Confirmed { window, text } => (
            format!("next window {}", opening_time(*window)),
            Line::from(format!("registered {text}").green()),
        ),
        Registration::Pending => ("next window".to_owned(), Line::from(pending(join).yellow())),
        Registration::Left => ("next window".to_owned(), "left".into()),
        Registration::Failed(why) => {
            ("next window".to_owned(), Line::from(cut(why, inside(area).0).red()))
        }
    };
    boxed_gauge(frame, area, &title, gauge, state);
}

fn pending(join: &Join) -> &'static str {
    match &join.peers {
        Some(_) if join.participant.once => "not registered again: this window only",
        Some(peers) if !peers.closed => "registers again in the first half of this window",
        _ => "registering",
    }
}

fn draw_peers(join: &mut Join, frame: &mut Frame<'_>, area: Rect) {
    let Some(peers) = &join.peers else {
        let text = "nobody knows who is in a window before it opens".dim();
        return boxed(frame, area, "current window", vec![text.into()]);
    };
    let (width, height) = inside(area);
    let shown = join.scroll.fit(peers.rows.len(), height.saturating_sub(1));
    let widths = widths(peers, width);
    let rows = peers.rows[shown].iter().map(|row| table_row(row, peers.closed, widths));
    let table = Table::new(rows, widths.map(column))
        .header(TableRow::new(COLUMN_TITLES).dim())
        .column_spacing(COLUMN_GAP as u16);
    let title = peers_title(peers) + &join.scroll.title();
    join.scroll.draw(frame, area, &title, table);
}

fn peers_title(peers: &PeerTable) -> String {
    let PeerTable { window, members, rows, closed, .. } = peers;
    let kind = if *closed { "closed" } else { "current" };
    let (members, met) = (count(*members as usize, "member"), peers.met_count());
    format!("{kind} window {} · {members} · met {met} of {}", opening_time(*window), rows.len())
}

fn draw_recent(join: &Join, logs: &[String], frame: &mut Frame<'_>, area: Rect) {
    let (width, rows) = inside(area);
    let logs = log_lines(logs, (width, rows / 2));
    let mut lines = join.recent.lines((width, rows - logs.len()));
    lines.extend(logs.into_iter().map(|line| line.style(Style::new().yellow())));
    boxed(frame, area, "what happened", lines);
}

/// Returns the width of each column of the table; the last, the text, gets what the others leave.
fn widths(peers: &PeerTable, width: usize) -> [usize; 6] {
    let addresses: Vec<String> = peers.rows.iter().map(|row| row.addr.to_string()).collect();
    let address = widest(addresses.iter().map(String::as_str), 7, 48);
    let names = peers.rows.iter().map(|row| row.name.as_str());
    let name = widest(names, 4, (width / 5).min(32));
    let [met, rtt, greeted] = [2, 3, 4].map(|k| COLUMN_TITLES[k].len());
    let fixed = address + name + met + rtt + greeted + 5 * COLUMN_GAP;
    [address, name, met, rtt, greeted, width.saturating_sub(fixed)]
}

fn table_row(row: &Row, closed: bool, widths: [usize; 6]) -> TableRow<'static> {
    let tick = |done: bool| if done { "yes" } else { "no" };
    let cells = TableRow::new([
        Line::from(row.addr.to_string()),
        cut(&row.name, widths[1]).into(),
        tick(row.met.is_some()).into(),
        right(row.met.map(millis).unwrap_or_default()),
        tick(row.greeted).into(),
        cut(&row.text, widths[5]).into(),
    ]);
    match (row.met.is_some(), closed) {
        (true, false) => cells.green(),
        (true, true) => cells,
        (false, false) => cells.yellow(),
        (false, true) => cells.red(),
    }
}
