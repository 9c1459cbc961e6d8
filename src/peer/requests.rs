//! The pending requests to the registry, and what its answers show about the registry.

use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;
use rand::rngs::ChaCha8Rng;

use super::Peer;
use crate::ask::{PendingRequest, Reply, RetryLimits};
use crate::clock::Now;
use crate::cookie::NO_COOKIE;
use crate::path::canonical;
use crate::proto::{Datagram, Request};

/// What this client knows about the registry.
#[derive(Debug)]
pub(super) struct RegistryLink {
    pub(super) address: SocketAddr,
    /// The latest cookie that the registry has sent.
    cookie: String,
    /// The `seq` of the last request; REGISTER, LEAVE and QUERY share it.
    pub(super) seq: u64,
    /// Whether the registry has answered anything.
    pub(super) heard: bool,
    /// Since when the registry has left requests unanswered, by the monotonic clock.
    pub(super) unanswered_since: Option<Duration>,
}

impl RegistryLink {
    pub(super) fn new(address: SocketAddr, rng: &mut ChaCha8Rng) -> RegistryLink {
        RegistryLink {
            address: canonical(address),
            cookie: NO_COOKIE.to_owned(),
            // Not from 1: an attacker who forges the registry's address has to guess this, as
            // CHALLENGE and ERROR echo nothing else. One of 2⁵², which leaves as many for further
            // requests.
            seq: rng.next_u64() >> 12,
            heard: false,
            unanswered_since: None,
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
        let Some(ask) = &mut self.under_way else { return Reply::Unrelated };
        let heard = ask.handle(datagram, now);
        if heard == Reply::Challenge {
            ask.cookie().clone_into(cookie);
        }
        self.under_way.take_if(|ask| ask.poll_timeout().is_none());
        heard
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
        let terms = RetryLimits { longest: self.windows.longest_delay(), deadline };
        let ask =
            PendingRequest::new(request, &self.registry.cookie, terms, self.rng.next_u64(), now);
        ask.signed(self.config.key.clone())
    }

    /// Processes a datagram that came from the registry's address.
    pub(super) fn on_registry(&mut self, now: Now, datagram: &Datagram<'_>) {
        self.registry.unanswered_since = None;
        if let Datagram::Window(opened) = datagram {
            return self.on_window(now, opened);
        }
        let cookie = &mut self.registry.cookie;
        let registration = self.registration.handle(cookie, datagram, now);
        let query = self.query.handle(cookie, datagram, now);
        // A datagram that answers no request is forged or late: it does not show that a registry is
        // there.
        self.registry.heard |= registration != Reply::Unrelated || query != Reply::Unrelated;
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
fn is_answer(heard: Reply) -> bool {
    matches!(heard, Reply::Answer | Reply::Error)
}
