//! Finds out why a registry does not answer, as far as the system can tell.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};

use crate::proto::Code;

/// What is known of why a registry does not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// Neither the system nor an answer tells why.
    #[default]
    Unknown,
    /// The system does not send there, or the network has told it why not.
    System {
        /// The address of the registry that was sent to.
        to: SocketAddr,
        /// The kind of the system's error.
        kind: ErrorKind,
        /// The system's error in its own words.
        error: String,
    },
    /// Small answers come, but not those with a list, which are large.
    LargeAnswersLost,
    /// Small answers come, but not that to REGISTER, which is larger and waits for the registry's disk.
    RegistrationUnanswered,
    /// The registry refuses for now.
    Refused {
        /// The reason for programs.
        code: Code,
        /// The reason as a sentence for a person.
        reason: String,
    },
    /// Parts of a list come, but the list did not become whole.
    ListNotWhole,
}

impl Cause {
    /// Returns the cause that an error of the system is; `Unknown` if it says only that a buffer is
    /// full or that there is nothing yet.
    pub(super) fn of(to: SocketAddr, error: &io::Error) -> Cause {
        match error.kind() {
            ErrorKind::WouldBlock => Cause::Unknown,
            kind => Cause::System { to, kind, error: error.to_string() },
        }
    }

    /// Returns this cause, or the other if nothing is known.
    pub(super) fn or(self, other: Cause) -> Cause {
        if self == Cause::Unknown { other } else { self }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Unknown => f.write_str("is it running, and does a firewall let udp through?"),
            Cause::System { to, kind, error } => {
                write!(f, "the system says of {to}: {error}; {}", remedy(*kind))
            }
            Cause::LargeAnswersLost => f.write_str(
                "small answers come, but none with a list: datagrams of up to 1232 bytes get lost on \
                 the way; look for a small MTU, or a firewall that drops fragments",
            ),
            Cause::RegistrationUnanswered => f.write_str(
                "it is there, but does not answer the registration: its disk may hang, or large datagrams \
                 get lost on the way; look at its log, or for a small MTU",
            ),
            Cause::Refused { code, reason } => write!(f, "it refuses for now ({code}): {reason}"),
            Cause::ListNotWhole => f.write_str(
                "answers come, but the list did not become whole in that time: give more with --timeout",
            ),
        }
    }
}

/// Returns what to do about an error of this kind.
fn remedy(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ConnectionRefused => {
            "no program listens there: start the registry, or check address and port"
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            "check the address, and this machine's network"
        }
        ErrorKind::PermissionDenied => {
            "a firewall on this machine forbids it: let udp out to there"
        }
        _ => "check the address, and --bind",
    }
}

/// Sockets that are connected to a registry's addresses: only such are told what the network answers,
/// like "port unreachable".
#[derive(Debug)]
pub(super) struct Probe(Vec<(SocketAddr, io::Result<UdpSocket>)>);

impl Probe {
    /// Sends a short QUERY to each address; no registry answers one to an address that has proven
    /// nothing, as that would be more than three times as long.
    pub(super) fn send(registries: &[SocketAddr], own: &[SocketAddr]) -> Probe {
        let probe = |&to: &SocketAddr| (to, probe(to, own));
        Probe(registries.iter().map(probe).collect())
    }

    /// Returns the first error that the system has for the addresses by now, if it has one for each:
    /// the registry may be at one of which nothing is known. That the network refuses comes last, as it
    /// says least of the registry.
    pub(super) fn cause(&self) -> Cause {
        let causes = self.0.iter().map(|(to, probe)| match probe {
            Ok(socket) => socket.take_error().ok().flatten().map(|error| Cause::of(*to, &error)),
            Err(error) => Some(Cause::of(*to, error)),
        });
        let causes: Option<Vec<Cause>> = causes.collect();
        let is_refused = |cause: &Cause| {
            matches!(cause, Cause::System { kind: ErrorKind::ConnectionRefused, .. })
        };
        causes
            .unwrap_or_default()
            .into_iter()
            .min_by_key(|cause| !is_refused(cause))
            .unwrap_or_default()
    }
}

fn probe(to: SocketAddr, own: &[SocketAddr]) -> io::Result<UdpSocket> {
    let same_family = own.iter().find(|addr| addr.is_ipv4() == to.is_ipv4());
    let mut from = *same_family.ok_or(ErrorKind::AddrNotAvailable)?;
    from.set_port(0);
    let socket = UdpSocket::bind(from)?;
    socket.set_nonblocking(true)?;
    socket.connect(to)?;
    socket.send(br#"{"type":"QUERY"}"#)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_port_where_nothing_listens_is_told() {
        let own = [SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))];
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let registries = [silent.local_addr().unwrap()];
        assert_eq!(
            Probe::send(&registries, &own).cause(),
            Cause::Unknown,
            "it is there, and silent"
        );
        drop(silent);
        // Another test may be given the port meanwhile; then nothing is known.
        let cause = Probe::send(&registries, &own).cause();
        let refused = matches!(&cause, Cause::System { kind: ErrorKind::ConnectionRefused, .. });
        assert!(refused || cause == Cause::Unknown, "{cause:?}");
    }

    #[test]
    fn an_address_without_a_route_does_not_explain_the_silence_of_another() {
        let own = [SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))];
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr();
        let held = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // Without an own address of IPv6, nothing can be sent there.
        let unreached = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 9));
        let cause = |to: &[SocketAddr]| Probe::send(to, &own).cause();
        assert_eq!(cause(&[unreached, held.local_addr().unwrap()]), Cause::Unknown);
        assert!(matches!(cause(&[unreached]), Cause::System { to, .. } if to == unreached));
        let both = [unreached, silent.unwrap()];
        let cause = cause(&both);
        // Another test may be given the port meanwhile; then nothing is known.
        let refused = matches!(&cause, Cause::System { to, .. } if *to == both[1]);
        assert!(refused || cause == Cause::Unknown, "{cause:?}");
    }

    #[test]
    fn each_kind_of_error_has_its_remedy() {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        let text = |errno| Cause::of(to, &io::Error::from_raw_os_error(errno)).to_string();
        for (errno, remedy) in [
            (libc::ECONNREFUSED, "no program listens there"),
            (libc::EHOSTUNREACH, "this machine's network"),
            (libc::ENETUNREACH, "this machine's network"),
            (libc::EPERM, "a firewall on this machine"),
            (libc::EACCES, "a firewall on this machine"),
            (libc::EINVAL, "--bind"),
        ] {
            let text = text(errno);
            assert!(text.contains(remedy) && text.contains(&format!("os error {errno}")), "{text}");
        }
        assert_eq!(Cause::of(to, &ErrorKind::WouldBlock.into()), Cause::Unknown);
    }
}
