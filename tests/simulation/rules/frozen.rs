//! Rule "Frozen": all answers about a window are the same, from its opening on.

use super::*;

/// The key of a page that was sent: window, room, the member of an own list, and part.
type PageKey = (Window, Room, Option<(Option<Id>, SocketAddr)>, u32);

/// The peers in each member's own list.
type OwnLists = BTreeMap<SocketAddr, BTreeSet<SocketAddr>>;

#[derive(Debug, Default)]
pub(crate) struct Frozen {
    pages: BTreeMap<PageKey, String>,
    passes: BTreeMap<(Window, Room), Pass>,
    own_lists: BTreeMap<(Window, Room), OwnLists>,
    documents: BTreeMap<Window, String>,
}

impl Frozen {
    pub(crate) fn pass_of(&self, window: Window, room: &Room) -> Option<&Pass> {
        self.passes.get(&(window, room.clone()))
    }

    /// Checks that a list and its pass are the same as in earlier datagrams.
    pub(crate) fn on_list(&mut self, list: &List<'_>) -> Check {
        let List { window, room, own, page } = *list;
        if let Some((_, _, pass)) = own {
            let before = self.passes.insert((window, room.clone()), pass.clone());
            Rule::Frozen.require(before.is_none_or(|before| before == *pass), || {
                format!("the pass of {room} in {window} has changed")
            })?;
        }
        let member = own.map(|(id, you, _)| (id.cloned(), you));
        let says = format!("{} {} {}", page.parts, page.count, page.peers);
        let before = self.pages.insert((window, room.clone(), member, page.part), says.clone());
        if let (None, Some((_, you, _))) = (&before, own) {
            let peers = page.candidates().into_iter().flatten().map(|peer| peer.addr);
            let lists = self.own_lists.entry((window, room.clone())).or_default();
            lists.entry(you).or_default().extend(peers);
        }
        Rule::Frozen.require(before.as_ref().is_none_or(|before| *before == says), || {
            format!("told {before:?}, and then {says}")
        })
    }

    pub(crate) fn on_document(&mut self, window: Window, document: &str) -> Check {
        let before = self.documents.insert(window, document.to_owned());
        Rule::Frozen.require(before.is_none_or(|before| before == document), || {
            format!("the document of {window} has changed")
        })
    }

    /// Checks that the shares of a larger room are mutual, as far as whole lists were sent.
    pub(crate) fn on_end(&self, history: &History) -> Check {
        for ((window, room), lists) in &self.own_lists {
            let cap = history.settings(*window).cap;
            let is_whole = |list: &BTreeSet<_>| list.len() >= cap;
            let mutual = |(you, list): (&SocketAddr, &BTreeSet<SocketAddr>)| {
                let has_you =
                    |peer| lists.get(peer).is_none_or(|it| !is_whole(it) || it.contains(you));
                !is_whole(list) || list.iter().all(has_you)
            };
            let shared = history.room(*window, room).len() > cap + 1;
            Rule::Frozen.require(!shared || lists.iter().all(mutual), || {
                format!("lists of {room} in {window} are not mutual")
            })?;
        }
        Ok(())
    }
}

/// Checks that the list a peer holds of its window is the roster, or a share of it.
pub(crate) fn check_held(history: &History, id: &Id, room: &Room, event: &Event) -> Check {
    let Event::Opened { window, peers, you, count, .. } = event else { return Ok(()) };
    let roster = history.room(*window, room);
    let known = peers.iter().chain([you]).all(|peer| roster.contains(peer));
    let whole = roster.len() > history.settings(*window).cap + 1 || peers.len() + 1 == roster.len();
    Rule::Frozen.require(known && whole && *count as usize == roster.len(), || {
        format!("{id} holds {peers:?} of {window}, and the roster is {roster:?}")
    })
}
