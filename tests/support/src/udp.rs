//! What a person with `nc -u` does, and sockets for those who do more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::Value;

use crate::{DEADLINE, text};

/// A socket at that address, on a port that the system picks; receiving ends after `timeout`.
pub fn udp_socket(ip: impl Into<IpAddr>, timeout: Duration) -> UdpSocket {
    let socket = UdpSocket::bind((ip.into(), 0)).unwrap();
    socket.set_read_timeout(Some(timeout)).unwrap();
    socket
}

/// The next datagram, from wherever; `None` if none comes in the socket's time.
pub fn receive(socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    socket.recv_from(&mut buffer).ok().map(|(len, _)| buffer[..len].to_vec())
}

/// A client that sends what a test writes, and reads answers as JSON.
pub struct UdpClient {
    socket: UdpSocket,
    registry: SocketAddr,
}

impl UdpClient {
    /// A client of the registry at that address, on loopback.
    pub fn to(registry: SocketAddr) -> UdpClient {
        let loopback: IpAddr = if registry.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        };
        UdpClient { socket: udp_socket(loopback, DEADLINE), registry }
    }

    /// Its own address and port.
    pub fn addr(&self) -> String {
        self.socket.local_addr().unwrap().to_string()
    }

    /// Talks to another registry from now on.
    pub fn set_registry(&mut self, registry: SocketAddr) {
        self.registry = registry;
    }

    /// Sends a datagram to its registry.
    pub fn send(&self, datagram: impl AsRef<[u8]>) {
        self.socket.send_to(datagram.as_ref(), self.registry).unwrap();
    }

    /// The next datagram of its registry, as it came. Another test's registry may still tell whoever
    /// had this port before.
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

    /// The next datagram of its registry.
    #[track_caller]
    pub fn receive(&self) -> Value {
        serde_json::from_str(&self.receive_text()).unwrap()
    }

    /// The next datagram of that type, whatever comes before.
    #[track_caller]
    pub fn receive_type(&self, kind: &str) -> Value {
        loop {
            let datagram = self.receive();
            if datagram["type"] == kind {
                return datagram;
            }
        }
    }

    /// Sends a datagram, and takes the next one that comes for its answer.
    #[track_caller]
    pub fn ask(&self, datagram: impl AsRef<[u8]>) -> Value {
        self.send(datagram);
        self.receive()
    }

    /// Registers; the window that it is registered for.
    pub fn register(&self) -> String {
        self.register_with(r#"{"type":"REGISTER"}"#)
    }

    /// Registers in that room by that name; the window that it is registered for.
    pub fn register_as(&self, room: &str, name: &str) -> String {
        self.register_with(format!(r#"{{"type":"REGISTER","room":"{room}","name":"{name}"}}"#))
    }

    /// Sends that REGISTER; the window that it is registered for.
    pub fn register_with(&self, register: impl AsRef<[u8]>) -> String {
        self.send(register);
        text(&self.receive_type("REGISTERED")["window"])
    }
}
