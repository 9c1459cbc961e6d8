//! Draws the live view of a registry.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Stylize;
use ratatui::text::Line;
use ratatui::widgets::{Row, Table};

use super::{Serve, counts};
use crate::clock::Now;
use crate::snapshot::Past;
use crate::view::logs::rejected;
use crate::view::parts::{
    boxed, boxed_gauge, column, countdown, footer, framed, gauge, header, inside, opening_time,
    right, widest,
};
use crate::view::recent::log_lines;
use crate::view::{count, escape_controls, lateness};

pub(super) fn draw(serve: &mut Serve, now: Now, logs: &[String], frame: &mut Frame<'_>) {
    let height = frame.area().height;
    let log = if height < 22 { 0 } else { (height / 5).clamp(4, 10) };
    let rate = if height < 17 { 0 } else { 5 };
    let [top, next, middle, rates, logged, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(4),
        Constraint::Min(0),
        Constraint::Length(rate),
        Constraint::Length(log),
        Constraint::Length(u16::from(height >= 10)),
    ])
    .areas(frame.area());
    let windows = if middle.width < 64 { 0 } else { 43 };
    // Nothing stands to the right of the rooms: in a terminal, their names may turn it around.
    let [past, rooms] =
        Layout::horizontal([Constraint::Length(windows), Constraint::Min(0)]).areas(middle);
    header(frame, top, &title(serve), now);
    draw_next(serve, now, frame, next);
    draw_rooms(serve, frame, rooms);
    draw_past(serve, frame, past);
    draw_rates(serve, frame, rates);
    draw_log(serve, logs, frame, logged);
    footer(frame, bottom, "q or Ctrl-C stops the registry · ↑ ↓ scroll");
}

fn title(serve: &Serve) -> String {
    let listening: Vec<String> = serve.listening.iter().map(ToString::to_string).collect();
    format!("hit7 serve · listening on {}", listening.join(", "))
}

fn draw_next(serve: &Serve, now: Now, frame: &mut Frame<'_>, area: Rect) {
    let (next, length) = (serve.snapshot.next, serve.snapshot.length.span());
    let left = now.wall.until(next.opens());
    let waiting = format!("{} so far", count(serve.snapshot.waiting, "member"));
    let state = match serve.snapshot.journal_works {
        true => Line::from(waiting),
        false => Line::from(format!("{waiting}; the journal cannot be written").red()),
    };
    let gauge = gauge(left, length, &countdown(left));
    boxed_gauge(frame, area, &format!("next window {}", opening_time(next)), Some(gauge), state);
}

fn draw_rooms(serve: &mut Serve, frame: &mut Frame<'_>, area: Rect) {
    let (width, height) = inside(area);
    let shown = serve.scroll.fit(serve.rooms.len(), height.saturating_sub(1));
    let shown: Vec<(String, usize)> = serve.rooms[shown]
        .iter()
        .map(|(room, members)| (escape_controls(room.as_str()), *members))
        .collect();
    let names = shown.iter().map(|(room, _)| room.as_str());
    let widths = [7, widest(names, 4, width.saturating_sub(9))].map(column);
    let rows = shown
        .into_iter()
        .map(|(room, members)| Row::new([right(members.to_string()), room.into()]));
    let head = Row::new([right("members"), Line::from("room")]).dim();
    let table = Table::new(rows, widths).header(head).column_spacing(2);
    let current = &serve.snapshot.current;
    let (window, members) = (opening_time(current.window()), current.len());
    let rooms = count(serve.rooms.len(), "room");
    let title = format!("current {window} · {members} in {rooms}{}", serve.scroll.title());
    serve.scroll.draw(frame, area, &title, table);
}

fn draw_past(serve: &Serve, frame: &mut Frame<'_>, area: Rect) {
    let (_, height) = inside(area);
    let rows = serve.snapshot.past.iter().rev().take(height.saturating_sub(1)).map(past);
    let head = [Line::from("window"), right("members"), right("rooms"), "opened".into()];
    let table = Table::new(rows, [8, 7, 5, 15].map(Constraint::Length))
        .header(Row::new(head).dim())
        .column_spacing(2)
        .block(framed("last windows", area));
    frame.render_widget(table, area);
}

fn past(past: &Past) -> Row<'static> {
    let opened = match past.late {
        None => "missed".red(),
        Some(_) if past.members == 0 => "nobody".dim(),
        Some(late) if late.as_millis() >= 100 => lateness(late).yellow(),
        Some(late) => lateness(late).green(),
    };
    let (members, rooms) = (right(past.members.to_string()), right(past.rooms.to_string()));
    Row::new([opening_time(past.window).into(), members, rooms, opened.into()])
}

fn draw_rates(serve: &Serve, frame: &mut Frame<'_>, area: Rect) {
    let heads = ["received", "answered", "registered", "turned away"].map(right);
    let rates = serve.rates().map(|rate| right(format!("{rate:.1}")));
    let counts = counts(&serve.snapshot).map(|count| right(count.to_string()));
    let row = |head: &'static str, cells: [Line<'static>; 4]| {
        Row::new([Line::from(head)].into_iter().chain(cells))
    };
    let rows = [row("", heads).dim(), row("a second", rates).bold(), row("in all", counts)];
    let table = Table::new(rows, [8, 11, 11, 11, 11].map(Constraint::Length));
    frame.render_widget(table.block(framed("datagrams", area)), area);
}

fn draw_log(serve: &Serve, logs: &[String], frame: &mut Frame<'_>, area: Rect) {
    let mut lines = log_lines(logs, inside(area));
    if lines.is_empty() {
        lines.push("nothing".dim().into());
    }
    let reasons = rejected(&serve.snapshot.rejected);
    let title = match reasons.as_str() {
        "" => "log".to_owned(),
        reasons => format!("log · turned away: {reasons}"),
    };
    boxed(frame, area, &title, lines);
}
