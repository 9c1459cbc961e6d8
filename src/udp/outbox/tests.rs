use super::super::Socket;
use super::super::egress::{Egress, open};
use super::super::source::Slot;
use super::super::tests::{addr, ip, skip, take, transmit};
use super::*;
use socket2::Domain;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

/// Tests for systems that have send-only sockets.
#[cfg(target_os = "linux")]
mod send_only;

/// Addresses that a registry may be bound to, with local addresses that clients can send to.
const RECEIVERS: [(&[&str], &[&str]); 5] = [
    (&["0.0.0.0:0", "[::]:0"], &["127.0.0.1", "127.0.0.2", "::1"]),
    (&["127.0.0.1:0", "[::1]:0"], &["127.0.0.1", "::1"]),
    (&["127.0.0.1:0"], &["127.0.0.1"]),
    (&["127.0.0.2:0"], &["127.0.0.2"]),
    (&["[::1]:0"], &["::1"]),
];

/// Returns the receiving sockets, their outbox and the local addresses to test, for each of
/// [`RECEIVERS`] that this machine has.
fn outboxes() -> Vec<(Arc<Sockets>, Outbox, Vec<IpAddr>)> {
    let open = |(own, hosts): (&[&str], &[&str])| {
        let own: Vec<SocketAddr> = own.iter().map(|text| addr(text)).collect();
        let bound = Sockets::bind(&own).map_err(|error| skip(&error.to_string()));
        let sockets = Arc::new(bound.ok()?);
        let has = |host: &IpAddr| Socket::bind(SocketAddr::new(*host, 0)).is_ok();
        let hosts = hosts.iter().map(|host| ip(host)).filter(has).collect();
        Some((sockets.clone(), Outbox::new(sockets), hosts))
    };
    RECEIVERS.into_iter().filter_map(open).collect()
}

fn outbox(own: &str) -> (Arc<Sockets>, Outbox) {
    let sockets = Arc::new(Sockets::new(vec![Socket::bind(addr(own)).unwrap()]));
    (sockets.clone(), Outbox::new(sockets))
}

/// Binds a client on the same host as `local`, and returns it with the path from there.
fn client(local: IpAddr) -> (Socket, Path) {
    let client = Socket::bind(SocketAddr::new(local, 0)).unwrap();
    let path = Path::new(client.local_addr(), local);
    (client, path)
}

fn train(path: Path, count: usize) -> Train {
    Train { path, payload: vec![b'x'; 1000 * count], size: 1000 }
}

/// Returns all open send-only sockets of an outbox.
fn own_sockets(outbox: &Outbox) -> Vec<&Egress> {
    let mut places: Vec<&Slot> = Vec::new();
    for Source { answers, challenges, windows, .. } in &outbox.sources {
        places.extend([&answers.first, &challenges.first]);
        places.extend(answers.more.0.iter().chain(&challenges.more.0).chain(&windows.0));
    }
    let open = places.into_iter().filter_map(|place| match place {
        Slot::Open(egress) => Some(egress),
        _ => None,
    });
    open.collect()
}

/// Returns the first send-only socket, or the receiving one, which sends if there is none.
fn sending<'a>(outbox: &'a Outbox, sockets: &'a Sockets) -> &'a Egress {
    let receiving = || &sockets.iter().next().unwrap().egress;
    own_sockets(outbox).first().copied().unwrap_or_else(receiving)
}

/// Has the outbox open a socket of each kind for one address.
async fn use_all(outbox: &mut Outbox, local: IpAddr) {
    let (client, path) = client(local);
    outbox.offer(Class::Answer, transmit(path, "answer"));
    outbox.offer(Class::Challenge, transmit(path, "challenge"));
    outbox.flush();
    assert_eq!(outbox.offer_train(train(path, 2)), Ok(()));
    let came = take(&client, 4).await;
    let texts: Vec<&[u8]> = came[..2].iter().map(|(_, text)| &text[..]).collect();
    assert_eq!(texts, [&b"answer"[..], b"challenge"]);
    let port = outbox.opener.sockets.local_addrs()[0].port();
    let from: Vec<SocketAddr> = came.iter().map(|(path, _)| path.peer).collect();
    assert_eq!(from, [SocketAddr::new(local, port); 4], "from where it was asked");
}

#[tokio::test]
async fn each_class_leaves_from_the_address_that_was_asked_by_sockets_of_its_own() {
    if open(Domain::IPV6).is_err() {
        return skip("no IPv6, of which the send-only socket of a bound IPv4 address is");
    }
    for (sockets, mut outbox, hosts) in outboxes() {
        if cfg!(target_os = "linux") {
            // What the receiving sockets would have to send is dropped and counted.
            sockets.iter().for_each(|socket| socket.egress.room.store(0, Relaxed));
        }
        for &host in &hosts {
            use_all(&mut outbox, host).await;
        }
        let expected = if cfg!(target_os = "linux") { 3 * hosts.len() } else { 0 };
        assert_eq!(own_sockets(&outbox).len(), expected, "{:?}", sockets.local_addrs());
        assert_eq!(outbox.unsent(), Unsent::default());
    }
}

#[tokio::test]
async fn unsent_datagrams_are_counted_by_class_and_logged_once() {
    let (_sockets, mut outbox) = outbox("127.0.0.1:0");
    let (client, path) = client(ip("127.0.0.1"));
    // No socket can send from there, neither a send-only nor the receiving one.
    let elsewhere = Path { local: ip("127.0.0.9"), ..path };
    for class in [Class::Answer, Class::Challenge, Class::Challenge] {
        outbox.offer(class, transmit(elsewhere, "lost"));
        outbox.offer(class, transmit(path, vec![0; 70_000]));
        outbox.offer(class, transmit(path, "fits"));
    }
    outbox.flush();
    assert_eq!(outbox.offer_train(train(elsewhere, 3)), Ok(()), "it can never leave");
    let unsent = Unsent { answers: 2, challenges: 4, windows: 3 };
    assert_eq!((outbox.unsent(), outbox.unsent().total()), (unsent, 9));
    assert_eq!(outbox.losses.told.len(), 2, "{:?}", outbox.losses.told);
    assert_eq!(take(&client, 3).await.len(), 3);
}

#[tokio::test]
async fn the_unsent_part_of_a_train_is_given_back() {
    let (sockets, mut outbox) = outbox("127.0.0.1:0");
    let (client, path) = client(ip("127.0.0.1"));
    // More datagrams than one call sends.
    let whole = train(path, 150);
    assert_eq!(outbox.offer_train(whole.clone()), Ok(()));
    let came = take(&client, 150).await.len();
    for (room, most) in [(0, 64), (1, 64), (2, 1)] {
        sending(&outbox, &sockets).room.store(room, Relaxed);
        sending(&outbox, &sockets).train.store(most, Relaxed);
        let left = outbox.offer_train(whole.clone()).unwrap_err();
        let sent = came - left.datagrams().len();
        assert_eq!((left.path, left.size, sent > 0), (path, whole.size, room > 0));
        assert_eq!(take(&client, sent).await.len(), sent);
        sending(&outbox, &sockets).room.store(usize::MAX, Relaxed);
        assert_eq!(outbox.offer_train(left), Ok(()));
        assert_eq!(take(&client, came - sent).await.len(), came - sent);
    }
    assert_eq!(outbox.unsent(), Unsent::default(), "nothing was lost");
}

#[tokio::test]
async fn a_large_batch_does_not_wait_for_the_flush() {
    let (_sockets, mut outbox) = outbox("127.0.0.1:0");
    let (client, path) = client(ip("127.0.0.1"));
    for n in 0..batch::MAX_BATCH + 1 {
        outbox.offer(Class::Answer, transmit(path, n.to_string()));
    }
    assert_eq!(take(&client, batch::MAX_BATCH).await.len(), batch::MAX_BATCH);
    outbox.flush();
    assert_eq!(take(&client, 1).await[0].1, batch::MAX_BATCH.to_string().as_bytes());
}

#[tokio::test]
async fn without_a_send_only_socket_the_receiving_one_sends() {
    let (sockets, mut outbox) = outbox("0.0.0.0:0");
    let (client, path) = client(ip("127.0.0.1"));
    // Unspecified, foreign or broadcast: the system chooses the source.
    for local in ["0.0.0.0", "203.0.113.9", "255.255.255.255"] {
        let path = Path { local: ip(local), ..path };
        outbox.offer(Class::Answer, transmit(path, local));
        outbox.flush();
        assert_eq!(outbox.offer_train(train(path, 2)), Ok(()));
        let came = take(&client, 3).await;
        let port = sockets.local_addrs()[0].port();
        assert_eq!(came[0].1, local.as_bytes());
        assert!(came.iter().all(|(path, _)| path.peer.port() == port));
    }
    assert!(own_sockets(&outbox).is_empty());
    assert_eq!(outbox.unsent(), Unsent::default());
}

#[test]
fn an_outbox_needs_no_tokio_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut outbox, client, path) = runtime.block_on(async {
        let (client, path) = client(ip("127.0.0.1"));
        (outbox("127.0.0.1:0").1, client, path)
    });
    let sends = move || {
        outbox.offer(Class::Answer, transmit(path, "answer"));
        outbox.flush();
        outbox.offer_train(train(path, 3))
    };
    assert_eq!(std::thread::spawn(sends).join().unwrap(), Ok(()));
    assert_eq!(runtime.block_on(take(&client, 4)).len(), 4);
}
