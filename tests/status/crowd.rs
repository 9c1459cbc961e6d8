//! Many, slow and silent HTTP clients: the registry answers UDP as before, and the connections are
//! freed. `what_a_crowd_costs`, run by hand, measures the cost.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hit7_support::http::{get, open};
use hit7_support::{DEADLINE, UdpClient, until};

use crate::{serve, turned_away};

fn streams(addr: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| open(addr, "GET", "/api/v1/events", "")).collect()
}

#[test]
fn slow_and_silent_clients_do_not_delay_the_registry() {
    let registry = serve("2s");
    let streams = streams(registry.http(), 200);
    let silent = TcpStream::connect(registry.http()).unwrap();
    let mut dribbling = TcpStream::connect(registry.http()).unwrap();
    dribbling.write_all(b"GET / HT").unwrap();
    let client = registry.client();
    let first = client.register_as("main", "ana");
    until("it is answered, over a boundary too", || {
        (client.register_as("main", "ana") > first).then_some(())
    });
    assert_eq!(get(registry.http(), "/livez").status, 200);
    let mut first = &streams[0];
    let mut text = [0; 4096];
    assert!(first.read(&mut text).unwrap() > 0, "a stream that was not read has its events");
    drop(silent);
    registry.close();
}

#[test]
fn connections_over_the_limit_are_refused_and_silent_ones_are_closed() {
    let registry = serve("1day");
    let silent: Vec<TcpStream> =
        (0..520).map(|_| TcpStream::connect(registry.http()).unwrap()).collect();
    let mut last = silent.last().unwrap();
    last.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut text = String::new();
    last.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    registry.client().register_as("main", "ana");
    until("the silent connections are closed", || {
        let mut stream = TcpStream::connect(registry.http()).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.starts_with("HTTP/1.1 200").then_some(())
    });
    assert!(turned_away(&registry, "too_many_connections") > 0);
    until("they are counted", || (turned_away(&registry, "slow_request") > 400).then_some(()));
    drop(silent);
}

#[test]
fn streams_are_limited_to_fewer_than_connections() {
    let registry = serve("1day");
    let streams = streams(registry.http(), 384);
    for mut stream in &streams {
        assert!(stream.read(&mut [0; 64]).unwrap() > 0);
    }
    let refused = get(registry.http(), "/api/v1/events");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(get(registry.http(), "/readyz").status, 200);
    assert_eq!(turned_away(&registry, "too_many_streams"), 1);
    drop(streams);
    until("a stream is free again", || {
        let mut stream = open(registry.http(), "GET", "/api/v1/events", "");
        let mut text = [0; 12];
        stream.read_exact(&mut text).ok()?;
        (&text == b"HTTP/1.1 200").then_some(())
    });
}

/// The number of rounds for each crowd. A round is long enough for two events of a stream.
const ROUNDS: usize = 20;
const ROUND: Duration = Duration::from_secs(1);
const CROWD: usize = 200;

/// The kinds of REGISTER to measure: a new name each time needs a record and a sync, a repeated one
/// is answered at once.
const KINDS: [(&str, [&str; 2]); 2] = [("a new record", ["ana", "eva"]), ("a repeat", ["ana"; 2])];

/// The kind of HTTP connections that are open while clients register.
#[derive(Clone, Copy, Debug)]
enum Crowd {
    Nobody,
    /// Event streams that are read as they come.
    Readers,
    /// Event streams that nobody reads.
    Stalled,
    /// Connections that never finish their request's head.
    Silent,
}

/// The connections of a crowd, closed when dropped.
struct Background {
    over: Arc<AtomicBool>,
    reader: Option<thread::JoinHandle<()>>,
    _streams: Vec<TcpStream>,
}

impl Background {
    fn start(crowd: Crowd, addr: SocketAddr) -> Background {
        let over = Arc::new(AtomicBool::new(false));
        let (mut reader, mut kept) = (None, Vec::new());
        match crowd {
            Crowd::Nobody => {}
            Crowd::Stalled => kept = streams(addr, CROWD),
            Crowd::Silent => {
                kept = (0..CROWD).map(|_| TcpStream::connect(addr).unwrap()).collect();
                kept.iter().for_each(|mut stream| stream.write_all(b"GET / HT").unwrap());
            }
            Crowd::Readers => {
                let (streams, over) = (streams(addr, CROWD), over.clone());
                reader = Some(thread::spawn(move || read_all(streams, &over)));
            }
        }
        thread::sleep(Duration::from_millis(200));
        Background { over, reader, _streams: kept }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.reader.take().into_iter().for_each(|reader| reader.join().unwrap());
    }
}

fn read_all(mut streams: Vec<TcpStream>, over: &AtomicBool) {
    streams.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
    let mut chunk = [0; 65536];
    while !over.load(Ordering::Relaxed) {
        for stream in &mut streams {
            match stream.read(&mut chunk) {
                Ok(length) => assert_ne!(length, 0, "a stream ended"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Returns the median and the 99th percentile of the time that a REGISTER took, in microseconds.
fn round(client: &UdpClient, names: [&str; 2]) -> [f64; 2] {
    let (mut took, begun) = (Vec::new(), Instant::now());
    for name in names.into_iter().cycle() {
        let from = Instant::now();
        if from - begun > ROUND {
            break;
        }
        client.register_as("main", name);
        took.push(from.elapsed().as_secs_f64() * 1e6);
    }
    took.sort_by(f64::total_cmp);
    [took[took.len() / 2], took[took.len() * 99 / 100]]
}

fn middle(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Measures rounds with and without each crowd, interleaved; docs/STATUS.md has the results.
#[test]
#[ignore = "a benchmark: cargo test --release --test status -- --ignored --nocapture crowd"]
fn what_a_crowd_costs() {
    let registry = serve("1day");
    let client = registry.client();
    let crowds = [Crowd::Nobody, Crowd::Readers, Crowd::Stalled, Crowd::Silent];
    let mut rounds = vec![Vec::new(); crowds.len()];
    for _ in 0..ROUNDS {
        for (crowd, rounds) in crowds.iter().zip(&mut rounds) {
            let _background = Background::start(*crowd, registry.http());
            rounds.push(KINDS.map(|(_, names)| round(&client, names)));
        }
    }
    for (kind, (what, _)) in KINDS.iter().enumerate() {
        for (crowd, of_crowd) in crowds.iter().zip(&rounds) {
            let figures = ["median", "p99"].iter().enumerate().map(|(k, name)| {
                let pairs = of_crowd.iter().zip(&rounds[0]);
                let ratio = middle(pairs.map(|(with, by)| with[kind][k] / by[kind][k]).collect());
                let took = middle(of_crowd.iter().map(|round| round[kind][k]).collect());
                format!("{name} {took:.0} µs ({ratio:.3} ×)")
            });
            println!("{what}, {crowd:?}: {}", figures.collect::<Vec<_>>().join(", "));
        }
    }
}
