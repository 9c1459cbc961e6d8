//! Formats what a person reads in a terminal, and what a program reads from a pipe.
//!
//! ```text
//!  events ──▶ lines, json            where stdout is no terminal, or lines are asked for
//!         └─▶ join, serve, watch     live views: a model each, and how it is drawn
//!               └─▶ screen           takes over the terminal, and restores it
//!  tracing ─▶ logs                   to stderr; while a view has the screen, into it
//! ```
//!
//! In texts that came over the wire, characters that could move the cursor, change the direction of
//! writing or be drawn onto others are escaped. A terminal that writes from right to left turns
//! around all that stands between such a text and the next Latin letter, digits too: behind a text of
//! others comes a Latin letter, or the end of the line.

mod join;
mod json;
mod lines;
mod logs;
mod parts;
mod recent;
mod screen;
mod scroll;
mod serve;
#[cfg(test)]
mod tests;
mod watch;

pub use join::{Join, Participant};
pub use json::{client_json, document_json, history_json, roster_json, watched_json};
pub use lines::{
    client_line, document_lines, history_line, roster_lines, server_line, watched_lines,
};
pub use logs::{Logs, log};
pub use screen::{Live, Screen, in_foreground, note_continued, restore_terminal};
pub use scroll::Motion;
pub use serve::Serve;
pub use watch::Watch;

use std::time::Duration;

use unicode_normalization::char::is_combining_mark;
use unicode_width::UnicodeWidthChar;

use crate::proto::words::{can_carry, is_invisible, is_jamo, joins};

/// The most columns that a quoted text takes in a line: the 200 characters of a greeting fit, of two columns
/// each, but an escape has up to ten columns.
const MAX_QUOTED_COLUMNS: usize = 400;

/// A line of text, and the stream that it is printed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A result, to be printed on stdout.
    Out(String),
    /// A message for the user, to be printed on stderr.
    Err(String),
}

/// Escapes what in `text` a terminal might act on, draw as nothing, or draw onto something else.
pub fn escape_controls(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    // What stands before a character and can carry it: nothing that was escaped.
    let mut from = 0;
    for (at, c) in text.char_indices() {
        let next = at + c.len_utf8();
        let (before, after) = (&text[from..at], &text[next..]);
        let is_shown = match c {
            ' '..='~' => true,
            c if is_invisible(c) => joins(before, c, after),
            c if is_combining_mark(c) => can_carry(before),
            c if is_jamo(c) && c.width() == Some(0) => ends_in_hangul(before) && can_carry(before),
            c => is_printable(c) && !is_blank(c),
        };
        match c {
            c if is_shown => shown.push(c),
            // How a symbol is to be drawn: terminals differ in how wide that is.
            '\u{fe00}'..='\u{fe0f}' => {}
            c => {
                shown.extend(c.escape_default());
                from = next;
            }
        }
    }
    shown
}

/// Escapes a text that came over the wire, and cuts it to 400 columns of a terminal.
pub fn quoted(text: &str) -> String {
    parts::cut(&escape_controls(text), MAX_QUOTED_COLUMNS)
}

/// Returns whether a Hangul syllable, or a part of one, ends `text`: a terminal draws a vowel or final
/// consonant behind it into its place.
fn ends_in_hangul(text: &str) -> bool {
    text.ends_with(|c| is_jamo(c) || matches!(c, '\u{ac00}'..='\u{d7a3}'))
}

/// Returns whether a character is drawn as nothing, although Unicode counts it as a symbol: the empty
/// pattern of Braille and the empty note head.
fn is_blank(c: char) -> bool {
    matches!(c, '\u{2800}' | '\u{1d159}')
}

/// Returns whether a character that is not the first of its text can be printed as it is.
fn is_printable(c: char) -> bool {
    // The first would be escaped also if it only extends a letter.
    String::from_iter(['x', c]).escape_debug().count() == 2
}

/// Formats a number and what it counts, like `1 member` or `2 members`.
fn count(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// Formats a span in seconds, like `1.5 s`, or beyond two minutes like the countdown of a live view:
/// `41:00 min`.
fn seconds(span: Duration) -> String {
    match span.as_millis() {
        0..=120_000 => format!("{:.1} s", span.as_secs_f64()),
        120_001..=3_599_000 => format!("{} min", parts::countdown(span)),
        _ => format!("{} h", parts::countdown(span)),
    }
}

/// Formats how late a window opened, like `2 ms late` or `41:00 min late`.
fn lateness(late: Duration) -> String {
    match late.as_millis() {
        millis @ 0..10_000 => format!("{millis} ms late"),
        _ => format!("{} late", seconds(late)),
    }
}

/// Formats a span in milliseconds, like `1.5 ms`.
fn millis(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1000.0)
}
