//! A peer that did not run for a while: a closed lid, or SIGSTOP.

use super::*;

/// Pauses the peer until `end`: nothing runs meanwhile.
fn pause(rig: &mut Rig, end: Duration) -> Vec<Sent> {
    rig.now = end;
    rig.peer.handle_pause(now(end));
    rig.drain()
}

/// The WINDOW of minute 1 waited in the socket for 80 s, and said that the window closes in 60 s.
#[test]
fn a_window_that_waited_is_not_taken_for_new() {
    let mut rig = Rig::waiting(config(1));
    rig.events();
    let waited = rig.opened(1, 0).encode();
    rig.run(secs(50));
    let sent = pause(&mut rig, secs(140));
    assert_eq!(rig.events(), [missed_by(1, MissedWhy::Pause)]);
    let register = sent.iter().find_map(Sent::register).unwrap();
    assert!(rig.hear_bytes(REGISTRY, &waited).is_empty());
    assert_eq!(rig.events(), []);
    // An answer to an earlier request waited too.
    let old = rig.registered(Some(register.seq.unwrap() - 1), 0);
    assert!(rig.hear(REGISTRY, Datagram::Registered(old)).is_empty());
    assert_eq!(rig.events(), []);
    let new = rig.registered(register.seq, 2);
    rig.hear(REGISTRY, Datagram::Registered(new));
    assert!(
        matches!(rig.events()[..], [Event::Registered { opens_in, .. }] if opens_in == secs(40))
    );
    rig.run(secs(180));
    assert!(rig.push(3, 0)[0].is_ack(), "what comes from now on is new");
}

/// The pause ends while the window is open: its list is asked for, and its times are those of the answer.
#[test]
fn a_pause_across_the_opening_is_made_up_for_at_once() {
    let mut rig = Rig::waiting(config(1));
    rig.events();
    let waited = rig.opened(1, 0).encode();
    rig.run(secs(50));
    let sent = pause(&mut rig, secs(90));
    let seq = sent.iter().find_map(Sent::query).expect("a QUERY at once").seq;
    assert!(rig.hear_bytes(REGISTRY, &waited).is_empty());
    assert_eq!(rig.events(), []);
    rig.answer(seq, 1, 0);
    let events = rig.events();
    assert!(
        matches!(events[..], [Event::Opened { closes_in, .. }] if closes_in == secs(30)),
        "{events:?}"
    );
}

#[test]
fn a_promise_is_confirmed_anew() {
    let mut rig = Rig::waiting(config(1));
    let before = rig.seq();
    let sent = pause(&mut rig, secs(30));
    assert_eq!(sent.iter().find_map(Sent::register).unwrap().seq, Some(before + 1));
    rig.register_answer(0);
    rig.run(secs(60));
    assert!(rig.push(1, 0)[0].is_ack());
}

#[test]
fn the_greetings_of_an_open_window_go_on_and_tell_no_false_round_trip() {
    let (mut rig, mut sent) = Rig::open(config(1));
    sent.extend(rig.run(secs(61)));
    let old = sent.iter().rfind(|sent| sent.to == addr(ANA)).unwrap().greet().unwrap();
    let mut sent = pause(&mut rig, secs(80));
    rig.hear(ANA, Datagram::Greeted(greeted(ANA, old.seq)));
    assert_eq!(rig.events(), []);
    sent.extend(rig.run(secs(82)));
    let new = sent.iter().rfind(|sent| sent.to == addr(ANA)).expect("greeted again");
    let (sent_at, seq) = (new.at, new.greet().unwrap().seq);
    rig.hear(ANA, Datagram::Greeted(greeted(ANA, seq)));
    let rtt = secs(82) - sent_at;
    assert!(matches!(rig.events()[..], [Event::Met { rtt: it, .. }] if it == rtt));
}

#[test]
fn with_one_window_wanted_no_other_is_asked_for() {
    let (mut rig, _) = Rig::open(Config { renew: false, ..config(1) });
    let sent = pause(&mut rig, secs(80));
    assert!(sent.iter().all(|sent| sent.register().is_none()));
}

#[test]
fn a_renewal_that_was_under_way_is_asked_anew() {
    for seed in 0..20 {
        let (mut rig, _) = Rig::open(config(seed));
        let first = rig.run(secs(91)).iter().find_map(Sent::register).unwrap();
        let sent = pause(&mut rig, secs(100));
        assert!(sent.iter().find_map(Sent::register).unwrap().seq > first.seq);
    }
}
