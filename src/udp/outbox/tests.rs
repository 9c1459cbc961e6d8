use super::super::Socket;
use super::super::tests::{addr, bind, ip, take, transmit};
use super::*;
use std::collections::HashMap;
use std::iter;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

/// What a registry may be bound to, and addresses of it that can be asked.
const RECEIVERS: [(&str, &[&str]); 5] = [
    ("[::]:0", &["127.0.0.1", "127.0.0.2", "::1"]),
    ("0.0.0.0:0", &["127.0.0.1", "127.0.0.2"]),
    ("127.0.0.1:0", &["127.0.0.1"]),
    ("127.0.0.2:0", &["127.0.0.2"]),
    ("[::1]:0", &["::1"]),
];

/// One receiving socket, its outbox, and which addresses of it can be asked; those that this machine
/// lacks are left out.
fn outboxes() -> Vec<(Arc<Sockets>, Outbox, Vec<IpAddr>)> {
    let open = |(own, hosts): (&str, &[&str])| {
        let sockets = Arc::new(Sockets::new(vec![bind(own)?]));
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

/// A client on the same host as `local`, and the way to it from there.
fn client(local: IpAddr) -> (Socket, Path) {
    let client = Socket::bind(SocketAddr::new(local, 0)).unwrap();
    let path = Path::new(client.local_addr(), local);
    (client, path)
}

fn train(path: Path, count: usize) -> Train {
    Train { path, payload: vec![b'x'; 1000 * count], size: 1000 }
}

/// Every socket that only sends.
fn own_sockets(outbox: &Outbox) -> Vec<&Egress> {
    let mut places: Vec<&Place> = Vec::new();
    for Lane { answers, challenges, windows, .. } in &outbox.lanes {
        places.extend([&answers.first, &challenges.first]);
        places.extend(answers.more.0.iter().chain(&challenges.more.0).chain(&windows.0));
    }
    let open = places.into_iter().filter_map(|place| match place {
        Place::Open(egress) => Some(egress),
        _ => None,
    });
    open.collect()
}

/// The first socket that only sends, or the one that sends instead.
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
    for (sockets, mut outbox, hosts) in outboxes() {
        for &host in &hosts {
            use_all(&mut outbox, host).await;
        }
        let expected = if cfg!(target_os = "linux") { 3 * hosts.len() } else { 0 };
        assert_eq!(own_sockets(&outbox).len(), expected, "{:?}", sockets.local_addrs());
        assert_eq!(outbox.unsent(), Unsent::default());
    }
}

/// How many datagrams wait at a receiver, which are taken.
#[cfg(target_os = "linux")]
fn drain(sockets: &Sockets) -> usize {
    let io = &sockets.iter().next().unwrap().egress.io;
    iter::from_fn(|| io.recv(&mut [MaybeUninit::uninit(); 9]).ok()).count()
}

/// Sends from many ports of `from`, and counts what each receiver has.
#[cfg(target_os = "linux")]
fn spread(receivers: &[&Sockets], from: IpAddr, to: SocketAddr) -> Vec<usize> {
    const CLIENTS: usize = 96;
    let path = Path::new(to, from);
    for _ in 0..CLIENTS {
        let client = Socket::bind(SocketAddr::new(from, 0)).unwrap();
        assert_eq!(client.send(&[transmit(path, "who")]), 1);
    }
    let heard: Vec<usize> = receivers.iter().map(|sockets| drain(sockets)).collect();
    assert_eq!(heard.iter().sum::<usize>(), CLIENTS, "all are heard: {heard:?}");
    heard
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn sockets_that_send_receive_nothing_and_workers_share_what_comes() {
    for (sockets, mut outbox, hosts) in outboxes() {
        let second = Arc::new(sockets.siblings().unwrap());
        let mut other = Outbox::new(second.clone());
        for &host in &hosts {
            use_all(&mut outbox, host).await;
            use_all(&mut other, host).await;
        }
        // One that is opened when there are such sockets already has its share too.
        let third = sockets.siblings().unwrap();
        let port = sockets.local_addrs()[0].port();
        for &host in &hosts {
            // From the registry's own address and another port, among others.
            let to = SocketAddr::new(host, port);
            let heard = spread(&[&sockets, &second, &third], host, to);
            assert!(heard.iter().all(|&heard| heard > 5), "{to}: {heard:?}");
        }
        for own in [own_sockets(&outbox), own_sockets(&other)].concat() {
            let nothing = own.io.peek(&mut [MaybeUninit::uninit(); 9]);
            assert_eq!(nothing.unwrap_err().kind(), ErrorKind::WouldBlock, "{own:?}");
            assert!(own.io.recv_buffer_size().unwrap() <= 4096, "nothing is kept for it");
        }
        let busy = Socket::bind(SocketAddr::new(hosts[0], port)).unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::AddrInUse, "nobody else is let in");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_socket_holds_up_its_own_class_and_address_alone() {
    let (_sockets, mut outbox) = outbox("0.0.0.0:0");
    let hosts = [ip("127.0.0.1"), ip("127.0.0.2")];
    for host in hosts {
        use_all(&mut outbox, host).await;
    }
    let full = |outbox: &Outbox, lane: usize| {
        let Place::Open(first) = &outbox.lanes[lane].challenges.first else { panic!("open") };
        first.room.store(0, Relaxed);
    };
    let ways = hosts.map(client);
    let offer_all = |outbox: &mut Outbox| {
        for (_, path) in &ways {
            outbox.offer(Class::Challenge, transmit(*path, "challenge"));
            outbox.offer(Class::Answer, transmit(*path, "answer"));
        }
        outbox.flush();
    };
    // The first of its sockets is full: what does not fit goes by another.
    full(&outbox, 1);
    offer_all(&mut outbox);
    assert_eq!(outbox.unsent(), Unsent::default());
    for (client, _) in &ways {
        assert_eq!(take(client, 2).await.len(), 2);
    }
    // All are: it is dropped and counted.
    for place in &outbox.lanes[1].challenges.more.0 {
        if let Place::Open(egress) = place {
            egress.room.store(0, Relaxed);
        }
    }
    offer_all(&mut outbox);
    assert_eq!(outbox.unsent(), Unsent { challenges: 1, ..Unsent::default() });
    assert_eq!(take(&ways[0].0, 1).await[0].1, b"answer");
    assert_eq!(take(&ways[1].0, 2).await.len(), 2);
}

#[tokio::test]
async fn what_has_no_room_is_counted_by_class_and_told_once() {
    let (_sockets, mut outbox) = outbox("127.0.0.1:0");
    let (client, path) = client(ip("127.0.0.1"));
    // No way from there: not by a socket of its own, nor by the receiving one.
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
async fn a_train_without_room_is_given_back_or_what_is_left_of_it() {
    let (sockets, mut outbox) = outbox("127.0.0.1:0");
    let (client, path) = client(ip("127.0.0.1"));
    // More than one call takes.
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

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_socket_holds_up_the_trains_of_its_own_peers_alone() {
    let (_sockets, mut outbox) = outbox("0.0.0.0:0");
    let peers: Vec<(Socket, Path)> = (1..=64)
        .map(|host| {
            let (client, path) = client([127, 0, 1, host].into());
            (client, Path { local: ip("127.0.0.1"), ..path })
        })
        .collect();
    for (client, path) in &peers {
        assert_eq!(outbox.offer_train(train(*path, 2)), Ok(()));
        take(client, 2).await;
    }
    let open = own_sockets(&outbox);
    assert_eq!(open.len(), SPREAD, "64 peers use all");
    open[0].room.store(0, Relaxed);
    let mut told: HashMap<bool, usize> = HashMap::new();
    for (_, path) in &peers {
        *told.entry(outbox.offer_train(train(*path, 2)).is_ok()).or_default() += 1;
    }
    assert!((1..32).contains(&told[&false]), "{told:?}");
    // All ports of one peer are in the same queue.
    let held = |outbox: &mut Outbox, (_, path): &(Socket, Path), port| {
        let peer = SocketAddr::new(path.peer.ip(), port);
        outbox.offer_train(train(Path { peer, ..*path }, 1)).is_err()
    };
    for peer in &peers {
        assert_eq!(held(&mut outbox, peer, 9), held(&mut outbox, peer, 10));
    }
}

#[tokio::test]
async fn a_large_batch_does_not_wait_for_the_flush() {
    let (_sockets, mut outbox) = outbox("127.0.0.1:0");
    let (client, path) = client(ip("127.0.0.1"));
    for n in 0..batch::MOST + 1 {
        outbox.offer(Class::Answer, transmit(path, n.to_string()));
    }
    assert_eq!(take(&client, batch::MOST).await.len(), batch::MOST);
    outbox.flush();
    assert_eq!(take(&client, 1).await[0].1, batch::MOST.to_string().as_bytes());
}

#[tokio::test]
async fn what_has_no_socket_of_its_own_leaves_by_the_receiving_one() {
    let (sockets, mut outbox) = outbox("0.0.0.0:0");
    let (client, path) = client(ip("127.0.0.1"));
    // Unknown, and not ours: the system chooses.
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

#[cfg(target_os = "linux")]
#[tokio::test]
async fn it_opens_so_many_sockets_and_no_more_until_it_begins_anew() {
    let (_sockets, mut outbox) = outbox("0.0.0.0:0");
    let locals: Vec<IpAddr> = (1..=100).map(|host| [127, 0, 2, host].into()).collect();
    for &local in &locals {
        let (client, path) = client(local);
        outbox.offer(Class::Answer, transmit(path, "answer"));
        outbox.offer(Class::Challenge, transmit(path, "challenge"));
        assert_eq!(outbox.offer_train(train(path, 1)), Ok(()));
        outbox.flush();
        let came = take(&client, 3).await;
        assert!(came.iter().all(|(path, _)| path.peer.ip() == local), "from where it was asked");
    }
    assert_eq!((outbox.lanes.len(), own_sockets(&outbox).len()), (MOST_LANES, MOST_SOCKETS));
    outbox.renew_at = outbox.flushes + 1;
    outbox.flush();
    assert_eq!(outbox.lanes.len(), 1);
    let last = locals[99];
    use_all(&mut outbox, last).await;
    assert_eq!(own_sockets(&outbox).len(), 3, "it has sockets of its own now");
    assert_eq!(outbox.unsent(), Unsent::default());
}

#[test]
fn it_needs_no_runtime() {
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
