//! The pending requests to the registry, and what its answers show about the registry.

use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;
use rand::rngs::ChaCha8Rng;

use super::Peer;
use super::reach::same_address;
use crate::ask::{Pace, PendingRequest, Reply, RetryLimits};
use crate::clock::Now;
use crate::cookie::NO_COOKIE;
use crate::path::canonical;
use crate::proto::{Datagram, Request};

/// The least time between two datagrams to the registry, after a burst: the rate that a registry
/// allows one address by default.
const SEND_INTERVAL: Duration = Duration::from_millis(20);
/// How many datagrams may be sent to the registry at once.
const SEND_BURST: u32 = 50;
/// The most of the registry's addresses from which WINDOW is taken.
const MAX_ASKED: usize = 16;

/// What this client knows about the registry.
#[derive(Debug)]
pub(super) struct RegistryLink {
    pub(super) address: SocketAddr,
    /// The addresses that were asked, the last one last: WINDOW may come from each.
    asked: Vec<SocketAddr>,
    /// The latest cookie that the registry has sent.
    cookie: String,
    /// The `seq` of the last request; REGISTER, LEAVE and QUERY share it.
    pub(super) seq: u64,
    /// When the registry last answered anything, by the monotonic clock.
    pub(super) heard_at: Option<Duration>,
    /// Since when the registry has left requests unanswered, by the monotonic clock. A CHALLENGE
    /// does not answer them.
    pub(super) unanswered_since: Option<Duration>,
    /// Whether nothing that was asked after a pause has been answered: what comes may be old.
    pub(super) may_be_old: bool,
    /// The pace of all that is sent to the registry.
    pub(super) pace: Pace,
}

impl RegistryLink {
    pub(super) fn new(address: SocketAddr, rng: &mut ChaCha8Rng) -> RegistryLink {
        let address = canonical(address);
        RegistryLink {
            address,
            asked: vec![address],
            cookie: NO_COOKIE.to_owned(),
            // Not from 1: an attacker who forges the registry's address has to guess this, as
            // CHALLENGE and ERROR echo nothing else. One of 2⁵², which leaves as many for further
            // requests.
            seq: rng.next_u64() >> 12,
            heard_at: None,
            unanswered_since: None,
            may_be_old: false,
            pace: Pace::new(SEND_INTERVAL, SEND_BURST),
        }
    }

    /// Switches to another of the registry's addresses.
    pub(super) fn switch(&mut self, address: SocketAddr) {
        self.address = canonical(address);
        self.asked.retain(|&asked| asked != self.address);
        if self.asked.len() == MAX_ASKED {
            self.asked.remove(0);
        }
        self.asked.push(self.address);
    }

    /// Returns whether `from` is an address that was asked.
    pub(super) fn was_asked(&self, from: SocketAddr) -> bool {
        self.asked.iter().any(|&asked| same_address(asked, from))
    }

    /// Notes that the registry has answered: with a CHALLENGE, or with more.
    pub(super) fn note_heard(&mut self, now: Now, challenged: bool) {
        self.heard_at = Some(now.mono);
        self.may_be_old = false;
        if !challenged {
            self.unanswered_since = None;
        }
    }

    pub(super) fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }
}

/// A slot for one pending request, and when to make the next.
#[derive(Debug, Default)]
pub(super) struct RequestSlot {
    /// The request that is still unanswered.
    pub(super) under_way: Option<PendingRequest>,
    /// When the next request is to be made, by the monotonic clock.
    pub(super) due: Option<Duration>,
}

impl RequestSlot {
    pub(super) fn poll_transmit(&mut self, now: Now) -> Option<Vec<u8>> {
        self.under_way.as_mut()?.poll_transmit(now)
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let retry = self.under_way.as_ref().and_then(PendingRequest::poll_timeout);
        [retry, self.due].into_iter().flatten().min()
    }

    /// Returns whether the next request is due; `true` only once for each.
    pub(super) fn take_due(&mut self, now: Now) -> bool {
        self.due.take_if(|due| *due <= now.mono).is_some()
    }

    /// Hands a registry's datagram to the pending request, and keeps a new cookie for later ones.
    fn handle(&mut self, cookie: &mut String, datagram: &Datagram<'_>, now: Now) -> Reply {
        let Some(request) = &mut self.under_way else { return Reply::Unrelated };
        let reply = request.handle(datagram, now);
        if reply == Reply::Challenge {
            request.cookie().clone_into(cookie);
        }
        self.under_way.take_if(|request| request.poll_timeout().is_none());
        reply
    }
}

impl Peer {
    /// Returns a pending request, which is sent until it is answered, and once more shortly before
    /// `deadline`.
    pub(super) fn ask(
        &mut self,
        now: Now,
        request: Request,
        deadline: Option<Duration>,
    ) -> PendingRequest {
        let limits = RetryLimits { longest: self.windows.longest_delay(), deadline };
        let pending =
            PendingRequest::new(request, &self.registry.cookie, limits, self.rng.next_u64(), now);
        pending.signed(self.config.key.clone())
    }

    /// Processes a datagram that came from an address of the registry that was asked. Only the one
    /// asked last can answer a request.
    pub(super) fn on_registry(&mut self, now: Now, from: SocketAddr, datagram: &Datagram<'_>) {
        if let Datagram::Window(opened) = datagram {
            return self.on_window(now, from, opened);
        }
        if !same_address(from, self.registry.address) {
            return;
        }
        let cookie = &mut self.registry.cookie;
        let registration = self.registration.handle(cookie, datagram, now);
        let query = self.query.handle(cookie, datagram, now);
        // A datagram that answers no request is forged or late: it does not show that a registry is
        // there.
        let replies = [registration, query];
        if replies != [Reply::Unrelated; 2] {
            self.registry.note_heard(now, replies.contains(&Reply::Challenge));
        }
        if is_answer(registration) {
            self.on_registration_answer(now, datagram);
        }
        // A QUERY that is finally refused is not repeated; WINDOW may still come.
        if is_answer(query)
            && let Datagram::Peers(peers) = datagram
        {
            self.on_peers(now, peers);
        }
    }
}

/// Returns whether a request was answered or refused.
fn is_answer(reply: Reply) -> bool {
    matches!(reply, Reply::Answer | Reply::Error)
}
