use super::super::super::sockets::MAX_SEND_ONLY;
use super::super::super::source::SOCKETS_PER_ADDRESS;
use super::*;
use std::collections::HashMap;
use std::iter;
use std::mem::MaybeUninit;

/// Receives the datagrams that wait at the receivers, and returns how many there were.
fn drain(sockets: &Sockets) -> usize {
    let drain = |io: &socket2::Socket| {
        iter::from_fn(|| io.recv(&mut [MaybeUninit::uninit(); 9]).ok()).count()
    };
    sockets.iter().map(|socket| drain(&socket.egress.io)).sum()
}

/// Sends from many ports of `from`, and returns how many datagrams each receiver got.
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

#[tokio::test]
async fn sockets_that_send_receive_nothing_and_workers_share_what_comes() {
    for (sockets, mut outbox, hosts) in outboxes() {
        let second = Arc::new(sockets.bind_same_ports().unwrap());
        let mut other = Outbox::new(second.clone());
        for &host in &hosts {
            use_all(&mut outbox, host).await;
            use_all(&mut other, host).await;
        }
        // A receiver that is opened after the send-only sockets has its share too.
        let third = sockets.bind_same_ports().unwrap();
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

#[tokio::test]
async fn a_full_socket_holds_up_its_own_class_and_address_alone() {
    let (_sockets, mut outbox) = outbox("0.0.0.0:0");
    let hosts = [ip("127.0.0.1"), ip("127.0.0.2")];
    for host in hosts {
        use_all(&mut outbox, host).await;
    }
    let full = |outbox: &Outbox, source: usize| {
        let Slot::Open(first) = &outbox.sources[source].challenges.first else { panic!("open") };
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
    // The first socket is full: what does not fit goes by another.
    full(&outbox, 1);
    offer_all(&mut outbox);
    assert_eq!(outbox.unsent(), Unsent::default());
    for (client, _) in &ways {
        assert_eq!(take(client, 2).await.len(), 2);
    }
    // All its sockets are full: the datagram is dropped and counted.
    for place in &outbox.sources[1].challenges.more.0 {
        if let Slot::Open(egress) = place {
            egress.room.store(0, Relaxed);
        }
    }
    offer_all(&mut outbox);
    assert_eq!(outbox.unsent(), Unsent { challenges: 1, ..Unsent::default() });
    assert_eq!(take(&ways[0].0, 1).await[0].1, b"answer");
    assert_eq!(take(&ways[1].0, 2).await.len(), 2);
}

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
    assert_eq!(open.len(), SOCKETS_PER_ADDRESS, "64 peers use all");
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
async fn an_outbox_opens_limited_sockets_until_it_reopens_them() {
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
    assert_eq!((outbox.sources.len(), own_sockets(&outbox).len()), (MOST_SOURCES, MAX_SEND_ONLY));
    outbox.reopen_at = outbox.flushes + 1;
    outbox.flush();
    assert_eq!(outbox.sources.len(), 1);
    let last = locals[99];
    use_all(&mut outbox, last).await;
    assert_eq!(own_sockets(&outbox).len(), 3, "it has sockets of its own now");
    assert_eq!(outbox.unsent(), Unsent::default());
}

#[tokio::test]
async fn an_outbox_opens_no_more_sockets_than_its_worker_may() {
    let mut first = Sockets::new(vec![Socket::bind(addr("0.0.0.0:0")).unwrap()]);
    for most in [2, 0] {
        first.limit_send_only(most);
        // A worker's sockets have the limit of the first.
        let mut outbox = Outbox::new(Arc::new(first.bind_same_ports().unwrap()));
        for _ in 0..2 {
            use_all(&mut outbox, ip("127.0.0.1")).await;
            assert_eq!(own_sockets(&outbox).len(), most);
            assert_eq!(outbox.unsent(), Unsent::default(), "the receiving socket sends");
            outbox.reopen_sockets();
        }
    }
    first.limit_send_only(usize::MAX);
    assert_eq!(first.most_send_only(), MAX_SEND_ONLY);
}
