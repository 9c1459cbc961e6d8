//! Gets this client into a window, keeps it there and withdraws it: REGISTER, its answers, and
//! LEAVE.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Event, MissedWhy, Peer, PromisedWindow, millis, whole_seconds};
use crate::clock::Now;
use crate::proto::{Datagram, Profile, Refusal, Registered, Request};
use crate::window::Window;

/// The time between keep-alives: many NATs forget a mapping after 30 s (RFC 4787 §4.3 asks for
/// more).
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The time before the opening in which no keep-alive is sent: a late one would be for the window
/// after.
const KEEP_ALIVE_CUTOFF: Duration = Duration::from_secs(1);

impl Peer {
    /// Withdraws from the next window: sends LEAVE until it is answered, and registers no more. The
    /// open window stays open.
    pub fn leave(&mut self, now: Now) {
        if std::mem::replace(&mut self.leaving, true) {
            return;
        }
        self.registers = false;
        (self.registration.due, self.windows.promised) = (None, None);
        let (id, seq) = (Some(self.config.id.clone()), Some(self.registry.next_seq()));
        self.registration.under_way = Some(self.ask(now, Request::leave(id, seq), None));
    }

    /// Switches to another address of the registry, and asks anew there.
    pub fn change_registry(&mut self, now: Now, registry: SocketAddr) {
        if self.leaving {
            return;
        }
        self.registry.switch(registry);
        if self.registration.under_way.take().is_some() {
            self.windows.promised.iter_mut().for_each(|promised| promised.seq = None);
            self.register(now);
        }
        if self.query.under_way.take().is_some() {
            self.query(now);
        }
    }

    /// Sends REGISTER, which registers, renews or keeps alive, unless one is pending or it is too
    /// late.
    pub(super) fn register(&mut self, now: Now) {
        let clear = KEEP_ALIVE_CUTOFF.min(self.windows.longest_delay());
        let promised = self.windows.promised.as_ref();
        let too_late = promised.is_some_and(|it| it.opens_at <= now.mono.saturating_add(clear));
        let busy = self.registration.under_way.is_some();
        if !self.registers || busy || too_late {
            return;
        }
        // The window to be in is the one that opens when the current one closes.
        let open = self.windows.open.as_ref().filter(|_| promised.is_none());
        let deadline = open.map(|open| open.closes_at);
        // With the same `seq` a keep-alive is a retry, which changes nothing at the registry.
        let held = promised.and_then(|promised| promised.seq);
        let seq = held.unwrap_or_else(|| self.registry.next_seq());
        let (id, seq) = (Some(self.config.id.clone()), Some(seq));
        let (room, name) = (self.config.room.clone(), self.config.name.clone());
        let request = Request::register(id, seq, Profile { room, name, lan: self.config.lan });
        self.registration.under_way = Some(self.ask(now, request, deadline));
    }

    pub(super) fn keep_alive(&mut self, now: Now) {
        let delay = KEEP_ALIVE.min(self.windows.longest_delay());
        self.registration.due = Some(now.mono.saturating_add(delay));
    }

    /// Processes the answer to REGISTER or LEAVE.
    pub(super) fn on_registration_answer(&mut self, now: Now, answer: &Datagram<'_>) {
        match answer {
            Datagram::Registered(registered) => self.on_registered(now, registered),
            Datagram::Left(_) => self.events.push_back(Event::Left),
            Datagram::Error(refusal) => self.on_refused(now, refusal),
            _ => {}
        }
    }

    fn on_refused(&mut self, now: Now, refusal: &Refusal) {
        let Refusal { code, reason, retry_in_ms, .. } = refusal.clone();
        self.registers &= code.is_retryable();
        if !self.refused.contains(&code) {
            self.refused.push(code);
            self.last_registered = None;
            let retry_in = retry_in_ms.map(Duration::from_millis);
            self.report(now, Event::Refused { code, reason, retry_in });
        }
    }

    fn on_registered(&mut self, now: Now, registered: &Registered<'_>) {
        let &Registered { window, seq, ref current, you, .. } = registered;
        self.refused.clear();
        self.windows.length = Some(whole_seconds(millis(registered.window_ms)));
        let closes_at = now.mono.saturating_add(millis(current.closes_in_ms));
        self.go_back(now, seq, current.window);
        self.catch_up(now, current.window, closes_at);
        let opens_at = if window == current.window {
            closes_at.saturating_sub(self.windows.length())
        } else {
            now.mono.saturating_add(millis(registered.opens_in_ms))
        };
        self.on_promise(now, PromisedWindow { window, opens_at, seq }, you);
    }

    /// Drops the windows after `current` if the answer to the request `seq`, which was made after a later
    /// window was shown, calls `current` open: the registry has begun anew. An answer to an earlier
    /// request may only be late; the next request is then a new one.
    fn go_back(&mut self, now: Now, seq: Option<u64>, current: Window) {
        let Some(latest) = self.windows.latest.filter(|&latest| current < latest) else { return };
        self.windows.promised.iter_mut().for_each(|promised| promised.seq = None);
        if seq <= Some(self.windows.asked_before) {
            return;
        }
        self.report(now, Event::WentBack { latest, current });
        (self.windows.latest, self.windows.promised, self.last_registered) = (None, None, None);
        if self.windows.opened() > Some(current) {
            self.close_window(now);
        }
    }

    fn on_promise(&mut self, now: Now, promised: PromisedWindow, you: SocketAddr) {
        let (window, opens_in) = (promised.window, promised.opens_at.saturating_sub(now.mono));
        let open = self.windows.opened();
        let has_opened = self.windows.latest.max(open) >= Some(window);
        // If the window has opened, the next request is for the one after, unless one is enough.
        if !has_opened || self.config.renew || open.is_none() {
            self.keep_alive(now);
        }
        if has_opened {
            return;
        }
        self.windows.promised = Some(promised);
        if self.last_registered.replace((window, you)) != Some((window, you)) {
            let room = self.config.room.clone();
            self.report(now, Event::Registered { window, opens_in, you, room });
        }
    }

    /// Closes or misses the windows before `current`, the registry's current window, and opens that
    /// if promised.
    pub(super) fn catch_up(&mut self, now: Now, current: Window, closes_at: Duration) {
        if self.windows.opened().is_some_and(|open| open < current) {
            self.close_window(now);
        }
        self.miss_promised(now, |promised| promised < current);
        if let Some(it) = self.windows.promised.take_if(|promised| promised.window == current) {
            self.open_window(now, current, closes_at, it.seq);
        }
    }

    /// Drops the promised window, and reports it as missed, if `is_over` says so.
    pub(super) fn miss_promised(&mut self, now: Now, is_over: impl Fn(Window) -> bool) {
        if let Some(promised) = self.windows.promised.take_if(|it| is_over(it.window)) {
            self.miss(now, promised.window, MissedWhy::NotAMember);
        }
    }
}
