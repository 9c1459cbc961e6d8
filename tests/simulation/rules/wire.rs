//! What goes over the wire: rules 3, 4, 5, 8 and 9, as the registry's neighbours see them.

use std::net::SocketAddr;

use hit7::path::{Path, Transmit};
use hit7::proto::{Ack, Datagram, Id, Page, Pass, Registered, Request, Room};
use hit7::registry::Handled;
use hit7::window::{Wall, Window};

use crate::model::Verdict;
use crate::network::Packet;

use super::{Account, Promise, Rules};

/// The most bytes of a list (docs/PROTOCOL.md).
const MAX_LIST: usize = 820;

impl Rules {
    pub(super) fn is_proven(&self, addr: SocketAddr) -> bool {
        is_trusted(addr) || self.accounts.get(&addr).is_some_and(|account| account.proven)
    }

    /// One of hit7's own clients asks.
    pub(crate) fn on_peer_asks(&mut self, from: SocketAddr, bytes: &[u8]) {
        if !self.is_proven(from) {
            self.own.insert((from, bytes.to_vec()));
        }
    }

    /// A datagram has come to the registry.
    pub(crate) fn on_hear(&mut self, from: SocketAddr, bytes: &[u8]) {
        let account = self.accounts.entry(from).or_default();
        account.came += bytes.len();
        if let Some(cookie) = cookie_of(bytes)
            && self.cookies.contains(&(from, cookie.to_owned()))
        {
            account.proven = true;
        }
    }

    /// A request got through the gate.
    pub(crate) fn on_passed(&mut self, from: SocketAddr) {
        self.expect(self.is_proven(from), 8, || format!("{from} is let in, unproven"));
    }

    /// An ACK got through the gate: whom it is from is told no more, if it knows the pass.
    pub(crate) fn on_ack(&mut self, from: SocketAddr, ack: &Ack) {
        let is_it = |(addr, member): &(&SocketAddr, &crate::model::Member)| {
            member.id == ack.id && (ack.id.is_some() || **addr == from)
        };
        let current = self.model.current.window == Some(ack.window);
        let Some((addr, member)) = self.model.current.members.iter().find(is_it) else { return };
        let pass = self.passes.get(&(ack.window, member.profile.room.clone()));
        if current && pass == Some(&ack.pass) {
            self.acked.insert((*addr, ack.window));
        }
    }

    /// Rule 9: a part of WINDOW leaves once, the first one three times; after the ACK none.
    fn check_repeats(&mut self, to: SocketAddr, window: Window, part: u32) {
        let times = self.told_parts.entry((to, window, part)).or_default();
        *times += 1;
        let (times, most) = (*times, if part == 0 { 3 } else { 1 });
        let again = times > 1 && self.acked.contains(&(to, window));
        self.expect(times <= most && !again, 9, || {
            format!("{to} is told part {part} of {window} {times} times, acked: {again}")
        });
    }

    /// What was answered to one datagram, at once.
    pub(crate) fn on_answered(&mut self, packet: &Packet, answers: &[Transmit]) {
        for answer in answers {
            let (came, went) = (packet.bytes.len(), answer.payload.len());
            let from_own = !self.is_proven(packet.from)
                && self.own.contains(&(packet.from, packet.bytes.clone()));
            self.expect(!from_own || went <= came, 8, || format!("{went} bytes for {came}"));
        }
    }

    /// One datagram is answered with one at the most.
    pub(crate) fn on_said(&mut self, meant: usize, said: usize) {
        self.expect(said <= meant, 9, || format!("{said} datagrams where {meant} were due"));
    }

    /// What the registry makes of a request while nothing is under way.
    pub(crate) fn on_handled(
        &mut self,
        wall: Wall,
        path: Path,
        request: &Request,
        handled: &Handled,
    ) {
        self.latest = self.latest.max(Some(wall));
        let closes = self.model.current.window.map(|window| self.length.closes(window));
        let due = closes.is_none_or(|closes| wall >= closes);
        if due {
            return;
        }
        let verdict = self.model.verdict(request, path.peer, due);
        if let Some(remark) = self.model.remark_on(request, path.peer, verdict) {
            self.seen.note(remark);
        }
        let agrees = match verdict {
            Verdict::Silence => matches!(handled, Handled::Nothing(_)),
            Verdict::Retry(_) => matches!(handled, Handled::Answer(_)),
            Verdict::New => !matches!(handled, Handled::Nothing(_)),
        };
        self.expect(agrees, 5, || {
            format!("{request:?} from {} is {verdict:?}, and was {handled:?}", path.peer)
        });
        if let (Verdict::Retry(window), Handled::Answer(answer)) = (verdict, handled)
            && let Ok(Datagram::Registered(it)) = Datagram::decode(&answer.payload)
        {
            let told = it.window;
            self.expect(told == window, 5, || format!("a retry is told {told}, not {window}"));
        }
    }

    /// The registry answers a request: what it promises is noted, and must be so.
    pub(crate) fn on_promise(&mut self, transmit: &Transmit) {
        let to = transmit.path.peer;
        let it = match Datagram::decode(&transmit.payload) {
            Ok(Datagram::Registered(it)) => it,
            Ok(Datagram::Left(it)) => {
                let result = self.model.check_left(to, &it);
                return self.judge(result);
            }
            _ => return,
        };
        let Registered { id, room, window, you, .. } = &it;
        self.expect(*you == to, 3, || format!("{to} is told to be {you}"));
        let result = self.model.check(to, &it);
        self.judge(result);
        if let Some(id) = id {
            self.told.insert((id.clone(), *window));
        }
        let (id, room, after) = (id.clone(), room.clone(), self.committed);
        self.promises.push(Promise { window: *window, id, addr: to, room, after });
    }

    /// Datagrams leave the registry.
    pub(crate) fn on_transmits(&mut self, transmits: &[Transmit], wall: Wall) {
        self.latest = self.latest.max(Some(wall));
        for transmit in transmits {
            self.check_account(transmit);
            self.check_peeking(transmit);
            self.check_content(transmit, wall);
        }
    }

    /// Rule 8: three times what came, until the address is proven.
    fn check_account(&mut self, transmit: &Transmit) {
        let to = transmit.path.peer;
        if self.is_proven(to) {
            return;
        }
        let account = self.accounts.entry(to).or_default();
        account.went += transmit.payload.len();
        let Account { came, went, .. } = *account;
        self.expect(went <= 3 * came, 8, || format!("{went} bytes to {to}, of {came} unproven"));
        let is_challenge = transmit.payload.starts_with(br#"{"type":"CHALLENGE""#);
        self.expect(is_challenge, 8, || format!("{to} is unproven, and told more than a cookie"));
    }

    /// Rule 4, byte by byte: nobody is named who is in the next window and not in the current one.
    fn check_peeking(&mut self, transmit: &Transmit) {
        let text = String::from_utf8_lossy(&transmit.payload);
        let you = transmit.path.peer;
        for word in text.split(['"', ' ']).filter(|word| word.len() > 8 && word.contains(':')) {
            let Ok(named) = word.parse::<SocketAddr>() else { continue };
            if named != you
                && self.model.next.members.contains_key(&named)
                && !self.model.current.members.contains_key(&named)
            {
                return self.fail(4, format!("{you} is told of {named} before the opening"));
            }
        }
    }

    fn check_content(&mut self, transmit: &Transmit, wall: Wall) {
        let to = transmit.path.peer;
        match Datagram::decode(&transmit.payload) {
            Ok(Datagram::Challenge(it)) => {
                self.cookies.insert((to, it.cookie));
            }
            Ok(Datagram::Registered(it)) => {
                self.check_page(it.current.window, &it.room, None, &it.current.page);
            }
            Ok(Datagram::Peers(it)) => match &it.pass {
                None => self.check_page(it.window, &it.room, None, &it.page),
                Some(pass) => {
                    let you = it.you.unwrap_or(to);
                    self.check_own(it.window, &it.room, it.id, you, pass, &it.page);
                }
            },
            Ok(Datagram::Window(it)) => {
                let open = wall < self.length.closes(it.window);
                self.expect(open, 6, || format!("{} is announced at {wall}", it.window));
                self.expect(it.you == to, 4, || format!("{to} is told what {} is due", it.you));
                self.check_repeats(to, it.window, it.page.part);
                self.check_own(it.window, &it.room, it.id, it.you, &it.pass, &it.page);
            }
            Ok(Datagram::Left(_) | Datagram::Error(_)) => {}
            other => self.fail(3, format!("a registry says {other:?}")),
        }
    }

    fn check_open(&mut self, window: Window) {
        let early = self.latest.is_none_or(|latest| latest < window.opens());
        let empty = self.model.current.members.is_empty();
        self.expect(empty || !early, 4, || format!("{window} is told before its time"));
    }

    /// A page for everyone: exactly that of the current roster.
    fn check_page(&mut self, window: Window, room: &Room, id: Option<Id>, page: &Page<'_>) {
        self.check_open(window);
        if page.parts > 1 {
            self.seen.note("a roster of more than one part");
        }
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        self.check_same((window, room.clone(), id, nowhere, page.part), page);
        if self.model.current.window != Some(window) {
            // Before the first window of all, nobody has been let in.
            return self.expect(page.peers.is_empty(), 3, || format!("a list of {window}"));
        }
        let members = self.model.current.room(room);
        let pages = paged(members.iter().map(|addr| format!("\"{addr}\"")).collect());
        let fits = is_page(page, &pages, members.len());
        self.expect(fits, 3, || format!("a page of {room} in {window} is {page:?}"));
    }

    /// A member's page: its own list, and the pass.
    fn check_own(
        &mut self,
        window: Window,
        room: &Room,
        id: Option<Id>,
        you: SocketAddr,
        pass: &Pass,
        page: &Page<'_>,
    ) {
        self.check_open(window);
        let current = self.model.current.window;
        self.expect(current == Some(window), 3, || format!("{window} is told in {current:?}"));
        let member = self.model.current.members.get(&you);
        let is_it = member.is_some_and(|member| member.id == id && member.profile.room == *room);
        self.expect(is_it, 4, || format!("the pass of {room} is told to {you}, who is not in"));
        let before = self.passes.insert((window, room.clone()), pass.clone());
        self.expect(before.is_none_or(|before| before == *pass), 3, || {
            format!("the pass of {room} in {window} has changed")
        });
        self.check_same((window, room.clone(), id, you, page.part), page);
        let members = self.model.current.room(room);
        if members.len() <= self.cap + 1 {
            let entry = |addr: &SocketAddr| match self.model.current.members[addr].profile.lan {
                Some(lan) => format!("\"{addr} {lan}\""),
                None => format!("\"{addr}\""),
            };
            let pages = paged(members.iter().map(entry).collect());
            let fits = is_page(page, &pages, members.len());
            return self.expect(fits, 3, || format!("the own list is {page:?}"));
        }
        let peers: Vec<SocketAddr> =
            page.candidates().into_iter().flatten().map(|peer| peer.addr).collect();
        let others = peers.iter().all(|peer| *peer != you && members.contains(peer));
        let whole = page.parts > 1 || peers.len() == self.cap;
        let counted = page.count as usize == members.len();
        let fits = others && whole && counted && peers.is_sorted_by(|a, b| a < b);
        self.expect(fits, 3, || format!("the share of {you} is {page:?}"));
    }

    /// Rule 3: whoever asks is told what was told before.
    fn check_same(&mut self, key: (Window, Room, Option<Id>, SocketAddr, u32), page: &Page<'_>) {
        let says = format!("{} {} {}", page.parts, page.count, page.peers);
        let before = self.pages.insert(key, says.clone());
        self.expect(before.as_ref().is_none_or(|before| *before == says), 3, || {
            format!("told {before:?}, and then {says}")
        });
    }
}

fn is_trusted(addr: SocketAddr) -> bool {
    matches!(addr, SocketAddr::V4(v4) if v4.ip().octets()[0] == 10)
}

/// The cookie in a datagram, whatever else it is.
fn cookie_of(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (_, rest) = text.split_once(r#""cookie":""#)?;
    rest.split('"').next()
}

/// Entries, cut into pages as the protocol says.
fn paged(entries: Vec<String>) -> Vec<String> {
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

/// Whether a page is that of `pages`, in a room of so many.
fn is_page(page: &Page<'_>, pages: &[String], count: usize) -> bool {
    let expected = pages.get(page.part as usize);
    expected.is_some_and(|expected| page.peers == expected)
        && (page.parts as usize, page.count as usize) == (pages.len(), count)
}
