//! Resolves host names to addresses, and binds UDP sockets to them.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use hit7::udp::{BindError, Sockets, all_addresses};
use hit7::view;
use libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};

use super::{Failure, stop};

/// Binds a UDP socket on every address of `host`, or on all addresses, all with the same port.
pub(crate) fn bind(host: Option<&str>, port: u16) -> Result<Sockets, Failure> {
    let addrs = match host {
        Some(host) => stop::suspendable(|| resolve(host, port))?,
        None => all_addresses(port).to_vec(),
    };
    Sockets::bind(&addrs).map_err(|BindError { addr, source }| {
        if port == 0 && source.kind() == ErrorKind::AddrInUse {
            return no_free_port(host);
        }
        cannot_listen("", SocketAddr::new(addr.ip(), port), &source)
    })
}

fn no_free_port(host: Option<&str>) -> Failure {
    let of = host.map(|host| format!(" of {}", view::escape_controls(host))).unwrap_or_default();
    Failure::Message(format!("no port is free on every address{of}; name one"))
}

/// Returns the failure, with a remedy if one is known, for an address that cannot be listened on.
/// `flag` is what the address was given with, such as `--http`; empty for the registry's own.
pub(crate) fn cannot_listen(flag: &str, addr: SocketAddr, error: &io::Error) -> Failure {
    let remedy = remedy(addr, error).map(|it| format!("; {it}")).unwrap_or_default();
    let (space, ip, port) = (if flag.is_empty() { "" } else { " " }, addr.ip(), addr.port());
    Failure::Message(format!("cannot listen on {flag}{space}{ip} port {port}: {error}{remedy}"))
}

/// What is wrong with an address that `lacks_scope`.
const NEEDS_SCOPE: &str = "a link-local address needs its interface, as in fe80::1%eth0";

fn lacks_scope(addr: &SocketAddr) -> bool {
    matches!(addr, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0)
}

/// Fails if nothing can be sent to any of `addrs`, as each is on a link that is not named.
pub(crate) fn require_scope(addrs: &[SocketAddr]) -> Result<(), Failure> {
    match addrs.iter().all(lacks_scope) {
        true => Err(Failure::Message(format!("cannot send to {}: {NEEDS_SCOPE}", addrs[0].ip()))),
        false => Ok(()),
    }
}

fn remedy(addr: SocketAddr, error: &io::Error) -> Option<&'static str> {
    Some(match (error.kind(), error.raw_os_error()) {
        (ErrorKind::AddrInUse, _) => "another program uses that port: choose another, or 0 for any",
        (ErrorKind::AddrNotAvailable, Some(_)) => "this machine has no such address",
        (ErrorKind::AddrNotAvailable, None) => {
            "this machine has no addresses of its kind, or does not let hit7 use them"
        }
        (ErrorKind::PermissionDenied, _) if (1..1024).contains(&addr.port()) => {
            "ports below 1024 need root: choose another"
        }
        (ErrorKind::PermissionDenied, _) => {
            "something forbids it, such as a sandbox (seccomp, SELinux): allow hit7 to open UDP and TCP sockets"
        }
        (ErrorKind::InvalidInput, None) => "give an address of this machine",
        (ErrorKind::InvalidInput, _) if lacks_scope(&addr) => NEEDS_SCOPE,
        (_, Some(EMFILE | ENFILE)) => "allow more open files (ulimit -n)",
        (_, Some(ENOBUFS | ENOMEM)) => {
            "the system has no memory left for sockets: end some programs"
        }
        _ => return None,
    })
}

/// Resolves a host to its addresses, without duplicates. Blocks on the name server.
pub(crate) fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let shown = view::escape_controls(host);
    let found = (without_brackets(host), port).to_socket_addrs();
    let found = found.map_err(|error| {
        let remedy = match host.contains(':') {
            true => "give a name or an address, and the port as a word of its own",
            false => "check the name and the name server, or give an address",
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

/// Returns whether a host is an IP address, not a name: there is nothing to resolve again.
pub(crate) fn is_address(host: &str) -> bool {
    let ip = without_brackets(host);
    ip.split_once('%').map_or(ip, |(ip, _scope)| ip).parse::<IpAddr>().is_ok()
}

/// Strips the brackets of an IPv6 address like `[::1]` or `[fe80::1%eth0]`; returns any other host unchanged.
fn without_brackets(host: &str) -> &str {
    let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_ipv6 = |inside: &&str| {
        let (ip, _scope) = inside.split_once('%').unwrap_or((inside, ""));
        ip.parse::<Ipv6Addr>().is_ok()
    };
    inside.filter(is_ipv6).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(failure: Failure) -> String {
        let Failure::Message(said) = failure else { panic!("it is no closed pipe") };
        said
    }

    #[test]
    fn an_address_that_cannot_be_listened_on_is_told_with_what_helps() {
        let kind = |kind: ErrorKind| io::Error::from(kind);
        let system = io::Error::from_raw_os_error;
        for (flag, addr, error, told, remedy) in [
            (
                "",
                "192.0.2.1:99",
                system(libc::EADDRINUSE),
                "on 192.0.2.1 port 99: ",
                "choose another",
            ),
            (
                "--http",
                "[::1]:9",
                system(libc::EADDRINUSE),
                "on --http ::1 port 9: ",
                "choose another",
            ),
            ("", "192.0.2.1:99", system(libc::EADDRNOTAVAIL), "", "no such address"),
            ("", "192.0.2.1:99", kind(ErrorKind::AddrNotAvailable), "", "no addresses of its kind"),
            ("", "0.0.0.0:1023", system(libc::EACCES), "", "below 1024"),
            ("", "0.0.0.0:1024", system(libc::EACCES), "", "seccomp"),
            ("", "0.0.0.0:0", system(libc::EPERM), "", "seccomp"),
            ("", "192.0.2.1:99", kind(ErrorKind::InvalidInput), "", "address of this machine"),
            ("", "[fe80::1]:99", system(libc::EINVAL), "", "needs its interface"),
            ("", "0.0.0.0:99", system(libc::EMFILE), "", "ulimit -n"),
            ("", "0.0.0.0:99", system(libc::ENFILE), "", "ulimit -n"),
            ("", "0.0.0.0:99", system(libc::ENOBUFS), "", "no memory left"),
        ] {
            let said = said(cannot_listen(flag, addr.parse().unwrap(), &error));
            assert!(said.contains(told) && said.contains(remedy), "{said}");
        }
        for addr in ["192.0.2.1:99", "[2001:db8::1]:99", "[fe80::1%2]:99"] {
            let said = said(cannot_listen("", addr.parse().unwrap(), &system(libc::EINVAL)));
            assert!(
                said.ends_with(&system(libc::EINVAL).to_string()),
                "no remedy is known: {said}"
            );
        }
    }

    #[test]
    fn a_registry_on_a_link_that_is_not_named_is_refused_unless_it_has_another_address() {
        let addrs = |texts: &[&str]| texts.iter().map(|it| it.parse().unwrap()).collect::<Vec<_>>();
        let Err(failure) = require_scope(&addrs(&["[fe80::1]:9"])) else {
            panic!("on which link?")
        };
        assert_eq!(said(failure), format!("cannot send to fe80::1: {NEEDS_SCOPE}"));
        for reachable in [&["[fe80::1%2]:9"][..], &["[fe80::1]:9", "192.0.2.1:9"], &["[::1]:9"]] {
            assert!(require_scope(&addrs(reachable)).is_ok(), "{reachable:?}");
        }
    }

    #[test]
    fn no_free_port_names_the_host_if_there_is_one() {
        assert!(said(no_free_port(None)).contains("no port is free on every address; name one"));
        assert!(
            said(no_free_port(Some("a\u{1b}"))).contains("every address of a\\u{1b}; name one")
        );
    }

    #[test]
    fn a_host_that_is_an_address_is_known_with_brackets_and_scope() {
        for host in ["192.0.2.1", "::1", "[::1]", "fe80::1%eth0", "[fe80::1%eth0]"] {
            assert!(is_address(host), "{host}");
        }
        for host in ["localhost", "", "[localhost]", "[192.0.2.1]", "::1]", "[::1", "192.0.2.1:80"]
        {
            assert!(!is_address(host), "{host}");
        }
    }

    #[test]
    fn addresses_are_resolved_to_themselves() {
        for (host, addr) in [("192.0.2.1", "192.0.2.1:9"), ("[::1]", "[::1]:9"), ("::1", "[::1]:9")]
        {
            assert_eq!(resolve(host, 9).ok(), Some(vec![addr.parse().unwrap()]), "{host}");
        }
        let Err(failure) = resolve("192.0.2.1:80", 9) else { panic!("it is no host") };
        let said = said(failure);
        assert!(said.contains("'192.0.2.1:80'") && said.contains("word of its own"), "{said}");
    }
}
