//! What the live views are made of: bars, cells, boxes, and the last things that happened.

use std::collections::VecDeque;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Paragraph};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::plain;
use crate::clock::Now;
use crate::window::{Wall, Window};

/// Things that happened, and are kept for showing.
const KEPT: usize = 100;

/// `text` within `width` columns of a terminal: an ellipsis stands for what is cut.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let (mut shown, mut used) = (String::new(), 1);
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        shown.push(c);
    }
    if width > 0 {
        shown.push('…');
    }
    shown
}

/// `text` in exactly `width` columns.
pub(super) fn cell(text: &str, width: usize) -> String {
    let mut shown = cut(text, width);
    shown.extend(std::iter::repeat_n(' ', width.saturating_sub(shown.width())));
    shown
}

/// How wide a column must be for its widest text, within limits.
pub(super) fn column<'a>(texts: impl Iterator<Item = &'a str>, least: usize, most: usize) -> usize {
    texts.map(UnicodeWidthStr::width).max().unwrap_or(0).clamp(least, most.max(least))
}

/// A bar of `width` columns, filled to `share` of it, in eighths of a column.
pub(super) fn bar(width: usize, share: f64) -> String {
    let eighths = (width as f64 * 8.0 * share.clamp(0.0, 1.0)).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(['▏', '▎', '▍', '▌', '▋', '▊', '▉'][eighths % 8 - 1]);
    }
    bar.extend(std::iter::repeat_n('░', width - eighths.div_ceil(8)));
    bar
}

/// A countdown: whole seconds, rounded up, so that it is 0 when the time has come.
pub(super) fn countdown(left: Duration) -> String {
    match left.as_millis().div_ceil(1000) {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        seconds => format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// The time of day.
pub(super) fn time_of_day(moment: Wall) -> String {
    moment.to_string().get(11..19).unwrap_or_default().to_owned()
}

/// A window by its time of day.
pub(super) fn short(window: Window) -> String {
    time_of_day(window.opens())
}

/// How much of a wait is over.
pub(super) fn share(left: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 1.0 } else { 1.0 - left.as_secs_f64() / whole.as_secs_f64() }
}

/// A line with a bar and its countdown.
pub(super) fn counting(width: usize, share: f64, label: &str) -> Line<'static> {
    let taken = label.width() + 2;
    let bar = bar(width.saturating_sub(taken), share);
    Line::from(vec![bar.cyan(), "  ".into(), label.to_owned().bold()])
}

/// A line of the top: what this is, and the time.
pub(super) fn header(frame: &mut Frame<'_>, area: Rect, what: &str, now: Now) {
    let wide = area.width >= 40;
    let time = if wide { format!("{} UTC ", time_of_day(now.wall)) } else { String::new() };
    let width = usize::from(area.width).saturating_sub(time.width());
    let text = Line::from(vec![cell(&format!(" {what}"), width).bold(), time.into()]);
    frame.render_widget(Paragraph::new(text), area);
}

/// A line of the bottom: the keys.
pub(super) fn footer(frame: &mut Frame<'_>, area: Rect, keys: &str) {
    frame.render_widget(Paragraph::new(cut(&format!(" {keys}"), area.width.into()).dim()), area);
}

/// A box with lines in it, cut at its edge.
pub(super) fn boxed(frame: &mut Frame<'_>, area: Rect, title: &str, lines: Vec<Line<'_>>) {
    let block = framed(title, area);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn framed(title: &str, area: Rect) -> Block<'static> {
    let title = cut(title, usize::from(area.width).saturating_sub(4));
    Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(Style::new().dim())
        .title(Span::from(format!(" {title} ")).not_dim())
}

/// How much of a box is inside: its columns and its lines.
pub(super) fn inside(area: Rect) -> (usize, usize) {
    (usize::from(area.width.saturating_sub(2)), usize::from(area.height.saturating_sub(2)))
}

/// The part of a list that is shown, and what is said of the rest.
pub(super) fn slice(all: usize, rows: usize, scrolled: usize) -> (std::ops::Range<usize>, String) {
    let from = scrolled.min(all.saturating_sub(rows));
    let to = all.min(from + rows);
    let rest = match to - from {
        0 => String::new(),
        shown if shown == all => String::new(),
        _ => format!(" · {}–{to} of {all}", from + 1),
    };
    (from..to, rest)
}

/// Where a list of `all` lines is after scrolling.
pub(super) fn scrolled(at: usize, by: isize, all: usize) -> usize {
    at.saturating_add_signed(by).min(all.saturating_sub(1))
}

/// The last things that happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent(VecDeque<(Wall, String)>);

impl Recent {
    /// Adds one, and forgets the oldest.
    pub(super) fn add(&mut self, at: Wall, text: String) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((at, text));
    }

    /// The last ones that fit, oldest first.
    pub(super) fn lines(&self, (width, rows): (usize, usize)) -> Vec<Line<'static>> {
        let last = self.0.iter().skip(self.0.len().saturating_sub(rows));
        let line = |(at, text): &(Wall, String)| {
            let text = cut(&without_date(&at.to_string(), text), width.saturating_sub(10));
            Line::from(vec![format!("{}  ", time_of_day(*at)).dim(), text.into()])
        };
        last.map(line).collect()
    }
}

/// Lines of the logs that fit.
pub(super) fn log_lines(logs: &[String], (width, rows): (usize, usize)) -> Vec<Line<'static>> {
    let last = logs.iter().skip(logs.len().saturating_sub(rows));
    last.map(|line| cut(&plain(&of_today(line)), width).into()).collect()
}

/// A text log with the time of day alone: the view is of now.
fn of_today(line: &str) -> String {
    let (time, rest) = line.split_once("Z ").unwrap_or(("", line));
    match (time.get(10..11), time.get(11..19)) {
        (Some("T"), Some(of_day)) => format!("{of_day} {}", without_date(time, rest)),
        _ => line.to_owned(),
    }
}

/// `text` with all moments of the day of `moment` as times of day.
fn without_date(moment: &str, text: &str) -> String {
    match moment.get(..11) {
        Some(date) => text.replace(date, ""),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_by_the_columns_they_take() {
        assert_eq!(cut("hola", 4), "hola");
        assert_eq!(cut("hola!", 4), "hol…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!((cut("hola", 1).as_str(), cut("hola", 0).as_str()), ("…", ""));
        assert_eq!(cell("日本語", 4).width(), 4);
    }

    #[test]
    fn a_bar_fills_in_eighths() {
        assert_eq!(bar(4, 0.0), "░░░░");
        assert_eq!(bar(4, 0.5), "██░░");
        assert_eq!(bar(4, 0.53), "██▏░");
        assert_eq!((bar(4, 1.0).as_str(), bar(4, 7.0).as_str()), ("████", "████"));
        assert_eq!((bar(0, 0.5).as_str(), bar(2, f64::NAN).as_str()), ("", "░░"));
    }

    #[test]
    fn a_countdown_ends_at_zero() {
        let shown = |millis| countdown(Duration::from_millis(millis));
        assert_eq!([shown(0), shown(1), shown(59_000)], ["0 s", "1 s", "59 s"]);
        assert_eq!([shown(59_001), shown(3_600_000)], ["1:00", "1:00:00"]);
    }

    #[test]
    fn what_happened_is_forgotten_after_a_while() {
        let mut recent = Recent::default();
        (0..1000).for_each(|k| recent.add(Wall::from_millis(0), k.to_string()));
        assert_eq!(recent.0.len(), KEPT);
        assert_eq!(recent.lines((20, 1))[0].to_string(), "00:00:00  999");
    }

    #[test]
    fn a_log_is_shown_with_its_time_of_day() {
        let shown = |log: &str| log_lines(&[log.to_owned()], (30, 1))[0].to_string();
        assert_eq!(shown("2026-11-23T13:14:40.154291Z  WARN full"), "13:14:40  WARN full");
        let of_two_days = "2026-11-23T13:14:40.1Z  INFO 2026-11-23T13:15:00Z 2026-11-24T00:00:00Z";
        assert_eq!(of_today(of_two_days), "13:14:40  INFO 13:15:00Z 2026-11-24T00:00:00Z");
        assert_eq!(shown("no time, but a Z in it"), "no time, but a Z in it");
        assert_eq!(shown("é\u{1b}Z "), "é\\u{1b}Z ");
    }

    #[test]
    fn a_list_is_shown_in_part() {
        assert_eq!(slice(3, 5, 9), (0..3, String::new()));
        assert_eq!(slice(30, 0, 0), (0..0, String::new()));
        assert_eq!(slice(30, 5, 0), (0..5, " · 1–5 of 30".to_owned()));
        assert_eq!(slice(30, 5, 99), (25..30, " · 26–30 of 30".to_owned()));
        assert_eq!((scrolled(3, isize::MIN, 9), scrolled(3, isize::MAX, 9)), (0, 8));
    }
}
