//! A list that may be longer than its box: which rows are shown, and the scrollbar beside them.

use std::ops::Range;

use ratatui::Frame;
use ratatui::layout::{Margin, Rect};
use ratatui::symbols::scrollbar::VERTICAL;
use ratatui::widgets::{Scrollbar, ScrollbarOrientation, ScrollbarState, Table};

use super::parts::framed;

/// A movement through a list, as a key asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Motion {
    /// To the row above the first one that is shown.
    LineUp,
    /// To the row below the last one that is shown.
    LineDown,
    /// Back by as many rows as are shown.
    PageUp,
    /// On by as many rows as are shown.
    PageDown,
    /// To the first row of all.
    First,
    /// To the last row of all.
    Last,
}

/// How far a list is scrolled, within the rows that it had when it was last drawn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scroll {
    /// Its position is the first row that is shown; its length is how many positions there are.
    state: ScrollbarState,
    rows: usize,
    page: usize,
}

impl Scroll {
    /// Moves the list, as far as it has rows.
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

    /// The rows to show of a list that has `rows` of them, where `page` rows fit.
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

    /// What a title says of a list that is shown in part.
    pub(super) fn title(&self) -> String {
        let shown = self.shown();
        match shown.len() {
            0 => String::new(),
            all if all == self.rows => String::new(),
            _ => format!(" · {}–{} of {}", shown.start + 1, shown.end, self.rows),
        }
    }

    /// Draws the rows that `fit` named in a box, with a scrollbar on its edge if that is not all.
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
