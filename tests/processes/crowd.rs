//! A thousand members of one room: each holds its own list, all parts, and has acknowledged.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hit7::clock::Clock;
use hit7::proto::{Ack, Auth, Datagram, Id, Name, Profile, Request, Room};
use hit7::window::{Length, Window};
use tokio::net::UdpSocket;
use tokio::time::{timeout, timeout_at};

use crate::registry::{Registry, documents};

const MEMBERS: usize = 1000;
const WINDOW: Duration = Duration::from_secs(5);

/// What one member ends up with.
struct Held {
    addr: SocketAddr,
    window: Window,
    peers: Vec<SocketAddr>,
    /// Whether the registry went on telling it, after its ACK had time to arrive.
    told_again: bool,
}

/// Registers, gathers the parts of its list, acknowledges.
async fn member(number: usize, registry: SocketAddr) -> Held {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(registry).await.unwrap();
    let id: Id = format!("id-{number}").parse().unwrap();
    let name: Name = format!("member-{number}").parse().unwrap();
    let (own, name) = (Some(id.clone()), Some(name));
    let profile = Profile { name, ..Profile::default() };
    let register = Request::register(own, Some(1), profile).encode(&Auth::NONE);
    let mut parts: BTreeMap<u32, Vec<SocketAddr>> = BTreeMap::new();
    let mut buffer = [0; 2048];
    let mut request = register;
    loop {
        let wait = timeout(Duration::from_millis(700), socket.recv(&mut buffer)).await;
        let Ok(Ok(len)) = wait else {
            socket.send(&request).await.unwrap();
            continue;
        };
        match Datagram::decode(&buffer[..len]).unwrap() {
            Datagram::Registered(registered) if registered.opens_in_ms > 0 => {
                // Pull repairs: what the push did not bring is asked for, after the opening.
                let wait = Duration::from_millis(registered.opens_in_ms);
                let first = timeout(wait + Duration::from_secs(1), socket.peek(&mut buffer)).await;
                let query = Request::query(Some(id.clone()), None, Room::default(), 0);
                request = query.encode(&Auth::NONE);
                if first.is_err() {
                    socket.send(&request).await.unwrap();
                }
            }
            Datagram::Window(opened) => {
                let (window, page, pass) = (opened.window, opened.page, opened.pass);
                let addrs = page.candidates().unwrap().iter().map(|peer| peer.addr).collect();
                parts.insert(page.part, addrs);
                if parts.len() == page.parts as usize {
                    let ack = Ack { id: Some(id), window, pass }.encode();
                    socket.send(&ack).await.unwrap();
                    // Repeats that were on their way already do not count.
                    let grace = tokio::time::Instant::now() + Duration::from_millis(300);
                    while let Ok(Ok(_)) = timeout_at(grace, socket.recv(&mut buffer)).await {}
                    let quiet = Duration::from_millis(1200);
                    let told_again = timeout(quiet, socket.recv(&mut buffer)).await.is_ok();
                    let peers = parts.into_values().flatten().collect();
                    let addr = socket.local_addr().unwrap();
                    return Held { addr, window, peers, told_again };
                }
                let missing = (0..page.parts).find(|part| !parts.contains_key(part)).unwrap();
                let query = Request::query(Some(id.clone()), None, Room::default(), missing);
                request = query.encode(&Auth::NONE);
            }
            Datagram::Peers(peers) if peers.pass.is_some() => {
                let addrs = peers.page.candidates().unwrap().iter().map(|peer| peer.addr).collect();
                parts.insert(peers.page.part, addrs);
            }
            _ => {}
        }
    }
}

/// Waits until all of a window is there for them to register in.
fn begin_of_a_window() {
    let (now, length) = (Clock::start().now().wall, Length::new(WINDOW).unwrap());
    std::thread::sleep(now.until(length.first_from(now).opens()));
}

#[test]
fn a_thousand_members_hold_their_lists() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start(0, &format!("{}s", WINDOW.as_secs()), data.path());
    let addr = registry.addr;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    begin_of_a_window();
    let held: Vec<Held> = runtime.block_on(async {
        let mut crowd = tokio::task::JoinSet::new();
        (0..MEMBERS).for_each(|number| drop(crowd.spawn(member(number, addr))));
        timeout(Duration::from_secs(60), crowd.join_all()).await.expect("everyone holds its list")
    });
    registry.stop();

    let windows: HashSet<Window> = held.iter().map(|held| held.window).collect();
    let documents = documents(data.path());
    let documented = |window| documents[window].rooms.values().map(Vec::len).sum::<usize>();
    assert_eq!(windows.iter().map(documented).collect::<Vec<_>>(), [MEMBERS], "in one window");
    let lists: Arc<HashMap<SocketAddr, HashSet<SocketAddr>>> = Arc::new(
        held.iter().map(|held| (held.addr, held.peers.iter().copied().collect())).collect(),
    );
    for (member, peers) in lists.iter() {
        assert_eq!(peers.len(), 200);
        assert!(!peers.contains(member));
        assert!(peers.iter().all(|peer| lists[peer].contains(member)), "lists are mutual");
    }
    let again = held.iter().filter(|held| held.told_again).count();
    println!("{MEMBERS} members in one window, {again} told again after their ACK");
    assert!(again < MEMBERS / 2, "{again} were told again after their ACK");
}
