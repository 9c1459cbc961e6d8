//! Tests of the opening, the own list, and windows that are missed.

use super::*;

/// Gives the peer an own list of three parts.
fn three_parts(rig: &mut Rig) {
    let others = (40_000..40_100).map(|port| SocketAddr::from(([203, 0, 113, 77], port)));
    rig.listing = Rig::listing(others);
    assert_eq!(rig.listing.parts(), 3);
}

fn queries(sent: &[Sent]) -> Vec<(Duration, Query)> {
    sent.iter().filter_map(|sent| Some((sent.at, sent.query()?))).collect()
}

#[test]
fn the_window_opens_with_the_own_list() {
    let mut rig = Rig::waiting(config(1));
    rig.run(secs(60));
    rig.events();
    let sent = rig.push(1, 0);
    assert_eq!(
        rig.events(),
        [Event::Opened {
            window: window(1),
            count: 3,
            peers: [addr(ANA), addr(BOB)].into(),
            closes_in: secs(60),
            you: addr(ME),
        }]
    );
    let id = Some("me".parse().unwrap());
    let ack = Ack { id, window: window(1), pass: pass(1) };
    assert_eq!((sent[0].to, sent[0].datagram()), (addr(REGISTRY), Datagram::Ack(ack)));
}

#[test]
fn every_window_is_acked_once_the_list_is_whole() {
    let mut rig = Rig::waiting(config(1));
    three_parts(&mut rig);
    rig.run(secs(60));
    let acks = |sent: Vec<Sent>| sent.iter().filter(|sent| sent.is_ack()).count();
    let pushed = [2, 0, 2, 0, 1, 0, 1].map(|part| acks(rig.push(1, part)));
    assert_eq!(pushed, [0, 0, 0, 0, 1, 1, 1]);
    let opened = rig.events().into_iter().filter(|it| matches!(it, Event::Opened { .. }));
    assert_eq!(opened.count(), 1);
}

#[test]
fn a_window_datagram_replaces_a_lost_registered() {
    let mut rig = Rig::new(config(1));
    rig.run(ms(60_003));
    assert!(rig.push(1, 0)[0].is_ack());
    assert!(matches!(rig.events()[..], [Event::Opened { .. }]));
    let sent = rig.run(secs(91));
    let renewal = sent.iter().find_map(Sent::register).unwrap();
    assert_ne!(renewal.seq, None);
    assert_eq!(renewal.seq, Some(rig.seq()), "a new request");
    rig.run(secs(121));
    assert!(matches!(rig.events()[..], [Event::Closed { met: 0, of: 2, .. }]));
}

#[test]
fn missing_parts_are_asked_for() {
    let mut first = Vec::new();
    for seed in 0..40 {
        let mut rig = Rig::waiting(config(seed));
        three_parts(&mut rig);
        rig.run(secs(60));
        rig.push(1, 1);
        let asked = queries(&rig.run(secs(70)));
        assert!(asked.iter().all(|(_, query)| query.part == 0));
        assert!(asked.len() > 7, "and again");
        first.push(asked[0].0);
        let seq = asked[0].1.seq;
        let next = queries(&rig.answer(seq, 1, 0));
        assert_eq!(next[0].1.part, 2, "the next at once");
        let last = rig.answer(next[0].1.seq, 1, 2);
        assert!(last.iter().any(Sent::is_ack));
        assert!(queries(&rig.run(rig.now + secs(3))).is_empty());
    }
    assert!(first.iter().all(|at| *at >= ms(60_500) && *at <= ms(62_000)), "{first:?}");
    assert!(first.iter().any(|at| *at < ms(61_000)) && first.iter().any(|at| *at > ms(61_500)));
}

#[test]
fn a_list_that_does_not_come_is_asked_for_until_the_close() {
    let mut rig = Rig::waiting(Config { renew: false, ..config(1) });
    rig.events();
    let asked = queries(&rig.run(ms(119_999)));
    assert!(asked.len() > 40);
    assert!(asked.windows(2).all(|pair| pair[1].0 - pair[0].0 <= ms(1200)));
    assert_eq!(rig.events(), []);
    let sent = rig.run(secs(121));
    assert!(sent.iter().all(|sent| sent.register().is_some()), "it registers anew");
    assert_eq!(rig.events(), [missed_by(1, MissedWhy::Silence)]);
}

#[test]
fn an_answer_without_news_causes_no_query_at_once() {
    let mut rig = Rig::waiting(config(1));
    three_parts(&mut rig);
    rig.run(secs(60));
    rig.push(1, 1);
    let mut sent = rig.run(secs(63));
    let mut asked = 0;
    while rig.now < secs(80) {
        for (_, query) in queries(&std::mem::take(&mut sent)) {
            asked += 1;
            sent.extend(rig.answer(query.seq, 1, 1));
        }
        sent.extend(rig.run(rig.now + ms(100)));
    }
    assert!(asked < 40, "{asked}");
}

#[test]
fn a_registry_that_opens_late_is_waited_for() {
    let mut rig = Rig::waiting(config(1));
    rig.events();
    let asked = queries(&rig.run(secs(62)));
    // The registry's clock was set back by 30 s: minute 0 is current for another 28 s.
    let late = Peers {
        closes_in_ms: 28_000,
        you: None,
        pass: None,
        ..rig.peers(asked.last().unwrap().1.seq, 0, 0)
    };
    let bytes = late.encode();
    assert!(rig.hear_bytes(REGISTRY, &bytes).iter().all(|it| it.register().is_some()));
    assert!(queries(&rig.run(secs(90))).is_empty());
    assert!(!queries(&rig.run(secs(93))).is_empty());
    assert!(rig.push(1, 0)[0].is_ack());
    assert!(matches!(rig.events()[..], [Event::Opened { .. }]));
}

#[test]
fn an_answer_without_a_pass_means_that_the_window_was_missed() {
    for minute in [1, 2] {
        let mut rig = Rig::waiting(config(1));
        let asked = queries(&rig.run(secs(62)));
        rig.events();
        let answer =
            Peers { you: None, pass: None, ..rig.peers(asked.last().unwrap().1.seq, minute, 0) };
        let bytes = answer.encode();
        let sent = rig.hear_bytes(REGISTRY, &bytes);
        assert_eq!(rig.events(), [missed(1)]);
        assert!(sent.iter().any(|sent| sent.register().is_some()), "anew, at once");
    }
}

#[test]
fn the_own_list_of_a_later_window_counts_at_once() {
    let mut rig = Rig::waiting(config(1));
    let asked = queries(&rig.run(secs(62)));
    rig.events();
    let sent = rig.answer(asked.last().unwrap().1.seq, 2, 0);
    assert!(sent.iter().any(Sent::is_ack));
    assert!(matches!(&rig.events()[..], [first, Event::Opened { .. }] if *first == missed(1)));
}

#[test]
fn a_later_current_window_in_an_answer_means_that_the_promised_one_was_missed() {
    let mut rig = Rig::waiting(config(1));
    rig.events();
    // The registry's clock was stepped: at 20 s, minute 1 is over there.
    rig.run(ms(19_999));
    rig.now = secs(20);
    rig.peer.handle_timeout(now(rig.now));
    rig.register(2);
    let events = rig.events();
    assert_eq!(events[0], missed(1));
    assert!(matches!(events[1], Event::Registered { window, .. } if window == self::window(3)));
    assert_eq!(events.len(), 2);
}

#[test]
fn an_answer_across_the_boundary_is_for_the_open_window() {
    let mut rig = Rig::new(config(1));
    rig.run(ms(60_100));
    let answer = Registered {
        window: window(1),
        opens_in_ms: 0,
        current: Current { closes_in_ms: 59_900, ..rig.registered(None, 1).current },
        ..rig.registered(Some(rig.seq()), 1)
    };
    rig.hear(REGISTRY, Datagram::Registered(answer));
    let events = rig.events();
    assert!(matches!(events[..], [Event::Registered { opens_in: Duration::ZERO, .. }]));
    assert!(!queries(&rig.run(secs(63))).is_empty());
    rig.push(1, 0);
    rig.run(secs(120));
    assert!(matches!(rig.events()[..], [Event::Opened { .. }, Event::Closed { .. }]));
}

/// The registry opens minute 1 just before its close, and puts the REGISTER that is pending then into
/// minute 2; its answer, and all of the WINDOW of minute 2, are lost.
#[test]
fn a_request_that_is_pending_when_a_window_opens_late_is_asked_until_answered() {
    for seed in 0..50 {
        let mut rig = Rig::new(config(seed));
        rig.run(ms(119_200));
        let seq = rig.seq();
        rig.push(1, 0);
        rig.events();
        let sent = rig.run(secs(123));
        let tries: Vec<_> = sent.iter().filter(|sent| sent.register().is_some()).collect();
        assert!(tries.iter().all(|sent| sent.register().unwrap().seq == Some(seq)));
        assert!(tries.iter().any(|sent| sent.at >= ms(119_500) && sent.at < secs(120)));
        assert!(tries.iter().any(|sent| sent.at > secs(120)));
        let answer =
            Registered { window: window(2), opens_in_ms: 0, ..rig.registered(Some(seq), 2) };
        let sent = rig.hear(REGISTRY, Datagram::Registered(answer));
        let query = sent.iter().chain(&rig.run(secs(126))).find_map(Sent::query).unwrap();
        rig.answer(query.seq, 2, 0);
        let of_2 = |event: &Event| matches!(event, Event::Opened { window, .. } if *window == self::window(2));
        assert!(rig.events().iter().any(of_2));
    }
}

#[test]
fn with_one_window_wanted_a_request_ends_when_that_opens() {
    let mut rig = Rig::new(Config { renew: false, ..config(1) });
    rig.run(secs(60));
    assert!(rig.push(1, 0)[0].is_ack());
    assert!(rig.run(secs(119)).iter().all(|sent| sent.register().is_none()));
}

/// Minute 2 is promised, the list of minute 1 comes only now: the keep-alive goes on.
#[test]
fn a_late_list_does_not_end_the_keep_alive_of_the_window_after() {
    let mut rig = Rig::waiting(config(1));
    rig.run(ms(59_000));
    let pending = rig.seq();
    rig.run(ms(59_990));
    let answer = Registered { opens_in_ms: 60_000, ..rig.registered(Some(pending), 1) };
    rig.hear(REGISTRY, Datagram::Registered(answer));
    let asked = rig.run(secs(76));
    assert!(asked.iter().any(|sent| sent.register().is_some()), "a keep-alive is pending");
    rig.push(1, 0);
    assert!(rig.run(secs(79)).iter().any(|sent| sent.register().is_some()), "it goes on");
}

#[test]
fn a_keep_alive_that_crosses_the_boundary_is_a_renewal() {
    let mut rig = Rig::waiting(config(1));
    rig.run(secs(35));
    let seq = Some(rig.seq());
    rig.now = ms(59_990);
    rig.peer.handle_timeout(now(rig.now));
    // On the registry's clock, minute 1 is open.
    let answer = Registered { opens_in_ms: 60_000, ..rig.registered(seq, 1) };
    rig.hear(REGISTRY, Datagram::Registered(answer));
    assert!(rig.push(1, 0)[0].is_ack());
    let sent = rig.run(secs(89));
    assert!(sent.iter().filter_map(Sent::register).count() > 0, "kept alive");
    assert!(!rig.events().contains(&missed(1)));
}

#[test]
fn a_window_ends_at_its_close_with_who_is_missing() {
    let (mut rig, _) = Rig::open(Config { renew: false, ..config(1) });
    let sent = rig.run(secs(61));
    let hello = sent.iter().find(|sent| sent.to == addr(BOB)).unwrap().greet().unwrap();
    rig.hear(BOB, Datagram::Greeted(greeted(BOB, hello.seq)));
    rig.run(ms(119_999));
    assert!(matches!(rig.events()[..], [Event::Met { .. }]));
    assert!(rig.run(secs(200)).is_empty());
    let closed = Event::Closed { window: window(1), met: 1, of: 2, missing: [addr(ANA)].into() };
    assert_eq!(rig.events(), [closed]);
}

#[test]
fn a_later_window_ends_the_one_before() {
    let (mut rig, _) = Rig::open(config(1));
    rig.now = ms(119_900);
    rig.peer.handle_timeout(now(rig.now));
    rig.drain();
    rig.push(2, 0);
    let events = rig.events();
    assert!(matches!(events[..], [Event::Closed { .. }, Event::Opened { .. }]), "{events:?}");
    assert!(!rig.push(1, 0).iter().any(Sent::is_ack), "the earlier one is over");
    assert_eq!(rig.events(), []);
}

#[test]
fn after_an_outage_a_peer_registers_again() {
    let mut rig = Rig::waiting(config(1));
    rig.events();
    rig.run(secs(600));
    assert_eq!(rig.events(), [missed_by(1, MissedWhy::Silence)], "once");
    let seq = Some(rig.seq());
    let answer = rig.registered(seq, 10);
    rig.hear(REGISTRY, Datagram::Registered(answer));
    assert!(matches!(rig.events()[..], [Event::Registered { .. }]));
    rig.run(secs(660));
    assert!(rig.push(11, 0)[0].is_ack());
}

#[test]
fn a_list_that_is_lost_on_the_way_is_told_from_a_registry_that_is_silent() {
    let challenge = |seq| Datagram::Challenge(Challenge { seq, cookie: "x".into() });
    for part in [None, Some(1)] {
        let mut rig = Rig::waiting(Config { renew: false, ..config(1) });
        three_parts(&mut rig);
        rig.run(secs(60));
        rig.events();
        if let Some(part) = part {
            rig.push(1, part);
        }
        let asked = queries(&rig.run(secs(64)));
        rig.hear(REGISTRY, challenge(asked.last().unwrap().1.seq));
        assert!(rig.peer.is_only_challenged());
        rig.run(secs(121));
        let why = match part {
            None => MissedWhy::ListLost { came: 0, of: None },
            Some(_) => MissedWhy::ListLost { came: 1, of: Some(3) },
        };
        assert_eq!(rig.events(), [missed_by(1, why)]);
    }
}

#[test]
fn short_windows_have_short_delays() {
    for seed in 0..50 {
        let mut rig = Rig::new(config(seed));
        let seq = rig.drain()[0].register().unwrap().seq;
        let answer = Registered { opens_in_ms: 1500, window_ms: 2000, ..rig.registered(seq, 0) };
        rig.hear(REGISTRY, Datagram::Registered(answer));
        let sent = rig.run(ms(3500));
        let first = queries(&sent)[0].0;
        assert!(first >= ms(1600) && first <= ms(2000), "{first:?}");
        let moments: Vec<_> = queries(&sent).into_iter().map(|(at, _)| at).collect();
        assert!(moments.windows(2).all(|pair| pair[1] - pair[0] <= ms(500)));
    }
}
