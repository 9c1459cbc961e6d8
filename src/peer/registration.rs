//! Getting into a window, staying in, and out again: REGISTER, its answers, and LEAVE.

use std::net::SocketAddr;
use std::time::Duration;

use super::reach::canonical;
use super::{Event, Peer, Promised, millis, whole_seconds};
use crate::clock::Now;
use crate::proto::{Datagram, Profile, Refusal, Registered, Request};
use crate::window::Window;

/// Between two keep-alives: many NATs forget a mapping after 30 s (RFC 4787 §4.3 asks for more).
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// No keep-alive so shortly before the opening: if late, it would be for the window after.
const KEEP_CLEAR: Duration = Duration::from_secs(1);

impl Peer {
    /// Withdraws from the next window: sends LEAVE until it is answered, and registers no more.
    /// The open window goes on.
    pub fn leave(&mut self, now: Now) {
        if std::mem::replace(&mut self.leaving, true) {
            return;
        }
        (self.done, self.register_at, self.told) = (true, None, None);
        let (id, seq) = (Some(self.config.id.clone()), Some(self.next_seq()));
        self.errand = Some(self.ask(now, Request::leave(id, seq), None));
    }

    /// Tries another address of the registry; ignored once one has been heard of.
    pub fn change_registry(&mut self, now: Now, registry: SocketAddr) {
        if self.heard || self.done {
            return;
        }
        self.config.registry = canonical(registry);
        self.errand = None;
        self.register(now);
    }

    /// Registers, renews or keeps alive: it is the same request.
    pub(super) fn register(&mut self, now: Now) {
        let clear = KEEP_CLEAR.min(self.quarter());
        let late = |told: &Promised| told.opens_at <= now.mono.saturating_add(clear);
        if self.done || self.errand.is_some() || self.told.as_ref().is_some_and(late) {
            return;
        }
        let (id, seq) = (Some(self.config.id.clone()), Some(self.next_seq()));
        let (room, name) = (self.config.room.clone(), self.config.name.clone());
        let request = Request::register(id, seq, Profile { room, name, lan: self.config.lan });
        // The window to be in is the one that opens when the current one closes.
        let deadline = self.open.as_ref().filter(|_| self.told.is_none()).map(|it| it.closes_at);
        self.errand = Some(self.ask(now, request, deadline));
    }

    pub(super) fn keep_alive(&mut self, now: Now) {
        self.register_at = Some(now.mono.saturating_add(KEEP_ALIVE.min(self.quarter())));
    }

    pub(super) fn on_errand(&mut self, now: Now, datagram: &Datagram<'_>) {
        match datagram {
            Datagram::Registered(registered) => self.on_registered(now, registered),
            Datagram::Left(_) => self.events.push_back(Event::Left),
            Datagram::Error(refusal) => self.on_refused(refusal),
            _ => {}
        }
    }

    fn on_refused(&mut self, refusal: &Refusal) {
        let Refusal { code, reason, retry_in_ms, .. } = refusal.clone();
        self.done |= !code.is_retryable();
        if self.refused.replace(code) != Some(code) {
            let retry_in = retry_in_ms.map(Duration::from_millis);
            self.events.push_back(Event::Refused { code, reason, retry_in });
        }
    }

    fn on_registered(&mut self, now: Now, registered: &Registered<'_>) {
        let &Registered { window, ref current, you, .. } = registered;
        self.refused = None;
        self.length = Some(whole_seconds(millis(registered.window_ms)));
        let closes_at = now.mono.saturating_add(millis(current.closes_in_ms));
        self.catch_up(now, current.window, closes_at);
        let opens_at = if window == current.window {
            closes_at.saturating_sub(self.length())
        } else {
            now.mono.saturating_add(millis(registered.opens_in_ms))
        };
        self.promise(now, Promised { window, opens_at }, you);
    }

    fn promise(&mut self, now: Now, told: Promised, you: SocketAddr) {
        let (window, opens_in) = (told.window, told.opens_at.saturating_sub(now.mono));
        let open = self.open.as_ref().map(|open| open.window);
        let come = self.last.max(open) >= Some(window);
        // Of a window that has come: one asks again for the next, unless one is enough.
        if !come || self.config.renew || open.is_none() {
            self.keep_alive(now);
        }
        if come {
            return;
        }
        self.told = Some(told);
        if self.announced.replace((window, you)) != Some((window, you)) {
            let room = self.config.room.clone();
            self.events.push_back(Event::Registered { window, opens_in, you, room });
        }
    }

    /// The registry's current window is `current`: what came before it is over.
    pub(super) fn catch_up(&mut self, now: Now, current: Window, closes_at: Duration) {
        if self.open.as_ref().is_some_and(|open| open.window < current) {
            self.close(now);
        }
        if let Some(told) = self.told.take_if(|told| told.window < current) {
            self.miss(now, told.window);
        }
        if self.told.take_if(|told| told.window == current).is_some() {
            self.turn(now, current, closes_at);
        }
    }
}
