//! The most recent events and log lines, as a live view shows them.

use std::collections::VecDeque;

use ratatui::style::Stylize;
use ratatui::text::Line;

use super::escape_controls;
use super::parts::{cut, time_of_day};
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

    /// Returns the last events that fit into `rows` of `width` columns, oldest first.
    pub(super) fn lines(&self, (width, rows): (usize, usize)) -> Vec<Line<'static>> {
        let last = self.0.iter().skip(self.0.len().saturating_sub(rows));
        let line = |(at, text): &(Wall, String)| {
            let text = cut(&without_date(&at.to_string(), text), width.saturating_sub(10));
            Line::from(vec![format!("{}  ", time_of_day(*at)).dim(), text.into()])
        };
        last.map(line).collect()
    }
}

/// Returns the last log lines that fit into `rows` of `width` columns.
pub(super) fn log_lines(logs: &[String], (width, rows): (usize, usize)) -> Vec<Line<'static>> {
    let last = logs.iter().skip(logs.len().saturating_sub(rows));
    last.map(|line| cut(&escape_controls(&with_time_of_day(line)), width).into()).collect()
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
    fn a_log_line_is_shown_with_its_time_of_day() {
        let shown = |log: &str| log_lines(&[log.to_owned()], (30, 1))[0].to_string();
        assert_eq!(shown("2026-11-23T13:14:40.154291Z  WARN full"), "13:14:40  WARN full");
        let of_two_days = "2026-11-23T13:14:40.1Z  INFO 2026-11-23T13:15:00Z 2026-11-24T00:00:00Z";
        assert_eq!(with_time_of_day(of_two_days), "13:14:40  INFO 13:15:00Z 2026-11-24T00:00:00Z");
        assert_eq!(shown("no time, but a Z in it"), "no time, but a Z in it");
        assert_eq!(shown("é\u{1b}Z "), "é\\u{1b}Z ");
    }
}
