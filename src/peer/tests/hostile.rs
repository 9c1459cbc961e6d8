//! A registry that means harm, and knows the id and each `seq`: what it can make a client send and
//! report is bounded.

use super::*;

/// Returns a WINDOW of minute `minute` with the client's id.
fn any_window(minute: u64) -> Vec<u8> {
    let page =
        Page { part: 0, parts: 1, count: 3, peers: r#""203.0.113.10:40001","203.0.113.11:40002""# };
    let (room, you, pass) = (Room::default(), addr(ME), pass(minute));
    let id = Some("me".parse().unwrap());
    let window = window(minute);
    Datagram::Window(Opened { id, room, window, closes_in_ms: 60_000, you, pass, page }).encode()
}

/// Counts what a client sends to its registry, what it sends to others, and its events, in ten seconds
/// in which the registry sends what `answer` returns: for each datagram that came, and each millisecond.
fn ten_seconds(answer: impl Fn(&Rig, u64, Option<&Request>) -> Option<Vec<u8>>) -> [usize; 3] {
    let mut rig = Rig::new(config(1));
    let (mut asked, mut greeted, mut told) = (0, 0, 0);
    let mut sent = rig.drain();
    for k in 0..10_000 {
        let mut answers: Vec<Vec<u8>> = answer(&rig, k, None).into_iter().collect();
        let requests: Vec<Request> = sent.iter().filter_map(Sent::request).collect();
        answers.extend(requests.iter().filter_map(|request| answer(&rig, k, Some(request))));
        greeted += sent.iter().filter(|sent| sent.greet().is_some()).count();
        asked += sent.iter().filter(|sent| sent.to == addr(REGISTRY)).count();
        sent = answers.iter().flat_map(|bytes| rig.hear_bytes(REGISTRY, bytes)).collect();
        sent.extend(rig.run(ms(k + 1)));
        told += rig.events().len();
    }
    [asked, greeted, told]
}

#[test]
fn windows_that_turn_each_millisecond() {
    let [asked, greeted, told] = ten_seconds(|_, k, _| Some(any_window(k + 1)));
    // 50 at once and 50 a second; 500 a second; 20 at once and 4 a second, each with what was left out.
    assert!((50..=560).contains(&asked), "{asked}");
    assert!((500..=5010).contains(&greeted), "{greeted}");
    assert!((20..=100).contains(&told), "{told}");
}

#[test]
fn windows_that_turn_each_millisecond_with_greetings_of_all_their_peers() {
    let mut rig = Rig::new(config(1));
    let mut told = 0;
    for k in 0..10_000 {
        rig.hear_bytes(REGISTRY, &any_window(k + 1));
        for peer in [ANA, BOB] {
            let greet = Greet { window: window(k + 1), pass: pass(k + 1), ..greet(peer, 5) };
            rig.hear(peer, Datagram::Greet(greet));
        }
        rig.run(ms(k + 1));
        told += rig.events().iter().filter(|event| matches!(event, Event::Greeted { .. })).count();
    }
    // 1000 at once and 1000 a second of twice as many.
    assert!((10_000..=11_001).contains(&told), "{told}");
}

#[test]
fn registrations_whose_window_is_always_missed() {
    let [asked, _, told] = ten_seconds(|rig, k, request| {
        let seq = request?.seq;
        let answer = Registered { opens_in_ms: 0, window_ms: 0, ..rig.registered(seq, 10 * k) };
        Some(Datagram::Registered(answer).encode())
    });
    assert!((5..=120).contains(&asked) && (5..=100).contains(&told), "{asked} {told}");
}

#[test]
fn pages_without_end() {
    for (parts, changes) in [(100_000, false), (3, true), (u32::MAX, false)] {
        let [asked, ..] = ten_seconds(|rig, k, request| {
            let Some(request) = request else { return (k == 5).then(|| any_part(1, 0, parts)) };
            let RequestKind::Query { part, .. } = &request.kind else { return None };
            let count = if changes { k as u32 } else { 7 };
            let page = Page { part: *part, parts, count, peers: "" };
            let peers = Peers { page, ..rig.peers(request.seq, 1, 0) };
            Some(Datagram::Peers(peers).encode())
        });
        let most = if changes || parts == u32::MAX { 60 } else { 560 };
        assert!((8..=most).contains(&asked), "{asked} for {parts} parts");
    }
}

fn any_part(minute: u64, part: u32, parts: u32) -> Vec<u8> {
    let (room, you, pass) = (Room::default(), addr(ME), pass(minute));
    let id = Some("me".parse().unwrap());
    let (window, page) = (window(minute), Page { part, parts, count: 7, peers: "" });
    Datagram::Window(Opened { id, room, window, closes_in_ms: 60_000, you, pass, page }).encode()
}

#[test]
fn challenges_and_refusals_without_end() {
    let [asked, _, told] = ten_seconds(|_, _, request| {
        Some(Datagram::Challenge(Challenge { seq: request?.seq, cookie: "x".into() }).encode())
    });
    assert!((10..=50).contains(&asked) && told == 0, "{asked} {told}");
    let [asked, _, told] = ten_seconds(|_, k, request| {
        let code = [Code::Full, Code::Unavailable, Code::SlowDown][k as usize % 3];
        Some(error(request?.seq, code, Some(0)).encode())
    });
    assert!((10..=50).contains(&asked), "{asked}");
    assert_eq!(told, 3, "each code once, until a registration succeeds");
}

#[test]
fn what_was_left_out_is_counted() {
    let mut rig = Rig::new(config(1));
    for minute in 1..1000 {
        rig.hear_bytes(REGISTRY, &any_window(minute));
    }
    // Each turn closes one window and opens another.
    let told = rig.events().len();
    assert_eq!(told, EVENT_BURST as usize);
    rig.now = secs(10);
    rig.hear_bytes(REGISTRY, &any_window(1000));
    let left_out = 2 * 999 - 1 - told as u64;
    assert_eq!(rig.events()[0], Event::LeftOut(left_out));
}
