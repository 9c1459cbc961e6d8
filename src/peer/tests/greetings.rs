//! Tests of the greetings of one open window.

use super::*;

fn greets<'a>(sent: &'a [Sent], to: &str) -> Vec<(&'a Sent, Greet)> {
    let to = addr(to);
    sent.iter().filter(|sent| sent.to == to).filter_map(|it| Some((it, it.greet()?))).collect()
}

/// Returns the times of the greetings to `to`, since the opening.
fn moments(sent: &[Sent], to: &str) -> Vec<Duration> {
    greets(sent, to).iter().map(|(sent, _)| sent.at - secs(60)).collect()
}

#[test]
fn a_greeting_says_who_and_where() {
    let (mut rig, mut sent) = Rig::open(config(1));
    sent.extend(rig.run(ms(60_050)));
    assert_eq!(sent.iter().filter(|sent| sent.greet().is_some()).count(), 2, "not to oneself");
    let (_, first) = greets(&sent, ANA).remove(0);
    let seq = first.seq;
    let name = Some("eva".parse().unwrap());
    let text = Some("hola".parse().unwrap());
    assert_eq!(first, Greet { from: addr(ME), name, text, ..greet(ME, seq) });
}

#[test]
fn greetings_follow_the_schedule() {
    let nominal = [0, 100, 200, 400, 800].into_iter();
    let nominal = nominal.chain((2..=20).map(|n| n * 500)).chain((3..12).map(|s| s * 5000));
    for seed in 0..50 {
        let (mut rig, mut sent) = Rig::open(config(seed));
        sent.extend(rig.run(secs(119)));
        let moments = moments(&sent, ANA);
        assert!(moments.len() > 30);
        let expected: Vec<u64> = nominal.clone().collect();
        for (moment, pair) in moments[1..].iter().zip(expected.windows(2)) {
            let off = (pair[1] - pair[0]) / 5;
            // The pace adds a few milliseconds, as there are two peers.
            let near = ms(pair[1] - off)..=ms(pair[1] + off + 5);
            assert!(near.contains(moment), "{moment:?} is not about {} ms", pair[1]);
        }
        let tries = moments.iter().filter(|moment| **moment < secs(10)).count();
        assert!(tries >= 23, "{tries} in ten seconds");
    }
}

/// A member that was paused, or whose list is long, does not make up for the tries that were late.
#[test]
fn late_tries_are_not_made_up_for() {
    let (mut rig, _) = Rig::open(config(1));
    rig.run(secs(62));
    rig.now = secs(90);
    rig.peer.handle_timeout(now(rig.now));
    let sent = rig.run(secs(91));
    let tries = greets(&sent, ANA).len();
    assert!((1..=4).contains(&tries), "{tries}");
}

#[test]
fn a_seq_is_new_in_each_try_and_times_the_round_trip() {
    let (mut rig, mut sent) = Rig::open(config(1));
    sent.extend(rig.run(secs(64)));
    rig.now = secs(64);
    let tries = greets(&sent, ANA);
    let seqs: std::collections::BTreeSet<_> = tries.iter().map(|(_, it)| it.seq).collect();
    assert_eq!(seqs.len(), tries.len());
    let (second, greet) = &tries[1];
    rig.hear("192.0.2.1:5", Datagram::Greeted(greeted(ANA, greet.seq)));
    let (peer, name) = (addr(ANA), Some("ana".parse().unwrap()));
    assert_eq!(rig.events(), [Event::Met { peer, name, rtt: secs(64) - second.at }]);
    rig.hear(ANA, Datagram::Greeted(greeted(ANA, tries[2].1.seq)));
    assert_eq!(rig.events(), [], "met once");
    assert!(greets(&rig.run(secs(119)), ANA).is_empty(), "and greeted no more");
}

#[test]
fn a_greeting_is_answered_where_it_came_from() {
    let (mut rig, _) = Rig::open(config(1));
    for n in 0..3 {
        let sent = rig.hear(ANA, Datagram::Greet(greet(ANA, 17 + n)));
        let answer = Greeted { name: Some("eva".parse().unwrap()), ..greeted(ME, 17 + n) };
        assert_eq!((sent[0].to, sent[0].datagram()), (addr(ANA), Datagram::Greeted(answer)));
    }
    let name = Some("ana".parse().unwrap());
    let text = Some("hi".parse().unwrap());
    assert_eq!(rig.events(), [Event::Greeted { peer: addr(ANA), name, text }], "told once");
}

#[test]
fn a_peer_behind_a_nat_with_another_port_is_tried_there_too() {
    let (mut rig, _) = Rig::open(config(1));
    rig.run(ms(60_010));
    let other = "203.0.113.10:61000";
    let sent = rig.hear(other, Datagram::Greet(greet(ANA, 17)));
    assert!(matches!(sent[0].datagram(), Datagram::Greeted(_)) && sent[0].to == addr(other));
    assert_eq!(greets(&sent, other).len(), 1, "at once");
    let later = rig.run(secs(65));
    assert!(greets(&later, other).len() > 5 && greets(&later, ANA).len() > 5);
}

#[test]
fn a_greeting_causes_at_most_eight_extra_tries() {
    let (mut rig, _) = Rig::open(config(1));
    rig.run(secs(75));
    let mut extra = 0;
    for _ in 0..400 {
        rig.now += ms(5);
        let sent = rig.hear(ANA, Datagram::Greet(greet(ANA, 17)));
        extra += greets(&sent, ANA).len();
    }
    assert!((8..10).contains(&extra), "{extra}");
}

#[test]
fn a_silent_peer_that_has_greeted_gets_at_most_eight_more_tries() {
    let tries = |greeted: bool| {
        let (mut rig, _) = Rig::open(config(1));
        rig.run(secs(61));
        if greeted {
            rig.hear(ANA, Datagram::Greet(greet(ANA, 17)));
        }
        greets(&rig.run(secs(119)), ANA).len()
    };
    let (silent, sure) = (tries(false), tries(true));
    assert!((silent + 5..=silent + 8).contains(&sure), "{sure} instead of {silent}");
}

#[test]
fn forged_sources_of_a_member_are_not_flooded() {
    let (mut rig, _) = Rig::open(config(1));
    rig.run(ms(60_010));
    let mut sent = Vec::new();
    for n in 0..1000 {
        let victim = format!("192.0.2.1:{}", 1000 + n);
        sent.extend(rig.hear(&victim, Datagram::Greet(greet(ANA, n))));
    }
    sent.extend(rig.run(secs(119)));
    let victim = addr("192.0.2.1:1").ip();
    let to_victim = sent.iter().filter(|it| it.greet().is_some() && it.to.ip() == victim).count();
    let ordinary = greets(&sent, ANA).len();
    assert!(to_victim > 8 && to_victim <= ordinary + 8, "{to_victim} beside {ordinary}");
}

#[test]
fn greetings_are_paced_and_first_tries_go_first() {
    let (mut rig, _) = (Rig::waiting(config(1)), ());
    let others = (0..1000).map(|n| SocketAddr::from(([203, 0, 113, 77], 20_000 + n)));
    rig.listing = Rig::listing(others);
    rig.run(secs(60));
    let mut sent = Vec::new();
    for part in 0..rig.listing.parts() {
        sent.extend(rig.push(1, part));
    }
    sent.extend(rig.run(secs(75)));
    let greets: Vec<_> = sent.iter().filter(|sent| sent.greet().is_some()).collect();
    let first: std::collections::BTreeSet<_> = greets[..1000].iter().map(|it| it.to).collect();
    assert_eq!(first.len(), 1000);
    assert!(greets[999].at <= ms(62_000), "{:?}", greets[999].at);
    for pair in greets.windows(501) {
        assert!(pair[500].at - pair[0].at >= ms(990));
    }
}

#[test]
fn a_private_address_is_tried_five_times() {
    let interfaces = vec!["192.168.1.0/24".parse().unwrap()];
    let mut rig = Rig::waiting(config(1));
    rig.peer.set_network(None, interfaces);
    let (near, lan) = ("203.0.113.9:40113", "192.168.1.7:40113");
    let peers = [(near, lan), (ANA, "192.168.1.8:40001")];
    let peers = peers.map(|(at, lan)| Candidate { addr: addr(at), lan: Some(addr(lan)) });
    rig.listing = Listing::render(peers);
    rig.run(secs(60));
    let mut sent = rig.push(1, 0);
    sent.extend(rig.run(secs(119)));
    assert_eq!(greets(&sent, lan).len(), 5);
    assert!(greets(&sent, near).len() > 20);
    assert!(greets(&sent, "192.168.1.8:40001").is_empty(), "another public address");
}

#[test]
fn addresses_that_make_no_sense_are_never_greeted() {
    let mut rig = Rig::waiting(config(1));
    let list = ["127.0.0.1:5", "224.0.0.1:5", "255.255.255.255:5", "0.0.0.0:5", REGISTRY, ANA, ANA];
    rig.listing = Rig::listing(list.map(addr));
    rig.run(secs(60));
    let mut sent = rig.push(1, 0);
    sent.extend(rig.run(secs(119)));
    let greets: Vec<_> = sent.iter().filter(|sent| sent.greet().is_some()).collect();
    assert!(!greets.is_empty() && greets.iter().all(|sent| sent.to == addr(ANA)));
    rig.run(secs(121));
    let events = rig.events();
    assert!(events.iter().any(|event| matches!(event, Event::Closed { of: 6, met: 0, .. })));
}

#[test]
fn loopback_is_greeted_by_peers_on_loopback() {
    let mut rig = Rig::waiting(config(1));
    rig.listing = Rig::listing(["127.0.0.1:50001", "127.0.0.1:50002"].map(addr));
    rig.run(secs(60));
    let mut sent = {
        let opened = Opened { you: addr("127.0.0.1:50001"), ..rig.opened(1, 0) };
        let bytes = opened.encode();
        rig.hear_bytes(REGISTRY, &bytes)
    };
    sent.extend(rig.run(secs(61)));
    assert!(!greets(&sent, "127.0.0.1:50002").is_empty());
    assert!(greets(&sent, "127.0.0.1:50001").is_empty());
}

/// A member greets under each address of the list, from an address that it forges.
#[test]
fn a_member_cannot_turn_a_room_on_a_victim() {
    const VICTIM: &str = "192.0.2.1:53";
    let names: Vec<SocketAddr> = (0..38).map(|k| ([203, 0, 113, 10], 40_000 + k).into()).collect();
    let mut rig = Rig::waiting(config(1));
    rig.listing = Rig::listing(names.iter().copied().chain([addr(ME)]));
    rig.run(secs(60));
    rig.push(1, 0);
    let (mut greets, mut greeteds) = (0, 0);
    for second in 60..118 {
        let mut sent = rig.run(secs(second));
        for name in &names {
            sent.extend(rig.hear(VICTIM, Datagram::Greet(greet(&name.to_string(), second))));
        }
        let hit = sent.iter().filter(|sent| sent.to == addr(VICTIM));
        let (greet, other): (Vec<&Sent>, Vec<&Sent>) = hit.partition(|it| it.greet().is_some());
        (greets, greeteds) = (greets + greet.len(), greeteds + other.len());
    }
    assert_eq!(greets, 512);
    assert_eq!(greeteds, 58 * 38, "one for each that came");
    assert!(rig.run(secs(119)).iter().all(|sent| sent.to != addr(VICTIM)));
}
