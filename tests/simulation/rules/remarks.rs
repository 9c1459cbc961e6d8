//! Names remarkable cases of records and requests, all of which a long run must cover.

use super::*;

/// Returns the remarkable case of a record that is about to be applied, if it is one.
pub(crate) fn of_record(model: &Model, record: &Record) -> Option<&'static str> {
    let Record::Register(it) = record else { return None };
    let holder = model.next.members.get(&it.path.peer);
    if holder.is_some_and(|holder| holder.id.is_some() && holder.id != it.id) {
        return Some(match it.id {
            Some(_) => "an address was taken over by another id",
            None => "an address was taken over without an id",
        });
    }
    let entry = model.next.ids.get(it.id.as_ref()?)?;
    if entry.addr == it.path.peer {
        return None;
    }
    let equal = entry.seq.is_some() && entry.seq == it.seq;
    Some(if equal { "an equal seq came from another address" } else { "an id moved" })
}

/// Returns the remarkable case of a REGISTER or LEAVE with a given verdict, if it is one.
pub(crate) fn of_request(
    model: &Model,
    request: &Request,
    addr: SocketAddr,
    verdict: Verdict,
) -> Option<&'static str> {
    match verdict {
        Verdict::New => None,
        Verdict::Retry(window) => {
            (model.current.window == Some(window)).then_some("a retry over a boundary")
        }
        Verdict::Silence => {
            let id = request.id.as_ref()?;
            let entry = model.next.ids.get(id).or(model.current.ids.get(id))?;
            match entry.state {
                IdState::Left => Some("an older copy came after a LEAVE"),
                _ if entry.addr != addr => Some("an older copy came after a move"),
                _ => None,
            }
        }
    }
}
