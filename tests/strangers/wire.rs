//! Helpers that send a single request on a socket and read the answer.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::time::Duration;

use hit7::cookie::NO_COOKIE;
use hit7::proto::{Auth, Code, Datagram, Profile, Request};

use hit7_support::{Registry, http, udp_socket};

pub(crate) use hit7_support::receive;

/// Flags of a registry that does not trust loopback, with a window so long that none opens: a
/// WINDOW would be mistaken for an answer.
pub(crate) const TRUST_NOBODY: [&str; 4] = ["--trust", "192.0.2.1", "--window", "1day"];

/// The lock that flooding tests hold, so that they do not slow each other down.
pub(crate) static MACHINE: Mutex<()> = Mutex::new(());

/// Opens a socket at `ip` on a free port.
pub(crate) fn socket(ip: [u8; 4]) -> UdpSocket {
    udp_socket(ip, Duration::from_secs(5))
}

/// Sends a datagram, and returns the next one that comes; `None` if none comes in time.
pub(crate) fn answer(socket: &UdpSocket, to: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
    socket.send_to(datagram, to).unwrap();
    receive(socket)
}

/// Sends a datagram, and returns the kind of the answer.
pub(crate) fn reply(socket: &UdpSocket, to: SocketAddr, datagram: &[u8]) -> Reply {
    Reply::of(&answer(socket, to, datagram).expect("an answer"))
}

/// Asks the registry for a cookie, and returns it.
pub(crate) fn cookie(socket: &UdpSocket, to: SocketAddr) -> String {
    let challenge = answer(socket, to, br#"{"type":"QUERY"}"#).expect("a CHALLENGE");
    match Datagram::decode(&challenge).unwrap() {
        Datagram::Challenge(challenge) => challenge.cookie,
        other => panic!("{other:?}"),
    }
}

/// Returns a REGISTER with an id and a cookie.
pub(crate) fn register(id: &str, cookie: &str) -> Vec<u8> {
    let request = Request::register(id.parse().ok(), Some(1), Profile::default());
    request.encode(&Auth::with_cookie(cookie))
}

/// Returns a REGISTER as hit7's client sends it before it has a cookie.
pub(crate) fn first_register() -> Vec<u8> {
    register("0123456789a", NO_COOKIE)
}

/// Reads a number from the registry's metrics page; `name` includes the labels as written there.
pub(crate) fn metric(registry: &Registry, name: &str) -> u64 {
    let text = http::get(registry.http(), "/metrics").body;
    let number = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
    text.lines().find_map(number).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// The highest age of the numbers on the metrics page.
pub(crate) const PAGE_AGE: Duration = Duration::from_millis(600);

/// Returns how many datagrams the registry has received, by its metrics page.
pub(crate) fn received(registry: &Registry) -> u64 {
    metric(registry, "hit7_datagrams_received_total")
}

/// The kind of a registry's answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Challenge,
    Registered,
    Error(Code),
    Other,
}

impl Reply {
    /// Returns the kind of answer that a datagram is.
    pub(crate) fn of(answer: &[u8]) -> Reply {
        match Datagram::decode(answer).unwrap() {
            Datagram::Challenge(_) => Reply::Challenge,
            Datagram::Registered(_) => Reply::Registered,
            Datagram::Error(refusal) => Reply::Error(refusal.code),
            _ => Reply::Other,
        }
    }
}
