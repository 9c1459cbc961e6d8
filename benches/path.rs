//! The pure path of one datagram: gate, registry, the log's line, the answer. No socket, no disk.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hit7::clock::{Clock, Now};
use hit7::cookie::Secret;
use hit7::gate::{Admit, Gate};
use hit7::limit::Rate;
use hit7::mesh::ListCap;
use hit7::path::{Path, Transmit};
use hit7::registry::{Caps, Config, Handled, Registry};
use hit7::window::{Length, Wall};

const CLIENTS: usize = 10_000;
/// Records that share a sync.
const GROUP: usize = 128;

/// A registry and its gate, with a full current window, in the middle of a minute.
struct World {
    gate: Gate,
    registry: Registry,
    now: Now,
    clients: Vec<(Path, String)>,
    turn: usize,
    lines: Vec<u8>,
}

fn path(client: usize) -> Path {
    let ip = IpAddr::from([203, 0, (client / 250) as u8, (client % 250) as u8 + 1]);
    Path::new(SocketAddr::new(ip, 40_000), IpAddr::from([198, 51, 100, 10]))
}

impl World {
    fn new() -> World {
        let secret = Arc::new(Secret::from_bytes([7; 32]));
        let wall: Wall = "2026-11-23T11:28:30Z".parse().expect("a time");
        let now = Now { wall, mono: Duration::from_secs(30) };
        let rate = Rate { per_second: 1_000_000_000, burst: 1_000_000 };
        let gate = Gate::new(secret.cookie_issuer(), Vec::new(), rate);
        let config =
            Config { length: Length::MINUTE, cap: ListCap::new(200), caps: Caps::default() };
        let cookie = |path: Path| secret.cookie_issuer().issue(path.peer, now.wall.seconds32());
        let clients = (0..CLIENTS)
            .map(|client| (path(client), cookie(path(client)).as_str().to_owned()))
            .collect();
        let registry = Registry::new(config, secret, now);
        let mut world = World { gate, registry, now, clients, turn: 0, lines: Vec::new() };
        world.now.wall = world.now.wall.plus(Duration::from_millis(1));
        world.fill("ana");
        let opens = world.registry.next().0.opens();
        world.now = Now { wall: opens, mono: Duration::from_secs(60) };
        world.registry.handle_timeout(world.now);
        world.commit();
        world.now =
            Now { wall: opens.plus(Duration::from_secs(30)), mono: Duration::from_secs(90) };
        world.fill("ana");
        world
    }

    /// Every client registers once.
    fn fill(&mut self, name: &str) {
        for _ in 0..CLIENTS {
            let datagram = self.register(name);
            assert!(self.hear(datagram).is_none());
        }
        self.commit();
    }

    /// The next client's REGISTER.
    fn register(&mut self, name: &str) -> (Path, Vec<u8>) {
        self.turn += 1;
        let client = self.turn % CLIENTS;
        let (path, cookie) = &self.clients[client];
        let seq = self.turn;
        let text = format!(
            r#"{{"type":"REGISTER","id":"c-{client}","seq":{seq},"room":"main","name":"{name}","cookie":"{cookie}"}}"#
        );
        (*path, text.into_bytes())
    }

    fn hear(&mut self, (path, datagram): (Path, Vec<u8>)) -> Option<Transmit> {
        match self.gate.admit(self.now, path, &datagram) {
            Admit::Pass { request, trusted } => {
                match self.registry.handle(self.now, path, request, trusted) {
                    Handled::Answer(transmit) => Some(transmit),
                    Handled::Proposed => None,
                    other => panic!("{other:?}"),
                }
            }
            Admit::Answer(transmit) => Some(transmit),
            other => panic!("{other:?}"),
        }
    }

    /// Writes the lines of what is proposed, and lets it take effect.
    fn commit(&mut self) -> Vec<Transmit> {
        let batch = self.registry.take_proposals();
        self.lines.clear();
        batch.iter().for_each(|entry| entry.record.write_line(&mut self.lines, 0));
        let commit = |entry| self.registry.commit(self.now, entry);
        batch.into_iter().filter_map(commit).collect()
    }
}

/// Measures groups of datagrams, as they come and are stored together; told per datagram.
fn measure(criterion: &mut Criterion, what: &str, make: impl Fn(&mut World) -> (Path, Vec<u8>)) {
    let (mut world, clock) = (World::new(), Clock::start());
    let mut group = criterion.benchmark_group("path");
    group.throughput(Throughput::Elements(GROUP as u64));
    group.bench_function(what, |bench| {
        bench.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let came: Vec<_> = (0..GROUP).map(|_| make(&mut world)).collect();
                let from = clock.now().mono;
                let mut answers: Vec<_> =
                    came.into_iter().filter_map(|it| world.hear(it)).collect();
                answers.extend(world.commit());
                spent += clock.now().mono - from;
                assert_eq!(answers.len(), GROUP);
            }
            spent
        });
    });
    group.finish();
}

fn benches(criterion: &mut Criterion) {
    measure(criterion, "REGISTER, a new record", |world| {
        let name = ["ana", "eva"][world.turn / CLIENTS % 2];
        world.register(name)
    });
    measure(criterion, "REGISTER, nothing new", |world| world.register("ana"));
    measure(criterion, "QUERY", |world| {
        let (path, text) = world.register("ana");
        let text = String::from_utf8(text).expect("it is text").replace("REGISTER", "QUERY");
        (path, text.into_bytes())
    });
    measure(criterion, "REGISTER from a stranger", |world| {
        let (path, text) = world.register("ana");
        (Path::new(SocketAddr::new(path.peer.ip(), 1), path.local), text)
    });
}

criterion_group!(pure, benches);
criterion_main!(pure);
