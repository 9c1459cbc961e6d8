//! The peers of one window, as a member sees them: a row for each.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::proto::{Name, Text};
use crate::view::escape_controls;
use crate::view::lines::{MAX_NAMED_PEERS, peer_name};
use crate::window::Window;

/// The peers of a window that has opened, a row for each.
#[derive(Clone, Debug)]
pub(super) struct PeerTable {
    pub(super) window: Window,
    /// The number of members of the room, this client included.
    pub(super) members: u32,
    pub(super) rows: Vec<Row>,
    /// The index in `rows` of each peer.
    row_of: HashMap<SocketAddr, usize>,
    pub(super) closed: bool,
}

/// A row of the table: what is known of one peer.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) addr: SocketAddr,
    /// The peer's name with control characters escaped; empty if it is not known.
    pub(super) name: String,
    /// The round trip time, if the peer was met.
    pub(super) met: Option<Duration>,
    pub(super) greeted: bool,
    /// The text of the peer's greeting with control characters escaped; empty for none.
    pub(super) text: String,
}

impl PeerTable {
    /// Creates the table for a window that has just opened: no peer has been met yet.
    pub(super) fn new(window: Window, members: u32, peers: &[SocketAddr]) -> PeerTable {
        let row = |&addr: &SocketAddr| Row {
            addr,
            name: String::new(),
            met: None,
            greeted: false,
            text: String::new(),
        };
        let row_of = peers.iter().enumerate().map(|(k, &addr)| (addr, k)).collect();
        let rows = peers.iter().map(row).collect();
        PeerTable { window, members, rows, row_of, closed: false }
    }

    pub(super) fn met(&mut self, peer: SocketAddr, name: Option<Name>, rtt: Duration) {
        if let Some(row) = self.row(peer, name) {
            row.met = Some(rtt);
        }
    }

    pub(super) fn greeted(&mut self, peer: SocketAddr, name: Option<Name>, text: Option<Text>) {
        if let Some(row) = self.row(peer, name) {
            row.greeted = true;
            row.text = text.map(|text| escape_controls(text.as_str())).unwrap_or_default();
        }
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    fn row(&mut self, peer: SocketAddr, name: Option<Name>) -> Option<&mut Row> {
        let row = self.rows.get_mut(*self.row_of.get(&peer)?)?;
        if let Some(name) = name {
            row.name = escape_controls(name.as_str());
        }
        Some(row)
    }

    /// Returns how many peers were met.
    pub(super) fn met_count(&self) -> usize {
        self.rows.iter().filter(|row| row.met.is_some()).count()
    }

    /// Formats how many and which peers were met, in a line.
    pub(super) fn summary(&self) -> String {
        if self.rows.is_empty() {
            return format!("window {}: nobody else was there", self.window);
        }
        let met = self.rows.iter().filter(|row| row.met.is_some());
        let names: Vec<String> = met.take(MAX_NAMED_PEERS).map(Row::title).collect();
        let (met, all) = (self.met_count(), self.rows.len());
        let mut line = format!("window {}: met {met} of {all}", self.window);
        for (k, name) in names.iter().enumerate() {
            line.push_str(if k == 0 { ": " } else { ", " });
            line.push_str(name);
        }
        if met > MAX_NAMED_PEERS {
            line.push_str(&format!(" and {} more", met - MAX_NAMED_PEERS));
        }
        line
    }
}

impl Row {
    fn title(&self) -> String {
        match self.name.as_str() {
            "" => peer_name(self.addr, None),
            name => format!("{name} at {}", self.addr),
        }
    }
}
