//! Writing datagrams: `type` first, the rest in the order of `docs/PROTOCOL.md`, no white space.

use super::object::Object;
use super::{
    Ack, Auth, Challenge, Current, Datagram, Greet, Greeted, Kind, Left, Opened, Page, Peers,
    Profile, Refusal, Registered, Request, RequestKind,
};

/// The most milliseconds that are told: eight digits, so that the longest head has its proven
/// length.
const MAX_MS: u64 = 99_999_999;

impl Object {
    fn millis(&mut self, key: &str, value: u64) {
        self.number(key, value.min(MAX_MS));
    }

    fn page(&mut self, page: &Page<'_>) {
        self.number("part", page.part.into());
        self.number("parts", page.parts.into());
        self.number("count", page.count.into());
        self.list("peers", page.peers);
    }
}

macro_rules! encode {
    ($(#[$doc:meta])* $message:ty, $kind:expr, |$this:ident, $out:ident| $body:block) => {
        impl $message {
            /// The datagram's bytes.
            pub fn encode(&self) -> Vec<u8> {
                self.encode_behind(Vec::with_capacity(super::MAX_DATAGRAM))
            }

            /// The datagram's bytes, behind what `before` holds.
            pub fn encode_behind(&self, before: Vec<u8>) -> Vec<u8> {
                let ($this, mut $out) = (self, Object::begin(before, $kind.name()));
                $body
                $out.end()
            }
        }
    };
}

impl Request {
    /// The datagram's bytes, with what vouches for it.
    pub fn encode(&self, auth: &Auth) -> Vec<u8> {
        let kind = match &self.kind {
            RequestKind::Register(_) => Kind::Register,
            RequestKind::Leave => Kind::Leave,
            RequestKind::Query { .. } => Kind::Query,
        };
        let mut out = Object::begin(Vec::with_capacity(super::MAX_DATAGRAM), kind.name());
        out.maybe_plain("id", self.id.as_ref().map(|id| id.as_str()));
        out.maybe_number("seq", self.seq);
        match &self.kind {
            RequestKind::Register(Profile { room, name, lan }) => {
                out.plain("room", room.as_str());
                out.maybe_plain("name", name.as_ref().map(|name| name.as_str()));
                out.maybe_addr("lan", *lan);
            }
            RequestKind::Leave => {}
            RequestKind::Query { room, part } => {
                out.plain("room", room.as_str());
                out.number("part", (*part).into());
            }
        }
        out.maybe_text("cookie", auth.cookie.as_deref());
        out.maybe_text("mac", auth.mac.as_deref());
        out.end()
    }
}

encode!(Ack, Kind::Ack, |this, out| {
    out.maybe_plain("id", this.id.as_ref().map(|id| id.as_str()));
    out.plain("window", this.window.stamp().as_str());
    out.plain("pass", this.pass.as_str());
});

encode!(Challenge, Kind::Challenge, |this, out| {
    out.maybe_number("seq", this.seq);
    out.text("cookie", &this.cookie);
});

encode!(Registered<'_>, Kind::Registered, |this, out| {
    out.maybe_plain("id", this.id.as_ref().map(|id| id.as_str()));
    out.maybe_number("seq", this.seq);
    out.plain("room", this.room.as_str());
    out.plain("window", this.window.stamp().as_str());
    out.millis("opens_in_ms", this.opens_in_ms);
    out.millis("window_ms", this.window_ms);
    out.addr("you", this.you);
    out.current(&this.current);
});

impl Object {
    fn current(&mut self, current: &Current<'_>) {
        self.inner("current", |inner| {
            inner.plain("window", current.window.stamp().as_str());
            inner.millis("closes_in_ms", current.closes_in_ms);
            inner.page(&current.page);
        });
    }
}

encode!(Left, Kind::Left, |this, out| {
    out.maybe_plain("id", this.id.as_ref().map(|id| id.as_str()));
    out.maybe_number("seq", this.seq);
    out.plain("window", this.window.stamp().as_str());
});

encode!(Peers<'_>, Kind::Peers, |this, out| {
    out.maybe_plain("id", this.id.as_ref().map(|id| id.as_str()));
    out.maybe_number("seq", this.seq);
    out.plain("room", this.room.as_str());
    out.plain("window", this.window.stamp().as_str());
    out.millis("closes_in_ms", this.closes_in_ms);
    out.maybe_addr("you", this.you);
    out.maybe_plain("pass", this.pass.as_ref().map(|pass| pass.as_str()));
    out.page(&this.page);
});

encode!(Opened<'_>, Kind::Window, |this, out| {
    out.maybe_plain("id", this.id.as_ref().map(|id| id.as_str()));
    out.plain("room", this.room.as_str());
    out.plain("window", this.window.stamp().as_str());
    out.millis("closes_in_ms", this.closes_in_ms);
    out.addr("you", this.you);
    out.plain("pass", this.pass.as_str());
    out.page(&this.page);
});

encode!(Refusal, Kind::Error, |this, out| {
    out.maybe_number("seq", this.seq);
    out.plain("code", this.code.name());
    out.text("reason", &this.reason);
    if let Some(millis) = this.retry_in_ms {
        out.millis("retry_in_ms", millis);
    }
});

encode!(Greet, Kind::Greet, |this, out| {
    out.plain("room", this.room.as_str());
    out.plain("window", this.window.stamp().as_str());
    out.plain("pass", this.pass.as_str());
    out.number("seq", this.seq);
    out.addr("as", this.from);
    out.maybe_plain("name", this.name.as_ref().map(|name| name.as_str()));
    out.maybe_text("text", this.text.as_ref().map(|text| text.as_str()));
});

encode!(Greeted, Kind::Greeted, |this, out| {
    out.plain("room", this.room.as_str());
    out.plain("window", this.window.stamp().as_str());
    out.number("seq", this.seq);
    out.addr("as", this.from);
    out.maybe_plain("name", this.name.as_ref().map(|name| name.as_str()));
});

impl Datagram<'_> {
    /// The datagram's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Datagram::Request(request, auth) => request.encode(auth),
            Datagram::Ack(message) => message.encode(),
            Datagram::Challenge(message) => message.encode(),
            Datagram::Registered(message) => message.encode(),
            Datagram::Left(message) => message.encode(),
            Datagram::Peers(message) => message.encode(),
            Datagram::Window(message) => message.encode(),
            Datagram::Error(message) => message.encode(),
            Datagram::Greet(message) => message.encode(),
            Datagram::Greeted(message) => message.encode(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::list::{Candidate, Listing};
    use crate::proto::{MAX_DATAGRAM, SEQ_END};
    use proptest::prelude::*;
    use std::net::Ipv6Addr;
    use std::net::SocketAddr;

    /// Every datagram that carries a page, with the longest of everything else.
    fn longest(page: Page<'_>) -> [Datagram<'_>; 3] {
        let id = Some("x".repeat(32).parse().unwrap());
        let seq = Some(SEQ_END - 1);
        let (room, pass) = ("ñ".repeat(16).parse().unwrap(), "x".repeat(22).parse().unwrap());
        let window = "2026-11-23T11:29:00Z".parse().unwrap();
        let you = SocketAddr::from((Ipv6Addr::from(u128::MAX), u16::MAX));
        let registered = Registered {
            id: id.clone(),
            seq,
            room,
            window,
            opens_in_ms: MAX_MS,
            window_ms: MAX_MS,
            you,
            // It carries the first page and no other.
            current: Current {
                window,
                closes_in_ms: MAX_MS,
                page: Page { part: 0, ..page.clone() },
            },
        };
        let room = registered.room.clone();
        let peers = Peers {
            id: id.clone(),
            seq,
            room: room.clone(),
            window,
            closes_in_ms: MAX_MS,
            you: Some(you),
            pass: Some(pass),
            page: page.clone(),
        };
        let pass = "x".repeat(22).parse().unwrap();
        let opened = Opened { id, room, window, closes_in_ms: MAX_MS, you, pass, page };
        [Datagram::Registered(registered), Datagram::Peers(peers), Datagram::Window(opened)]
    }

    proptest! {
        #[test]
        fn any_page_fits_into_any_datagram(
            peers in prop::collection::vec((any::<Ipv6Addr>(), 1u16.., prop::option::of(any::<Ipv6Addr>())), 1..60),
        ) {
            let peers = peers.iter().map(|&(ip, port, lan)| Candidate {
                addr: (ip.to_canonical(), port).into(),
                lan: lan.map(|lan| (lan.to_canonical(), port).into()),
            });
            let listing = Listing::render(peers);
            for part in 0..listing.parts() {
                let mut page = listing.page(part, 9_999_999).unwrap();
                (page.part, page.parts) = (999_998, 999_999);
                for datagram in longest(page) {
                    let bytes = datagram.encode();
                    prop_assert!(bytes.len() <= MAX_DATAGRAM, "{}", bytes.len());
                    prop_assert_eq!(Datagram::decode(&bytes), Ok(datagram));
                }
            }
        }
    }

    #[test]
    fn a_full_page_of_the_longest_fits() {
        let peers = "\"".repeat(crate::proto::list::MAX_LIST);
        // Of a hundred million members: more than the memory of any registry holds.
        let page = Page { part: 9_999_998, parts: 9_999_999, count: 99_999_999, peers: &peers };
        for datagram in longest(page) {
            assert!(datagram.encode().len() <= MAX_DATAGRAM, "{datagram:?}");
        }
    }
}
