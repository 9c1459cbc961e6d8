//! A list that may be longer than its box: which rows are shown, and the scrollbar beside them.

use std::ops::Range;

use ratatui::Frame;
use ratatui::layout::{Margin, Rect};
use ratatui::symbols::scrollbar::VERTICAL;
use ratatui::widgets::{Scrollbar, ScrollbarOrientation, ScrollbarState, Table};

use super::parts::framed;

/// A scroll command, as a key gives it to a list that is longer than its box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Motion {
    /// Scroll up by one row.
    LineUp,
    /// Scroll down by one row.
    LineDown,
    /// Scroll up by as many rows as are shown.
    PageUp,
    /// Scroll down by as many rows as are shown.
    PageDown,
    /// Scroll to the first row of all.
    First,
    /// Scroll to the last row of all.
    Last,
}

/// How far a list is scrolled, within the rows that it had when it was last drawn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scroll {
    /// The position is the index of the first row shown; the length is the number of positions.
    state: ScrollbarState,
    rows: usize,
    page: usize,
}

impl Scroll {
    /// Scrolls the list by a motion, but not beyond its ends.
    pub(super) fn go(&mut self, motion: Motion) {
        let at = self.state.get_position();
        match motion {
            Motion::LineUp => self.state.prev(),
            Motion::LineDown => self.state.next(),
            Motion::PageUp => self.state = self.state.position(at.saturating_sub(self.page)),
            Motion::PageDown => self.state = self.state.position(at.saturating_add(self.page)),
            Motion::First => self.state.first(),
            Motion::Last => self.state.last(),
        }
    }

    /// Returns which rows to show of a list that has `rows` of them, if `page` rows fit.
    pub(super) fn fit(&mut self, rows: usize, page: usize) -> Range<usize> {
        let last = rows.saturating_sub(page);
        let at = self.state.get_position().min(last);
        self.state = ScrollbarState::new(last + 1).position(at).viewport_content_length(page);
        (self.rows, self.page) = (rows, page);
        self.shown()
    }

    fn shown(&self) -> Range<usize> {
        let at = self.state.get_position();
        at..self.rows.min(at.saturating_add(self.page))
    }

    /// Returns the end of the box's title, like ` · 1–5 of 30`; empty if all rows are shown.
    pub(super) fn title(&self) -> String {
        let shown = self.shown();
        match shown.len() {
            0 => String::new(),
            all if all == self.rows => String::new(),
            _ => format!(" · {}–{} of {}", shown.start + 1, shown.end, self.rows),
        }
    }

    /// Draws a box with the rows that `fit` returned, and a scrollbar on its edge if there are
    /// more.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, title: &str, rows: Table<'_>) {
        frame.render_widget(rows.block(framed(title, area)), area);
        if self.shown().len() < self.rows {
            let bar = Scrollbar::new(ScrollbarOrientation::VerticalRight).symbols(VERTICAL);
            let bar = bar.begin_symbol(None).end_symbol(None);
            let edge = area.inner(Margin::new(0, 1));
            frame.render_stateful_widget(bar, edge, &mut self.state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(scroll: &mut Scroll, motions: &[Motion], rows: usize, page: usize) -> Range<usize> {
        motions.iter().for_each(|motion| scroll.go(*motion));
        scroll.fit(rows, page)
    }

    #[test]
    fn a_list_moves_by_lines_and_pages_and_to_its_ends() {
        let mut scroll = Scroll::default();
        assert_eq!(shown(&mut scroll, &[Motion::Last], 30, 5), 0..5, "nothing was drawn before");
        assert_eq!(shown(&mut scroll, &[Motion::Last], 30, 5), 25..30);
        assert_eq!(shown(&mut scroll, &[Motion::LineDown; 9], 30, 5), 25..30);
        assert_eq!(shown(&mut scroll, &[Motion::LineUp], 30, 5), 24..29);
        assert_eq!(shown(&mut scroll, &[Motion::PageUp], 30, 5), 19..24);
        assert_eq!(shown(&mut scroll, &[Motion::PageDown], 30, 5), 24..29);
        assert_eq!(shown(&mut scroll, &[Motion::PageDown], 30, 5), 25..30);
        assert_eq!(shown(&mut scroll, &[Motion::LineUp], 30, 5), 24..29);
        assert_eq!(shown(&mut scroll, &[Motion::First], 30, 5), 0..5);
    }

    #[test]
    fn a_title_tells_which_rows_are_shown_unless_all_are() {
        let title = |rows, page| {
            let mut scroll = Scroll::default();
            scroll.fit(rows, page);
            scroll.title()
        };
        assert_eq!((title(3, 5), title(30, 0)), (String::new(), String::new()));
        assert_eq!(title(30, 5), " · 1–5 of 30");
    }
}
