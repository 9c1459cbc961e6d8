//! Formats what a person reads in a terminal, and what a program reads from a pipe.
//!
//! ```text
//!  events ──▶ lines, json            where stdout is no terminal, or lines are asked for
//!         └─▶ join, serve, watch     live views: a model each, and how it is drawn
//!               └─▶ screen           takes over the terminal, and restores it
//!  tracing ─▶ logs                   to stderr; while a view has the screen, into it
//! ```
//!
//! In texts that came over the wire, characters that could move the cursor or change the direction
//! of writing are escaped.

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
pub use screen::{Live, Screen, restore_terminal};
pub use scroll::Motion;
pub use serve::Serve;
pub use watch::Watch;

use std::time::Duration;

/// A line of text, and the stream that it is printed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A result, to be printed on stdout.
    Out(String),
    /// A message for the user, to be printed on stderr.
    Err(String),
}

/// Escapes control characters and whatever else in `text` a terminal might act on.
pub fn escape_controls(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

/// Formats a number and what it counts, like `1 member` or `2 members`.
fn count(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// Formats a span in seconds, like `1.5 s`.
fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

/// Formats a span in milliseconds, like `1.5 ms`.
fn millis(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1000.0)
}
