//! UDP clients for tests, which send and read text like `nc -u`, and plain sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::{DEADLINE, text};

/// Makes a socket at `ip`, on a port that the system picks; receiving ends after `timeout`.
pub fn udp_socket(ip: impl Into<IpAddr>, timeout: Duration) -> UdpSocket {
    let socket = UdpSocket::bind((ip.into(), 0)).unwrap();
    socket.set_read_timeout(Some(timeout)).unwrap();
    socket
}

/// Returns a UDP and TCP port of loopback that is free, for a program that cannot say which one it
/// got. It is not of those that systems give out, as another test could be given it meanwhile.
pub fn free_port() -> u16 {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let is_free = |port| {
        UdpSocket::bind(("127.0.0.1", port)).is_ok()
            && TcpListener::bind(("127.0.0.1", port)).is_ok()
    };
    let mut ports = std::iter::repeat_with(|| {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Tests of other executables begin elsewhere.
        10_000 + (process::id() as u16).wrapping_mul(61).wrapping_add(count) % 20_000
    });
    ports.by_ref().take(1000).find(|port| is_free(*port)).expect("a free port")
}

/// Receives the next datagram from any sender; `None` if none comes within the socket's timeout.
pub fn receive(socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    socket.recv_from(&mut buffer).ok().map(|(len, _)| buffer[..len].to_vec())
}

/// A UDP client that sends datagrams as a test writes them, and reads answers as JSON.
pub struct UdpClient {
    socket: UdpSocket,
    registry: SocketAddr,
}

impl UdpClient {
    /// Makes a client on loopback for the registry at this address.
    pub fn to(registry: SocketAddr) -> UdpClient {
        let loopback: IpAddr = if registry.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        };
        UdpClient { socket: udp_socket(loopback, DEADLINE), registry }
    }

    /// Returns the client's own address and port as text.
    pub fn addr(&self) -> String {
        self.socket.local_addr().unwrap().to_string()
    }

    /// Sends to another registry from now on.
    pub fn set_registry(&mut self, registry: SocketAddr) {
        self.registry = registry;
    }

    /// Sends a datagram to the client's registry.
    pub fn send(&self, datagram: impl AsRef<[u8]>) {
        self.socket.send_to(datagram.as_ref(), self.registry).unwrap();
    }

    /// Receives the next datagram from the client's registry as text. Datagrams from others are
    /// skipped: another test's registry may still send to a client that had this port before.
    pub fn receive_text(&self) -> String {
        let mut buffer = [0; 2048];
        loop {
            let (len, from) = self.socket.recv_from(&mut buffer).expect("an answer");
            assert!(len <= 1200);
            if from == self.registry {
                return String::from_utf8(buffer[..len].to_vec()).unwrap();
            }
        }
    }

    /// Receives the next datagram from the client's registry as JSON.
    #[track_caller]
    pub fn receive(&self) -> Value {
        serde_json::from_str(&self.receive_text()).unwrap()
    }

    /// Receives the next datagram of type `kind`, and skips others.
    #[track_caller]
    pub fn receive_type(&self, kind: &str) -> Value {
        loop {
            let datagram = self.receive();
            if datagram["type"] == kind {
                return datagram;
            }
        }
    }

    /// Sends a datagram, and returns the next one that comes as its answer.
    #[track_caller]
    pub fn ask(&self, datagram: impl AsRef<[u8]>) -> Value {
        self.send(datagram);
        self.receive()
    }

    /// Sends REGISTER, and returns the window that the client is registered for.
    pub fn register(&self) -> String {
        self.register_with(r#"{"type":"REGISTER"}"#)
    }

    /// Registers in `room` by `name`, and returns the window that the client is registered for.
    pub fn register_as(&self, room: &str, name: &str) -> String {
        self.register_with(format!(r#"{{"type":"REGISTER","room":"{room}","name":"{name}"}}"#))
    }

    /// Sends the given REGISTER, and returns the window that the client is registered for.
    pub fn register_with(&self, register: impl AsRef<[u8]>) -> String {
        self.send(register);
        text(&self.receive_type("REGISTERED")["window"])
    }
}
