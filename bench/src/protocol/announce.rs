//! BitTorrent's UDP tracker protocol (BEP 15): connect, then announce.

use super::{Answer, Protocol};

const PROTOCOL: u64 = 0x0417_2710_1980;
const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
/// How many peers each announce asks for.
const WANTED: i32 = 50;

/// Clients that announce one torrent each, `torrents` in all.
pub struct Announce {
    connections: Vec<Option<u64>>,
    torrents: usize,
}

impl Announce {
    /// Clients that are not connected yet, and announce that many torrents.
    pub fn new(clients: usize, torrents: usize) -> Announce {
        Announce { connections: vec![None; clients], torrents }
    }
}

impl Protocol for Announce {
    fn write_request(&mut self, client: usize, number: u64, out: &mut Vec<u8>) {
        let transaction = (number as u32).to_be_bytes();
        let Some(connection) = self.connections[client] else {
            out.extend(PROTOCOL.to_be_bytes());
            out.extend(CONNECT.to_be_bytes());
            return out.extend(transaction);
        };
        out.extend(connection.to_be_bytes());
        out.extend(ANNOUNCE.to_be_bytes());
        out.extend(transaction);
        out.extend([(client % self.torrents) as u8 + 1; 20]);
        out.extend(format!("-H70000-{client:012}").bytes());
        // Downloaded, left (not 0: a leecher, to whom all peers are listed), uploaded.
        [0_u64, 1, 0].into_iter().for_each(|bytes| out.extend(bytes.to_be_bytes()));
        // Event, address (the sender's), key.
        [0_u32, 0, client as u32].into_iter().for_each(|word| out.extend(word.to_be_bytes()));
        out.extend(WANTED.to_be_bytes());
        out.extend((10_000 + (client % 50_000) as u16).to_be_bytes());
    }

    fn request_number(&self, datagram: &[u8]) -> Option<u64> {
        word(datagram, 4).map(u64::from)
    }

    fn take_answer(&mut self, client: usize, datagram: &[u8]) -> Answer {
        match word(datagram, 0) {
            Some(ANNOUNCE) => Answer::Served,
            Some(CONNECT) => {
                let connection = datagram.get(8..16).and_then(|bytes| bytes.try_into().ok());
                self.connections[client] = connection.map(u64::from_be_bytes);
                Answer::Refused
            }
            _ => {
                self.connections[client] = None;
                Answer::Refused
            }
        }
    }
}

fn word(datagram: &[u8], at: usize) -> Option<u32> {
    let bytes = datagram.get(at..at + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}
