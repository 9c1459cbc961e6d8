//! Registries that mean harm: what one can make a client send and print is bounded.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use hit7_support::{Program, SOON, assert_has};
use serde_json::{Value, json};

use crate::{HIT7, silent_registry};

/// How long a client is attacked.
const ATTACK: Duration = Duration::from_secs(2);

/// A registry that answers each request as the test wants, and counts them.
struct Hostile {
    port: String,
    asked: Arc<AtomicUsize>,
}

impl Hostile {
    /// Starts a registry that answers a request, the `n`th, with the datagrams that `answers` returns.
    fn start(answers: impl Fn(&Value, usize) -> Vec<Value> + Send + 'static) -> Hostile {
        let ((socket, port), asked) = (silent_registry(), Arc::new(AtomicUsize::new(0)));
        let count = asked.clone();
        thread::spawn(move || {
            let mut datagram = [0; 1500];
            while let Ok((len, from)) = socket.recv_from(&mut datagram) {
                let request = serde_json::from_slice(&datagram[..len]).unwrap();
                let n = count.fetch_add(1, Relaxed);
                for answer in answers(&request, n) {
                    let _ = socket.send_to(answer.to_string().as_bytes(), from);
                }
            }
        });
        Hostile { port, asked }
    }

    fn client(&self, command: &str, more: &[&str]) -> Program {
        HIT7.start(&[&[command, "127.0.0.1", &self.port, "--json"], more].concat())
    }

    fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}

fn window(n: usize) -> String {
    format!("2026-11-23T{:02}:{:02}:{:02}Z", n / 3600 % 24, n / 60 % 60, n % 60)
}

/// Returns the most that may be done in `span`: `burst` at once and `rate` a second.
fn most(burst: usize, rate: usize, span: Duration) -> usize {
    burst + (rate as f64 * span.as_secs_f64()) as usize + 1
}

/// Answers each QUERY with a page of a list that has a hundred thousand, or changes with each page.
fn endless_pages(changes: bool) -> Hostile {
    Hostile::start(move |request, n| {
        let (seq, part) = (&request["seq"], &request["part"]);
        let part = if part.is_null() { json!(0) } else { part.clone() };
        let count = if changes { n } else { 7 };
        vec![json!({"type": "PEERS", "seq": seq, "room": "main", "window": window(0),
            "closes_in_ms": 60_000, "part": part, "parts": 100_000, "count": count,
            "peers": ["203.0.113.9:40112"]})]
    })
}

#[test]
fn endless_pages_are_asked_for_at_a_pace_and_not_for_ever() {
    for changes in [false, true] {
        let registry = endless_pages(changes);
        let begun = Instant::now();
        let exit = registry.client("peers", &["--timeout", "2s"]).end();
        exit.failed(1, &["answers come, but the list did not become whole"]);
        let (asked, bound) = (registry.asked(), most(50, 500, begun.elapsed()));
        println!("changing {changes}: {asked} QUERYs, at most {bound}");
        assert!((2..=bound).contains(&asked), "{asked} QUERYs, {bound} allowed");
    }
}

/// Has a client run for a while, and returns how many lines it printed and how long that was.
fn attacked(mut client: Program) -> (usize, Duration) {
    let begun = Instant::now();
    client.line();
    thread::sleep(ATTACK);
    assert!(client.is_running());
    client.signal("INT");
    // With what still waits to be read, a busy machine may not finish in the time of a stop.
    let exit = client.end_within(SOON);
    (1 + exit.out.len() + exit.err.len(), begun.elapsed())
}

#[test]
fn a_watcher_asks_and_prints_at_a_pace() {
    let registry = endless_pages(true);
    let mut watcher = registry.client("watch", &["--timeout", "1s"]);
    let begun = Instant::now();
    assert_has(&watcher.error_line(), &["no answer", "did not become whole"]);
    let (asked, bound) = (registry.asked(), most(50, 500, begun.elapsed()));
    assert!((2..=bound).contains(&asked), "{asked} QUERYs, {bound} allowed");
    // A window that closes at once, always, and then another.
    let registry = Hostile::start(|request, n| {
        vec![json!({"type": "PEERS", "seq": request["seq"], "room": "main", "window": window(n),
            "closes_in_ms": 0, "part": 0, "parts": 1, "count": 0, "peers": []})]
    });
    let (printed, span) = attacked(registry.client("watch", &[]));
    let (asked, bound) = (registry.asked(), most(1, 4, span));
    println!("{asked} QUERYs and {printed} lines in {span:?}");
    assert!((3..=bound).contains(&asked) && printed <= bound, "{asked} {printed} {bound}");
}

/// The registry opens windows and greets in them as all of their forty peers, as fast as it can.
#[test]
fn a_member_prints_greetings_at_a_pace() {
    let ((socket, port), greeter) = (silent_registry(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let client = HIT7.start(&["join", "127.0.0.1", &port, "--json"]);
    let greets = Arc::new(AtomicUsize::new(0));
    let count = greets.clone();
    thread::spawn(move || {
        let mut datagram = [0; 1500];
        let (len, from) = socket.recv_from(&mut datagram).unwrap();
        let request: Value = serde_json::from_slice(&datagram[..len]).unwrap();
        let peers: Vec<String> = (1..=40).map(|n| format!("127.0.0.1:{}", 100 + n)).collect();
        for window in (0..).map(window) {
            let (room, pass) = ("main", "the-pass-of-the-window");
            let opened = json!({"type": "WINDOW", "id": request["id"], "room": room, "pass": pass,
                "window": window, "closes_in_ms": 60_000, "you": from, "part": 0, "parts": 1,
                "count": 40, "peers": peers});
            let _ = socket.send_to(opened.to_string().as_bytes(), from);
            for peer in &peers {
                let greet = json!({"type": "GREET", "room": room, "window": window, "pass": pass,
                    "seq": 1, "as": peer, "text": "hi"});
                let _ = greeter.send_to(greet.to_string().as_bytes(), from);
                count.fetch_add(1, Relaxed);
            }
            // Not faster than the client reads, or the loss of datagrams would hide what it prints.
            thread::sleep(Duration::from_millis(5));
        }
    });
    let (printed, span) = attacked(client);
    let (greets, printable) =
        (greets.load(Relaxed), most(1000, 1000, span) + 3 * most(20, 4, span));
    println!("{greets} GREETs and {printed} lines in {span:?}");
    assert!(printed <= printable, "{printed} lines of {greets} GREETs, {printable} allowed");
}

/// The registry knows the client's id, and sends a hundred windows for each datagram of the client.
#[test]
fn a_member_sends_and_prints_at_a_pace() {
    let id = OnceLock::new();
    let registry = Hostile::start(move |request, n| {
        let id = id.get_or_init(|| request["id"].clone());
        let window = |k| {
            let window = window(100 * n + k);
            json!({"type": "WINDOW", "id": id, "room": "main", "window": window,
                "closes_in_ms": 60_000, "you": "127.0.0.1:9", "pass": "the-pass-of-the-window",
                "part": 0, "parts": 1, "count": 2, "peers": ["127.0.0.1:7", "127.0.0.1:9"]})
        };
        (0..100).map(window).collect()
    });
    let (printed, span) = attacked(registry.client("join", &[]));
    // Each line may be followed by one that says how many were left out.
    let (asked, printable) = (registry.asked(), 2 * most(20, 4, span));
    println!("{asked} datagrams and {printed} lines in {span:?}");
    let bound = most(60, 60, span);
    assert!((20..=bound).contains(&asked), "{asked} datagrams, {bound} allowed");
    assert!((20..=printable).contains(&printed), "{printed} lines, {printable} allowed");
}

#[test]
fn a_forged_answer_does_not_count_as_one_of_the_registry() {
    let registry = Hostile::start(|request, _| {
        let (id, seq, window) = (&request["id"], &request["seq"], window(0));
        let forged = json!({"type": "LEFT", "window": window});
        let (mut with_seq, mut with_id) = (forged.clone(), forged.clone());
        (with_seq["seq"], with_id["id"]) = (seq.clone(), id.clone());
        let both = json!({"type": "LEFT", "id": id, "seq": seq, "window": window});
        vec![forged, with_seq, with_id, both]
    });
    let mut client = registry.client("join", &["--timeout", "1s"]);
    assert_has(&client.error_line(), &["no answer from the registry for 1", "trying on"]);
    assert!(registry.asked() > 1);
    registry
        .client("join", &["--timeout", "1s", "--once"])
        .end()
        .failed(1, &["no registry answered"]);
}
