//! The simulated journal passes the conformance tests of all journals, as it replaces one.

use std::time::Duration;

use hit7::journal::{Epoch, Outcome, Replayed};
use hit7::mesh::ListCap;
use hit7::record::Entry;
use hit7::window::{Length, Window};

use crate::conformance::{self, Subject};
use crate::faults::{Counts, Dice, Fault, Faults};
use crate::journal::{Failures, SimulatedJournal, Step};

struct Simulated {
    journal: SimulatedJournal,
    t: Duration,
    dice: Dice,
    seen: Counts,
    meant: usize,
}

impl Simulated {
    fn new(seed: u64) -> Simulated {
        let faults = Faults::of(&[Fault::Slow, Fault::Kept, Fault::Torn]);
        let (dice, seen) = (Dice::new(seed, faults), Counts::default());
        let journal = SimulatedJournal::new(Length::MINUTE, ListCap::default(), None);
        Simulated { journal, t: Duration::ZERO, dice, seen, meant: 0 }
    }
}

impl Subject for Simulated {
    fn submit(&mut self, epoch: Epoch, batch: Vec<Entry>) {
        self.journal.submit(self.t, epoch, batch, &mut self.dice, &mut self.seen);
    }

    fn settle(&mut self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        while let Some(next) = self.journal.next() {
            let was_down = self.journal.is_down();
            self.t = self.t.max(next);
            let step = self.journal.advance(self.t, &mut self.dice, &mut self.seen);
            if step.is_none() && was_down && self.journal.is_down() {
                break;
            }
            outcomes.extend(step.and_then(|step| match step {
                Step::Synced(_) => None,
                Step::Durable(batch) => Some(Outcome::Durable(batch)),
                Step::Refused(epoch, batch) => {
                    Some(Outcome::Refused { epoch, batch, why: "a write failed".to_owned() })
                }
                Step::Down => Some(Outcome::Down("a write failed".to_owned())),
            }));
        }
        outcomes
    }

    fn discard(&mut self, window: Window) {
        self.journal.discard(window);
    }

    fn crash_and_reopen(&mut self) -> (Vec<Window>, Vec<Replayed>) {
        self.heal();
        self.journal.crash(&mut self.dice, &mut self.seen);
        let mut replayed = Vec::new();
        self.journal.replay(|header, record| {
            replayed.push(record.map_or(Replayed::Begin(header), Replayed::Record));
        });
        (self.journal.windows(), replayed)
    }

    fn fail(&mut self, after: usize, times: usize) {
        self.meant = times;
        self.journal.failures = Failures { after, times };
    }

    fn has_failed(&self) -> bool {
        self.journal.failures.times < self.meant
    }

    fn heal(&mut self) {
        self.journal.failures.after = usize::MAX;
    }
}

#[test]
fn the_simulated_journal_keeps_the_promises_of_a_journal() {
    for seed in 0..20 {
        conformance::check(|| Simulated::new(seed));
    }
}
