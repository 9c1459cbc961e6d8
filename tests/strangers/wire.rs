//! One datagram there, what comes back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::time::Duration;

use hit7::cookie::NO_COOKIE;
use hit7::proto::{Auth, Code, Datagram, Profile, Request};

use crate::registry::Registry;

/// Trusts nobody who is here: loopback is a stranger like any other. No window opens meanwhile: who is
/// registered would be told, and that is no answer.
pub(crate) const TRUST_NOBODY: [&str; 4] = ["--trust", "192.0.2.1", "--window", "1day"];

/// Who holds it floods, or counts what all the machine receives.
pub(crate) static MACHINE: Mutex<()> = Mutex::new(());

/// A socket at an address of its own.
pub(crate) fn socket(ip: [u8; 4]) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::from((ip, 0))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// What comes back; `None` if nothing does.
pub(crate) fn answer(socket: &UdpSocket, to: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
    socket.send_to(datagram, to).unwrap();
    receive(socket)
}

/// The next datagram.
pub(crate) fn receive(socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    socket.recv_from(&mut buffer).ok().map(|(len, _)| buffer[..len].to_vec())
}

/// The cookie that a CHALLENGE gives.
pub(crate) fn cookie(socket: &UdpSocket, to: SocketAddr) -> String {
    let challenge = answer(socket, to, br#"{"type":"QUERY"}"#).expect("a CHALLENGE");
    match Datagram::decode(&challenge).unwrap() {
        Datagram::Challenge(challenge) => challenge.cookie,
        other => panic!("{other:?}"),
    }
}

/// A REGISTER with that cookie.
pub(crate) fn register(id: &str, cookie: &str) -> Vec<u8> {
    register_as(id, 1, cookie, Profile::default())
}

/// A REGISTER with that cookie, seq and profile.
pub(crate) fn register_as(id: &str, seq: u64, cookie: &str, profile: Profile) -> Vec<u8> {
    let request = Request::register(Some(id.parse().unwrap()), Some(seq), profile);
    request.encode(&Auth::with_cookie(cookie))
}

/// A REGISTER as hit7's client sends it before it has a cookie.
pub(crate) fn first_register() -> Vec<u8> {
    register("0123456789a", NO_COOKIE)
}

/// A number of the registry's metrics page; with labels, as it is written there.
pub(crate) fn metric(registry: &Registry, name: &str) -> u64 {
    let said = |line: &String| line.strip_prefix("page on http://").map(str::to_owned);
    let lines = || registry.lines.lock().unwrap();
    let page = (0..1000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(u64::from(lines().len() < 3)));
        lines().iter().find_map(said)
    });
    let mut page = TcpStream::connect(page.expect("it has --http")).unwrap();
    page.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    page.read_to_string(&mut text).unwrap();
    let number = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
    text.lines().find_map(number).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// What an answer is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Challenge,
    Registered,
    Error(Code),
    Other,
}

pub(crate) fn told(answer: &[u8]) -> Told {
    match Datagram::decode(answer).unwrap() {
        Datagram::Challenge(_) => Told::Challenge,
        Datagram::Registered(_) => Told::Registered,
        Datagram::Error(refusal) => Told::Error(refusal.code),
        _ => Told::Other,
    }
}
