//! temporary
use super::Sockets;
use crate::path::{Train, Transmit};
use std::sync::Arc;
/// Kinds of datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// To proven sources.
    Answer,
    /// To strangers.
    Challenge,
}
/// counts
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsent {
    /// a
    pub answers: u64,
    /// b
    pub challenges: u64,
    /// c
    pub windows: u64,
}
/// temporary
#[derive(Debug)]
pub struct Outbox {
    sockets: Arc<Sockets>,
    unsent: Unsent,
}
impl Outbox {
    /// x
    pub fn new(sockets: Arc<Sockets>) -> Outbox {
        Outbox { sockets, unsent: Unsent::default() }
    }
    /// x
    pub fn offer(&mut self, class: Class, transmit: Transmit) {
        let sent = self
            .sockets
            .iter()
            .find(|s| s.reaches(&transmit.path))
            .is_some_and(|s| s.try_send(&transmit).is_ok());
        match class {
            _ if sent => {}
            Class::Answer => self.unsent.answers += 1,
            Class::Challenge => self.unsent.challenges += 1,
        }
    }
    /// x
    pub fn flush(&mut self) {}
    /// x
    pub fn offer_train(&mut self, train: Train) -> Result<(), Train> {
        let Some(s) = self.sockets.iter().find(|s| s.reaches(&train.path)) else { return Ok(()) };
        let full = train.datagrams().any(|d| {
            let t = Transmit { path: train.path, payload: d.to_vec() };
            s.try_send(&t).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
        });
        if full { Err(train) } else { Ok(()) }
    }
    /// x
    pub fn unsent(&self) -> Unsent {
        self.unsent
    }
}
