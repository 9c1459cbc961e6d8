//! A client that keeps asking, and how long it is made to wait.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

/// How long an answer is waited for before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// By how much longer the bounds are for a program that is not optimised; what held it up before was
/// longer by far.
pub(crate) const SLOWER: u32 = if cfg!(debug_assertions) { 10 } else { 1 };

/// Within what time 99 of 100 answers come.
const ANSWERED_WITHIN: Duration = Duration::from_millis(5);

/// By how much windows may come late.
const LATE: Duration = Duration::from_millis(20);

/// How often it asks.
const PERIOD: Duration = Duration::from_millis(5);

/// A datagram's fields.
pub(crate) fn read(datagram: &[u8]) -> Value {
    serde_json::from_slice(datagram).expect("JSON")
}

/// A member of a registry's next window, once it has asked.
pub(crate) struct Client {
    pub(crate) socket: UdpSocket,
    registry: SocketAddr,
    id: String,
    seq: u64,
    cookie: String,
}

impl Client {
    /// One that asks from `own`, on a host that has that address; its thread stands there.
    pub(crate) fn new(own: IpAddr, registry: SocketAddr) -> Client {
        let socket = UdpSocket::bind((own, 0)).unwrap();
        socket.connect(registry).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let id = format!("id-{}", own.to_string().replace('.', "-"));
        Client { socket, registry, id, seq: 0, cookie: "A".repeat(16) }
    }

    /// Sends a REGISTER with the number that it has.
    pub(crate) fn ask(&self) {
        let (id, seq, cookie) = (&self.id, self.seq, &self.cookie);
        let text = format!(
            r#"{{"type":"REGISTER","id":"{id}","seq":{seq},"room":"main","cookie":"{cookie}"}}"#
        );
        self.socket.send(text.as_bytes()).unwrap();
    }

    /// Registers anew: the window that it is in then. What else comes meanwhile is handed on.
    pub(crate) fn register(&mut self, mut other: impl FnMut(&Value)) -> Option<String> {
        self.seq += 1;
        self.ask();
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let answer = self.receive()?;
            match answer["type"].as_str() {
                Some("CHALLENGE") => {
                    self.cookie = answer["cookie"].as_str().unwrap().to_owned();
                    self.ask();
                }
                Some("REGISTERED") if answer["seq"] == self.seq => {
                    return Some(answer["window"].as_str().unwrap().to_owned());
                }
                _ => other(&answer),
            }
        }
        None
    }

    fn receive(&self) -> Option<Value> {
        let mut buffer = [0; 2048];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(read(&buffer[..length]))
    }

    /// Registers without pause until `over`.
    pub(crate) fn keep_asking(mut self, over: &AtomicBool) -> Waits {
        let (mut waits, mut due) = (Waits::default(), Instant::now());
        // The first time it proves its address; that is not measured.
        self.register(|_| {}).expect("an answer at the start");
        while !over.load(Ordering::Relaxed) {
            let begin = Instant::now();
            match self.register(|other| waits.note(other)) {
                Some(_) => waits.answers.push(begin.elapsed()),
                None => waits.lost += 1,
            }
            due += PERIOD;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due = due.max(Instant::now());
        }
        println!("    a client of {}: {waits}", self.registry);
        waits
    }
}

/// How long one client waited for answers, and by how much its windows came late.
#[derive(Default)]
pub(crate) struct Waits {
    answers: Vec<Duration>,
    lost: usize,
    /// Each window's lateness.
    late: BTreeMap<String, Duration>,
}

impl Waits {
    /// If that is a WINDOW, the first of its window, notes how late it is.
    fn note(&mut self, datagram: &Value) {
        if datagram["type"] == "WINDOW" {
            let window = datagram["window"].as_str().unwrap().to_owned();
            let opens = opens(&window);
            let late = || SystemTime::now().duration_since(opens).unwrap_or_default();
            self.late.entry(window).or_insert_with(late);
        }
    }

    fn p99(&self) -> Duration {
        let mut sorted = self.answers.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() * 99 / 100).copied().unwrap_or(Duration::MAX)
    }

    /// Whether answers came in time and none was lost, and so many windows, none of them late.
    pub(crate) fn hold(&self, windows: usize) -> bool {
        let in_time = self.late.values().all(|late| *late <= LATE * SLOWER);
        let answered = self.lost == 0 && self.p99() <= ANSWERED_WITHIN * SLOWER;
        answered && in_time && self.late.len() >= windows
    }
}

impl std::fmt::Display for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let longest = |spans: &mut dyn Iterator<Item = &Duration>| spans.max().copied();
        let slowest = longest(&mut self.answers.iter()).unwrap_or_default();
        let latest = longest(&mut self.late.values()).unwrap_or_default();
        let (asked, lost) = (self.answers.len() + self.lost, self.lost);
        let (p99, windows) = (self.p99(), self.late.len());
        write!(f, "{asked} REGISTERs, p99 {p99:.1?}, slowest {slowest:.1?}, {lost} lost; ")?;
        write!(f, "{windows} windows, at most {latest:.1?} late")
    }
}

/// When the window of that name opens.
pub(crate) fn opens(window: &str) -> SystemTime {
    let opens = window.parse::<hit7::window::Window>().unwrap().opens();
    SystemTime::UNIX_EPOCH + Duration::from_millis(opens.millis().try_into().unwrap())
}
