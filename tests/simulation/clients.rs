//! Clients by hand: ids that move, retry, leave and come back, addresses that are taken over, old
//! copies, netcat without an id, outsiders who ask, and strangers who forge.

use std::net::SocketAddr;
use std::time::Duration;

use hit7::cookie::NO_COOKIE;
use hit7::proto::{
    Ack, Auth, Challenge, Code, Datagram, Greet, Id, Opened, Page, Profile, Refusal, Registered,
    Request, Room,
};

use crate::faults::Fault;
use crate::network::Packet;
use crate::world::{Agenda, REGISTRY, World, addr};

/// Between a request and its retry.
const AGAIN: Duration = Duration::from_millis(250);

/// What a client is to do.
#[derive(Clone, Debug)]
pub(crate) enum Errand {
    Act,
    Retry { client: usize, request: Request, tries: u32 },
    Repeat,
    Ask,
    Forge,
    Join(usize),
}

#[derive(Debug)]
pub(crate) struct Client {
    addr: SocketAddr,
    cookie: String,
    pending: Vec<Request>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    all: Vec<Client>,
    /// The highest `seq` that each id has used.
    seqs: [u64; IDS],
    /// What was sent, to be sent again as it was.
    said: Vec<Packet>,
    /// What came to someone who is nobody of this world.
    pub(crate) heard: Vec<Vec<u8>>,
}

const IDS: usize = 5;

fn id(number: usize) -> Id {
    format!("id-{number}").parse().unwrap()
}

impl World {
    pub(crate) fn plan_clients(&mut self) {
        let strangers = (0..5).map(|n| SocketAddr::from(([192, 0, 2, 20 + n], 30_000)));
        let trusted = (0..2).map(|n| SocketAddr::from(([10, 0, 0, 5 + n], 30_000)));
        for addr in strangers.chain(trusted) {
            let cookie = NO_COOKIE.to_owned();
            self.clients.all.push(Client { addr, cookie, pending: Vec::new() });
        }
        self.plan_errands(Fault::Scripts, 60, Errand::Act);
        self.plan_errands(Fault::Scripts, 15, Errand::Repeat);
        self.plan_errands(Fault::Outsiders, 15, Errand::Ask);
        self.plan_errands(Fault::Forgers, 40, Errand::Forge);
        if self.dice.has(Fault::Crowd) {
            let crowd = self.dice.draw(Fault::Crowd, 40, 120) as usize;
            let wait = self.setup.length.millis();
            for member in 0..crowd {
                let at = self.dice.millis(Fault::Crowd, 0, wait);
                self.agenda(at, Agenda::Client(Errand::Join(member)));
            }
        }
    }

    fn plan_errands(&mut self, kind: Fault, times: usize, errand: Errand) {
        if !self.dice.has(kind) {
            return;
        }
        for _ in 0..times {
            let at = self.some_time(kind);
            self.agenda(at, Agenda::Client(errand.clone()));
        }
    }

    pub(crate) fn run_errand(&mut self, errand: Errand) {
        match errand {
            Errand::Act => self.act(),
            Errand::Retry { client, request, tries } => self.retry(client, request, tries),
            Errand::Repeat => self.repeat(),
            Errand::Ask => self.ask(),
            Errand::Forge => self.forge(),
            Errand::Join(member) => self.join(member),
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.dice.draw(Fault::Scripts, 0, 100) < percent
    }

    fn act(&mut self) {
        let kind = Fault::Scripts;
        let client = self.dice.draw(kind, 0, self.clients.all.len() as u64) as usize;
        let number = self.dice.draw(kind, 0, IDS as u64) as usize;
        let seq = self.some_seq(number);
        let with_id = self.chance(85).then(|| id(number));
        let seq = if self.chance(8) { None } else { Some(seq) };
        let room: Room = if self.chance(60) { Room::default() } else { "lab".parse().unwrap() };
        let request = match self.dice.draw(kind, 0, 10) {
            0..7 => {
                let name = self.chance(50).then(|| format!("eva-{number}").parse().unwrap());
                let mut profile = Profile { room, name, ..Profile::default() };
                profile.lan = self.chance(20).then(|| addr("192.168.1.7:40112"));
                Request::register(with_id, seq, profile)
            }
            7..9 => Request::leave(with_id, seq),
            _ => Request::query(with_id, seq, room, 0),
        };
        self.clients.all[client].pending.push(request.clone());
        self.retry(client, request, 4);
    }

    /// Mostly the next; or the same again, an older one, or one far ahead.
    fn some_seq(&mut self, number: usize) -> u64 {
        let last = self.clients.seqs[number];
        let seq = match self.dice.draw(Fault::Scripts, 0, 20) {
            0..11 => last + 1,
            11..16 => last,
            16..19 => last.saturating_sub(self.dice.draw(Fault::Scripts, 1, 4)),
            _ => last + 10,
        };
        self.clients.seqs[number] = last.max(seq);
        seq
    }

    /// Sends a request, and again a little later unless it has been answered.
    fn retry(&mut self, client: usize, request: Request, tries: u32) {
        let Client { addr, cookie, pending } = &self.clients.all[client];
        if !pending.iter().any(|it| it.seq == request.seq) {
            return;
        }
        let (from, bytes) = (*addr, request.encode(&Auth::with_cookie(cookie)));
        let packet = Packet { from, to: self::addr(REGISTRY), bytes };
        self.clients.said.push(packet.clone());
        self.send(packet);
        if tries > 0 {
            let later = self.t + AGAIN * (5 - tries);
            let errand = Errand::Retry { client, request, tries: tries - 1 };
            self.agenda(later, Agenda::Client(errand));
        }
    }

    /// Something that was said before, as it was: by a network that kept it, or by someone who
    /// recorded it.
    fn repeat(&mut self) {
        if !self.clients.said.is_empty() {
            self.seen.note("an old datagram was sent again");
            let packet = self.dice.pick(Fault::Scripts, &self.clients.said).clone();
            self.send(packet);
        }
    }

    /// Someone who does not take part asks who is there.
    fn ask(&mut self) {
        let client = self.dice.draw(Fault::Outsiders, 0, self.clients.all.len() as u64) as usize;
        let number = self.dice.draw(Fault::Outsiders, 0, IDS as u64) as usize;
        let place = self.dice.draw(Fault::Outsiders, 0, self.peers.len() as u64) as usize;
        let id = match self.dice.draw(Fault::Outsiders, 0, 4) {
            0 => Some(id(number)),
            1 => Some(self.peers[place].config.id.clone()),
            _ => None,
        };
        let room = ["main", "lab", "empty"][self.dice.draw(Fault::Outsiders, 0, 3) as usize];
        let part = self.dice.draw(Fault::Outsiders, 0, 3) as u32;
        let seq = Some(self.dice.draw(Fault::Outsiders, 1 << 40, 1 << 41));
        let query = Request::query(id, seq, room.parse().unwrap(), part);
        self.clients.all[client].pending.push(query.clone());
        self.retry(client, query, 2);
    }

    /// One of a crowd registers from the registry's own network, without an id.
    fn join(&mut self, member: usize) {
        let from = SocketAddr::from(([10, 1, 0, member as u8], 30_000));
        let profile = Profile { room: "lab".parse().unwrap(), ..Profile::default() };
        let bytes = Request::register(None, None, profile).encode(&Auth::NONE);
        self.send(Packet { from, to: addr(REGISTRY), bytes });
    }

    /// What a client by hand does with an answer.
    pub(crate) fn client_hears(&mut self, packet: Packet) {
        let is_it = |client: &Client| client.addr == packet.to;
        let Some(client) = self.clients.all.iter().position(is_it) else {
            return self.clients.heard.push(packet.bytes);
        };
        match Datagram::decode(&packet.bytes) {
            Ok(Datagram::Challenge(it)) => {
                let it_is_forged = packet.from != addr(REGISTRY);
                if it_is_forged {
                    return;
                }
                self.clients.all[client].cookie = it.cookie;
                let pending = &self.clients.all[client].pending;
                if let Some(request) = pending.iter().find(|asked| asked.seq == it.seq) {
                    self.retry(client, request.clone(), 0);
                }
            }
            Ok(Datagram::Registered(it)) => self.answered(client, it.seq),
            Ok(Datagram::Left(it)) => self.answered(client, it.seq),
            Ok(Datagram::Peers(it)) => self.answered(client, it.seq),
            Ok(Datagram::Window(it)) if self.chance(60) => {
                let ack = Ack { id: it.id, window: it.window, pass: it.pass };
                let (from, to) = (packet.to, addr(REGISTRY));
                self.send(Packet { from, to, bytes: ack.encode() });
            }
            _ => {}
        }
    }

    fn answered(&mut self, client: usize, seq: Option<u64>) {
        self.clients.all[client].pending.retain(|asked| asked.seq != seq);
    }

    /// A stranger: to the registry under other addresses, to peers as if from the registry.
    fn forge(&mut self) {
        let kind = Fault::Forgers;
        let place = self.dice.draw(kind, 0, self.peers.len() as u64) as usize;
        let stranger = SocketAddr::from(([192, 0, 2, 66], 6666));
        let Some(victim) = self.peers[place].public(self.t) else { return };
        let (own, room) = (self.peers[place].config.id.clone(), Room::default());
        let drawn = self.dice.draw(kind, 0, 1 << 33);
        let seq = Some(drawn);
        let wrong = *self.dice.pick(kind, &[NO_COOKIE, "awQjfGkU0tbP4drN", "x"]);
        let auth = Auth::with_cookie(wrong);
        let number = self.dice.draw(kind, 0, IDS as u64) as usize;
        let whose = if self.dice.draw(kind, 0, 2) == 0 { own.clone() } else { self::id(number) };
        let (from, to) = match self.dice.draw(kind, 0, 3) {
            0 => (victim, addr(REGISTRY)),
            1 => (
                SocketAddr::from(([192, 0, 2, 200], 1000 + (drawn % 60_000) as u16)),
                addr(REGISTRY),
            ),
            _ => (stranger, victim),
        };
        if to == addr(REGISTRY) {
            self.seen.note("a stranger forged a request");
            let whose = Some(whose);
            let bytes = match self.dice.draw(kind, 0, 6) {
                0 => Request::leave(whose, seq).encode(&auth),
                1 => Request::query(whose, seq, Room::default(), 0).encode(&auth),
                2 => br#"{"type":"QUERY"}"#.to_vec(),
                3 => br#"{"type":"REGISTERED"} or not"#.to_vec(),
                4 => br#"{"type":"LEFT","seq":1}"#.to_vec(),
                _ => Request::register(whose, seq, Profile::default()).encode(&auth),
            };
            return self.send(Packet { from, to, bytes });
        }
        self.seen.note("a stranger forged an answer");
        let window = self.setup.length.window_at(self.host.clock.wall(self.t));
        let page = Page { part: 0, parts: 1, count: 2, peers: r#""192.0.2.66:6666""# };
        let pass: hit7::proto::Pass = "guessed".parse().unwrap();
        let current = hit7::proto::Current { window, closes_in_ms: 5, page: page.clone() };
        let from_registry = self.dice.draw(kind, 0, 2) == 0;
        // Whoever can write the registry's address does not know the id.
        let id = if from_registry { self::id(0) } else { own };
        let from = if from_registry { addr(REGISTRY) } else { from };
        let datagram = match self.dice.draw(kind, 0, 5) {
            0 => Datagram::Window(Opened {
                id: Some(id),
                room,
                window,
                closes_in_ms: 5000,
                you: victim,
                pass,
                page,
            }),
            1 => Datagram::Error(Refusal {
                seq,
                code: Code::Forbidden,
                reason: "no".to_owned(),
                retry_in_ms: None,
            }),
            2 => Datagram::Challenge(Challenge { seq, cookie: "forged".to_owned() }),
            3 => Datagram::Registered(Registered {
                id: Some(id),
                seq,
                room,
                window,
                opens_in_ms: 5,
                window_ms: 1000,
                you: victim,
                current,
            }),
            _ => Datagram::Greet(Greet {
                room,
                window,
                pass,
                seq: 1,
                from: stranger,
                name: None,
                text: None,
            }),
        };
        let bytes = datagram.encode();
        self.send(Packet { from, to: victim, bytes });
    }
}
