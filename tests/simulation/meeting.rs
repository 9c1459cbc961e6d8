//! The minute, through the whole stack, and everyone meeting everyone.

use std::time::Duration;

use hit7::cookie::NO_COOKIE;
use hit7::peer::Event;
use hit7::proto::{Auth, Datagram, Profile, Request};
use hit7::window::Wall;

use crate::faults::{Fault, Faults};
use crate::network::Packet;
use crate::trials::seeds;
use crate::world::{REGISTRY, Setup, World, addr, secs};

/// Which window a REGISTER that arrives when the registry's clock says `time` is told.
fn told(time: &str) -> String {
    const FROM: &str = "10.0.0.1:5";
    let mut world = World::new(Setup::plain(1, 0));
    let flight = Duration::from_millis(10);
    world.network.fixed = Some(flight);
    let arrives: Wall = format!("2026-11-23T{time}Z").parse().unwrap();
    world.run_until(world.host.clock.when_wall(arrives) - flight);
    let register = Request::register(None, None, Profile::default());
    let bytes = register.encode(&Auth::with_cookie(NO_COOKIE));
    world.send(Packet { from: addr(FROM), to: addr(REGISTRY), bytes });
    while world.clients.heard.is_empty() {
        world.run_until(world.t + flight);
        assert_eq!(world.rules.broken, None);
    }
    match Datagram::decode(&world.clients.heard[0]).unwrap() {
        Datagram::Registered(registered) => registered.window.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn at_59_9_it_is_the_next_minute_and_at_00_0_the_one_after() {
    assert_eq!(told("11:28:59.900"), "2026-11-23T11:29:00Z");
    assert_eq!(told("11:28:59.999"), "2026-11-23T11:29:00Z");
    assert_eq!(told("11:29:00.000"), "2026-11-23T11:30:00Z");
    assert_eq!(told("11:29:00.001"), "2026-11-23T11:30:00Z");
}

/// Who did not meet whom in the first window that all are in.
fn not_met(seed: u64) -> Result<(), String> {
    let faults = Faults::of(&[Fault::Loss, Fault::Double, Fault::Delay]);
    let mut world = World::new(Setup { faults, loss: 30, ..Setup::plain(seed, 10) });
    world.setup.span = secs(121);
    world.run();
    let first = "2026-11-23T11:29:00Z".parse().unwrap();
    let closed = world.events.iter().filter_map(|(_, place, event)| match event {
        Event::Closed { window, met, of, .. } if *window == first => Some((*place, *met, *of)),
        _ => None,
    });
    let closed: Vec<_> = closed.collect();
    if let Some(broken) = world.rules.broken {
        return Err(format!("{broken:?}"));
    }
    let all = closed.len() == 10 && closed.iter().all(|&(_, met, of)| (met, of) == (9, 9));
    if all { Ok(()) } else { Err(format!("(peer, met, of): {closed:?}")) }
}

#[test]
fn ten_peers_at_thirty_percent_loss_all_meet() {
    let failed: Vec<_> =
        seeds(20).into_iter().filter_map(|seed| Some((seed, not_met(seed).err()?))).collect();
    for (seed, why) in &failed {
        println!("seed {seed}: {why}");
        println!("HIT7_SEED={seed} cargo test --test simulation ten_peers -- --nocapture");
    }
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
}
