//! Simulated clients other than hit7's own: ids that move, retry, leave and come back, addresses
//! that are taken over, old copies, clients without an id, and outsiders with a QUERY.

use std::net::SocketAddr;
use std::time::Duration;

use hit7::cookie::NO_COOKIE;
use hit7::proto::{Ack, Auth, Datagram, Id, Profile, Request, Room};

use crate::faults::Fault;
use crate::network::Packet;
use crate::world::{Agenda, REGISTRY, World, addr};

/// The time until the first retry of a request; later retries wait longer.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// The number of ids that all clients share.
const IDS: u64 = 5;

/// An action of one of these clients.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// A client sends a REGISTER, LEAVE or QUERY.
    Ask,
    /// A client repeats its request, unless it has an answer.
    Retry { client: usize, request: Request, tries: u32 },
    /// An old datagram is sent again unchanged.
    SendOld,
    /// An outsider sends a QUERY.
    Query,
    /// A client sends QUERYs as fast as it can.
    Flood,
    /// A stranger sends a forged datagram.
    Forge,
    /// A member of the crowd in the registry's own network registers.
    Join(u8),
}

#[derive(Clone, Debug)]
struct Client {
    addr: SocketAddr,
    cookie: String,
    pending: Vec<Request>,
}

#[derive(Debug, Default)]
pub(crate) struct Clients {
    all: Vec<Client>,
    /// The highest `seq` that each id has used.
    seqs: [u64; IDS as usize],
    /// Datagrams that were sent, to be sent again unchanged.
    sent: Vec<Packet>,
    /// Datagrams to an address that no peer and no client has.
    pub(crate) unclaimed: Vec<Vec<u8>>,
}

pub(crate) fn id(number: u64) -> Id {
    format!("id-{number}").parse().unwrap()
}

impl World {
    pub(crate) fn plan_clients(&mut self) {
        let strangers = (0..5).map(|n| SocketAddr::from(([192, 0, 2, 20 + n], 30_000)));
        let trusted = (0..2).map(|n| SocketAddr::from(([10, 0, 0, 5 + n], 30_000)));
        let client = |addr| Client { addr, cookie: NO_COOKIE.to_owned(), pending: Vec::new() };
        self.clients.all = strangers.chain(trusted).map(client).collect();
        self.plan_actions(Fault::Scripts, 60, Action::Ask);
        self.plan_actions(Fault::Scripts, 15, Action::SendOld);
        self.plan_actions(Fault::Outsiders, 15, Action::Query);
        self.plan_actions(Fault::Flags, 6, Action::Flood);
        self.plan_actions(Fault::Forgers, 40, Action::Forge);
        if self.dice.has(Fault::Crowd) {
            let crowd = self.dice.draw(Fault::Crowd, 40, 120) as u8;
            let wait = self.setup.length.millis();
            for member in 0..crowd {
                let at = self.dice.millis(Fault::Crowd, 0, wait);
                self.agenda(at, Agenda::Client(Action::Join(member)));
            }
        }
    }

    fn plan_actions(&mut self, kind: Fault, times: usize, action: Action) {
        if !self.dice.has(kind) {
            return;
        }
        for _ in 0..times {
            let at = self.some_time(kind);
            self.agenda(at, Agenda::Client(action.clone()));
        }
    }

    pub(crate) fn run_action(&mut self, action: Action) {
        match action {
            Action::Ask => self.ask(),
            Action::Retry { client, request, tries } => self.retry(client, request, tries),
            Action::SendOld => self.send_old(),
            Action::Query => self.query(),
            Action::Flood => self.flood(),
            Action::Forge => self.forge(),
            Action::Join(member) => self.join(member),
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.dice.draw(Fault::Scripts, 0, 100) < percent
    }

    fn some_client(&mut self, kind: Fault) -> usize {
        self.dice.draw(kind, 0, self.clients.all.len() as u64) as usize
    }

    pub(crate) fn some_id_number(&mut self, kind: Fault) -> u64 {
        self.dice.draw(kind, 0, IDS)
    }

    fn ask(&mut self) {
        let client = self.some_client(Fault::Scripts);
        let request = self.some_request();
        self.ask_first(client, request, 4);
    }

    fn some_request(&mut self) -> Request {
        let number = self.some_id_number(Fault::Scripts);
        let seq = self.some_seq(number);
        let id = self.chance(85).then(|| id(number));
        let seq = if self.chance(8) { None } else { Some(seq) };
        let room: Room = if self.chance(60) { Room::default() } else { "lab".parse().unwrap() };
        match self.dice.draw(Fault::Scripts, 0, 10) {
            0..7 => {
                let name = self.chance(50).then(|| format!("eva-{number}").parse().unwrap());
                let lan = self.chance(20).then(|| addr("192.168.1.7:40112"));
                Request::register(id, seq, Profile { room, name, lan })
            }
            7..9 => Request::leave(id, seq),
            _ => Request::query(id, seq, room, 0),
        }
    }

    /// Returns a `seq` for an id: mostly the next, or the same, an older one, or one far ahead.
    fn some_seq(&mut self, number: u64) -> u64 {
        let last = self.clients.seqs[number as usize];
        let seq = match self.dice.draw(Fault::Scripts, 0, 20) {
            0..11 => last + 1,
            11..16 => last,
            16..19 => last.saturating_sub(self.dice.draw(Fault::Scripts, 1, 4)),
            _ => last + 10,
        };
        self.clients.seqs[number as usize] = last.max(seq);
        seq
    }

    fn ask_first(&mut self, client: usize, request: Request, tries: u32) {
        self.clients.all[client].pending.push(request.clone());
        self.retry(client, request, tries);
    }

    /// Sends a request, and schedules its retry.
    fn retry(&mut self, client: usize, request: Request, tries: u32) {
        let Client { addr: from, cookie, pending } = &self.clients.all[client];
        let asked = request.seq;
        if !pending.iter().any(|it| it.seq == asked) {
            return;
        }
        let auth = Auth::with_cookie(cookie);
        let packet = Packet { from: *from, to: addr(REGISTRY), bytes: request.encode(&auth) };
        self.clients.sent.push(packet.clone());
        self.send(packet);
        if tries > 0 {
            let later = self.t + RETRY_DELAY * (5 - tries);
            let action = Action::Retry { client, request, tries: tries - 1 };
            self.agenda(later, Agenda::Client(action));
        }
    }

    /// Sends an old datagram again, as a slow network or an attacker who recorded it would.
    fn send_old(&mut self) {
        if !self.clients.sent.is_empty() {
            self.seen.note("an old datagram was sent again");
            let packet = self.dice.pick(Fault::Scripts, &self.clients.sent).clone();
            self.send(packet);
        }
    }

    fn query(&mut self) {
        let kind = Fault::Outsiders;
        let client = self.some_client(kind);
        let number = self.some_id_number(kind);
        let place = self.dice.draw(kind, 0, self.peers.len() as u64) as usize;
        let id = match self.dice.draw(kind, 0, 4) {
            0 => Some(id(number)),
            1 => Some(self.peers[place].config.id.clone()),
            _ => None,
        };
        let room = self.dice.pick(kind, &["main", "lab", "empty"]).parse().unwrap();
        let part = self.dice.draw(kind, 0, 3) as u32;
        let seq = Some(self.dice.draw(kind, 1 << 40, 1 << 41));
        self.ask_first(client, Request::query(id, seq, room, part), 2);
    }

    fn flood(&mut self) {
        let client = self.some_client(Fault::Flags);
        let Client { addr: from, cookie, .. } = self.clients.all[client].clone();
        if cookie == NO_COOKIE {
            return self.ask_first(
                client,
                Request::query(None, Some(1 << 42), Room::default(), 0),
                2,
            );
        }
        self.seen.note("a client asked as fast as it could");
        let query = Request::query(None, Some(1 << 43), Room::default(), 0);
        let bytes = query.encode(&Auth::with_cookie(&cookie));
        for _ in 0..40 {
            self.send(Packet { from, to: addr(REGISTRY), bytes: bytes.clone() });
        }
    }

    /// Registers a member of the crowd, from the registry's own network and without an id.
    fn join(&mut self, member: u8) {
        let from = SocketAddr::from(([10, 1, 0, member], 30_000));
        let profile = Profile { room: "lab".parse().unwrap(), ..Profile::default() };
        let bytes = Request::register(None, None, profile).encode(&Auth::NONE);
        self.send(Packet { from, to: addr(REGISTRY), bytes });
    }

    /// Handles a datagram that comes to one of these clients.
    pub(crate) fn client_hears(&mut self, packet: Packet) {
        let is_it = |client: &Client| client.addr == packet.to;
        let Some(client) = self.clients.all.iter().position(is_it) else {
            return self.clients.unclaimed.push(packet.bytes);
        };
        let pending = &mut self.clients.all[client].pending;
        let mut answered = |seq| pending.retain(|asked| asked.seq != seq);
        match Datagram::decode(&packet.bytes) {
            Ok(Datagram::Challenge(it)) if packet.from == addr(REGISTRY) => {
                let asked = pending.iter().find(|asked| asked.seq == it.seq).cloned();
                self.clients.all[client].cookie = it.cookie;
                if let Some(request) = asked {
                    self.retry(client, request, 0);
                }
            }
            Ok(Datagram::Registered(it)) => answered(it.seq),
            Ok(Datagram::Left(it)) => answered(it.seq),
            Ok(Datagram::Peers(it)) => answered(it.seq),
            Ok(Datagram::Window(it)) if self.chance(60) => {
                let ack = Ack { id: it.id, window: it.window, pass: it.pass };
                let (from, to) = (packet.to, addr(REGISTRY));
                self.send(Packet { from, to, bytes: ack.encode() });
            }
            _ => {}
        }
    }
}
