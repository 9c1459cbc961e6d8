//! A thread that resolves a registry's name again: the registry may have moved, and a name server may
//! take as long as it likes to say so.

use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::sync::watch;

use crate::thread::{self, ThreadError};

/// A handle of the thread that resolves a registry's name.
#[derive(Clone, Debug)]
pub struct Lookup {
    wanted: SyncSender<()>,
    found: watch::Receiver<Vec<SocketAddr>>,
}

impl Lookup {
    /// Starts the thread; `resolve` returns the addresses of the name in order, or none if it fails.
    /// The thread ends with the last handle, or with the program while `resolve` hangs.
    pub fn start(
        resolve: impl Fn() -> Vec<SocketAddr> + Send + 'static,
    ) -> Result<Lookup, ThreadError> {
        let (wanted, orders) = sync_channel(1);
        let (tell, found) = watch::channel(Vec::new());
        let work = move || orders.iter().for_each(|()| drop(tell.send(resolve())));
        thread::start("lookup", work)?;
        Ok(Lookup { wanted, found })
    }

    /// Has the name resolved once more, unless that is under way.
    pub(super) fn request(&self) {
        let _ = self.wanted.try_send(());
    }

    /// Returns the addresses found since the last call; none if nothing was.
    pub(super) fn take_found(&mut self) -> Vec<SocketAddr> {
        match self.found.has_changed() {
            Ok(true) => self.found.borrow_and_update().clone(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
impl Lookup {
    /// Waits until addresses have been found that were not taken yet.
    pub(super) async fn found(&self) {
        self.found.clone().changed().await.expect("the thread runs");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU16, Ordering};

    #[tokio::test]
    async fn a_name_is_resolved_each_time_that_it_is_wanted() {
        let port = AtomicU16::new(1);
        let next = move || vec![([127, 0, 0, 1], port.fetch_add(1, Ordering::Relaxed)).into()];
        let mut lookup = Lookup::start(next).unwrap();
        for port in 1..4 {
            assert_eq!(lookup.take_found(), [], "nobody has asked");
            lookup.request();
            lookup.found().await;
            assert_eq!(lookup.take_found(), [([127, 0, 0, 1], port).into()]);
        }
    }

    #[test]
    fn a_resolver_that_hangs_holds_nobody() {
        let (_never, hangs) = std::sync::mpsc::channel::<()>();
        let mut lookup = Lookup::start(move || {
            let _ = hangs.recv();
            Vec::new()
        })
        .unwrap();
        for _ in 0..100 {
            lookup.request();
            assert_eq!(lookup.take_found(), []);
        }
    }
}
