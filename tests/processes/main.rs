//! Tests the real program under load and failures: killed and paused at any moment, on a full disk,
//! under clocks that step, with a thousand members at once.
//!
//! `HIT7_KILLS=500 HIT7_LONG=1 cargo test --release --test processes` is the long run. What needs
//! root, libfaketime or more time than a test should take is skipped aloud without; with
//! `HIT7_NO_SKIPS=1` it fails instead.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};

use hit7::archive::{Archive, Document};
use hit7::proto::{Auth, Datagram, Profile, Request};
use hit7::store::Disk;
use hit7::window::Window;
use hit7_support::{Hit7, Home, receive};

mod crowd;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod day;
mod full;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod hung;
mod jumps;
mod kills;
#[cfg(target_os = "linux")]
mod refused;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[path = "../strangers/spoofer.rs"]
mod spoofer;
mod steps;
#[cfg(target_os = "linux")]
mod threads;

const HIT7: Hit7 = Hit7(env!("CARGO_BIN_EXE_hit7"));

/// Returns a client's first REGISTER.
fn register(id: &str, name: &str) -> Vec<u8> {
    let (id, name) = (id.parse().ok(), name.parse().ok());
    let profile = Profile { name, ..Profile::default() };
    Request::register(id, Some(1), profile).encode(&Auth::NONE)
}

/// Repeats a request until `read` accepts an answer, and returns that; `None` once `is_over`.
fn ask_until<T>(
    socket: &UdpSocket,
    registry: SocketAddr,
    request: &[u8],
    mut is_over: impl FnMut() -> bool,
    read: impl Fn(Datagram<'_>) -> Option<T>,
) -> Option<T> {
    while !is_over() {
        // The registry may be dead at this moment.
        let _ = socket.send_to(request, registry);
        while let Some(datagram) = receive(socket) {
            if let Some(answer) = Datagram::decode(&datagram).ok().and_then(&read) {
                return Some(answer);
            }
        }
    }
    None
}

/// Reads all documents on disk, by window.
fn documents(home: &Home) -> HashMap<Window, Document> {
    let archive = Archive::new(Disk, home.data().join("windows"));
    let windows = archive.windows().unwrap();
    windows.iter().map(|listed| (listed.window, archive.read(listed.window).unwrap())).collect()
}

/// Returns the address of the member with this name in a document, if there is one.
fn address_of(document: &Document, name: &str) -> Option<SocketAddr> {
    let mut members = document.rooms.values().flatten();
    members.find(|it| it.name.as_ref().is_some_and(|it| it.as_str() == name)).map(|it| it.addr)
}
