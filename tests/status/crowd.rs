//! Many, slow and silent clients: the registry answers as ever, and seats come free again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::http::{get, open};
use crate::registry::{Client, Registry, until};

fn worst_of(client: &Client, times: usize) -> Duration {
    let timed = |_| {
        let from = Instant::now();
        client.register("main", "ana");
        from.elapsed()
    };
    (0..times).map(timed).max().unwrap()
}

#[test]
fn slow_and_silent_clients_do_not_hold_up_the_registry() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start("2s", data.path());
    let streams: Vec<TcpStream> =
        (0..200).map(|_| open(registry.http, "GET", "/api/v1/events", "")).collect();
    let silent = TcpStream::connect(registry.http).unwrap();
    let mut dribbling = TcpStream::connect(registry.http).unwrap();
    dribbling.write_all(b"GET / HT").unwrap();
    let client = Client::new(&registry);
    let worst = worst_of(&client, 300);
    println!("300 registrations beside 200 streams that nobody reads: at worst {worst:?}");
    assert!(worst < Duration::from_secs(1), "{worst:?}");
    assert_eq!(get(registry.http, "/livez").status, 200);
    let mut first = &streams[0];
    let mut told = [0; 4096];
    assert!(first.read(&mut told).unwrap() > 0, "a stream that waited is told");
    drop(silent);
    registry.stop();
}

#[test]
fn more_than_there_are_seats_for_are_sent_away_and_the_silent_lose_theirs() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start("1h", data.path());
    let silent: Vec<TcpStream> =
        (0..520).map(|_| TcpStream::connect(registry.http).unwrap()).collect();
    let mut last = silent.last().unwrap();
    last.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut told = String::new();
    last.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("HTTP/1.1 503"), "{told}");
    assert!(worst_of(&Client::new(&registry), 20) < Duration::from_secs(1));
    until("the silent lose their seats", || {
        let mut stream = TcpStream::connect(registry.http).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut told = String::new();
        stream.read_to_string(&mut told).ok()?;
        told.starts_with("HTTP/1.1 200").then_some(())
    });
    drop(silent);
}

#[test]
fn there_are_fewer_streams_than_seats() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start("1h", data.path());
    let streams: Vec<TcpStream> =
        (0..384).map(|_| open(registry.http, "GET", "/api/v1/events", "")).collect();
    for mut stream in &streams {
        assert!(stream.read(&mut [0; 64]).unwrap() > 0);
    }
    let refused = get(registry.http, "/api/v1/events");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(get(registry.http, "/readyz").status, 200);
    drop(streams);
    until("a stream's place comes free", || {
        let mut stream = open(registry.http, "GET", "/api/v1/events", "");
        let mut told = [0; 12];
        stream.read_exact(&mut told).ok()?;
        (&told == b"HTTP/1.1 200").then_some(())
    });
}
