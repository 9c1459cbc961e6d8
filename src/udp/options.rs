//! The options of a UDP socket, and what the system's sockets can do.
//!
//! Old kernels and sandboxes refuse some options and system calls. None of those here is needed:
//! what is refused makes hit7 slower, or is told.

use std::io;
use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex, PoisonError};

use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::UdpSocketState;
use socket2::{Domain, Socket};

use super::egress::open;

/// The system calls of quinn-udp: batches received at once, trains sent at once.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) state: UdpSocketState,
    /// The most datagrams of one train, as found at the start: quinn-udp's own count falls to 1 at
    /// any EINVAL, which one datagram to our broadcast address would cause.
    pub(super) max_train: usize,
}

/// Returns the calls of quinn-udp; `None` if the system refuses an option that quinn-udp insists
/// on: then datagrams are received and sent one by one.
pub(super) fn calls() -> Option<&'static Calls> {
    static CALLS: LazyLock<Option<Calls>> = LazyLock::new(|| {
        let refused =
            |error: &io::Error| tell_once("datagrams are sent and received one by one", error);
        new_calls().inspect_err(refused).ok()
    });
    CALLS.as_ref()
}

/// Makes quinn-udp set its options on a socket that is used for nothing else: "don't fragment",
/// time stamps and ECN are not wanted on ours.
fn new_calls() -> io::Result<Calls> {
    let probe = open(Domain::IPV4).or_else(|_| open(Domain::IPV6))?;
    let state = UdpSocketState::new((&probe).into())?;
    let max_train = state.max_gso_segments();
    Ok(Calls { state, max_train })
}

/// Lets a socket's datagrams be fragmented: the longest must also take a path of 576 bytes
/// (RFC 791), and a router that drops it may not say so.
pub(super) fn allow_fragments(socket: &Socket, is_ipv6: bool) {
    if let Err(error) = set_fragments(socket, is_ipv6) {
        tell_once("long datagrams may get lost where the path takes only short ones", &error);
    }
}

#[cfg(target_os = "linux")]
fn set_fragments(socket: &Socket, is_ipv6: bool) -> io::Result<()> {
    use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
    use rustix::net::sockopt::{set_ip_mtu_discover, set_ipv6_mtu_discover};
    // A socket of IPv6 may send to IPv4 too.
    set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DONT)?;
    if is_ipv6 {
        set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DONT)?;
    }
    Ok(())
}

/// Does nothing: on other systems than Linux datagrams may be fragmented unless one asks otherwise.
#[cfg(not(target_os = "linux"))]
fn set_fragments(_: &Socket, _: bool) -> io::Result<()> {
    Ok(())
}

/// Has the system report the local address of each datagram received by a socket bound to all
/// addresses; returns whether the local addresses are known.
pub(super) fn report_local_addresses(socket: &Socket, bound: SocketAddr) -> bool {
    if !bound.ip().is_unspecified() {
        return true;
    }
    let set = match bound {
        #[cfg(target_os = "linux")]
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true),
        #[cfg(not(target_os = "linux"))]
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4RecvDstAddr, &true),
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true),
    };
    set.is_ok()
}

/// Returns whether an error says that the system does not know or not allow an option or a call.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    use libc::{EACCES, EINVAL, ENOPROTOOPT, ENOSYS, EOPNOTSUPP, EPERM};
    let refusals = [EACCES, EINVAL, ENOPROTOOPT, ENOSYS, EOPNOTSUPP, EPERM];
    error.raw_os_error().is_some_and(|number| refusals.contains(&number))
}

/// Logs, once in a process, that the system refuses something, and what comes of that.
pub(super) fn tell_once(consequence: &'static str, error: &io::Error) {
    static TOLD: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if !told.contains(&consequence) {
        told.push(consequence);
        tracing::info!(%error, "the system refuses an option or a call of UDP sockets: {consequence}");
    }
}
