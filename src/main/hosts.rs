//! Resolves host names to addresses, and binds UDP sockets to them.

use std::io::{self, ErrorKind};
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};

use hit7::udp::{Socket, Sockets};
use hit7::view;

use super::Failure;

/// With port 0: how many ports to try, as one that is free on the host's first address may be taken
/// on another.
const MAX_BIND_TRIES: usize = 16;

/// Binds a UDP socket on every address of `host`, or on all addresses, all with the same port.
pub(crate) fn bind(host: Option<&str>, port: u16) -> Result<Sockets, Failure> {
    let Some(host) = host else {
        let socket =
            Socket::bind_all(port).map_err(|error| cannot_listen("all addresses", port, &error))?;
        return Ok(Sockets::new(vec![socket]));
    };
    let addrs = resolve(host, port)?;
    for _ in 0..MAX_BIND_TRIES {
        match bind_each(&addrs) {
            Err((_, error)) if port == 0 && error.kind() == ErrorKind::AddrInUse => {}
            Err((addr, error)) => return Err(cannot_listen(&addr.ip().to_string(), port, &error)),
            Ok(sockets) => return Ok(Sockets::new(sockets)),
        }
    }
    Err(Failure::Message(format!(
        "no port is free on every address of {}; name one",
        view::escape_controls(host)
    )))
}

fn bind_each(addrs: &[SocketAddr]) -> Result<Vec<Socket>, (SocketAddr, io::Error)> {
    let mut sockets: Vec<Socket> = Vec::new();
    let mut missing = None;
    for &addr in addrs {
        let port = sockets.first().map_or(addr.port(), |first| first.local_addr().port());
        match Socket::bind(SocketAddr::new(addr.ip(), port)) {
            Ok(socket) => sockets.push(socket),
            // A host name may resolve to ::1 although this machine has no IPv6.
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                missing = Some((addr, error))
            }
            Err(error) => return Err((addr, error)),
        }
    }
    match missing {
        Some(missing) if sockets.is_empty() => Err(missing),
        _ => Ok(sockets),
    }
}

/// Returns the failure, with a remedy, for an address and port that cannot be listened on.
pub(crate) fn cannot_listen(host: &str, port: u16, error: &io::Error) -> Failure {
    let remedy = match error.kind() {
        ErrorKind::AddrInUse => "another program uses that port: choose another, or 0 for any",
        ErrorKind::AddrNotAvailable => "this machine has no such address",
        ErrorKind::PermissionDenied => "ports below 1024 need root: choose another",
        _ => "choose another address or port",
    };
    Failure::Message(format!("cannot listen on {host} port {port}: {error}; {remedy}"))
}

/// Resolves a host to its addresses, without duplicates. Blocks on the name server.
pub(crate) fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let shown = view::escape_controls(host);
    let found = (without_brackets(host), port).to_socket_addrs();
    let found = found.map_err(|error| {
        let remedy = match host.contains(':') {
            true => "give a name or an address, and the port as a word of its own",
            false => "give a name or an address",
        };
        Failure::Message(format!("cannot resolve host '{shown}': {error}; {remedy}"))
    })?;
    let mut addrs: Vec<SocketAddr> = Vec::new();
    for addr in found {
        if !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    if addrs.is_empty() {
        return Err(Failure::Message(format!("host '{shown}' has no address")));
    }
    Ok(addrs)
}

/// Strips the brackets of an IPv6 address like `[::1]`; returns any other host unchanged.
fn without_brackets(host: &str) -> &str {
    let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inside.filter(|inside| inside.parse::<Ipv6Addr>().is_ok()).unwrap_or(host)
}
