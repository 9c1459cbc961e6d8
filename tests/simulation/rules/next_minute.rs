//! Next minute: a registration is for the window that follows.

use super::*;

/// A registration that took effect came while the window before was current, unless the clock was
/// stepped. (The model checks that the windows of the records follow each other.)
pub(crate) fn check_record(history: &History, record: &Record) -> Check {
    let Record::Register(it) = record else { return Ok(()) };
    let begins = it.window.opens().millis() - history.length.millis() as i64;
    Rule::NextMinute.require(history.stepped || it.at.millis() >= begins, || {
        format!("at {} registered for {}", it.at, it.window)
    })
}
