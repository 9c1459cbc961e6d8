//! Forged datagrams: to the registry with spoofed sources, and to peers as if from the registry.

use std::net::SocketAddr;

use hit7::cookie::NO_COOKIE;
use hit7::proto::{Datagram, Id};

use crate::clients::id;
use crate::faults::Fault;
use crate::network::Packet;
use crate::world::{REGISTRY, World, addr};

const KIND: Fault = Fault::Forgers;

/// The address that strangers send from.
const STRANGER: &str = "192.0.2.66:6666";

/// What a forger knows or guesses of its victim.
#[derive(Debug)]
struct Guess {
    /// A peer's address, and its id.
    victim: SocketAddr,
    own: Id,
    /// An id, perhaps of that peer.
    id: Id,
    seq: u64,
    cookie: &'static str,
}

impl World {
    pub(crate) fn forge(&mut self) {
        let Some(guess) = self.guess() else { return };
        match self.dice.draw(KIND, 0, 3) {
            0 => self.forge_request(guess.victim, guess),
            1 => {
                let port = 1000 + (guess.seq % 60_000) as u16;
                self.forge_request(SocketAddr::from(([192, 0, 2, 200], port)), guess);
            }
            _ => self.forge_answer(guess),
        }
    }

    fn guess(&mut self) -> Option<Guess> {
        let place = self.dice.draw(KIND, 0, self.peers.len() as u64) as usize;
        let victim = self.peers[place].public(self.t)?;
        let own = self.peers[place].config.id.clone();
        let seq = self.dice.draw(KIND, 0, 1 << 33);
        let cookie = *self.dice.pick(KIND, &[NO_COOKIE, "awQjfGkU0tbP4drN", "x"]);
        let number = self.some_id_number(KIND);
        let id = if self.dice.draw(KIND, 0, 2) == 0 { own.clone() } else { id(number) };
        Some(Guess { victim, own, id, seq, cookie })
    }

    fn forge_request(&mut self, from: SocketAddr, Guess { id, seq, cookie, .. }: Guess) {
        self.seen.note("a stranger forged a request");
        let asking = |kind| {
            format!(
                r#"{{"type":"{kind}","id":"{id}","seq":{seq},"room":"main","cookie":"{cookie}"}}"#
            )
        };
        let text = match self.dice.draw(KIND, 0, 6) {
            0 => asking("LEAVE"),
            1 => asking("QUERY"),
            2 => r#"{"type":"QUERY"}"#.to_owned(),
            3 => r#"{"type":"REGISTERED"} or not"#.to_owned(),
            4 => r#"{"type":"LEFT","seq":1}"#.to_owned(),
            _ => asking("REGISTER"),
        };
        self.send(Packet { from, to: addr(REGISTRY), bytes: text.into_bytes() });
    }

    /// Sends a peer a forged answer with the registry's address as its source.
    fn forge_answer(&mut self, guess: Guess) {
        self.seen.note("a stranger forged an answer");
        let as_registry = self.dice.draw(KIND, 0, 2) == 0;
        let from = addr(if as_registry { REGISTRY } else { STRANGER });
        let id = if as_registry { id(0) } else { guess.own };
        let window = self.setup.length.window_at(self.host.clock.wall(self.t));
        let (to, seq) = (guess.victim, guess.seq);
        let list = r#""part":0,"parts":1,"count":2,"peers":["192.0.2.66:6666"]"#;
        let room = r#""room":"main""#;
        let text = match self.dice.draw(KIND, 0, 5) {
            0 => format!(
                r#"{{"type":"WINDOW","id":"{id}",{room},"window":"{window}","closes_in_ms":5000,"you":"{to}","pass":"guessed",{list}}}"#
            ),
            1 => format!(r#"{{"type":"ERROR","seq":{seq},"code":"forbidden","reason":"no"}}"#),
            2 => format!(r#"{{"type":"CHALLENGE","seq":{seq},"cookie":"forged"}}"#),
            3 => format!(
                r#"{{"type":"REGISTERED","id":"{id}","seq":{seq},{room},"window":"{window}","opens_in_ms":5,"window_ms":1000,"you":"{to}","current":{{"window":"{window}","closes_in_ms":5,{list}}}}}"#
            ),
            _ => format!(
                r#"{{"type":"GREET",{room},"window":"{window}","pass":"guessed","seq":1,"as":"{STRANGER}"}}"#
            ),
        };
        assert!(Datagram::decode(text.as_bytes()).is_ok(), "{text}");
        self.send(Packet { from, to, bytes: text.into_bytes() });
    }
}
