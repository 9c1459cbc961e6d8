//! What the journal's thread does with what waits for it.

use std::io::ErrorKind;
use std::sync::{Mutex, mpsc};

use hit7::journal::{FileJournal, Journal, JournalError, Outcome};
use hit7::record::{Record, Ticket};

use crate::disk::{After, Fault, FlakyDisk, Plan};
use crate::ledger::{ROOT, block_on, register, reopen, try_flaky};

/// A journal whose syncs wait: `entered` tells that one has begun, `go` lets it go on.
fn held() -> (FlakyDisk, FileJournal, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (enter, entered) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let disk = FlakyDisk::new(ROOT).before_sync(move || {
        let _ = enter.send(());
        let _ = wait.lock().unwrap().recv();
    });
    let (journal, ..) = try_flaky(&disk).unwrap();
    (disk, journal, entered, go)
}

fn tickets(records: &[(Ticket, Record)]) -> Vec<u64> {
    records.iter().map(|(ticket, _)| ticket.0).collect()
}

#[test]
fn what_comes_during_a_sync_is_written_together() {
    let (disk, mut journal, entered, go) = held();
    journal.propose(vec![(Ticket(0), register(0, 0))]);
    entered.recv().unwrap();
    for seq in 1..=3 {
        journal.propose(vec![(Ticket(seq), register(0, seq))]);
    }
    drop(go);
    for expected in [vec![0], vec![1, 2, 3]] {
        match block_on(journal.next()) {
            Outcome::Durable(records) => assert_eq!(tickets(&records), expected),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(disk.syncs(), 2);
}

#[test]
fn a_failed_sync_refuses_all_that_is_proposed_before_it_is_known() {
    let (disk, mut journal, entered, go) = held();
    journal.propose(vec![(Ticket(0), register(0, 0)), (Ticket(1), register(1, 1))]);
    entered.recv().unwrap();
    journal.propose(vec![(Ticket(2), register(0, 2))]);
    disk.plan(Some(Plan { at: 0, times: 1, fault: Fault::Fail(ErrorKind::StorageFull) }));
    drop(go);
    let refused = |journal: &mut FileJournal| match block_on(journal.next()) {
        Outcome::Refused { batch, why } => (tickets(&batch), why),
        other => panic!("{other:?}"),
    };
    let (batch, why) = refused(&mut journal);
    assert_eq!(batch, [0, 1]);
    assert!(why.contains("23-58.jsonl") && why.contains("make room"), "{why}");
    // The disk is well again, but what became of ticket 2 is not known yet.
    journal.propose(vec![(Ticket(3), register(0, 3))]);
    assert_eq!(refused(&mut journal).0, [2]);
    assert_eq!(refused(&mut journal).0, [3]);
    journal.propose(vec![(Ticket(4), register(0, 4))]);
    assert!(matches!(block_on(journal.next()), Outcome::Durable(it) if tickets(&it) == [4]));
    drop(journal);
    assert_eq!(reopen(&disk.reboot(After::Kept)), [register(0, 4)]);
}

#[test]
fn what_was_proposed_is_written_before_a_drop_is_done() {
    let disk = FlakyDisk::new(ROOT);
    let (mut journal, ..) = try_flaky(&disk).unwrap();
    let records: Vec<_> = (0..100).map(|seq| register(0, seq)).collect();
    for (ticket, record) in records.iter().enumerate() {
        journal.propose(vec![(Ticket(ticket as u64), record.clone())]);
    }
    drop(journal);
    assert_eq!(reopen(&disk.reboot(After::Lost)), records);
}

#[test]
fn a_panic_of_the_thread_is_told() {
    let disk = FlakyDisk::new(ROOT).before_sync(|| panic!("of the test"));
    let (mut journal, ..) = try_flaky(&disk).unwrap();
    for _ in 0..2 {
        journal.propose(vec![(Ticket(0), register(0, 0))]);
        let outcome = block_on(journal.next());
        assert!(matches!(outcome, Outcome::Down(JournalError::Stopped)), "{outcome:?}");
    }
}
