//! A bounded queue of events for a receiver that may be slow, with a count of the dropped ones.
//!
//! A sender never waits, so that a slow display holds up nothing else. Once an event has been
//! dropped, all further ones are, until half of the queue is free; then the receiver gets the
//! number of dropped events.

use tokio::sync::mpsc::{Sender, error::TrySendError};

/// Sends events to a bounded queue without waiting; drops and counts those that do not fit.
#[derive(Debug)]
pub struct EventSender<E> {
    queue: Sender<E>,
    lost: u64,
    /// Makes the event that reports how many events were dropped.
    not_shown: fn(u64) -> E,
}

impl<E> EventSender<E> {
    /// Creates a sender to `queue`; `not_shown` makes the event that reports how many were dropped.
    pub fn new(queue: Sender<E>, not_shown: fn(u64) -> E) -> EventSender<E> {
        EventSender { queue, lost: 0, not_shown }
    }

    /// Counts an event that is dropped.
    pub fn drop_one(&mut self) {
        self.lost += 1;
    }

    /// Sends an event, or drops and counts it if the queue is full; returns whether a receiver is
    /// still there.
    pub fn send(&mut self, event: E) -> bool {
        let lost = (self.lost > 0).then(|| (self.not_shown)(self.lost));
        let room = if lost.is_none() { 1 } else { (self.queue.max_capacity() / 2).max(2) };
        match self.queue.try_reserve_many(room) {
            Ok(permits) => {
                let events = lost.into_iter().chain([event]);
                permits.zip(events).for_each(|(permit, event)| permit.send(event));
                self.lost = 0;
                true
            }
            Err(TrySendError::Full(())) => {
                self.lost += 1;
                true
            }
            Err(TrySendError::Closed(())) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{Receiver, channel};

    use super::*;

    fn all(events: &mut Receiver<Result<u64, u64>>) -> Vec<Result<u64, u64>> {
        std::iter::from_fn(|| events.try_recv().ok()).collect()
    }

    #[test]
    fn a_slow_receiver_is_told_how_many_events_were_lost_once_half_of_the_queue_is_free() {
        let (queue, mut events) = channel(4);
        let mut sender = EventSender::new(queue, Err);
        assert!((0..7).all(|event| sender.send(Ok(event))));
        assert_eq!(events.try_recv(), Ok(Ok(0)));
        assert!(sender.send(Ok(7)), "one place is free: it would be full again at once");
        assert_eq!(events.try_recv(), Ok(Ok(1)));
        assert!(sender.send(Ok(8)));
        assert_eq!(all(&mut events), [Ok(2), Ok(3), Err(4), Ok(8)]);
        assert!(sender.send(Ok(9)));
        assert_eq!(all(&mut events), [Ok(9)]);
        drop(events);
        assert!(!sender.send(Ok(10)));
    }
}
