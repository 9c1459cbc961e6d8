//! What a peer is given at its start.

use std::net::SocketAddr;

use ipnet::IpNet;

use crate::cookie::Key;
use crate::proto::{Id, Name, Room, Text};

/// Who registers, and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address at which the registry is tried first.
    pub registry: SocketAddr,
    /// The key that signs requests to a private registry.
    pub key: Option<Key>,
    /// The secret by which the registry knows this client, made once per process.
    pub id: Id,
    /// The group of clients to meet.
    pub room: Room,
    /// What people call this client.
    pub name: Option<Name>,
    /// The text that its greetings carry.
    pub text: Option<Text>,
    /// Its private address, for peers behind the same NAT.
    pub lan: Option<SocketAddr>,
    /// The subnets of its own interfaces.
    pub interfaces: Vec<IpNet>,
    /// Draws all that is random: delays, and the `seq`s that nobody may guess.
    pub seed: u64,
    /// Whether to register for the following window once one is open.
    pub renew: bool,
}
