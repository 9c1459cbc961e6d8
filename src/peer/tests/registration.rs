//! Tests of getting into a window, staying in it, and leaving it.

use super::*;
use crate::cookie::NO_COOKIE;
use crate::proto::Challenge;

#[test]
fn another_private_address_is_told_with_the_next_keep_alive_which_is_then_a_new_request() {
    let mut rig = Rig::waiting(config(1));
    let (first, moved) = (rig.seq(), Some(addr("192.168.1.7:40112")));
    for (seconds, lan, seq) in [(21, None, first), (37, moved, first + 1), (53, moved, first + 1)] {
        rig.peer.set_network(lan, Vec::new());
        let register = rig.run(secs(seconds)).iter().find_map(Sent::register).unwrap();
        rig.register_answer(0);
        assert_eq!(register.seq, Some(seq));
        assert!(
            matches!(register.kind, RequestKind::Register(Profile { lan: it, .. }) if it == lan)
        );
    }
}

#[test]
fn a_new_peer_registers_at_once_with_its_room_and_no_cookie() {
    let sent = Rig::new(config(1)).drain();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].to, addr(REGISTRY));
    let register = sent[0].register().unwrap();
    assert_eq!(sent[0].cookie().as_deref(), Some(NO_COOKIE));
    assert_eq!(register.id, Some("me".parse().unwrap()));
    assert!(String::from_utf8_lossy(&sent[0].bytes).contains(r#""room":"main""#));
}

#[test]
fn a_cookie_is_kept_for_later_requests() {
    let mut rig = Rig::new(config(1));
    let seq = rig.drain()[0].register().unwrap().seq;
    let cookie = "awQjfGkU0tbP4drN";
    let challenge = Datagram::Challenge(Challenge { seq, cookie: cookie.into() });
    let again = &rig.hear(REGISTRY, challenge)[0];
    assert_eq!(again.register().unwrap().seq, seq);
    assert_eq!(again.cookie().as_deref(), Some(cookie));
    let answer = rig.registered(seq, 0);
    rig.hear(REGISTRY, Datagram::Registered(answer));
    let later = rig.run(secs(20)).into_iter().find(|sent| sent.register().is_some()).unwrap();
    assert_eq!(later.cookie().as_deref(), Some(cookie));
    assert_eq!(later.register().unwrap().seq, seq, "a keep-alive is a retry");
}

#[test]
fn an_unanswered_registration_is_tried_for_ever() {
    let mut rig = Rig::new(config(1));
    let sent = rig.run(secs(600));
    assert!(sent.len() > 480, "{}", sent.len());
    let seqs: Vec<_> = sent.iter().map(|sent| sent.register().unwrap().seq).collect();
    assert!(seqs.iter().all(|seq| *seq == seqs[0]), "retries are one request");
    assert!(!rig.peer.has_heard());
}

#[test]
fn silence_lasts_from_a_request_until_any_answer() {
    let mut rig = Rig::new(config(1));
    assert_eq!(rig.peer.unanswered_since(), None, "it has not asked");
    rig.run(secs(3));
    assert_eq!(rig.peer.unanswered_since(), Some(ms(0)), "retries are one request");
    let mut rig = Rig::waiting(config(1));
    assert_eq!(rig.peer.unanswered_since(), None);
    assert!(rig.peer.has_window(), "it is promised one");
    rig.run(secs(19));
    assert_eq!(rig.peer.unanswered_since(), None, "nobody has to speak unasked");
    rig.run(secs(22));
    assert_eq!(rig.peer.unanswered_since(), Some(secs(20)), "since the keep-alive");
    let answer = rig.registered(Some(rig.seq()), 0);
    rig.hear(REGISTRY, Datagram::Registered(answer));
    assert_eq!(rig.peer.unanswered_since(), None);
}

#[test]
fn only_an_answer_ends_the_silence() {
    let mut rig = Rig::new(config(1));
    rig.drain();
    let seq = Some(rig.seq());
    let challenge = Datagram::Challenge(Challenge { seq, cookie: "x".into() });
    let nobody = Datagram::Left(Left { id: None, seq, window: window(1) });
    let unasked = rig.opened(1, 0);
    let others = Opened { id: Some("you".parse().unwrap()), ..unasked }.encode();
    rig.now = ms(10);
    rig.hear(REGISTRY, nobody);
    rig.hear(REGISTRY, left(None));
    rig.hear_bytes(REGISTRY, &others);
    assert_eq!(rig.peer.unanswered_since(), Some(ms(0)));
    assert!(!rig.peer.is_only_challenged());
    rig.hear(REGISTRY, challenge);
    assert_eq!(rig.peer.unanswered_since(), Some(ms(0)), "it asks for proof, no more");
    assert!(rig.peer.is_only_challenged());
    rig.hear(REGISTRY, error(seq, Code::Full, None));
    assert_eq!(rig.peer.unanswered_since(), None);
}

#[test]
fn a_registration_is_reported_once_a_window() {
    let mut rig = Rig::waiting(config(1));
    let (window, room) = (window(1), Room::default());
    let told = Event::Registered { window, opens_in: secs(55), you: addr(ME), room: room.clone() };
    assert_eq!(rig.events(), [told]);
    rig.run(ms(19_999));
    rig.now = secs(20);
    rig.peer.handle_timeout(now(secs(20)));
    rig.register(0);
    assert_eq!(rig.events(), [], "a keep-alive");
    rig.run(ms(34_999));
    rig.now = secs(35);
    rig.peer.handle_timeout(now(secs(35)));
    let seq = rig.drain().iter().find_map(Sent::register).unwrap().seq;
    let you = addr("203.0.113.9:50000");
    let moved = Registered { you, ..rig.registered(seq, 0) };
    rig.hear(REGISTRY, Datagram::Registered(moved));
    assert_eq!(rig.events(), [Event::Registered { window, opens_in: secs(25), you, room }]);
}

/// Returns the times of the keep-alives, each of which is answered at once.
fn keep_alives(window_ms: u64) -> Vec<Duration> {
    let mut rig = Rig::new(config(1));
    let (mut moments, mut seqs) = (Vec::new(), Vec::new());
    while rig.now < secs(58) {
        for sent in rig.drain() {
            moments.push(sent.at);
            let seq = sent.register().unwrap().seq;
            seqs.push(seq);
            let answer = Registered { window_ms, ..rig.registered(seq, 0) };
            rig.hear(REGISTRY, Datagram::Registered(answer));
        }
        let Some(next) = rig.peer.poll_timeout() else { break };
        rig.now = next;
        rig.peer.handle_timeout(now(next));
    }
    assert!(seqs.iter().all(|seq| *seq == seqs[0]), "each is a retry, which changes nothing");
    moments
}

#[test]
fn keep_alives_come_every_15_seconds_or_quarter_of_the_window() {
    assert_eq!(keep_alives(60_000), [0, 15, 30, 45].map(secs));
    assert_eq!(keep_alives(20_000)[..4], [0, 5, 10, 15].map(secs));
}

#[test]
fn no_keep_alive_is_sent_shortly_before_the_opening() {
    let mut rig = Rig::waiting(config(1));
    rig.now = ms(59_100);
    rig.peer.handle_timeout(now(rig.now));
    assert!(rig.drain().is_empty());
}

#[test]
fn a_window_is_renewed_in_its_first_half() {
    let mut moments = Vec::new();
    for seed in 0..200 {
        let (mut rig, _) = Rig::open(config(seed));
        let sent = rig.run(secs(100));
        let renewal = sent.iter().find(|sent| sent.register().is_some()).unwrap();
        assert!(renewal.at >= secs(60) && renewal.at < secs(90), "{:?}", renewal.at);
        moments.push(renewal.at);
    }
    assert!(moments.iter().any(|at| *at < secs(65)) && moments.iter().any(|at| *at > secs(85)));
}

#[test]
fn without_renewal_a_peer_registers_for_one_window() {
    let (mut rig, _) = Rig::open(Config { renew: false, ..config(1) });
    let sent = rig.run(secs(300));
    assert!(sent.iter().all(|sent| sent.register().is_none()));
    assert!(matches!(rig.events()[..], [Event::Closed { .. }]));
    assert_eq!(rig.peer.poll_timeout(), None);
}

#[test]
fn a_register_is_sent_in_the_last_half_second_before_a_boundary() {
    for seed in 0..50 {
        let (mut rig, _) = Rig::open(config(seed));
        let sent = rig.run(secs(125));
        let last = |sent: &&Sent| sent.at >= ms(119_500) && sent.at < secs(120);
        assert!(sent.iter().filter(last).any(|sent| sent.register().is_some()));
    }
}

#[test]
fn a_final_refusal_is_reported_and_ends_the_registering() {
    let mut rig = Rig::new(config(1));
    let seq = rig.drain()[0].register().unwrap().seq;
    rig.hear(REGISTRY, error(seq, Code::Forbidden, None));
    let (code, reason) = (Code::Forbidden, "because".into());
    assert_eq!(rig.events(), [Event::Refused { code, reason, retry_in: None }]);
    assert!(rig.run(secs(300)).is_empty());
}

#[test]
fn a_retryable_refusal_is_reported_once_and_tried_again() {
    let mut rig = Rig::new(config(1));
    let mut tries = 0;
    for _ in 0..20 {
        for sent in rig.drain() {
            tries += 1;
            let seq = sent.register().unwrap().seq;
            rig.hear(REGISTRY, error(seq, Code::Full, Some(3000)));
        }
        rig.now = rig.peer.poll_timeout().unwrap();
        rig.peer.handle_timeout(now(rig.now));
    }
    assert_eq!(tries, 20);
    assert!(rig.now >= secs(60), "as told");
    assert_eq!(rig.events().len(), 1);
    rig.register(1);
    assert!(matches!(rig.events()[..], [Event::Registered { .. }]));
}

#[test]
fn leave_is_sent_until_answered() {
    let mut rig = Rig::waiting(config(1));
    rig.events();
    rig.peer.leave(now(rig.now));
    rig.peer.leave(now(rig.now));
    let sent = rig.run(secs(8));
    let leaves = |it: &Sent| it.request().is_some_and(|it| it.kind == RequestKind::Leave);
    assert!(sent.len() >= 4 && sent.iter().all(leaves));
    let seq = Some(rig.seq());
    assert!(rig.hear(REGISTRY, left(seq)).is_empty());
    assert_eq!(rig.events(), [Event::Left]);
    assert!(rig.run(secs(300)).is_empty());
}

#[test]
fn a_leaving_peer_still_greets_in_the_open_window() {
    let (mut rig, _) = Rig::open(config(1));
    rig.peer.leave(now(rig.now));
    let sent = rig.run(secs(70));
    assert!(sent.iter().any(|sent| sent.greet().is_some()));
    assert!(sent.iter().all(|sent| sent.register().is_none()));
    assert_eq!(rig.hear(ANA, Datagram::Greet(greet(ANA, 5)))[0].to, addr(ANA));
}

#[test]
fn another_address_can_be_tried_at_any_time() {
    let mut rig = Rig::new(config(1));
    rig.drain();
    rig.peer.change_registry(now(rig.now), addr("[::ffff:198.51.100.2]:8080"));
    let sent = rig.drain();
    assert_eq!((sent.len(), sent[0].to), (1, addr("198.51.100.2:8080")));
    let seq = sent[0].register().unwrap().seq;
    let answer = rig.registered(seq, 0);
    rig.hear(REGISTRY, Datagram::Registered(answer.clone()));
    assert_eq!(rig.events(), [], "no longer the registry");
    rig.hear("[::ffff:198.51.100.2]:8080", Datagram::Registered(answer));
    assert_eq!(rig.events().len(), 1);
    let sent = rig.run(secs(16));
    assert_eq!((sent[0].to, sent[0].register().unwrap().seq), (addr("198.51.100.2:8080"), seq));
    rig.peer.change_registry(now(rig.now), addr(REGISTRY));
    let sent = rig.drain();
    assert_eq!(sent[0].to, addr(REGISTRY), "the keep-alive was not answered");
    assert_ne!(sent[0].register().unwrap().seq, seq, "asked anew");
    // WINDOW counts from each address that was asked, and shows where the registry is.
    rig.run(secs(60));
    let bytes = rig.opened(1, 0).encode();
    assert!(rig.hear_bytes("198.51.100.3:8080", &bytes).is_empty(), "never asked");
    let sent = rig.hear_bytes("198.51.100.2:8080", &bytes);
    assert!(sent[0].is_ack() && sent[0].to == addr("198.51.100.2:8080"));
    rig.events();
    let sent = rig.run(secs(95));
    let renewal = sent.iter().find(|sent| sent.register().is_some()).unwrap();
    assert_eq!(renewal.to, addr("198.51.100.2:8080"));
}

/// Returns a peer in the open window of minute 5, that has sent the REGISTER for the next one.
fn renewing() -> Rig {
    let mut rig = Rig::waiting(config(1));
    rig.push(5, 0);
    rig.run(secs(331));
    rig.events();
    rig
}

#[test]
fn a_registry_that_begins_anew_at_an_earlier_window_is_followed() {
    let mut rig = renewing();
    let answer = Registered { opens_in_ms: 30_000, ..rig.registered(Some(rig.seq()), 1) };
    rig.hear(REGISTRY, Datagram::Registered(answer));
    let told = rig.events();
    let went_back = Event::WentBack { latest: window(5), current: window(1) };
    let [first, Event::Closed { window: closed, .. }, Event::Registered { window: promised, .. }] =
        &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((first, closed, promised), (&went_back, &window(5), &window(2)));
    rig.run(secs(361));
    let opened = Opened { closes_in_ms: 59_000, ..rig.opened(2, 0) }.encode();
    let sent = rig.hear_bytes(REGISTRY, &opened);
    assert!(sent.iter().any(Sent::is_ack), "it is in the window");
    assert!(matches!(rig.events()[..], [Event::Opened { .. }]));
}

#[test]
fn an_answer_from_before_a_window_does_not_undo_it() {
    let mut rig = Rig::waiting(config(1));
    rig.run(secs(21));
    let asked = rig.seq();
    // WINDOW overtakes the answer to the keep-alive.
    rig.push(5, 0);
    rig.events();
    for (seq, current) in [(asked, 0), (asked, 3), (asked - 1, 3)] {
        let answer = rig.registered(Some(seq), current);
        rig.hear(REGISTRY, Datagram::Registered(answer));
        assert_eq!(rig.events(), [], "{seq} {current}");
        assert_eq!(rig.peer.windows.opened(), Some(window(5)));
    }
}

#[test]
fn a_registration_is_reported_again_after_a_silence_or_a_refusal() {
    let mut rig = Rig::waiting(config(1));
    rig.events();
    rig.peer.note_silence();
    rig.run(secs(21));
    rig.register_answer(0);
    assert!(matches!(rig.events()[..], [Event::Registered { .. }]), "after a silence");
    rig.run(secs(37));
    let seq = Some(rig.seq());
    rig.hear(REGISTRY, error(seq, Code::Unavailable, Some(500)));
    rig.run(secs(39));
    rig.register_answer(0);
    let told = rig.events();
    assert!(matches!(told[..], [Event::Refused { .. }, Event::Registered { .. }]), "{told:?}");
}
