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
    /// How many records had been submitted when the request was first granted.
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
    /// How many records had been submitted when a request was first granted, by its id, seq, window
    /// and address.
    granted: BTreeMap<(Id, u64, Window, SocketAddr), usize>,
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
        let submitted = self.on_granted(to, it);
        let after = self.committed;
        self.promises.push(Promise { window, id, addr: to, room, after, submitted });
    }

    /// Called with a REGISTERED, sent or not. Returns how many records had been submitted when the
    /// request was first granted: those behind may supersede it, also before a retry is answered.
    pub(crate) fn on_granted(&mut self, to: SocketAddr, it: &Registered<'_>) -> usize {
        let request = it.id.clone().zip(it.seq).map(|(id, seq)| (id, seq, it.window, to));
        if let Some(first) = request.as_ref().and_then(|request| self.granted.get(request)) {
            return *first;
        }
        let is_own = |record: &Record| {
            let Record::Register(own) = record else { return false };
            (own.window, own.path.peer, &own.id, own.seq) == (it.window, to, &it.id, it.seq)
        };
        // The record that has just taken effect, or the last one that a retry can be answered with.
        let last = self.committed.checked_sub(1).and_then(|last| self.durable.get(last));
        let own = match last.filter(|record| is_own(record)) {
            Some(last) => self.submitted.iter().position(|record| record == last),
            None => self.submitted.iter().rposition(is_own),
        };
        let submitted = own.map_or(self.submitted.len(), |own| own + 1);
        self.granted.extend(request.map(|request| (request, submitted)));
        submitted
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
        // A retry may be answered while its address is taken over, never past its own next request.
        let counts = |record: &Record| behind.contains(record) || !is_of_same_id(record, promise);
        let superseded =
            || later.iter().any(|record| supersedes(record, promise) && counts(record));
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

/// Returns whether a record was asked for by the client of a promise.
fn is_of_same_id(record: &Record, promise: &Promise) -> bool {
    match record {
        Record::Register(it) => it.id == promise.id,
        Record::Leave(it) => it.id == promise.id,
        Record::Open(_) | Record::Missed(_) => false,
    }
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
        Record::Open(_) | Record::Missed(_) => false,
    }
}
