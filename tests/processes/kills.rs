//! Killed and stopped before, at and after boundaries, with clients registering all the while:
//! whoever was acked is in its window's document, and a member of the window in which the registry
//! was killed is still one afterwards, with the same pass.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use hit7::clock::Clock;
use hit7::proto::{Auth, Datagram, Id, Name, Pass, Profile, Request, Room};
use hit7::window::{Length, Wall, Window};

use crate::registry::{Registry, documents, logs};

const WINDOW: u64 = 2000;
const CLIENTS: usize = 24;

fn kills() -> u64 {
    std::env::var("HIT7_KILLS").map_or(6, |kills| kills.parse().expect("HIT7_KILLS is a number"))
}

/// A registration that was acked.
#[derive(Clone, Debug)]
struct Acked {
    window: Window,
    name: Name,
    addr: SocketAddr,
}

/// Asks again and again until it is answered, or all is over. A late answer to what another id
/// asked before from the same address is none.
fn ask(
    socket: &UdpSocket,
    registry: SocketAddr,
    own: &Id,
    request: &[u8],
    over: &AtomicBool,
) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    while !over.load(Ordering::Relaxed) {
        // The registry may be dead at this moment.
        let _ = socket.send_to(request, registry);
        while let Ok((len, _)) = socket.recv_from(&mut buffer) {
            let id = match Datagram::decode(&buffer[..len]) {
                Ok(Datagram::Registered(registered)) => registered.id,
                Ok(Datagram::Peers(peers)) => peers.id,
                _ => None,
            };
            if id.as_ref() == Some(own) {
                return Some(buffer[..len].to_vec());
            }
        }
    }
    None
}

fn wall() -> Wall {
    Clock::start().now().wall
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    socket
}

/// Registers once for each window, each time as somebody else.
fn register_all_the_while(
    client: usize,
    registry: SocketAddr,
    over: &AtomicBool,
    acked: &Mutex<Vec<Acked>>,
) {
    let socket = socket();
    let addr = socket.local_addr().unwrap();
    for round in 0.. {
        let name: Name = format!("client-{client}-{round}").parse().unwrap();
        let id: Id = format!("id-{client}-{round}").parse().unwrap();
        let profile = Profile { name: Some(name.clone()), ..Profile::default() };
        let register = Request::register(Some(id.clone()), Some(1), profile).encode(&Auth::NONE);
        let answer = ask(&socket, registry, &id, &register, over);
        let Some(answer) = answer else { return };
        let Ok(Datagram::Registered(registered)) = Datagram::decode(&answer) else {
            panic!("no answer to REGISTER")
        };
        let window = registered.window;
        acked.lock().unwrap().push(Acked { window, name, addr });
        // An address has one registration a window: the next is for the window after.
        thread::sleep(Duration::from_millis(registered.opens_in_ms + 1));
    }
}

/// What a member is told of its window.
fn own_list(
    registry: SocketAddr,
    id: &Id,
    over: &AtomicBool,
) -> Option<(Window, Option<Pass>, String)> {
    let query = Request::query(Some(id.clone()), None, Room::default(), 0);
    let answer = ask(&socket(), registry, id, &query.encode(&Auth::NONE), over)?;
    match Datagram::decode(&answer) {
        Ok(Datagram::Peers(peers)) => Some((peers.window, peers.pass, peers.page.peers.to_owned())),
        _ => None,
    }
}

fn sleep_until_in_window(millis: u64) {
    let now = wall().millis() as u64;
    let target = (now / WINDOW + 1) * WINDOW + millis;
    thread::sleep(Duration::from_millis(target - now));
}

/// A member of the current window, if the last client to register is one.
fn member_now(acked: &Mutex<Vec<Acked>>) -> Vec<Id> {
    let acked = acked.lock().unwrap();
    let id = |acked: &Acked| acked.name.as_str().replace("client", "id").parse().unwrap();
    acked.iter().rev().take(3 * CLIENTS).map(id).collect()
}

/// Kills the registry at an offset from a boundary, and starts it again.
fn kill_and_check(
    registry: Registry,
    offset: u64,
    data: &Path,
    acked: &Mutex<Vec<Acked>>,
) -> (Registry, bool) {
    let over = AtomicBool::new(false);
    let addr = registry.addr;
    // Well inside a window, so that what is told before and after is told of the same one.
    sleep_until_in_window(offset);
    let before: Vec<_> = member_now(acked)
        .into_iter()
        .filter_map(|id| own_list(addr, &id, &over).map(|list| (id, list)))
        .filter(|(_, (_, pass, _))| pass.is_some())
        .take(1)
        .collect();
    registry.kill();
    let registry = Registry::start(addr.port(), "2s", data);
    let mut compared = false;
    for (id, (window, pass, peers)) in before {
        let (later, same_pass, same_peers) = own_list(addr, &id, &over).unwrap();
        if later == window {
            assert_eq!((same_pass, same_peers), (pass, peers), "{window} is not frozen");
            compared = true;
        }
    }
    (registry, compared)
}

/// What became of the windows in which the registry was stopped.
#[derive(Default)]
struct Stopped {
    /// Those that it slept into, and opened late.
    late: Vec<Window>,
    /// Those that it slept through.
    missed: Vec<Window>,
}

fn window_after(millis: u64) -> Window {
    let length = Length::new(Duration::from_millis(WINDOW)).unwrap();
    length.window_at(wall().plus(Duration::from_millis(millis)))
}

/// Stops it over a boundary, for less than a window.
fn sleep_into(registry: &Registry, stopped: &mut Stopped) {
    sleep_until_in_window(WINDOW - 300);
    stopped.late.push(window_after(WINDOW));
    registry.pause(Duration::from_millis(700));
}

/// Stops it until the next window is over: a member of that is told of a later one.
fn sleep_through(registry: &Registry, stopped: &mut Stopped, acked: &Mutex<Vec<Acked>>) {
    sleep_until_in_window(WINDOW / 2);
    let missed = window_after(WINDOW);
    let is_member = |acked: &&Acked| acked.window == missed;
    let member = acked.lock().unwrap().iter().find(is_member).cloned();
    registry.pause(Duration::from_millis(WINDOW + WINDOW / 2 + 200));
    let Some(member) = member else { return };
    stopped.missed.push(missed);
    let id: Id = member.name.as_str().replace("client", "id").parse().unwrap();
    let (own, name) = (Some(id.clone()), Some(member.name));
    let profile = Profile { name, ..Profile::default() };
    let retry = Request::register(own, Some(1), profile).encode(&Auth::NONE);
    let answer = ask(&socket(), registry.addr, &id, &retry, &AtomicBool::new(false)).unwrap();
    match Datagram::decode(&answer) {
        Ok(Datagram::Registered(told)) => {
            assert!(told.current.window > missed && told.window > missed, "it was missed");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_killed_registry_forgets_nothing_that_it_acked() {
    let data = tempfile::tempdir().unwrap();
    let mut registry = Registry::start(0, "2s", data.path());
    let addr = registry.addr;
    let over = Arc::new(AtomicBool::new(false));
    let acked = Arc::new(Mutex::new(Vec::new()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (over, acked) = (over.clone(), acked.clone());
            thread::spawn(move || register_all_the_while(client, addr, &over, &acked))
        })
        .collect();
    let (mut compared, mut stopped) = (0, Stopped::default());
    for kill in 0..kills() {
        // Before, at and after the boundary, and in the middle.
        let offset = [WINDOW - 3, 0, 1, 4, WINDOW / 2, WINDOW - 1][kill as usize % 6];
        let (restarted, same) = kill_and_check(registry, offset, data.path(), &acked);
        registry = restarted;
        compared += usize::from(same);
        match kill % 12 {
            2 | 8 => sleep_into(&registry, &mut stopped),
            5 => sleep_through(&registry, &mut stopped, &acked),
            _ => {}
        }
    }
    over.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    sleep_until_in_window(WINDOW + 500);
    registry.stop();
    let logs = logs(data.path());
    assert!(logs <= 3, "of closed windows with a document no log is kept, but there are {logs}");
    let documents = documents(data.path());
    let acked = acked.lock().unwrap();
    let lost: Vec<&Acked> = acked
        .iter()
        .filter(|acked| {
            let members =
                documents.get(&acked.window).and_then(|document| document.rooms.values().next());
            !members.into_iter().flatten().any(|member| {
                member.name.as_ref() == Some(&acked.name) && member.addr == acked.addr
            })
        })
        .collect();
    let late = stopped.late.iter().filter_map(|window| documents.get(window));
    let late = late.inspect(|document| assert!(document.opened.is_some(), "{document:?}")).count();
    for window in &stopped.missed {
        assert_eq!(documents[window].opened, None, "{window} was slept through");
    }
    println!(
        "{} kills, {} acked, {} lost, {compared} compared, {late} opened late, {} missed",
        kills(),
        acked.len(),
        lost.len(),
        stopped.missed.len(),
    );
    assert!(late > 0 && !stopped.missed.is_empty(), "it slept into a window, and through one");
    assert!(acked.len() as u64 > kills() * CLIENTS as u64 / 2, "clients registered meanwhile");
    assert!(compared > 0, "no member's list was seen on both sides of a kill");
    assert!(lost.is_empty(), "acked and lost: {lost:?}");
}
