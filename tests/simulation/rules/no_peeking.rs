//! Rule "No peeking": no datagram or document names a member of a window before it opens.

use super::*;

/// Checks that an opening is not proposed before its time by the latest clock.
pub(crate) fn check_opening(history: &History, opening: &Opening, wall: Wall) -> Check {
    let latest = history.latest.max(Some(wall));
    let is_so = opening.window.opens() <= opening.at && Some(opening.at) <= latest;
    Rule::NoPeeking.require(is_so, || format!("{opening:?} at {wall}"))
}

/// Checks that a datagram contains nothing of members who are only in the next window.
pub(crate) fn check_bytes(model: &Model, transmit: &Transmit) -> Check {
    let text = String::from_utf8_lossy(&transmit.payload);
    let you = transmit.path.peer;
    let words = text.split(['"', ' ']).filter(|word| word.len() > 8 && word.contains(':'));
    let (next, current) = (&model.next.members, &model.current.members);
    let is_early = |named: &SocketAddr| {
        *named != you && next.contains_key(named) && !current.contains_key(named)
    };
    let early = words.filter_map(|word| word.parse().ok()).find(is_early);
    Rule::NoPeeking
        .require(early.is_none(), || format!("{you} is told of {early:?} before the opening"))
}

/// Checks that a window's list is not sent before the window may open.
pub(crate) fn check_told(history: &History, window: Window) -> Check {
    let early = history.latest.is_none_or(|latest| latest < window.opens());
    let empty = history.model.current.members.is_empty();
    Rule::NoPeeking.require(empty || !early, || format!("{window} is told before its time"))
}

/// Checks that a document is not written before its window was opened or missed.
pub(crate) fn check_document(history: &History, window: Window) -> Check {
    let from = match history.was_opened(window) {
        true => window.opens(),
        false => history.closes(window),
    };
    Rule::NoPeeking
        .require(history.latest >= Some(from), || format!("{window} is written before {from}"))
}
