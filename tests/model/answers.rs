//! Checks a registry's answers: each promise is in the journal, each list is the current window's.

use std::net::SocketAddr;

use hit7::proto::{Datagram, Id, Left, Page, Pass, Registered, Room};
use hit7::window::Window;

use super::{Check, Model, Rule};

/// The most bytes of a page's list (docs/PROTOCOL.md).
const MAX_LIST: usize = 820;

/// A page of a member list, as a datagram contains it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List<'a> {
    pub(crate) window: Window,
    pub(crate) room: &'a Room,
    /// The member whose own list this is, and its pass; `None` for the room's public list.
    pub(crate) own: Option<(Option<&'a Id>, SocketAddr, &'a Pass)>,
    pub(crate) page: &'a Page<'a>,
}

impl<'a> List<'a> {
    /// Returns the list in a datagram for `to`, if there is one.
    pub(crate) fn in_datagram(datagram: &'a Datagram<'_>, to: SocketAddr) -> Option<List<'a>> {
        let (window, room, own, page) = match datagram {
            Datagram::Registered(it) => (it.current.window, &it.room, None, &it.current.page),
            Datagram::Peers(it) => {
                let own = |pass| (it.id.as_ref(), it.you.unwrap_or(to), pass);
                (it.window, &it.room, it.pass.as_ref().map(own), &it.page)
            }
            Datagram::Window(it) => {
                (it.window, &it.room, Some((it.id.as_ref(), it.you, &it.pass)), &it.page)
            }
            _ => return None,
        };
        Some(List { window, room, own, page })
    }
}

impl Model {
    /// Checks an answer to a request, except for its list.
    pub(crate) fn check_answer(&mut self, to: SocketAddr, datagram: &Datagram<'_>) -> Check {
        match datagram {
            Datagram::Registered(it) => self.check_registered(to, it),
            Datagram::Left(it) => self.check_left(to, it),
            _ => Ok(()),
        }
    }

    /// Checks that everything a REGISTERED promises is in the journal.
    fn check_registered(&mut self, to: SocketAddr, it: &Registered<'_>) -> Check {
        let right = it.you == to;
        Rule::AckedMeansIn.require(right, || format!("{to} is told to be {}", it.you))?;
        let window = Some(it.window);
        let is_current = window == self.current.window;
        Rule::NextMinute.require(is_current || window == self.next.window, || {
            format!("REGISTERED for {}, neither open nor next", it.window)
        })?;
        let there = if is_current { &mut self.current } else { &mut self.next };
        let length = there.settings.length.millis();
        Rule::Frozen.require(it.window_ms == length, || {
            format!("{} is told to last {} ms, and lasts {length}", it.window, it.window_ms)
        })?;
        let member = there.members.get(&to);
        let is_in =
            member.is_some_and(|member| member.id == it.id && member.profile.room == it.room);
        Rule::AckedMeansIn
            .require(is_in, || format!("REGISTERED for {} to {to}, who is not in", it.window))?;
        let id = it.id.as_ref();
        let Some(entry) = id.and_then(|id| there.ids.get_mut(id)) else { return Ok(()) };
        let seq = entry.seq;
        Rule::Once.require(it.seq.is_none() || seq <= it.seq, || {
            format!("REGISTERED answers seq {:?} after {seq:?}", it.seq)
        })?;
        entry.seq = seq.max(it.seq);
        Ok(())
    }

    /// Checks that a client that is sent LEFT is not a member.
    fn check_left(&self, to: SocketAddr, it: &Left) -> Check {
        let mut asked = [&self.next, &self.current].into_iter();
        let is_in = asked.any(|filling| {
            filling.window == Some(it.window) && filling.find(it.id.as_ref(), to).is_some()
        });
        Rule::AckedMeansIn.require(!is_in, || format!("LEFT for {} to {to}, who is in", it.window))
    }

    /// Checks that a list has exactly the current window's members of the room, or a member's share
    /// of them.
    pub(crate) fn check_list(&self, list: &List<'_>) -> Check {
        let List { window, room, own, page } = *list;
        let members = self.current.room(room);
        let current = self.current.window;
        // Before the very first window there are no members.
        let is_current = current == Some(window) || current.is_none() && own.is_none();
        Rule::Frozen.require(is_current, || format!("{window} is told in {current:?}"))?;
        let Some((id, you, _)) = own else {
            let pages = paged(members.iter().map(|addr| format!("\"{addr}\"")));
            return Rule::Frozen.require(is_page(page, &pages, members.len()), || {
                format!("a page of {room} in {window} is {page:?}")
            });
        };
        let member = self.current.members.get(&you);
        let is_in =
            member.is_some_and(|member| member.id.as_ref() == id && member.profile.room == *room);
        Rule::NoPeeking
            .require(is_in, || format!("the pass of {room} is told to {you}, who is not in"))?;
        let fits = match members.len() <= self.current.settings.cap + 1 {
            true => is_page(page, &self.own_pages(&members), members.len()),
            false => self.is_share(page, you, &members),
        };
        Rule::Frozen.require(fits, || format!("the own list of {you} is {page:?}"))
    }

    /// Returns the pages of the own list that all members of a full mesh have.
    fn own_pages(&self, members: &[SocketAddr]) -> Vec<String> {
        paged(members.iter().map(|addr| match self.current.members[addr].profile.lan {
            Some(lan) => format!("\"{addr} {lan}\""),
            None => format!("\"{addr}\""),
        }))
    }

    /// Returns whether a page may be of a share: other members of the room, in order, as many as
    /// the cap allows.
    fn is_share(&self, page: &Page<'_>, you: SocketAddr, members: &[SocketAddr]) -> bool {
        let peers: Vec<SocketAddr> =
            page.candidates().into_iter().flatten().map(|peer| peer.addr).collect();
        let others = peers.iter().all(|peer| *peer != you && members.contains(peer));
        let whole = page.parts > 1 || peers.len() == self.current.settings.cap;
        let counted = page.count as usize == members.len();
        others && whole && counted && peers.is_sorted_by(|a, b| a < b)
    }
}

/// Splits entries into pages as the protocol defines.
fn paged(entries: impl Iterator<Item = String>) -> Vec<String> {
    let mut pages = vec![String::new()];
    for entry in entries {
        let page = pages.last_mut().expect("there is always a page");
        if page.is_empty() {
            *page = entry;
        } else if page.len() + 1 + entry.len() <= MAX_LIST {
            *page = format!("{page},{entry}");
        } else {
            pages.push(entry);
        }
    }
    pages
}

/// Returns whether a page is the right one of `pages`, in a room of `count` members.
fn is_page(page: &Page<'_>, pages: &[String], count: usize) -> bool {
    let expected = pages.get(page.part as usize);
    expected.is_some_and(|expected| page.peers == expected)
        && (page.parts as usize, page.count as usize) == (pages.len(), count)
}
