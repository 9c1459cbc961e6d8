//! Kills and pauses registries before, at and after boundaries, with clients registering all the
//! time: each acked client is in its window's document, and a member of the current window at a
//! kill is still one afterwards, with the same pass.

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

/// The state that the client threads share with the test.
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

/// Registers once for each window, each time as a new client.
fn register_repeatedly(client: usize, registry: SocketAddr, shared: &Shared) {
    let socket = socket();
    let addr = socket.local_addr().unwrap();
    for round in 0.. {
        let (id, name) = (format!("id-{client}-{round}"), format!("client-{client}-{round}"));
        let is_over = || shared.is_over.load(Ordering::Relaxed);
        // A late answer to an earlier id's request from this address does not count.
        let answer = ask_until(&socket, registry, &register(&id, &name), is_over, |it| match it {
            Datagram::Registered(it) if is_own(it.id.as_ref(), &id) => {
                Some((it.window, it.opens_in_ms))
            }
            _ => None,
        });
        let Some((window, opens_in_ms)) = answer else { return };
        shared.acked.lock().unwrap().push(Acked { window, id, name, addr });
        // An address has one registration per window: the next is for the window after.
        thread::sleep(Duration::from_millis(opens_in_ms + 1));
    }
}

/// The answer to a QUERY: the current window, the pass if the client is a member, and the peers.
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

/// A registry that is killed and paused, with the observations made.
struct Trial {
    home: Home,
    registry: Registry,
    shared: Arc<Shared>,
    /// How many times a member's list was compared before and after a kill.
    compared: usize,
    /// Windows that opened late, as the registry was paused at their beginning.
    late: Vec<Window>,
    /// Windows that were missed, as the registry was paused for all of them.
    missed: Vec<Window>,
}

/// What was observed of one registry.
struct Counts {
    acked: usize,
    lost: Vec<Acked>,
    compared: usize,
    late: usize,
    missed: usize,
}

impl Trial {
    /// Kills the registry `offset` milliseconds after a boundary, and starts it again.
    fn kill(&mut self, offset: u64) {
        let addr = self.registry.addr;
        // Well inside a window, so that both answers are about the same one.
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

    /// Returns a member of the current window among the last clients, with its list, if any.
    fn current_member(&self) -> Option<(String, List)> {
        let acked = self.shared.acked.lock().unwrap().clone();
        let latest = acked.into_iter().rev().take(3 * CLIENTS);
        let lists = latest.map(|acked| (own_list(self.registry.addr, &acked.id), acked.id));
        lists.map(|(list, id)| (id, list)).find(|(_, (_, pass, _))| pass.is_some())
    }

    /// Pauses the registry over a boundary, for less than a window.
    fn pause_into_window(&mut self) {
        sleep_until_in_window(WINDOW - 300);
        self.late.push(window_after(WINDOW));
        self.registry.program.pause(Duration::from_millis(700));
    }

    /// Pauses the registry until the next window has ended; its members must be told a later one.
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

    /// Checks the files on disk: no journal is kept of a closed window with a document.
    fn check(self) -> Counts {
        let Trial { home, registry, shared, compared, late, missed } = self;
        registry.close();
        let journals = home.journals().len();
        assert!(journals <= 3, "too many journals are kept: {journals}");
        let documents = documents(&home);
        let acked = shared.acked.lock().unwrap();
        let lost = acked.iter().filter(|acked| !is_documented(acked, &documents)).cloned();
        let late = late.iter().filter_map(|window| documents.get(window));
        let late = late.inspect(|it| assert!(it.opened.is_some(), "{it:?}")).count();
        for window in &missed {
            assert_eq!(documents[window].opened, None, "{window} was slept through");
        }
        let (acked, lost, missed) = (acked.len(), lost.collect(), missed.len());
        Counts { acked, lost, compared, late, missed }
    }
}

fn is_documented(acked: &Acked, documents: &HashMap<Window, Document>) -> bool {
    let document = documents.get(&acked.window);
    document.is_some_and(|it| address_of(it, &acked.name) == Some(acked.addr))
}

/// Runs a registry through these kills.
fn run(kills: impl Iterator<Item = u64>) -> Counts {
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
    for kill in kills {
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
    trial.check()
}

/// The kills are shared out among two registries, which run at the same time.
#[test]
fn a_killed_registry_forgets_nothing_that_it_acked() {
    let kills = kills();
    let all: [Counts; 2] = thread::scope(|scope| {
        let half = |half| scope.spawn(move || run((0..kills).filter(move |it| it / 3 % 2 == half)));
        [0, 1].map(half).map(|counts| counts.join().unwrap())
    });
    let lost: Vec<_> = all.iter().flat_map(|it| &it.lost).collect();
    let sum = |count: fn(&Counts) -> usize| all.iter().map(count).sum::<usize>();
    let (acked, compared) = (sum(|it| it.acked), sum(|it| it.compared));
    let (late, missed) = (sum(|it| it.late), sum(|it| it.missed));
    println!(
        "{kills} kills, {acked} acked, {} lost, {compared} compared, {late} opened late, {missed} \
         missed",
        lost.len()
    );
    assert!(late > 0 && missed > 0, "it slept into a window, and through one");
    assert!(acked as u64 > kills * CLIENTS as u64 / 2, "clients registered meanwhile");
    assert!(compared > 0, "no member's list was seen on both sides of a kill");
    assert!(lost.is_empty(), "acked and lost: {lost:?}");
}
