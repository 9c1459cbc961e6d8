//! Simulated worlds with a known course: a request at a boundary, and peers with loss only.

use std::time::Duration;

use hit7::cookie::NO_COOKIE;
use hit7::peer::Event;
use hit7::proto::{Auth, Datagram, Profile, Request};
use hit7::window::Wall;

use crate::faults::{Fault, Faults};
use crate::network::Packet;
use crate::trials::seeds;
use crate::world::{REGISTRY, Setup, World, addr, secs};

/// Returns the window in the answer to a REGISTER that arrives at `time` of the registry's clock.
fn window_told_at(time: &str) -> String {
    const FROM: &str = "10.0.0.1:5";
    let mut world = World::new(Setup::plain(1, 0));
    let flight = Duration::from_millis(10);
    world.network.fixed = Some(flight);
    let arrives: Wall = format!("2026-11-23T{time}Z").parse().unwrap();
    world.run_until(world.host.clock.when_wall(arrives) - flight);
    let auth = Auth::with_cookie(NO_COOKIE);
    let bytes = Request::register(None, None, Profile::default()).encode(&auth);
    world.send(Packet { from: addr(FROM), to: addr(REGISTRY), bytes });
    while world.clients.unclaimed.is_empty() {
        world.run_until(world.t + flight);
        assert_eq!(world.rules.broken, None);
    }
    match Datagram::decode(&world.clients.unclaimed[0]).unwrap() {
        Datagram::Registered(registered) => registered.window.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn at_59_9_it_is_the_next_minute_and_at_00_0_the_one_after() {
    assert_eq!(window_told_at("11:28:59.900"), "2026-11-23T11:29:00Z");
    assert_eq!(window_told_at("11:28:59.999"), "2026-11-23T11:29:00Z");
    assert_eq!(window_told_at("11:29:00.000"), "2026-11-23T11:30:00Z");
    assert_eq!(window_told_at("11:29:00.001"), "2026-11-23T11:30:00Z");
}

#[test]
fn two_peers_meet_in_every_window() {
    let mut world = World::new(Setup { span: secs(310), ..Setup::plain(1, 2) });
    world.run();
    let met = world.events.iter().filter_map(|(_, _, event)| match event {
        Event::Met { rtt, .. } => Some(*rtt),
        _ => None,
    });
    let met: Vec<_> = met.collect();
    assert_eq!(met.len(), 2 * 5);
    assert!(met.iter().all(|rtt| *rtt <= Duration::from_millis(30)), "{met:?}");
    assert_eq!(world.rules.broken, None);
}

/// Runs peers at 30 % loss for some windows; the error says who did not meet whom.
fn not_met(seed: u64, peers: usize, windows: usize) -> Result<(), String> {
    let faults = Faults::of(&[Fault::Loss, Fault::Double, Fault::Delay]);
    let span = secs(60 * (windows as u64 + 1) + 1);
    let mut world = World::new(Setup { faults, loss: 30, span, ..Setup::plain(seed, peers) });
    world.run();
    if let Some(broken) = world.rules.broken {
        return Err(format!("{broken:?}"));
    }
    let closed = world.events.iter().filter_map(|(_, place, event)| match event {
        Event::Closed { window, met, of, .. } => Some((*window, *place, *met, *of)),
        _ => None,
    });
    let closed: Vec<_> = closed.collect();
    let all = closed.iter().all(|&(_, _, met, of)| (met, of) == (peers - 1, peers - 1));
    let ok = all && closed.len() == peers * windows;
    if ok { Ok(()) } else { Err(format!("(window, peer, met, of): {closed:?}")) }
}

#[test]
fn six_peers_at_thirty_percent_loss_meet_in_each_of_three_windows() {
    let failed: Vec<_> = (0..12).filter_map(|seed| not_met(seed, 6, 3).err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn ten_peers_at_thirty_percent_loss_all_meet() {
    let failed = |seed| Some((seed, not_met(seed, 10, 1).err()?));
    let failed: Vec<_> = seeds(20).into_iter().filter_map(failed).collect();
    for (seed, why) in &failed {
        println!("seed {seed}: {why}");
        println!("HIT7_SEED={seed} cargo test --test simulation ten_peers -- --nocapture");
    }
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
}
