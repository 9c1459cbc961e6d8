//! Rule "Acked means in": a client that was acked for a window is in its journal and document.

use super::*;

/// A client's request, with its source address and time.
pub(crate) type Asked = (SocketAddr, Wall, Request);

/// An acked registration: the client, the window, and how many records had taken effect then.
#[derive(Clone, Debug)]
struct Promise {
    window: Window,
    id: Option<Id>,
    addr: SocketAddr,
    room: Room,
    after: usize,
    /// How many records had been submitted up to the one that this answers.
    submitted: usize,
}

#[derive(Debug, Default)]
pub(crate) struct AckedMeansIn {
    promises: Vec<Promise>,
    /// The windows that each id was acked for.
    told: BTreeSet<(Id, Window)>,
    /// Every record that was ever durable, in order.
    durable: Vec<Record>,
    /// Every record that was ever submitted, in order.
    submitted: Vec<Record>,
    /// Every record that was refused.
    refused: Vec<Record>,
    /// How many of the durable records have taken effect.
    committed: usize,
}

impl AckedMeansIn {
    pub(crate) fn on_start(&mut self) {
        self.committed = self.durable.len();
    }

    pub(crate) fn on_synced(&mut self, records: &[Record]) -> Check {
        self.durable.extend_from_slice(records);
        let again = records.iter().find(|record| self.refused.contains(record));
        Rule::AckedMeansIn
            .require(again.is_none(), || format!("refused, and in the journal: {again:?}"))
    }

    /// Called when a record is proposed: a refused one may be proposed again.
    pub(crate) fn on_proposed(&mut self, record: &Record) {
        self.refused.retain(|refused| refused != record);
        self.submitted.push(record.clone());
    }

    pub(crate) fn on_refused(&mut self, batch: &[Entry]) {
        self.refused.extend(batch.iter().map(|entry| entry.record.clone()));
    }

    pub(crate) fn on_commit(&mut self) {
        self.committed += 1;
    }

    pub(crate) fn on_promise(&mut self, to: SocketAddr, it: &Registered<'_>) {
        let (window, id, room) = (it.window, it.id.clone(), it.room.clone());
        self.told.extend(id.clone().map(|id| (id, window)));
        let is_own = |record: &Record| {
            matches!(record, Record::Register(own)
                if own.window == window && own.path.peer == to && own.id == id && own.seq == it.seq)
        };
        let own = self.submitted.iter().rposition(is_own);
        let submitted = own.map_or(self.submitted.len(), |own| own + 1);
        let after = self.committed;
        self.promises.push(Promise { window, id, addr: to, room, after, submitted });
    }

    /// Checks that a peer that believes to be registered for a window was acked for it.
    pub(crate) fn on_believed(&self, id: &Id, window: Window) -> Check {
        let told = self.told.contains(&(id.clone(), window));
        Rule::AckedMeansIn
            .require(told, || format!("{id} believes a forged REGISTERED of {window}"))
    }

    /// Checks the promises of a window that was opened or missed, or is replayed.
    pub(crate) fn on_ended(&mut self, history: &History, frozen: &FinalizedWindow) -> Check {
        let (window, members) = (frozen.window(), members_of(frozen));
        let journal = history.members.get(&window).cloned().unwrap_or_default();
        let agree = journal == members && frozen.len() == members.len();
        Rule::AckedMeansIn.require(agree, || {
            format!("{window} has {members:?} where the journal has {journal:?}")
        })?;
        // The promises of this window are kept: they are checked again after a restart.
        self.promises.retain(|promise| promise.window >= window);
        let due = self.promises.iter().filter(|promise| promise.window == window);
        due.into_iter().try_for_each(|promise| self.check_promise(promise, frozen))
    }

    fn check_promise(&self, promise: &Promise, frozen: &FinalizedWindow) -> Check {
        let found = frozen.find_at(promise.addr).is_some_and(|(roster, place)| {
            roster.members()[place].id == promise.id && *roster.room() == promise.room
        });
        let later = self.durable.get(promise.after..).unwrap_or_default();
        let behind = &self.submitted[promise.submitted..];
        let superseded =
            || later.iter().any(|record| supersedes(record, promise) && behind.contains(record));
        Rule::AckedMeansIn
            .require(found || superseded(), || format!("acked, and not in: {promise:?}"))
    }

    /// Checks that the registry's next window has as many members as the journal says.
    pub(crate) fn on_rest(&self, history: &History, next: (Window, usize)) -> Check {
        let filling = &history.model.next;
        let waiting = (filling.window.unwrap_or(next.0), filling.members.len());
        Rule::AckedMeansIn
            .require(next == waiting, || format!("{next:?} wait where {waiting:?} should"))
    }

    pub(crate) fn on_document(&self, history: &History, window: Window, document: &str) -> Check {
        let says: Value = serde_json::from_str(document).unwrap_or_default();
        let due = history.document(window);
        Rule::AckedMeansIn
            .require(due == says, || format!("a document says {says} where it is {due}"))
    }
}

/// Checks that a record for the journal says what was asked, and when.
pub(crate) fn check_faithful(record: &Record, asked: Option<Asked>) -> Check {
    use RequestKind::{Leave, Register};
    let faithful = match (record, asked) {
        (
            Record::Register(it),
            Some((addr, at, Request { id, seq, kind: Register(mut profile) })),
        ) => {
            profile.lan.take_if(|lan| *lan == addr);
            (it.path.peer, it.at, &it.id, it.seq, &it.profile) == (addr, at, &id, seq, &profile)
        }
        (Record::Leave(it), Some((addr, at, Request { id, seq, kind: Leave }))) => {
            (it.path.peer, it.at, &it.id, it.seq) == (addr, at, &id, seq)
        }
        _ => false,
    };
    Rule::AckedMeansIn.require(faithful, || format!("nobody asked for {record:?}"))
}

/// Returns whether a later record cancels a promise: of the same id, or the same address.
fn supersedes(record: &Record, promise: &Promise) -> bool {
    if record.window() != promise.window {
        return false;
    }
    match record {
        Record::Register(it) => {
            it.path.peer == promise.addr || promise.id.is_some() && it.id == promise.id
        }
        Record::Leave(it) => match &promise.id {
            Some(_) => it.id == promise.id,
            None => it.id.is_none() && it.path.peer == promise.addr,
        },
        Record::Open(_) => false,
    }
}
