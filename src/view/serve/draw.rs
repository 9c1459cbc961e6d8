//! How a registry's model is drawn.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Stylize;
use ratatui::text::{Line, Span};

use super::{Serve, counts};
use crate::clock::Now;
use crate::snapshot::Past;
use crate::view::logs::rejected;
use crate::view::parts::{
    boxed, cell, column, countdown, counting, cut, footer, header, inside, log_lines, share, short,
    slice,
};
use crate::view::{count, plain};

pub(super) fn draw(serve: &Serve, now: Now, logs: &[String], frame: &mut Frame<'_>) {
    let height = frame.area().height;
    let log = if height < 22 { 0 } else { (height / 5).clamp(4, 10) };
    let speed = if height < 17 { 0 } else { 5 };
    let [top, next, middle, rates, told, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(4),
        Constraint::Min(0),
        Constraint::Length(speed),
        Constraint::Length(log),
        Constraint::Length(u16::from(height >= 10)),
    ])
    .areas(frame.area());
    let windows = if middle.width < 64 { 0 } else { 40 };
    let [rooms, past] =
        Layout::horizontal([Constraint::Min(0), Constraint::Length(windows)]).areas(middle);
    header(frame, top, &title(serve), now);
    draw_next(serve, now, frame, next);
    draw_rooms(serve, frame, rooms);
    draw_past(serve, frame, past);
    draw_rates(serve, frame, rates);
    draw_log(serve, logs, frame, told);
    footer(frame, bottom, "q or Ctrl-C stops the registry · ↑ ↓ scroll");
}

fn title(serve: &Serve) -> String {
    let listening: Vec<String> = serve.listening.iter().map(ToString::to_string).collect();
    format!("hit7 serve · listening on {}", listening.join(", "))
}

fn draw_next(serve: &Serve, now: Now, frame: &mut Frame<'_>, area: Rect) {
    let (next, length) = (serve.snapshot.next, serve.snapshot.length.span());
    let left = now.wall.until(next.opens());
    let bar = counting(inside(area).0, share(left, length), &format!("{:>5}", countdown(left)));
    let waiting = format!("{} so far", count(serve.snapshot.waiting, "member"));
    let state = match serve.snapshot.log_works {
        true => Span::from(waiting),
        false => format!("{waiting}; the log cannot be written").red(),
    };
    boxed(frame, area, &format!("next window {}", short(next)), vec![bar, state.into()]);
}

fn draw_rooms(serve: &Serve, frame: &mut Frame<'_>, area: Rect) {
    let (window, rooms) = &serve.rooms;
    let (width, height) = inside(area);
    let (shown, rest) = slice(rooms.len(), height.saturating_sub(1), serve.scrolled);
    let shown = &rooms[shown];
    let names: Vec<String> = shown.iter().map(|(room, _)| plain(room.as_str())).collect();
    let name = column(names.iter().map(String::as_str), 4, width.saturating_sub(9));
    let mut lines = vec![Line::from(format!("{}  members", cell("room", name)).dim())];
    for (shown, (_, members)) in names.iter().zip(shown) {
        lines.push(Line::from(format!("{}  {members:>7}", cell(shown, name))));
    }
    let (rooms, window) = (count(rooms.len(), "room"), short(*window));
    let members = serve.snapshot.current.len();
    boxed(frame, area, &format!("current {window} · {members} in {rooms}{rest}"), lines);
}

fn draw_past(serve: &Serve, frame: &mut Frame<'_>, area: Rect) {
    let (_, rows) = inside(area);
    let head = Line::from("window    members  rooms  opened".dim());
    let last = serve.snapshot.past.iter().rev().take(rows.saturating_sub(1));
    boxed(frame, area, "last windows", std::iter::once(head).chain(last.map(past)).collect());
}

fn past(past: &Past) -> Line<'static> {
    let Past { window, members, rooms, late } = past;
    let text = format!("{}  {members:>7}  {rooms:>5}  ", short(*window));
    let opened = match late {
        None => "missed".red(),
        Some(_) if *members == 0 => "nobody".dim(),
        Some(late) if late.as_millis() >= 100 => format!("{} ms late", late.as_millis()).yellow(),
        Some(late) => format!("{} ms late", late.as_millis()).green(),
    };
    Line::from(vec![text.into(), opened])
}

fn draw_rates(serve: &Serve, frame: &mut Frame<'_>, area: Rect) {
    let (width, _) = inside(area);
    let (rates, counts) = (serve.rates(), counts(&serve.snapshot));
    let numbers = |head: &str, numbers: [String; 4]| {
        let cells: Vec<String> = numbers.iter().map(|number| format!("{number:>11}")).collect();
        cut(&format!("{head:<9}{}", cells.join(" ")), width)
    };
    let names = ["received", "answered", "registered", "turned away"].map(str::to_owned);
    let lines = vec![
        Line::from(numbers("", names).dim()),
        Line::from(numbers("a second", rates.map(|rate| format!("{rate:.1}")))).bold(),
        Line::from(numbers("in all", counts.map(|count| count.to_string()))),
    ];
    boxed(frame, area, "datagrams", lines);
}

fn draw_log(serve: &Serve, logs: &[String], frame: &mut Frame<'_>, area: Rect) {
    let (width, rows) = inside(area);
    let mut lines = log_lines(logs, (width, rows));
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
