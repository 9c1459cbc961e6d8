//! What a person reads in a terminal, and what a program reads from a pipe.
//!
//! ```text
//!  events ──▶ lines, json            where stdout is no terminal, or lines are asked for
//!         └─▶ join, serve, watch     a live view each: a model, and how it is drawn
//!               └─▶ screen           takes the terminal, and gives it back as it was
//!  tracing ─▶ logs                   to stderr; while a view has the screen, into it
//! ```
//!
//! Texts that came over the wire are shown as they are only where nothing in them can move a
//! cursor or turn the direction of writing.

mod join;
mod json;
mod lines;
mod logs;
mod parts;
mod screen;
mod serve;
#[cfg(test)]
mod stage;
mod watch;

pub use join::{Join, Who};
pub use json::{client_json, document_json, history_json, roster_json, watched_json};
pub use lines::{
    client_line, document_lines, history_line, roster_lines, server_line, watched_lines,
};
pub use logs::{Logs, log};
pub use screen::{Live, Screen};
pub use serve::Serve;
pub use watch::Watch;

use std::time::Duration;

/// One line, and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A result.
    Out(String),
    /// A message to whoever runs the program.
    Err(String),
}

/// `text` with everything that a terminal acts on written as an escape.
pub fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

/// `n thing` or `n things`.
fn count(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// A span in seconds.
fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

/// A span in milliseconds.
fn millis(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_moves_the_cursor() {
        assert_eq!(plain("¿qué? \"hola\" 日本"), "¿qué? \"hola\" 日本");
        assert_eq!(plain("a\u{1b}[2Jb\u{202e}c\r"), "a\\u{1b}[2Jb\\u{202e}c\\r");
    }
}
