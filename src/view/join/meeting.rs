//! One window as its member lives it: a row for each peer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::proto::{Name, Text};
use crate::view::lines::called;
use crate::view::plain;
use crate::window::Window;

/// Peers that a summary names.
const NAMED: usize = 8;

/// A window and its peers.
#[derive(Clone, Debug)]
pub(super) struct Meeting {
    pub(super) window: Window,
    /// The size of the roster, oneself included.
    pub(super) members: u32,
    pub(super) rows: Vec<Row>,
    places: HashMap<SocketAddr, usize>,
    pub(super) closed: bool,
}

/// A peer.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) addr: SocketAddr,
    /// Its name, safe to be shown.
    pub(super) name: String,
    /// The round trip, if it was met.
    pub(super) met: Option<Duration>,
    pub(super) greeted: bool,
    /// What it says, safe to be shown.
    pub(super) text: String,
}

impl Meeting {
    /// It has just opened.
    pub(super) fn new(window: Window, members: u32, peers: &[SocketAddr]) -> Meeting {
        let row = |&addr: &SocketAddr| Row {
            addr,
            name: String::new(),
            met: None,
            greeted: false,
            text: String::new(),
        };
        let places = peers.iter().enumerate().map(|(k, &addr)| (addr, k)).collect();
        let rows = peers.iter().map(row).collect();
        Meeting { window, members, rows, places, closed: false }
    }

    pub(super) fn met(&mut self, peer: SocketAddr, name: Option<Name>, rtt: Duration) {
        if let Some(row) = self.row(peer, name) {
            row.met = Some(rtt);
        }
    }

    pub(super) fn greeted(&mut self, peer: SocketAddr, name: Option<Name>, text: Option<Text>) {
        if let Some(row) = self.row(peer, name) {
            row.greeted = true;
            row.text = text.map(|text| plain(text.as_str())).unwrap_or_default();
        }
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    fn row(&mut self, peer: SocketAddr, name: Option<Name>) -> Option<&mut Row> {
        let row = self.rows.get_mut(*self.places.get(&peer)?)?;
        if let Some(name) = name {
            row.name = plain(name.as_str());
        }
        Some(row)
    }

    /// How many were met.
    pub(super) fn met_count(&self) -> usize {
        self.rows.iter().filter(|row| row.met.is_some()).count()
    }

    /// Who was met, in a line.
    pub(super) fn summary(&self) -> String {
        if self.rows.is_empty() {
            return format!("window {}: nobody else was there", self.window);
        }
        let met = self.rows.iter().filter(|row| row.met.is_some());
        let names: Vec<String> = met.take(NAMED).map(Row::called).collect();
        let (met, all) = (self.met_count(), self.rows.len());
        let mut line = format!("window {}: met {met} of {all}", self.window);
        for (k, name) in names.iter().enumerate() {
            line.push_str(if k == 0 { ": " } else { ", " });
            line.push_str(name);
        }
        if met > NAMED {
            line.push_str(&format!(" and {} more", met - NAMED));
        }
        line
    }
}

impl Row {
    fn called(&self) -> String {
        match self.name.as_str() {
            "" => called(self.addr, None),
            name => format!("{name} at {}", self.addr),
        }
    }
}
