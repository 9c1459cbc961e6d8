//! Rule "Next minute": a registration is for the window after the current one.

use super::*;

/// Checks that a registration came while the window before its own was current, unless the clock
/// was stepped. (The model checks that the windows of the records follow each other.)
pub(crate) fn check_record(history: &History, record: &Record) -> Check {
    let Record::Register(it) = record else { return Ok(()) };
    let before = match history.model.last_ended {
        Some(ended) => ended.opens().millis(),
        None => it.window.opens().millis() - history.model.settings.length.millis() as i64,
    };
    let is_next = it.at.millis() >= before && it.at < it.window.opens();
    Rule::NextMinute.require(history.stepped || is_next, || {
        format!("at {} registered for {}", it.at, it.window)
    })
}
