//! The history that the rules check against: the members of each window, by the journal.

use super::*;

#[derive(Debug)]
pub(crate) struct History {
    pub(crate) model: Model,
    /// The latest time that the registry's wall clock has ever shown.
    pub(crate) latest: Option<Wall>,
    /// Whether the registry's wall clock was ever stepped.
    pub(crate) stepped: bool,
    /// The members of each window that was opened or missed.
    pub(crate) members: BTreeMap<Window, Members>,
    opened_at: BTreeMap<Window, Wall>,
    /// The settings of each window that was opened or missed.
    settings: BTreeMap<Window, Settings>,
}

impl History {
    pub(crate) fn new(Settings { length, cap }: Settings) -> History {
        History {
            model: Model::new(length, cap),
            latest: None,
            stepped: false,
            members: BTreeMap::new(),
            opened_at: BTreeMap::new(),
            settings: BTreeMap::new(),
        }
    }

    pub(crate) fn see(&mut self, wall: Wall) {
        self.latest = self.latest.max(Some(wall));
    }

    /// Applies the journal as read at a start that brings these settings. Only the current window and
    /// later ones count. Any of the removed files may be back, so each is read by itself.
    pub(crate) fn reread(&mut self, journal: &JournalFiles, settings: Settings) -> Check {
        let is_open = |record: &Record| matches!(record, Record::Open(_));
        let opened = |file: &JournalFile| file.records.iter().any(is_open);
        let last = journal.values().rfind(|file| opened(file)).map(|file| file.header.window);
        for file in journal.values().filter(|file| Some(file.header.window) < last) {
            self.restart_model(settings);
            self.read(file)?;
        }
        self.restart_model(settings);
        let mut counts = journal.values().filter(|file| Some(file.header.window) >= last);
        counts.try_for_each(|file| self.read(file))
    }

    fn restart_model(&mut self, Settings { length, cap }: Settings) {
        self.model = Model::new(length, cap);
    }

    fn read(&mut self, file: &JournalFile) -> Check {
        self.model.begin(&file.header)?;
        file.records.iter().try_for_each(|record| self.apply(record))
    }

    /// Applies a record in the journal's order.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), Broken> {
        let filled = self.model.next.settings;
        if let Some((window, members)) = self.model.apply(record)? {
            return self.enter(window, filled, members);
        }
        let Record::Open(opening) = record else { return Ok(()) };
        self.opened_at.insert(opening.window, opening.at);
        let current = &self.model.current;
        self.enter(opening.window, current.settings, current.members.clone())
    }

    /// Notes the final members of a window, and its settings, which must not change.
    fn enter(&mut self, window: Window, settings: Settings, members: Members) -> Check {
        let before = self.members.entry(window).or_insert_with(|| members.clone());
        let same =
            *before == members && *self.settings.entry(window).or_insert(settings) == settings;
        Rule::Frozen.require(same, || format!("the journal says something else of {window}"))
    }

    /// Returns the settings of a window: its own, or those that it will have.
    pub(crate) fn settings(&self, window: Window) -> Settings {
        let filled = Some(&self.model.next).filter(|next| next.window == Some(window));
        let filled = filled.map_or(self.model.settings, |next| next.settings);
        self.settings.get(&window).copied().unwrap_or(filled)
    }

    pub(crate) fn closes(&self, window: Window) -> Wall {
        self.settings(window).length.closes(window)
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
        let length = self.settings(window).length;
        let closes = length.window_at(length.closes(window)).to_string();
        let opened = self.opened_at.get(&window).map(Wall::to_string);
        json!({ "window": window.to_string(), "closes": closes, "opened": opened, "rooms": rooms })
    }
}
