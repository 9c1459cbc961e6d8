//! A thousand members of one room: each gets all parts of its own list, and acknowledges.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use hit7::clock::Clock;
use hit7::proto::{Ack, Auth, Datagram, Id, Opened, Page, Request, Room};
use hit7::window::{Length, Window};
use hit7_support::Home;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{HIT7, documents, register};

const MEMBERS: usize = 1000;
const WINDOW: Duration = Duration::from_secs(5);

/// What one member holds in the end.
struct Held {
    addr: SocketAddr,
    window: Window,
    peers: Vec<SocketAddr>,
    /// Whether WINDOW was repeated after the member's ACK had time to arrive.
    told_again: bool,
}

/// A client that registers, gathers the parts of its list, and acknowledges.
struct Member {
    socket: UdpSocket,
    id: Id,
    parts: BTreeMap<u32, Vec<SocketAddr>>,
    /// The request that the member repeats while it gets no answer.
    request: Vec<u8>,
}

impl Member {
    async fn new(number: usize, registry: SocketAddr) -> Member {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(registry).await.unwrap();
        let id = format!("id-{number}");
        let request = register(&id, &format!("member-{number}"));
        Member { socket, id: id.parse().unwrap(), parts: BTreeMap::new(), request }
    }

    async fn run(mut self) -> Held {
        let mut buffer = [0; 2048];
        loop {
            let wait = Duration::from_millis(700);
            let Ok(Ok(len)) = timeout(wait, self.socket.recv(&mut buffer)).await else {
                self.socket.send(&self.request).await.unwrap();
                continue;
            };
            match Datagram::decode(&buffer[..len]).unwrap() {
                Datagram::Registered(it) if it.opens_in_ms > 0 => {
                    self.wait_for_opening(Duration::from_millis(it.opens_in_ms)).await;
                }
                Datagram::Window(it) => {
                    self.keep(&it.page);
                    if self.parts.len() == it.page.parts as usize {
                        return self.acknowledge(&it).await;
                    }
                    let missing = (0..it.page.parts).find(|part| !self.parts.contains_key(part));
                    self.request = self.query(missing.unwrap());
                }
                Datagram::Peers(it) if it.pass.is_some() => self.keep(&it.page),
                _ => {}
            }
        }
    }

    /// Waits for the opening, and then asks with QUERY for parts that the push did not bring.
    async fn wait_for_opening(&mut self, span: Duration) {
        let first = timeout(span + Duration::from_secs(1), self.socket.peek(&mut [0; 2048])).await;
        self.request = self.query(0);
        if first.is_err() {
            self.socket.send(&self.request).await.unwrap();
        }
    }

    fn query(&self, part: u32) -> Vec<u8> {
        Request::query(Some(self.id.clone()), None, Room::default(), part).encode(&Auth::NONE)
    }

    fn keep(&mut self, page: &Page<'_>) {
        let addrs = page.candidates().unwrap().iter().map(|peer| peer.addr).collect();
        self.parts.insert(page.part, addrs);
    }

    async fn acknowledge(self, opened: &Opened<'_>) -> Held {
        let (window, pass) = (opened.window, opened.pass.clone());
        let ack = Ack { id: Some(self.id), window, pass }.encode();
        self.socket.send(&ack).await.unwrap();
        // Repeats that were in flight already do not count.
        let (grace, buffer) = (Instant::now() + Duration::from_millis(300), &mut [0; 2048]);
        while let Ok(Ok(_)) = timeout_at(grace, self.socket.recv(buffer)).await {}
        let quiet = Duration::from_millis(1200);
        let told_again = timeout(quiet, self.socket.recv(buffer)).await.is_ok();
        let addr = self.socket.local_addr().unwrap();
        Held { addr, window, peers: self.parts.into_values().flatten().collect(), told_again }
    }
}

/// Waits for the beginning of a window, so that all members have its whole length to register in.
fn wait_for_a_boundary() {
    let (now, length) = (Clock::start().now().wall, Length::new(WINDOW).unwrap());
    std::thread::sleep(now.until(length.first_from(now).opens()));
}

#[test]
fn a_thousand_members_hold_their_lists() {
    let home = Home::on_disk(HIT7);
    let registry = home.serve(&["--window", &format!("{}s", WINDOW.as_secs())]);
    let addr = registry.addr;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    wait_for_a_boundary();
    let held: Vec<Held> = runtime.block_on(async {
        let mut crowd = JoinSet::new();
        for number in 0..MEMBERS {
            crowd.spawn(async move { Member::new(number, addr).await.run().await });
        }
        timeout(Duration::from_secs(60), crowd.join_all()).await.expect("everyone holds its list")
    });
    registry.close();

    let windows: HashSet<Window> = held.iter().map(|held| held.window).collect();
    let documents = documents(&home);
    let documented = |window| documents[window].rooms.values().map(Vec::len).sum::<usize>();
    assert_eq!(windows.iter().map(documented).collect::<Vec<_>>(), [MEMBERS], "in one window");
    let peers = |held: &Held| held.peers.iter().copied().collect::<HashSet<_>>();
    let lists: HashMap<_, _> = held.iter().map(|held| (held.addr, peers(held))).collect();
    for (member, peers) in &lists {
        assert_eq!(peers.len(), 200);
        assert!(!peers.contains(member));
        assert!(peers.iter().all(|peer| lists[peer].contains(member)), "lists are mutual");
    }
    let again = held.iter().filter(|held| held.told_again).count();
    println!("{MEMBERS} members in one window, {again} told again after their ACK");
    assert!(again < MEMBERS / 2, "{again} were told again after their ACK");
}
