//! The history that the rules check against: the members of each window, by the journal.

use super::*;

#[derive(Debug)]
pub(crate) struct History {
    pub(crate) length: Length,
    pub(crate) model: Model,
    /// The latest time that the registry's wall clock has ever shown.
    pub(crate) latest: Option<Wall>,
    /// Whether the registry's wall clock was ever stepped.
    pub(crate) stepped: bool,
    /// The members of each window that was opened or missed.
    pub(crate) members: BTreeMap<Window, Members>,
    opened_at: BTreeMap<Window, Wall>,
}

impl History {
    pub(crate) fn new(length: Length, cap: usize) -> History {
        let model = Model::new(length, cap);
        let (members, opened_at) = (BTreeMap::new(), BTreeMap::new());
        History { length, model, latest: None, stepped: false, members, opened_at }
    }

    pub(crate) fn see(&mut self, wall: Wall) {
        self.latest = self.latest.max(Some(wall));
    }

    /// Applies the journal as read at a start. Only the current window and later ones count. Any of
    /// the removed files may be back, so each is read by itself.
    pub(crate) fn reread(&mut self, journal: &[Record]) -> Check {
        let last = journal.iter().rev().find(|record| matches!(record, Record::Open(_)));
        let last = last.map(Record::window);
        let files = journal.chunk_by(|a, b| a.window() == b.window());
        for file in files.filter(|file| Some(file[0].window()) < last) {
            self.restart_model();
            file.iter().try_for_each(|record| self.apply(record))?;
        }
        self.restart_model();
        let mut counts = journal.iter().filter(|record| Some(record.window()) >= last);
        counts.try_for_each(|record| self.apply(record))
    }

    fn restart_model(&mut self) {
        self.model = Model::new(self.length, self.model.cap);
    }

    /// Applies a record in the journal's order.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), Broken> {
        if let Some((window, members)) = self.model.apply(record)? {
            return self.enter(window, members);
        }
        let Record::Open(opening) = record else { return Ok(()) };
        self.opened_at.insert(opening.window, opening.at);
        self.enter(opening.window, self.model.current.members.clone())
    }

    /// Notes the final members of a window, which must not change.
    fn enter(&mut self, window: Window, members: Members) -> Check {
        let before = self.members.entry(window).or_insert_with(|| members.clone());
        let same = *before == members;
        Rule::Frozen.require(same, || format!("the journal says something else of {window}"))
    }

    pub(crate) fn was_opened(&self, window: Window) -> bool {
        self.opened_at.contains_key(&window)
    }

    /// Returns the members of a room in a window, in the order of their addresses.
    pub(crate) fn room(&self, window: Window, room: &Room) -> Vec<SocketAddr> {
        let members = self.members.get(&window).into_iter().flatten();
        members.filter(|(_, member)| member.profile.room == *room).map(|(addr, _)| *addr).collect()
    }

    /// Returns the content that the document of a window must have.
    pub(crate) fn document(&self, window: Window) -> Value {
        let mut rooms: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        let mut members: Vec<_> = self.members.get(&window).into_iter().flatten().collect();
        members.sort_by_key(|(addr, member)| (member.registered, **addr));
        for (addr, member) in members {
            let mut entry = json!({ "addr": addr, "registered": member.registered.to_string() });
            if let Some(name) = &member.profile.name {
                entry["name"] = json!(name.as_str());
            }
            rooms.entry(member.profile.room.as_str()).or_default().push(entry);
        }
        let closes = self.length.window_at(self.length.closes(window)).to_string();
        let opened = self.opened_at.get(&window).map(Wall::to_string);
        json!({ "window": window.to_string(), "closes": closes, "opened": opened, "rooms": rooms })
    }
}
