//! Draws the views without a terminal, for their tests.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::escape_controls;
use super::screen::Live;
use crate::clock::Now;
use crate::window::Wall;

/// Returns the moment `millis` milliseconds after 11:28:00, on both clocks.
pub(super) fn at(millis: u64) -> Now {
    let start: Wall = "2026-11-23T11:28:00Z".parse().unwrap();
    let span = Duration::from_millis(millis);
    Now { wall: start.plus(span), mono: span }
}

/// Draws a view, and returns the lines of its screen without trailing white space.
pub(super) fn drawn(live: &mut impl Live, now: Now, (width, height): (u16, u16)) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| live.draw(now, &["a log line".to_owned()], frame)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned()).collect()
}

/// Draws a view in many sizes; fails if one panics or draws a control character.
pub(super) fn try_every_size(live: &mut impl Live, now: Now) {
    for width in [1, 2, 3, 5, 9, 10, 20, 40, 79, 80, 81, 200] {
        for height in [1, 2, 3, 4, 5, 7, 9, 10, 13, 16, 20, 24, 50] {
            let lines = drawn(live, now, (width, height));
            assert!(!lines.join("").chars().any(char::is_control), "{lines:?}");
        }
    }
}

#[test]
fn nothing_in_a_text_moves_the_cursor() {
    assert_eq!(escape_controls("¿qué? \"hola\" 日本"), "¿qué? \"hola\" 日本");
    assert_eq!(escape_controls("a\u{1b}[2Jb\u{202e}c\r"), "a\\u{1b}[2Jb\\u{202e}c\\r");
}
