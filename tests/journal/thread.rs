//! How the journal's thread handles waiting orders: full queue, epochs, shared syncs.

use std::future::Future;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::{Mutex, mpsc};
use std::task::{Context, Waker};
use std::time::Duration;

use hit7::journal::{Epoch, FileJournal, Journal, Outcome};
use hit7::record::{Entry, Missing, Opening, Record, Ticket};
use hit7::store::{Disk, Store};
use hit7::window::Wall;

use crate::conformance::records::{open, register, window};
use crate::disk::{After, Fault, FlakyDisk, Plan, TestDisk};
use crate::failing::FailingDisk;
use crate::subjects::{block_on, reopen, try_flaky, try_open, write};

/// A number of orders, more than fit into the queue of the journal's thread.
const MANY: u64 = 100;

/// Makes a journal whose syncs block: the receiver says that a sync has begun, and the sender lets
/// it continue.
fn held() -> (FlakyDisk, FileJournal<FlakyDisk>, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (enter, entered) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let disk = FlakyDisk::new().before_sync(move || {
        let _ = enter.send(());
        let _ = wait.lock().unwrap().recv();
    });
    let (journal, ..) = try_flaky(&disk).unwrap();
    (disk, journal, entered, go)
}

/// Returns a registration with a ticket of this number, from 1.
fn entry(number: u64) -> Entry {
    let ticket = (1..number).fold(Ticket::FIRST, |ticket, _| ticket.next());
    Entry { ticket: Some(ticket), record: register(0, number) }
}

fn batch(numbers: impl IntoIterator<Item = u64>) -> Vec<Entry> {
    numbers.into_iter().map(entry).collect()
}

fn records(numbers: impl IntoIterator<Item = u64>) -> Vec<Record> {
    numbers.into_iter().map(|number| register(0, number)).collect()
}

fn durable<S: Store>(journal: &mut FileJournal<S>) -> Vec<Entry> {
    match block_on(journal.next()) {
        Outcome::Durable(entries) => entries,
        other => panic!("{other:?}"),
    }
}

fn refused(journal: &mut FileJournal<FlakyDisk>) -> (Epoch, Vec<Entry>, String) {
    match block_on(journal.next()) {
        Outcome::Refused { epoch, batch, why } => (epoch, batch, why),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_comes_during_a_sync_is_written_together() {
    let (disk, mut journal, entered, go) = held();
    journal.submit(Epoch::default(), batch([1]));
    entered.recv().unwrap();
    for number in 2..=4 {
        journal.submit(Epoch::default(), batch([number]));
    }
    drop(go);
    assert_eq!(durable(&mut journal), batch([1]));
    assert_eq!(durable(&mut journal), batch([2, 3, 4]));
    assert_eq!(disk.syncs(), 2);
}

#[test]
fn closing_waits_for_what_was_submitted() {
    let (disk, mut journal, _entered, go) = held();
    journal.submit(Epoch::default(), batch([1, 2]));
    drop(go);
    block_on(journal.close());
    assert_eq!(disk.syncs(), 1);
    drop(journal);
    assert_eq!(reopen(&disk), records([1, 2]));
}

#[test]
fn a_journal_closed_while_a_sync_hangs_is_dropped_without_waiting() {
    let (disk, mut journal, entered, go) = held();
    journal.submit(Epoch::default(), batch([1]));
    entered.recv().unwrap();
    {
        let close = pin!(journal.close());
        assert!(close.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    drop(journal);
    assert_eq!(disk.syncs(), 0);
    drop(go);
}

#[test]
fn a_failed_sync_refuses_all_that_is_submitted_before_it_is_known() {
    let (disk, mut journal, entered, go) = held();
    let (first, second) = (Epoch::default(), Epoch::default().next());
    journal.submit(first, batch([1, 2]));
    entered.recv().unwrap();
    journal.submit(first, batch([3]));
    disk.plan(Some(Plan { at: 0, times: 1, fault: Fault::Fail(ErrorKind::StorageFull) }));
    drop(go);
    let (epoch, refused_batch, why) = refused(&mut journal);
    assert_eq!((epoch, refused_batch), (first, batch([1, 2])));
    assert!(why.contains("23-58.jsonl") && why.contains("make room"), "{why}");
    // The disk works again, but the outcome of the third is not known yet.
    journal.submit(first, batch([4]));
    assert_eq!(refused(&mut journal).1, batch([3]));
    assert_eq!(refused(&mut journal).1, batch([4]));
    journal.submit(second, batch([5]));
    assert_eq!(durable(&mut journal), batch([5]));
    drop(journal);
    assert_eq!(reopen(&disk.reboot(After::Kept)), records([5]));
}

#[test]
fn nothing_is_said_of_a_batch_that_a_dead_disk_may_have_until_it_is_mended() {
    let (disk, mut journal, entered, go) = held();
    let mut epoch = Epoch::default();
    journal.submit(epoch, batch([1, 2]));
    entered.recv().unwrap();
    let fault = Fault::Fail(ErrorKind::StorageFull);
    disk.plan(Some(Plan { at: 0, times: usize::MAX, fault }));
    drop(go);
    let outcome = block_on(journal.next());
    assert!(matches!(&outcome, Outcome::Down(why) if why.contains("make room")), "{outcome:?}");
    // Batches that come now are not written, and are refused at once.
    for number in 3..6 {
        journal.submit(epoch, batch([number]));
        let (over, refused, why) = refused(&mut journal);
        assert_eq!((over, refused), (epoch, batch([number])));
        assert!(why.contains("23-58.jsonl"), "{why}");
        epoch = over.next();
    }
    assert_eq!(reopen(&disk.reboot(After::Kept)), records([1, 2]), "it may be there");
    disk.plan(None);
    // The submitter that got those refusals did not know of this one, and counts on the batch.
    let (over, doubtful, _) = refused(&mut journal);
    assert_eq!((over, doubtful), (epoch, batch([1, 2])));
    journal.submit(epoch, batch([6]));
    assert_eq!(refused(&mut journal).1, batch([6]));
    journal.submit(epoch.next(), batch([7]));
    assert_eq!(durable(&mut journal), batch([7]));
    assert_eq!(reopen(&disk.reboot(After::Kept)), records([7]));
}

#[test]
fn a_file_in_which_a_write_failed_may_be_removed_by_hand() {
    let disk = FailingDisk::new();
    let (mut journal, ..) = try_open(disk.clone(), &disk.journal(), false).unwrap();
    // The folder and the file are made; from the write on everything fails.
    disk.fail(2, usize::MAX);
    journal.submit(Epoch::default(), batch([1]));
    assert!(matches!(block_on(journal.next()), Outcome::Down(_)));
    std::fs::remove_file(disk.journal().join("2026-11-23/23-58.jsonl")).unwrap();
    disk.heal();
    assert!(matches!(block_on(journal.next()), Outcome::Refused { .. }));
}

#[test]
fn a_journal_that_is_dropped_while_the_disk_is_dead_ends() {
    let disk = FlakyDisk::new();
    let (mut journal, ..) = try_flaky(&disk).unwrap();
    let fault = Fault::Fail(ErrorKind::Other);
    disk.plan(Some(Plan { at: 3, times: usize::MAX, fault }));
    journal.submit(Epoch::default(), batch([1]));
    assert!(matches!(block_on(journal.next()), Outcome::Down(_)));
    journal.discard(window(0));
    drop(journal);
    assert_eq!(reopen(&disk.reboot(After::Kept)), records([1]), "it was never told of");
}

#[test]
fn a_full_queue_refuses_in_order_and_keeps_the_discards() {
    let (disk, mut journal, entered, go) = held();
    let first = Epoch::default();
    journal.submit(first, vec![Entry { ticket: None, record: open(1) }]);
    entered.recv().unwrap();
    for number in 1..=MANY {
        journal.submit(first, batch([number]));
    }
    journal.discard(window(1));
    drop(go);
    durable(&mut journal);
    let written = durable(&mut journal).len() as u64;
    assert!((1..MANY).contains(&written), "{written}");
    let (epoch, rest, why) = refused(&mut journal);
    assert_eq!((epoch, rest), (first, batch(written + 1..=MANY)));
    assert!(why.contains("too slow"), "{why}");
    // The epoch has ended, although the thread never saw this batch.
    journal.submit(first, batch([MANY + 1]));
    assert_eq!(refused(&mut journal).1, batch([MANY + 1]));
    journal.submit(first.next(), batch([MANY + 2]));
    assert_eq!(durable(&mut journal), batch([MANY + 2]));
    drop(journal);
    let kept = records((1..=written).chain([MANY + 2]));
    assert_eq!(reopen(&disk.reboot(After::Kept)), kept, "and window 1 is discarded");
}

#[test]
fn a_wait_that_is_given_up_loses_nothing() {
    let (_disk, mut journal, entered, go) = held();
    journal.submit(Epoch::default(), batch([1]));
    entered.recv().unwrap();
    for _ in 0..3 {
        block_on(async {
            tokio::select! {
                biased;
                outcome = journal.next() => panic!("{outcome:?}"),
                () = std::future::ready(()) => {}
            }
        });
    }
    drop(go);
    assert_eq!(durable(&mut journal), batch([1]));
}

#[test]
fn what_was_submitted_is_written_before_a_drop_is_done() {
    let disk = FlakyDisk::new();
    let (mut journal, ..) = try_flaky(&disk).unwrap();
    for number in 1..=50 {
        journal.submit(Epoch::default(), batch([number]));
    }
    drop(journal);
    assert_eq!(reopen(&disk.reboot(After::Lost)), records(1..=50));
}

#[test]
#[should_panic(expected = "the journal's thread ends only by a panic")]
fn a_panic_of_the_thread_ends_who_waits_for_it() {
    let disk = FlakyDisk::new().before_sync(|| panic!("of the test"));
    let (mut journal, ..) = try_flaky(&disk).unwrap();
    journal.submit(Epoch::default(), batch([1]));
    block_on(journal.next());
}

/// Returns an opening that is proposed `left` before the window closes.
fn late_opening(left: Duration) -> Entry {
    let Record::Open(opening) = open(0) else { unreachable!() };
    let closes = opening.length.closes(opening.window);
    let at = Wall::from_millis(closes.millis() - left.as_millis() as i64);
    Entry { ticket: None, record: Record::Open(Opening { at, ..opening }) }
}

#[test]
fn an_opening_that_is_durable_only_after_its_window_has_closed_is_taken_back() {
    let (disk, mut journal, entered, go) = held();
    let (first, second) = (Epoch::default(), Epoch::default().next());
    go.send(()).unwrap();
    journal.submit(first, batch([1]));
    assert_eq!(durable(&mut journal), batch([1]));
    entered.recv().unwrap();
    let left = Duration::from_millis(5);
    journal.submit(first, vec![late_opening(left)]);
    entered.recv().unwrap();
    std::thread::sleep(2 * left);
    drop(go);
    let (epoch, refused, why) = refused(&mut journal);
    assert_eq!((epoch, refused), (first, vec![late_opening(left)]));
    assert!(why.contains("only when the window had closed"), "{why}");
    let missed = Record::Missed(Missing { window: window(0), at: window(1).opens() });
    journal.submit(second, vec![Entry { ticket: None, record: missed.clone() }]);
    assert_eq!(durable(&mut journal).len(), 1);
    drop(journal);
    assert_eq!(reopen(&disk), [records([1]), vec![missed]].concat());
}

#[test]
fn an_opening_within_its_window_is_durable_however_late() {
    let disk = FlakyDisk::new();
    let (mut journal, ..) = try_flaky(&disk).unwrap();
    let opening = late_opening(Duration::from_secs(30));
    journal.submit(Epoch::default(), vec![opening.clone()]);
    assert_eq!(durable(&mut journal), [opening]);
}

/// Checks that nothing is acked while `moved` is elsewhere, and that it is told without being asked.
fn lost_and_found(moved: &str) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data/journal");
    std::fs::create_dir(home.path().join("data")).unwrap();
    let (mut journal, ..) = try_open(Disk, &dir, false).unwrap();
    write(&mut journal, &records([1]));
    let (here, there) = (home.path().join(moved), home.path().join("elsewhere"));
    std::fs::rename(&here, &there).unwrap();
    let said = match block_on(journal.next()) {
        Outcome::Refused { batch, why, .. } if batch.is_empty() => why,
        other => panic!("{other:?}"),
    };
    assert!(said.contains("it was removed or moved away; put it back"), "{said}");
    let mut epoch = Epoch::default().next();
    for replaced in [false, true] {
        if replaced && there.is_file() {
            std::fs::copy(&there, &here).unwrap();
        } else if replaced {
            std::fs::create_dir_all(dir.join("2026-11-23")).unwrap();
        }
        journal.submit(epoch, batch([2]));
        match block_on(journal.next()) {
            Outcome::Refused { batch: refused, .. } => assert_eq!(refused, batch([2])),
            other => panic!("{moved}: {other:?}"),
        }
        epoch = epoch.next();
    }
    match there.is_dir() {
        true => std::fs::remove_dir_all(&here).unwrap(),
        false => std::fs::remove_file(&here).unwrap(),
    }
    std::fs::rename(&there, &here).unwrap();
    assert_eq!(durable(&mut journal), [], "it is back, and nobody asked");
    journal.submit(epoch, batch([3]));
    assert_eq!(durable(&mut journal), batch([3]));
    drop(journal);
    assert_eq!(try_open(Disk, &dir, false).unwrap().2, records([1, 3]));
}

#[test]
fn while_the_files_are_gone_or_others_nothing_is_acked() {
    std::thread::scope(|scope| {
        for moved in ["data", "data/journal", "data/journal/2026-11-23/23-58.jsonl"] {
            scope.spawn(move || lost_and_found(moved));
        }
    });
}

#[test]
fn what_is_discarded_while_the_folder_is_gone_is_removed_when_it_is_back() {
    let home = tempfile::tempdir().unwrap();
    let (dir, there) = (home.path().join("journal"), home.path().join("elsewhere"));
    let (mut journal, ..) = try_open(Disk, &dir, false).unwrap();
    write(&mut journal, &records([1]));
    write(&mut journal, &[register(1, 2)]);
    std::fs::rename(&dir, &there).unwrap();
    journal.discard(window(0));
    let mut epoch = Epoch::default();
    for number in [3, 4] {
        journal.submit(epoch, batch([number]));
        match block_on(journal.next()) {
            Outcome::Refused { epoch: refused, .. } => epoch = refused.next(),
            other => panic!("{other:?}"),
        }
    }
    std::fs::rename(&there, &dir).unwrap();
    let last = Entry { ticket: None, record: register(1, 5) };
    journal.submit(epoch, vec![last]);
    assert!(matches!(block_on(journal.next()), Outcome::Durable(_)));
    drop(journal);
    let kept = [register(1, 2), register(1, 5)];
    assert_eq!(try_open(Disk, &dir, false).unwrap().2, kept);
}

#[test]
fn a_file_that_was_removed_after_a_start_is_not_made_anew() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("journal");
    write(&mut try_open(Disk, &dir, false).unwrap().0, &records([1]));
    let (mut journal, ..) = try_open(Disk, &dir, false).unwrap();
    std::fs::remove_file(dir.join("2026-11-23/23-58.jsonl")).unwrap();
    journal.submit(Epoch::default(), batch([2]));
    match block_on(journal.next()) {
        Outcome::Refused { why, .. } => assert!(why.contains("23-58.jsonl"), "{why}"),
        other => panic!("{other:?}"),
    }
}
