//! Datagrams from attackers and strangers: none is accepted, answered, or breaks anything.

use super::*;
use proptest::prelude::*;

/// Checks that the peer ignores a datagram: sends nothing and reports nothing.
fn ignores(rig: &mut Rig, from: &str, datagram: Datagram<'_>) {
    let sent = rig.hear(from, datagram.clone());
    assert!(sent.is_empty(), "{from} {datagram:?}: {sent:?}");
    assert_eq!(rig.events(), [], "{from} {datagram:?}");
}

#[test]
fn forged_answers_do_not_count() {
    let mut rig = Rig::new(config(1));
    rig.drain();
    let right = rig.registered(Some(rig.seq()), 0);
    let id = Some("you".parse().unwrap());
    let seq = Some(rig.seq() + 1);
    ignores(&mut rig, ANA, Datagram::Registered(right.clone()));
    ignores(&mut rig, "198.51.100.1:8081", Datagram::Registered(right.clone()));
    ignores(&mut rig, REGISTRY, Datagram::Registered(Registered { id, ..right.clone() }));
    ignores(&mut rig, REGISTRY, Datagram::Registered(Registered { id: None, ..right.clone() }));
    ignores(&mut rig, REGISTRY, Datagram::Registered(Registered { seq, ..right.clone() }));
    ignores(&mut rig, REGISTRY, Datagram::Registered(Registered { seq: None, ..right.clone() }));
    ignores(&mut rig, REGISTRY, error(seq, Code::Forbidden, None));
    let asked = Some(rig.seq());
    ignores(&mut rig, REGISTRY, left(asked));
    rig.hear(REGISTRY, Datagram::Registered(right.clone()));
    assert_eq!(rig.events().len(), 1);
    ignores(&mut rig, REGISTRY, Datagram::Registered(right));
}

/// If any datagram from the registry's address counted, forging one would make a client wait for
/// that address for ever, without reporting that nobody answers.
#[test]
fn a_forged_datagram_does_not_count_as_an_answer_of_the_registry() {
    let mut rig = Rig::new(config(1));
    rig.drain();
    let asked = rig.seq();
    let seq = Some(asked + 1);
    let challenge = |seq| Datagram::Challenge(Challenge { seq, cookie: "x".into() });
    let window = Opened { id: Some("you".parse().unwrap()), ..rig.opened(1, 0) }.encode();
    for datagram in [challenge(seq), error(seq, Code::Forbidden, None), left(seq)] {
        ignores(&mut rig, REGISTRY, datagram);
    }
    assert!(rig.hear_bytes(REGISTRY, &window).is_empty());
    assert!(!rig.peer.has_heard());
    rig.hear(REGISTRY, challenge(Some(asked)));
    assert!(rig.peer.has_heard());
}

/// A CHALLENGE and an ERROR echo the `seq` alone.
#[test]
fn a_seq_cannot_be_guessed() {
    let seqs: Vec<u64> = (0..64).map(|seed| Rig::new(config(seed)).seq()).collect();
    assert!(seqs.iter().all(|seq| *seq < crate::proto::SEQ_END / 2), "there is room for more");
    for bit in 0..52 {
        let set = seqs.iter().filter(|seq| *seq >> bit & 1 == 1).count();
        assert!((8..=56).contains(&set), "bit {bit} is set in {set} of 64");
    }
}

#[test]
fn forged_windows_do_not_count() {
    let mut rig = Rig::waiting(config(1));
    rig.run(ms(60_001));
    rig.events();
    let listing = rig.listing.clone();
    let right = Opened { page: listing.page(0, 3).unwrap(), ..rig.opened(1, 0) };
    let room = "lab".parse().unwrap();
    let id = Some("you".parse().unwrap());
    let page = Page { part: 0, parts: 100_001, ..right.page.clone() };
    for datagram in [
        Opened { room, ..right.clone() },
        Opened { id, ..right.clone() },
        Opened { id: None, ..right.clone() },
        Opened { page, ..right.clone() },
    ] {
        ignores(&mut rig, REGISTRY, Datagram::Window(datagram));
    }
    ignores(&mut rig, ANA, Datagram::Window(right.clone()));
    assert!(!rig.hear(REGISTRY, Datagram::Window(right)).is_empty());
}

#[test]
fn a_list_that_nobody_asked_for_does_not_count() {
    let mut rig = Rig::waiting(config(1));
    rig.run(ms(60_001));
    rig.events();
    let listing = rig.listing.clone();
    let page = listing.page(0, 3).unwrap();
    let peers = Peers { page, ..rig.peers(Some(rig.seq()), 1, 0) };
    ignores(&mut rig, REGISTRY, Datagram::Peers(peers));
}

#[test]
fn forged_greetings_are_not_answered() {
    let (mut rig, _) = Rig::open(config(1));
    rig.run(ms(60_020));
    let wrong = [
        Greet { room: "lab".parse().unwrap(), ..greet(ANA, 5) },
        Greet { window: window(2), ..greet(ANA, 5) },
        Greet { window: window(0), ..greet(ANA, 5) },
        Greet { pass: pass(2), ..greet(ANA, 5) },
        Greet { from: addr("203.0.113.10:40009"), ..greet(ANA, 5) },
        Greet { from: addr(ME), ..greet(ANA, 5) },
    ];
    for greet in wrong {
        ignores(&mut rig, ANA, Datagram::Greet(greet));
    }
    for from in [REGISTRY, ME, "127.0.0.1:5", "224.0.0.1:5", "255.255.255.255:5", "0.0.0.0:5"] {
        ignores(&mut rig, from, Datagram::Greet(greet(ANA, 5)));
    }
    ignores(&mut rig, "203.0.113.10:0", Datagram::Greet(greet(ANA, 5)));
}

#[test]
fn a_greeting_before_the_own_list_is_not_answered() {
    let mut rig = Rig::waiting(config(1));
    rig.events();
    ignores(&mut rig, ANA, Datagram::Greet(greet(ANA, 5)));
    rig.run(ms(60_100));
    ignores(&mut rig, ANA, Datagram::Greet(greet(ANA, 5)));
}

#[test]
fn forged_answers_to_greetings_do_not_count() {
    let (mut rig, mut sent) = Rig::open(config(1));
    sent.extend(rig.run(ms(60_020)));
    let to_ana = sent.iter().find(|sent| sent.to == addr(ANA)).unwrap();
    let seq = to_ana.greet().unwrap().seq;
    let wrong = [
        greeted(ANA, seq ^ 1),
        greeted(BOB, seq),
        Greeted { window: window(2), ..greeted(ANA, seq) },
        Greeted { room: "lab".parse().unwrap(), ..greeted(ANA, seq) },
    ];
    for greeted in wrong {
        ignores(&mut rig, ANA, Datagram::Greeted(greeted));
    }
    rig.hear(ANA, Datagram::Greeted(greeted(ANA, seq)));
    assert_eq!(rig.events().len(), 1);
}

#[test]
fn requests_are_not_answered() {
    let (mut rig, _) = Rig::open(config(1));
    rig.run(ms(60_020));
    for from in [ANA, REGISTRY] {
        let register = Request::register(None, None, Profile::default());
        ignores(&mut rig, from, Datagram::Request(register, Auth::NONE));
        let query = Request::query(None, None, Room::default(), 0);
        ignores(&mut rig, from, Datagram::Request(query, Auth::NONE));
        ignores(&mut rig, from, error(None, Code::Malformed, None));
    }
}

#[test]
fn absurd_numbers_do_no_harm() {
    let most = crate::proto::SEQ_END - 1;
    let mut rig = Rig::new(config(1));
    let seq = rig.drain()[0].register().unwrap().seq;
    let text = format!(
        r#"{{"type":"REGISTERED","id":"me","seq":{},"room":"main","window":"9999-12-31T23:59:59Z","opens_in_ms":{most},"window_ms":0,"you":"{ME}","current":{{"window":"1970-01-01T00:00:00Z","closes_in_ms":{most},"part":0,"parts":4294967295,"count":0,"peers":[]}}}}"#,
        seq.unwrap()
    );
    rig.hear_bytes(REGISTRY, text.as_bytes());
    assert_eq!(rig.events().len(), 1);
    let sent = rig.run(secs(60));
    assert!(sent.len() < 300, "{}", sent.len());
}

/// Generates a kind of datagram, a pause before it, arbitrary bytes, and a bit to flip.
fn any_step() -> impl Strategy<Value = (u8, u64, Vec<u8>, usize, u8)> {
    let bytes = prop::collection::vec(any::<u8>(), 0..40);
    (0u8..12, 0u64..40_000, bytes, any::<usize>(), any::<u8>())
}

fn datagram(rig: &Rig, kind: u8, minute: u64) -> Vec<u8> {
    let seq = Some(rig.seq());
    match kind {
        0 | 1 => rig.registered(seq, minute).encode(),
        2 | 3 => rig.opened(minute, 0).encode(),
        4 => rig.peers(seq, minute, 0).encode(),
        5 => Peers { you: None, pass: None, ..rig.peers(seq, minute, 0) }.encode(),
        6 => error(seq, Code::Full, Some(minute)).encode(),
        7 => left(seq).encode(),
        8 => Greet { window: window(minute), pass: pass(minute), ..greet(ANA, 5) }.encode(),
        9 => Greeted { window: window(minute), ..greeted(BOB, 5) }.encode(),
        _ => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(75))]

    #[test]
    fn no_datagrams_stop_a_peer_from_registering(steps in prop::collection::vec(any_step(), 0..60), seed: u64) {
        let mut rig = Rig::new(config(seed));
        for (kind, pause, bytes, place, flip) in steps {
            let minute = (rig.now.as_secs() / 60).saturating_add(pause % 3).saturating_sub(1);
            let mut text = datagram(&rig, kind, minute);
            if text.is_empty() {
                text = bytes;
            } else if flip < 64 {
                let place = place % text.len();
                text[place] ^= 1 << (flip % 8);
            }
            rig.hear_bytes(if flip % 16 == 15 { ANA } else { REGISTRY }, &text);
            rig.run(rig.now + ms(pause));
            rig.events();
            let Peer { registration, windows, .. } = &rig.peer;
            let goes_on = registration.poll_timeout().is_some() || windows.promised.is_some();
            prop_assert!(goes_on || !rig.peer.registers);
        }
    }
}
