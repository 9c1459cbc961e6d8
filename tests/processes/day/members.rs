//! Members that come and go: each a socket that obeys the protocol, and notes what it was told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hit7::cookie::NO_COOKIE;
use hit7::proto::{Ack, Auth, Datagram, Page, Pass, Profile, Request, Room};
use hit7::window::Window;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use super::ledger::{Ledger, List, NAMES};

/// How many members there are at once, some of them away.
pub(super) const MEMBERS: usize = 200;

/// How many members share an address: as behind one NAT.
const PER_ADDRESS: usize = 20;

/// The rooms, and how many in ten members are in each.
const ROOMS: [&str; 10] =
    ["main", "main", "main", "main", "main", "plaza", "plaza", "комната", "コース", "sala-ñ"];

/// What all members share with the test.
pub(super) struct Shared {
    pub(super) registry: SocketAddr,
    pub(super) seed: u64,
    pub(super) ledger: Mutex<Ledger>,
    /// Set when the day is over: members go.
    pub(super) is_over: AtomicBool,
    /// Each change of this number makes all members leave at once.
    pub(super) exodus: AtomicUsize,
    next_name: AtomicU64,
    next_port: AtomicU64,
}

impl Shared {
    pub(super) fn new(registry: SocketAddr, seed: u64) -> Shared {
        Shared {
            registry,
            seed,
            ledger: Mutex::default(),
            is_over: AtomicBool::new(false),
            exodus: AtomicUsize::new(0),
            next_name: AtomicU64::new(0),
            next_port: AtomicU64::new(0),
        }
    }
}

/// Runs all members until the day is over.
pub(super) fn run(shared: &Arc<Shared>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut members = tokio::task::JoinSet::new();
        for number in 0..MEMBERS {
            members.spawn(come_and_go(number, shared.clone()));
        }
        while let Some(done) = members.join_next().await {
            done.unwrap();
        }
    });
}

/// Returns the address of the members behind one NAT.
pub(super) fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, 0, 1 + (number / PER_ADDRESS) as u8)
}

/// Opens a socket at a port that nobody had for long: who comes to a port that a member had
/// replaces that member.
async fn open(number: usize, shared: &Shared) -> UdpSocket {
    loop {
        let port = 1500 + shared.next_port.fetch_add(1, Relaxed) % 60_000;
        let Ok(socket) = UdpSocket::bind((address(number), port as u16)).await else { continue };
        socket.connect(shared.registry).await.unwrap();
        return socket;
    }
}

/// One member after the other, each with an id of its own, for some windows.
async fn come_and_go(number: usize, shared: Arc<Shared>) {
    let mut rng = ChaCha8Rng::seed_from_u64(shared.seed ^ (number as u64 + 1) << 32);
    let mut socket = open(number, &shared).await;
    for life in 0.. {
        sleep(Duration::from_millis(rng.random_range(0..6000))).await;
        if shared.is_over.load(Relaxed) {
            return;
        }
        // Some come back to the address that they had, with another id.
        if rng.random_bool(0.8) {
            socket = open(number, &shared).await;
        }
        let mut member = Member::new(number, life, socket, &shared, rng);
        member.live().await;
        (socket, rng) = (member.socket, member.rng);
    }
}

/// The parts of one window's list that came so far.
struct Gathered {
    parts: BTreeMap<u32, Vec<SocketAddr>>,
    of: u32,
    count: u32,
    room: String,
    pass: Pass,
    you: SocketAddr,
}

/// What came of waiting for datagrams.
#[derive(PartialEq, Eq)]
enum Heard {
    Answer,
    Challenge,
    Refusal(Duration),
    Other,
    Silence,
}

struct Member<'a> {
    number: usize,
    socket: UdpSocket,
    shared: &'a Shared,
    rng: ChaCha8Rng,
    id: String,
    seq: u64,
    cookie: String,
    room: &'static str,
    known: Option<Window>,
    /// The number in the ledger of each request, by `seq`.
    requests: HashMap<u64, usize>,
    /// The window of the last REGISTERED.
    registered: Option<Window>,
    opens_in: Duration,
    gathered: HashMap<Window, Gathered>,
    /// The latest window whose list is whole.
    whole: Option<Window>,
    is_out: Option<Window>,
    exodus: usize,
}

impl<'a> Member<'a> {
    fn new(
        number: usize,
        life: u64,
        socket: UdpSocket,
        shared: &'a Shared,
        rng: ChaCha8Rng,
    ) -> Member<'a> {
        Member {
            number,
            socket,
            shared,
            rng,
            id: format!("member-{number}-{life}"),
            seq: 0,
            cookie: NO_COOKIE.to_owned(),
            room: ROOMS[number % ROOMS.len()],
            known: None,
            requests: HashMap::new(),
            registered: None,
            opens_in: Duration::ZERO,
            gathered: HashMap::new(),
            whole: None,
            is_out: None,
            exodus: shared.exodus.load(Relaxed),
        }
    }

    fn is_over(&self) -> bool {
        self.shared.is_over.load(Relaxed) || self.shared.exodus.load(Relaxed) != self.exodus
    }

    /// Takes part in some windows, and leaves or is gone.
    async fn live(&mut self) {
        for _ in 0..self.rng.random_range(1..12) {
            if !self.register().await {
                break;
            }
            if self.rng.random_bool(0.05) {
                self.socket = open(self.number, self.shared).await;
                NO_COOKIE.clone_into(&mut self.cookie);
            } else if !self.rng.random_bool(0.05) {
                self.wait_for_opening().await;
            }
            if self.is_over() {
                break;
            }
        }
        let all_leave = self.shared.exodus.load(Relaxed) != self.exodus;
        if all_leave || self.rng.random_bool(0.5) {
            self.leave().await;
        }
    }

    /// Registers under a new name, until that is acked; returns whether it was.
    async fn register(&mut self) -> bool {
        let number = self.shared.next_name.fetch_add(1, Relaxed);
        let name = format!("{} {number}", NAMES[number as usize % NAMES.len()]);
        let room: Room = self.room.parse().unwrap();
        let asks = Some((name.clone(), room.as_str().to_owned()));
        let profile = Profile { room, name: Some(name.parse().unwrap()), lan: None };
        let id = self.id.parse().ok();
        self.ask(asks, |seq| Request::register(id, Some(seq), profile), usize::MAX).await
    }

    async fn leave(&mut self) {
        let id = self.id.parse().ok();
        self.ask(None, |seq| Request::leave(id, Some(seq)), 6).await;
    }

    /// Sends a new request until it is answered, at most `tries` times.
    async fn ask(
        &mut self,
        asks: Option<(String, String)>,
        request: impl FnOnce(u64) -> Request,
        tries: usize,
    ) -> bool {
        self.seq += 1;
        let (seq, addr) = (self.seq, self.socket.local_addr().unwrap());
        let is_register = asks.is_some();
        let sent = self.shared.ledger.lock().unwrap().sends(&self.id, addr, self.known, asks);
        self.requests.insert(seq, sent);
        let request = request(seq);
        let mut patience = Duration::from_millis(250);
        for _ in 0..tries {
            let _ = self.socket.send(&request.encode(&Auth::with_cookie(&self.cookie))).await;
            let span = patience.mul_f64(self.rng.random_range(0.8..1.2));
            match self.hear(span, Some(seq)).await {
                Heard::Answer => return true,
                Heard::Challenge => continue,
                Heard::Refusal(wait) => {
                    self.listen(wait, None).await;
                }
                _ => patience = (patience * 2).min(Duration::from_secs(1)),
            }
            if is_register && self.is_over() {
                return false;
            }
        }
        false
    }

    /// Listens for `span`, or until the window is there.
    async fn listen(&mut self, span: Duration, window: Option<Window>) -> bool {
        let is_there = |member: &Member| window.is_some_and(|it| member.whole >= Some(it));
        let listening = async {
            while !is_there(self) {
                self.hear(Duration::from_secs(60), None).await;
            }
        };
        let _ = timeout(span, listening).await;
        is_there(self)
    }

    /// Waits until the own window is open and its list whole, or was missed.
    async fn wait_for_opening(&mut self) {
        let Some(window) = self.registered else { return };
        let first = self.opens_in + Duration::from_millis(self.rng.random_range(500..2000));
        let mut span = first;
        while !self.listen(span, Some(window)).await {
            if self.known > Some(window) {
                self.shared.ledger.lock().unwrap().missed += 1;
                return;
            }
            if self.is_over() {
                return;
            }
            self.query(window).await;
            span = Duration::from_millis(self.rng.random_range(500..1500));
        }
        // A later request comes at a random moment of the window's first half.
        let span = Duration::from_millis(self.rng.random_range(0..1000));
        self.listen(span, None).await;
    }

    /// Asks for a part that lacks.
    async fn query(&mut self, window: Window) {
        let lacks = |it: &Gathered| (0..it.of).find(|part| !it.parts.contains_key(part));
        let part = self.gathered.get(&window).and_then(lacks).unwrap_or(0);
        let room = self.room.parse().unwrap();
        let request = Request::query(self.id.parse().ok(), None, room, part);
        let _ = self.socket.send(&request.encode(&Auth::with_cookie(&self.cookie))).await;
    }

    /// Hears datagrams for `span`, or until one answers the request `seq`.
    async fn hear(&mut self, span: Duration, seq: Option<u64>) -> Heard {
        let mut buffer = [0; 2048];
        let hearing = async {
            loop {
                // A registry that is down refuses what is sent to it.
                let Ok(len) = self.socket.recv(&mut buffer).await else { continue };
                let heard = match Datagram::decode(&buffer[..len]) {
                    Ok(datagram) => self.take(datagram, seq).await,
                    Err(_) => Heard::Other,
                };
                if heard != Heard::Other || seq.is_none() {
                    return heard;
                }
            }
        };
        // The future borrows the member, and is gone when the time is up.
        timeout(span, hearing).await.unwrap_or(Heard::Silence)
    }

    async fn take(&mut self, datagram: Datagram<'_>, seq: Option<u64>) -> Heard {
        let answers = |it: Option<u64>| match it.is_some() && it == seq {
            true => Heard::Answer,
            false => Heard::Other,
        };
        match datagram {
            Datagram::Challenge(it) => {
                self.cookie = it.cookie;
                return if seq.is_some() { Heard::Challenge } else { Heard::Other };
            }
            Datagram::Registered(it) if it.id.as_ref().is_some_and(|id| id.as_str() == self.id) => {
                self.known = self.known.max(Some(it.current.window));
                self.answered(it.seq, it.window);
                if it.seq == Some(self.seq) {
                    self.registered = Some(it.window);
                    self.opens_in = Duration::from_millis(it.opens_in_ms);
                    self.is_out = None;
                }
                return answers(it.seq);
            }
            Datagram::Left(it) => {
                self.answered(it.seq, it.window);
                return answers(it.seq);
            }
            Datagram::Error(it) if seq.is_some() && it.seq == seq => {
                return Heard::Refusal(Duration::from_millis(it.retry_in_ms.unwrap_or(500)));
            }
            Datagram::Window(it) if it.id.as_ref().is_some_and(|id| id.as_str() == self.id) => {
                let about = (it.window, it.room.as_str(), &it.pass, it.you);
                self.gather(about, &it.page).await;
            }
            Datagram::Peers(it) if it.id.as_ref().is_some_and(|id| id.as_str() == self.id) => {
                self.known = self.known.max(Some(it.window));
                match (&it.pass, it.you) {
                    (Some(pass), Some(you)) => {
                        self.gather((it.window, it.room.as_str(), pass, you), &it.page).await;
                    }
                    _ if self.registered == Some(it.window) => self.is_no_member(it.window),
                    _ => {}
                }
            }
            _ => {}
        }
        Heard::Other
    }

    fn answered(&mut self, seq: Option<u64>, window: Window) {
        let Some(sent) = seq.and_then(|seq| self.requests.get(&seq)) else { return };
        self.shared.ledger.lock().unwrap().answered(*sent, window);
    }

    /// The window is open, which the registry promised, and the registry knows the member not.
    fn is_no_member(&mut self, window: Window) {
        if self.is_out.replace(window) != Some(window) {
            let what = format!("{window}: {} was promised it, and is no member", self.id);
            self.shared.ledger.lock().unwrap().violations.push(what);
        }
    }

    async fn gather(&mut self, about: (Window, &str, &Pass, SocketAddr), page: &Page<'_>) {
        let (window, room, pass, you) = about;
        self.known = self.known.max(Some(window));
        let gathered = self.gathered.entry(window).or_insert_with(|| Gathered {
            parts: BTreeMap::new(),
            of: page.parts,
            count: page.count,
            room: room.to_owned(),
            pass: pass.clone(),
            you,
        });
        let peers = page.candidates().unwrap().iter().map(|it| it.addr).collect();
        gathered.parts.insert(page.part, peers);
        if gathered.parts.len() < gathered.of as usize {
            return;
        }
        let peers: BTreeSet<SocketAddr> = gathered.parts.values().flatten().copied().collect();
        let list = List {
            room: gathered.room.clone(),
            pass: gathered.pass.as_str().to_owned(),
            count: gathered.count as usize,
            peers,
        };
        self.shared.ledger.lock().unwrap().told(window, gathered.you, &self.id, list);
        self.whole = self.whole.max(Some(window));
        self.gathered.retain(|it, _| *it >= window);
        let ack = Ack { id: self.id.parse().ok(), window, pass: pass.clone() }.encode();
        let _ = self.socket.send(&ack).await;
    }
}
