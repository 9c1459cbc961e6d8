//! A crash, and a failure, at every single step.

use std::io::ErrorKind;

use hit7::record::Record;

use crate::disk::{After, Fault, FlakyDisk, Plan};
use crate::ledger::{Ledger, ROOT, block_on, register, reopen, script, try_flaky};

/// Runs the script on a disk with that plan, and then `end` without one.
fn run(plan: Plan, end: Vec<Vec<Record>>) -> (FlakyDisk, Ledger, bool) {
    let (disk, mut ledger) = (FlakyDisk::new(ROOT), Ledger::default());
    disk.plan(Some(plan));
    let opened = try_flaky(&disk);
    let Ok((mut journal, ..)) = opened else { return (disk, ledger, true) };
    let past = block_on(async {
        for step in script() {
            ledger.step(&mut journal, step).await;
        }
        let past = disk.is_past_plan();
        if !end.is_empty() {
            disk.plan(None);
            ledger.propose(&mut journal, end).await;
        }
        past
    });
    (disk, ledger, past)
}

/// Runs the script on a disk that crashes at a step.
fn crash(at: usize) -> (FlakyDisk, Ledger) {
    let (disk, ledger, _) = run(Plan { at, times: 1, fault: Fault::Crash }, Vec::new());
    (disk, ledger)
}

/// All that a crash may leave.
fn leftovers(disk: &FlakyDisk) -> impl Iterator<Item = After> {
    let torn = 0..=disk.unsynced();
    let torn = torn.flat_map(|count| [After::Torn(count), After::Zeros(count)]);
    [After::Lost, After::Kept].into_iter().chain(torn)
}

#[test]
fn no_crash_at_any_step_loses_what_was_durable() {
    for at in 0.. {
        let (disk, ledger) = crash(at);
        for after in leftovers(&disk) {
            let disk = disk.reboot(after);
            let seen = reopen(&disk);
            assert!(ledger.allows(&seen), "crash at {at}, {after:?}: {seen:?}");
            // From now on it is answered for; only what was discarded may come back.
            let again = reopen(&disk.reboot(After::Lost));
            assert_eq!(ledger.log(&again, &seen), seen, "crash at {at}, {after:?}, again");
        }
        if !disk.is_past_plan() {
            assert!(at > 30 && ledger.refused == 0, "{at}");
            break;
        }
    }
}

#[test]
fn no_crash_while_a_crash_is_mended_loses_what_was_durable() {
    for at in 0.. {
        let (disk, ledger) = crash(at);
        for first in [After::Kept, After::Torn(0), After::Torn(50), After::Torn(200)] {
            for again in 0.. {
                let disk = disk.reboot(first);
                disk.plan(Some(Plan { at: again, times: 1, fault: Fault::Crash }));
                let _ = try_flaky(&disk);
                for second in [After::Lost, After::Kept, After::Torn(0), After::Zeros(20)] {
                    let seen = reopen(&disk.reboot(second));
                    let crashes = format!("crash at {at}, {first:?}, at {again}, {second:?}");
                    assert!(ledger.allows(&seen), "{crashes}: {seen:?}");
                }
                if !disk.is_past_plan() {
                    break;
                }
            }
        }
        if !disk.is_past_plan() {
            break;
        }
    }
}

/// Faults of one, two, or more steps in a row: the second hits the repair of the first.
#[test]
fn no_failing_step_loses_what_was_durable_or_keeps_what_was_refused() {
    let full = Fault::Fail(ErrorKind::StorageFull);
    for (fault, times) in [(full, 1), (full, 2), (full, 3), (full, 9), (Fault::Short, 1)] {
        for at in 2.. {
            let end = vec![vec![register(2, 12)]];
            let (disk, ledger, past) = run(Plan { at, times, fault }, end);
            assert_eq!(ledger.durable.last(), Some(&register(2, 12)));
            for after in [After::Lost, After::Kept, After::Torn(9)] {
                let seen = reopen(&disk.reboot(after));
                let log = ledger.log(&ledger.durable, &seen);
                assert_eq!(seen, log, "{fault:?} × {times} at {at}, {after:?}");
            }
            if !past {
                break;
            }
        }
    }
}

/// As above, but the same engine goes on: what it says after a failure holds too.
#[test]
fn after_a_failure_the_same_engine_goes_on_in_order() {
    for times in [1, 2, 5] {
        for at in 0..12 {
            let (disk, mut ledger) = (FlakyDisk::new(ROOT), Ledger::default());
            let (mut journal, ..) = try_flaky(&disk).unwrap();
            disk.plan(Some(Plan { at, times, fault: Fault::Fail(ErrorKind::Other) }));
            block_on(async {
                let mut seq = 0;
                while ledger.durable.len() < 4 || !disk.is_past_plan() {
                    seq += 2;
                    let batch = vec![register(0, seq), register(1, seq + 1)];
                    ledger.propose(&mut journal, vec![batch]).await;
                }
            });
            assert!(ledger.refused > 0 || at > 4);
            for after in [After::Lost, After::Kept] {
                let seen = reopen(&disk.reboot(after));
                assert_eq!(seen, ledger.log(&ledger.durable, &seen), "{times} at {at}, {after:?}");
            }
        }
    }
}

/// The last step of a new file's first write fails when all before it was durable: what is refused
/// then must not come back with the power.
#[test]
fn what_was_refused_stays_away_after_a_crash() {
    let (disk, mut ledger) = (FlakyDisk::new(ROOT), Ledger::default());
    let (mut journal, ..) = try_flaky(&disk).unwrap();
    for at in 0..5 {
        block_on(ledger.propose(&mut journal, vec![vec![register(0, at)]]));
        disk.plan(Some(Plan { at: at as usize, times: 1, fault: Fault::Fail(ErrorKind::Other) }));
        block_on(ledger.propose(&mut journal, vec![vec![register(1, at)]]));
        assert_eq!((ledger.refused, disk.is_past_plan()), (at as usize + 1, true));
        for after in [After::Lost, After::Kept] {
            assert_eq!(reopen(&disk.reboot(after)), ledger.durable, "{at}, {after:?}");
        }
        disk.plan(None);
    }
}
