//! The configuration that a peer starts with.

use std::net::SocketAddr;

use ipnet::IpNet;

use crate::cookie::Key;
use crate::proto::{Id, Name, Room, Text};

/// Who registers, at which registry, and for which room.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address at which the registry is tried first.
    pub registry: SocketAddr,
    /// The key that signs requests to a private registry.
    pub key: Option<Key>,
    /// The secret by which the registry knows this client, made once per process.
    pub id: Id,
    /// The room to register in.
    pub room: Room,
    /// The name by which other peers know this client.
    pub name: Option<Name>,
    /// The text that this client's greetings carry.
    pub text: Option<Text>,
    /// This client's private address, for peers behind the same NAT.
    pub lan: Option<SocketAddr>,
    /// The subnets of this client's network interfaces.
    pub interfaces: Vec<IpNet>,
    /// The seed of everything random: delays, and the `seq`s that nobody may guess.
    pub seed: u64,
    /// Whether to register for the following window once one is open.
    pub renew: bool,
}
