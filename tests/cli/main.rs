//! Tests the program as people run it: its arguments, output, exit codes and files.
//!
//! Every test has its own registries, on ports that the system picks, and its own folders.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::net::{Ipv4Addr, UdpSocket};

use hit7_support::{DEADLINE, Hit7, udp_socket};

mod arguments;
mod data;
mod history;
mod hostile;
mod join;
mod logs;
mod moved;
mod netcat;
mod peers;
mod serve;
mod streams;
mod unproven;

const HIT7: Hit7 = Hit7(env!("CARGO_BIN_EXE_hit7"));

/// Opens a socket that never answers; returns it and its port as an argument.
fn silent_registry() -> (UdpSocket, String) {
    let socket = udp_socket(Ipv4Addr::LOCALHOST, DEADLINE);
    let port = socket.local_addr().unwrap().port().to_string();
    (socket, port)
}
