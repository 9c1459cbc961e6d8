//! A client that keeps registering, and measures how long it waits for answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

/// The time after which an answer counts as lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The factor on all time limits in an unoptimised build, whose tests run beside others: answers that
/// wait for a neighbour or a link come after a second or more, or never.
pub(crate) const SLOWER: u32 = if cfg!(debug_assertions) { 40 } else { 1 };

/// The limit for the 99th percentile of the time until an answer.
const ANSWERED_WITHIN: Duration = Duration::from_millis(5);

/// The most that a WINDOW may come late.
const MAX_WINDOW_DELAY: Duration = Duration::from_millis(20);

/// The time between two requests of the client.
const REQUEST_INTERVAL: Duration = Duration::from_millis(5);

/// Parses a datagram as JSON.
pub(crate) fn read(datagram: &[u8]) -> Value {
    serde_json::from_slice(datagram).expect("JSON")
}

/// A client that registers with a registry from its own host.
pub(crate) struct Client {
    pub(crate) socket: UdpSocket,
    registry: SocketAddr,
    id: String,
    seq: u64,
    cookie: String,
}

impl Client {
    /// Makes a client with the address `own`; the calling thread must be on the host that has it.
    pub(crate) fn new(own: IpAddr, registry: SocketAddr) -> Client {
        let socket = UdpSocket::bind((own, 0)).unwrap();
        socket.connect(registry).unwrap();
        socket.set_read_timeout(Some(ANSWER_TIMEOUT)).unwrap();
        let id = format!("id-{}", own.to_string().replace('.', "-"));
        Client { socket, registry, id, seq: 0, cookie: "A".repeat(16) }
    }

    /// Sends a REGISTER with the client's present `seq`.
    pub(crate) fn ask(&self) {
        let (id, seq, cookie) = (&self.id, self.seq, &self.cookie);
        let text = format!(
            r#"{{"type":"REGISTER","id":"{id}","seq":{seq},"room":"main","cookie":"{cookie}"}}"#
        );
        self.socket.send(text.as_bytes()).unwrap();
    }

    /// Registers with a new `seq`, and returns the window; other datagrams go to `other`.
    pub(crate) fn register(&mut self, mut other: impl FnMut(&Value)) -> Option<String> {
        self.seq += 1;
        self.ask();
        let begin = Instant::now();
        while begin.elapsed() < ANSWER_TIMEOUT {
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

    /// Asks for a part of the client's list; returns it, or `None` if it does not come.
    pub(crate) fn query(&mut self, part: u64) -> Option<Value> {
        let (id, cookie) = (&self.id, &self.cookie);
        for _ in 0..5 {
            self.seq += 1;
            let seq = self.seq;
            let fields = format!(r#""id":"{id}","seq":{seq},"part":{part},"cookie":"{cookie}""#);
            let text = format!(r#"{{"type":"QUERY",{fields}}}"#);
            self.socket.send(text.as_bytes()).unwrap();
            let answers = std::iter::from_fn(|| self.receive());
            let answer = answers.take(1000).find(|it| it["type"] == "PEERS" && it["seq"] == seq);
            if answer.is_some() {
                return answer;
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
        // The first time the client proves its address, which is not measured.
        self.register(|_| {}).expect("an answer at the start");
        while !over.load(Ordering::Relaxed) {
            let begin = Instant::now();
            match self.register(|other| waits.note(other)) {
                Some(_) => waits.answers.push(begin.elapsed()),
                None => waits.lost += 1,
            }
            due += REQUEST_INTERVAL;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due = due.max(Instant::now());
        }
        println!("    a client of {}: {waits}", self.registry);
        waits
    }
}

/// The measurements of one client: the times until answers, and how late its windows came.
#[derive(Default)]
pub(crate) struct Waits {
    answers: Vec<Duration>,
    lost: usize,
    /// How late the first WINDOW of each window came.
    late: BTreeMap<String, Duration>,
}

impl Waits {
    /// Notes how late a datagram is if it is the first WINDOW of its window.
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

    /// Returns whether answers came in time and none was lost, and at least `windows` windows came,
    /// none of them late.
    pub(crate) fn hold(&self, windows: usize) -> bool {
        let in_time = self.late.values().all(|late| *late <= MAX_WINDOW_DELAY * SLOWER);
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

/// Returns the time at which a window opens.
pub(crate) fn opens(window: &str) -> SystemTime {
    let opens = window.parse::<hit7::window::Window>().unwrap().opens();
    SystemTime::UNIX_EPOCH + Duration::from_millis(opens.millis().try_into().unwrap())
}
