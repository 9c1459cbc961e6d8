//! Draws the views without a terminal, for their tests.

use std::time::Duration;

use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use unicode_bidi::{BidiInfo, Level};
use unicode_width::UnicodeWidthChar;

use super::screen::Live;
use super::{escape_controls, is_jamo, lateness, seconds};
use crate::clock::Now;
use crate::proto::Name;
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
    for width in [1, 2, 5, 10, 40, 79, 80, 200] {
        for height in [1, 2, 3, 5, 7, 10, 16, 24, 50] {
            let lines = drawn(live, now, (width, height));
            assert!(!lines.join("").chars().any(char::is_control), "{lines:?}");
        }
    }
}

/// Fails if a terminal that writes from right to left (UAX #9) puts a part of `line` elsewhere than
/// where it is printed.
pub(super) fn assert_in_place(line: &str) {
    let bidi = BidiInfo::new(line, Some(Level::ltr()));
    for paragraph in &bidi.paragraphs {
        let (_, runs) = bidi.visual_runs(paragraph, paragraph.range.clone());
        assert!(runs.is_sorted_by_key(|run| run.start), "turned around: {line}");
    }
}

#[test]
fn a_long_span_is_told_in_minutes_or_hours() {
    let told = [0, 1_450, 120_000, 120_001, 2_460_200, 3_599_000, 3_599_001, 86_400_000]
        .map(|millis| seconds(Duration::from_millis(millis)));
    let short = ["0.0 s", "1.4 s", "120.0 s", "2:01 min"];
    let long = ["41:01 min", "59:59 min", "1:00:00 h", "24:00:00 h"];
    assert_eq!(
        (&told[..4], &told[4..]),
        (&short.map(String::from)[..], &long.map(String::from)[..])
    );
}

#[test]
fn much_lateness_is_told_in_seconds_or_longer_units() {
    let late = [9_999, 10_000, 86_400_000].map(|millis| lateness(Duration::from_millis(millis)));
    assert_eq!(late, ["9999 ms late", "10.0 s late", "24:00:00 h late"]);
}

#[test]
fn nothing_in_a_text_moves_the_cursor() {
    assert_eq!(escape_controls("a\u{1b}[2Jb\u{202e}c\r\n"), "a\\u{1b}[2Jb\\u{202e}c\\r\\n");
    assert_eq!(escape_controls("\u{9b}2J\u{2028}\u{7f}"), "\\u{9b}2J\\u{2028}\\u{7f}");
    assert_eq!(escape_controls("\u{2067}a\u{61c}"), "\\u{2067}a\\u{61c}");
}

#[test]
fn nothing_in_a_text_looks_like_nothing_or_lies_on_something_else() {
    assert_eq!(escape_controls("a\u{3164}\u{115f}"), "a\\u{3164}\\u{115f}");
    assert_eq!(escape_controls("a\u{200b}b\u{200d}c"), "a\\u{200b}b\\u{200d}c");
    assert_eq!(escape_controls("❤\u{fe0f} \u{1f468}\u{200d}"), "❤ \u{1f468}\\u{200d}");
    assert_eq!(escape_controls("\u{301}a"), "\\u{301}a");
    assert_eq!(escape_controls("\u{1161}\u{1161}"), "\\u{1161}\\u{1161}");
    assert_eq!(escape_controls("a\u{11a8} \u{d7b0}"), "a\\u{11a8} \\u{d7b0}");
    assert_eq!(escape_controls("\u{115f}\u{1161}"), "\\u{115f}\\u{1161}");
    assert_eq!(escape_controls("\u{2800}\u{1d159}"), "\\u{2800}\\u{1d159}");
    // What is escaped carries nothing.
    assert_eq!(
        escape_controls("\u{301}\u{301}\u{200b}\u{30a}"),
        "\\u{301}\\u{301}\\u{200b}\\u{30a}"
    );
    let zalgo = escape_controls(&format!("a{}", "\u{30a}".repeat(6)));
    assert_eq!(zalgo, format!("a{}{}", "\u{30a}".repeat(4), "\\u{30a}".repeat(2)));
}

#[test]
fn texts_of_all_scripts_are_shown_as_they_are() {
    for text in [
        "¿qué? \"hola\" it's \\ 日本",
        "สวัสดีครับ ที่นี่",
        "नमस्ते दुनिया",
        "வணக்கம்",
        "ကြွှေ့",
        "مرحبا علی\u{200c}رضا",
        "שָׁלוֹם",
        "luci\u{301}a \u{1112}\u{1161}\u{11ab}",
        "\u{1100}\u{1161}\u{1161}\u{11a8}가\u{11a8}",
        "⠓⠊⠞",
        "ﾊﾞﾅﾅ",
        "\u{1f600} ₿ ½",
    ] {
        assert_eq!(escape_controls(text), text);
    }
}

proptest! {
    #[test]
    fn what_is_shown_takes_a_column_or_has_something_to_stand_on(text in r"[\PC\p{L}\p{M}\p{Z}]{1,6}") {
        let shown = escape_controls(&text);
        // Letters that are drawn with the next one (Prepend, UAX #29) have no width of their own.
        let first = shown.chars().next();
        let is_seen = |c: char| c.width() > Some(0) || c.is_alphabetic() && !is_jamo(c);
        prop_assert!(first.is_none_or(is_seen), "{shown:?}");
        prop_assert!(!shown.contains(char::is_control));
    }

    #[test]
    fn each_name_is_shown_as_it_is(text in r"[\p{L}\p{M}\p{N}'. -]{1,6}") {
        if let Ok(name) = text.parse::<Name>() {
            prop_assert_eq!(escape_controls(name.as_str()), name.as_str());
        }
    }
}
