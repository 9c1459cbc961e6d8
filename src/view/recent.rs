//! The most recent events and log lines, as a live view shows them.

use std::collections::VecDeque;

use ratatui::style::Stylize;
use ratatui::text::Line;

use super::escape_controls;
use super::parts::{time_of_day, wrapped};
use crate::window::Wall;

/// The most events that a live view keeps for its list of recent ones.
const MAX_RECENT_EVENTS: usize = 100;

/// The most recent events with their times, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent(VecDeque<(Wall, String)>);

impl Recent {
    /// Adds an event that happened at `at`, and drops the oldest if the list is full.
    pub(super) fn add(&mut self, at: Wall, text: String) {
        if self.0.len() == MAX_RECENT_EVENTS {
            self.0.pop_front();
        }
        self.0.push_back((at, text));
    }

    /// Returns the last events that fit into `rows` of `width` columns, oldest first; an event may
    /// take several rows.
    pub(super) fn lines(&self, (width, rows): (usize, usize)) -> Vec<Line<'static>> {
        let event = |(at, text): &(Wall, String), rows| {
            let text = without_date(&at.to_string(), text);
            let texts = wrapped(&text, (width.saturating_sub(10), rows)).into_iter();
            let time = |row| if row == 0 { time_of_day(*at) } else { " ".repeat(8) };
            let line =
                |(row, text): (_, String)| vec![format!("{}  ", time(row)).dim(), text.into()];
            texts.enumerate().map(line).map(Line::from).collect()
        };
        last(self.0.iter().rev(), rows, event)
    }
}

/// Returns the last log lines that fit into `rows` of `width` columns; a log line may take several
/// rows.
pub(super) fn log_lines(logs: &[String], (width, rows): (usize, usize)) -> Vec<Line<'static>> {
    last(logs.iter().rev(), rows, |line, rows| {
        let shown = escape_controls(&with_time_of_day(line));
        wrapped(&shown, (width, rows)).into_iter().map(Line::from).collect()
    })
}

/// Returns the lines that `lines` makes of `items`, the newest first, up to `rows` of them in all,
/// in which the oldest comes first.
fn last<T>(
    items: impl Iterator<Item = T>,
    rows: usize,
    lines: impl Fn(T, usize) -> Vec<Line<'static>>,
) -> Vec<Line<'static>> {
    let mut shown = VecDeque::new();
    for item in items {
        if shown.len() == rows {
            break;
        }
        let item = lines(item, rows - shown.len());
        item.into_iter().rev().for_each(|line| shown.push_front(line));
    }
    shown.into()
}

/// Removes the date and the fractions of a second from a log line's timestamp.
fn with_time_of_day(line: &str) -> String {
    let (time, rest) = line.split_once("Z ").unwrap_or(("", line));
    match (time.get(10..11), time.get(11..19)) {
        (Some("T"), Some(of_day)) => format!("{of_day} {}", without_date(time, rest)),
        _ => line.to_owned(),
    }
}

/// Removes the date of `moment` wherever it occurs in `text`, which leaves times of day.
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
    fn the_oldest_event_is_dropped() {
        let mut recent = Recent::default();
        (0..1000).for_each(|k| recent.add(Wall::from_millis(0), k.to_string()));
        assert_eq!(recent.0.len(), MAX_RECENT_EVENTS);
        assert_eq!(recent.lines((20, 1))[0].to_string(), "00:00:00  999");
    }

    #[test]
    fn the_newest_is_shown_whole_and_what_came_before_in_the_rows_that_are_left() {
        let mut recent = Recent::default();
        for text in ["an earlier one", "of two words", "why it failed, and what helps"] {
            recent.add(Wall::from_millis(0), text.to_owned());
        }
        let shown = |rows| recent.lines((22, rows)).iter().map(Line::to_string).collect::<Vec<_>>();
        let whole = ["00:00:00  why it", "          failed, and", "          what helps"];
        assert_eq!(shown(3), whole);
        assert_eq!(shown(4), [&["00:00:00  of two words"], &whole[..]].concat());
        assert_eq!(shown(5)[0], "00:00:00  an earlier …");
    }

    #[test]
    fn a_log_line_is_shown_with_its_time_of_day() {
        let shown = |log: &str| log_lines(&[log.to_owned()], (30, 1))[0].to_string();
        assert_eq!(shown("2026-11-23T13:14:40.154291Z  WARN full"), "13:14:40  WARN full");
        let of_two_days = "2026-11-23T13:14:40.1Z  INFO 2026-11-23T13:15:00Z 2026-11-24T00:00:00Z";
        assert_eq!(with_time_of_day(of_two_days), "13:14:40  INFO 13:15:00Z 2026-11-24T00:00:00Z");
        assert_eq!(shown("no time, but a Z in it"), "no time, but a Z in it");
        assert_eq!(shown("é\u{1b}Z "), "é\\u{1b}Z ");
    }
}
