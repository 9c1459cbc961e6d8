//! Killed and stopped before, at and after boundaries, with clients registering all the while:
//! whoever was acked is in its window's document, and a member of the window in which the registry
//! was killed is still one afterwards, with the same pass.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use hit7::archive::Document;
use hit7::clock::Clock;
use hit7::proto::{Auth, Datagram, Id, Pass, Request, Room};
use hit7::window::{Length, Wall, Window};
use hit7_support::{Home, Registry, udp_socket};

use crate::{HIT7, address_of, ask_until, documents, register};

const FLAGS: [&str; 2] = ["--window", "2s"];
const WINDOW: u64 = 2000;
const CLIENTS: usize = 24;

fn kills() -> u64 {
    std::env::var("HIT7_KILLS").map_or(6, |kills| kills.parse().expect("HIT7_KILLS is a number"))
}

/// A registration that was acked.
#[derive(Clone, Debug)]
struct Acked {
    window: Window,
    id: String,
    name: String,
    addr: SocketAddr,
}

/// What the clients share with the test.
#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    acked: Mutex<Vec<Acked>>,
}

fn wall() -> Wall {
    Clock::start().now().wall
}

fn socket() -> UdpSocket {
    udp_socket(Ipv4Addr::LOCALHOST, Duration::from_millis(50))
}

fn is_own(id: Option<&Id>, own: &str) -> bool {
    id.is_some_and(|id| id.as_str() == own)
}

/// Registers once for each window, each time as another client.
fn register_repeatedly(client: usize, registry: SocketAddr, shared: &Shared) {
    let socket = socket();
    let addr = socket.local_addr().unwrap();
    for round in 0.. {
        let (id, name) = (format!("id-{client}-{round}"), format!("client-{client}-{round}"));
        let is_over = || shared.is_over.load(Ordering::Relaxed);
        // A late answer to what another id asked before from this address is none.
        let answer = ask_until(&socket, registry, &register(&id, &name), is_over, |it| match it {
            Datagram::Registered(it) if is_own(it.id.as_ref(), &id) => {
                Some((it.window, it.opens_in_ms))
            }
            _ => None,
        });
        let Some((window, opens_in_ms)) = answer else { return };
        shared.acked.lock().unwrap().push(Acked { window, id, name, addr });
        // An address has one registration a window: the next is for the window after.
        thread::sleep(Duration::from_millis(opens_in_ms + 1));
    }
}

/// What a client is told of the current window; the pass only if it is a member.
type List = (Window, Option<Pass>, String);

fn own_list(registry: SocketAddr, id: &str) -> List {
    let query = Request::query(id.parse().ok(), None, Room::default(), 0).encode(&Auth::NONE);
    let list = ask_until(
        &socket(),
        registry,
        &query,
        || false,
        |it| match it {
            Datagram::Peers(it) if is_own(it.id.as_ref(), id) => {
                Some((it.window, it.pass, it.page.peers.to_owned()))
            }
            _ => None,
        },
    );
    list.expect("it asks until it is answered")
}

fn sleep_until_in_window(millis: u64) {
    let now = wall().millis() as u64;
    let target = (now / WINDOW + 1) * WINDOW + millis;
    thread::sleep(Duration::from_millis(target - now));
}

fn window_after(millis: u64) -> Window {
    let length = Length::new(Duration::from_millis(WINDOW)).unwrap();
    length.window_at(wall().plus(Duration::from_millis(millis)))
}

/// A registry that is killed and stopped, and what was seen of it.
struct Trial {
    home: Home,
    registry: Registry,
    shared: Arc<Shared>,
    /// How often a member's list was seen on both sides of a kill.
    compared: usize,
    /// Windows that it was stopped in the beginning of, and opened late.
    late: Vec<Window>,
    /// Windows that it was stopped through.
    missed: Vec<Window>,
}

impl Trial {
    /// Kills the registry so long after a boundary, and starts it again.
    fn kill(&mut self, offset: u64) {
        let addr = self.registry.addr;
        // Well inside a window, so that what is told before and after is told of the same one.
        sleep_until_in_window(offset);
        let member = self.current_member();
        self.registry.program.kill();
        self.registry = self.home.serve_at(addr.port(), &FLAGS);
        let Some((id, before)) = member else { return };
        let after = own_list(addr, &id);
        if after.0 == before.0 {
            assert_eq!(after, before, "{} is not frozen", before.0);
            self.compared += 1;
        }
    }

    /// A member of the current window, if one of the last to register is one, and what it is told.
    fn current_member(&self) -> Option<(String, List)> {
        let acked = self.shared.acked.lock().unwrap().clone();
        let latest = acked.into_iter().rev().take(3 * CLIENTS);
        let lists = latest.map(|acked| (own_list(self.registry.addr, &acked.id), acked.id));
        lists.map(|(list, id)| (id, list)).find(|(_, (_, pass, _))| pass.is_some())
    }

    /// Stops it over a boundary, for less than a window.
    fn pause_into_window(&mut self) {
        sleep_until_in_window(WINDOW - 300);
        self.late.push(window_after(WINDOW));
        self.registry.program.pause(Duration::from_millis(700));
    }

    /// Stops it until the next window is over: a member of that is told of a later one.
    fn pause_through_window(&mut self) {
        sleep_until_in_window(WINDOW / 2);
        let missed = window_after(WINDOW);
        let is_member = |acked: &&Acked| acked.window == missed;
        let member = self.shared.acked.lock().unwrap().iter().find(is_member).cloned();
        self.registry.program.pause(Duration::from_millis(WINDOW + WINDOW / 2 + 200));
        let Some(Acked { id, name, .. }) = member else { return };
        self.missed.push(missed);
        let (addr, retry) = (self.registry.addr, register(&id, &name));
        let told = ask_until(
            &socket(),
            addr,
            &retry,
            || false,
            |it| match it {
                Datagram::Registered(it) if is_own(it.id.as_ref(), &id) => {
                    Some((it.window, it.current.window))
                }
                _ => None,
            },
        );
        let (next, current) = told.expect("it asks until it is answered");
        assert!(current > missed && next > missed, "it was missed");
    }

    /// Checks what is on disk; of closed windows with a document no journal is kept.
    fn check(self) {
        let Trial { home, registry, shared, compared, late, missed } = self;
        registry.close();
        let journals = home.journals().len();
        assert!(journals <= 3, "too many journals are kept: {journals}");
        let documents = documents(&home);
        let acked = shared.acked.lock().unwrap();
        let lost: Vec<_> = acked.iter().filter(|acked| !is_documented(acked, &documents)).collect();
        let late = late.iter().filter_map(|window| documents.get(window));
        let late = late.inspect(|it| assert!(it.opened.is_some(), "{it:?}")).count();
        for window in &missed {
            assert_eq!(documents[window].opened, None, "{window} was slept through");
        }
        let (kills, acked, missed) = (kills(), acked.len(), missed.len());
        println!(
            "{kills} kills, {acked} acked, {} lost, {compared} compared, {late} opened late, \
             {missed} missed",
            lost.len()
        );
        assert!(late > 0 && missed > 0, "it slept into a window, and through one");
        assert!(acked as u64 > kills * CLIENTS as u64 / 2, "clients registered meanwhile");
        assert!(compared > 0, "no member's list was seen on both sides of a kill");
        assert!(lost.is_empty(), "acked and lost: {lost:?}");
    }
}

fn is_documented(acked: &Acked, documents: &HashMap<Window, Document>) -> bool {
    let document = documents.get(&acked.window);
    document.is_some_and(|it| address_of(it, &acked.name) == Some(acked.addr))
}

#[test]
fn a_killed_registry_forgets_nothing_that_it_acked() {
    let home = Home::on_disk(HIT7);
    let registry = home.serve(&FLAGS);
    let (addr, shared) = (registry.addr, Arc::new(Shared::default()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let shared = shared.clone();
            thread::spawn(move || register_repeatedly(client, addr, &shared))
        })
        .collect();
    let (late, missed) = (Vec::new(), Vec::new());
    let mut trial = Trial { home, registry, shared, compared: 0, late, missed };
    for kill in 0..kills() {
        // Before, at and after the boundary, and in the middle.
        trial.kill([WINDOW - 3, 0, 1, 4, WINDOW / 2, WINDOW - 1][kill as usize % 6]);
        match kill % 12 {
            2 | 8 => trial.pause_into_window(),
            5 => trial.pause_through_window(),
            _ => {}
        }
    }
    trial.shared.is_over.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    sleep_until_in_window(WINDOW + 500);
    trial.check();
}
