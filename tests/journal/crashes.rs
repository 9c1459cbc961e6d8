//! A crash at every single step, and then at every step of the start that mends it.

use crate::conformance::account::Account;
use crate::conformance::script;
use crate::disk::{After, Fault, FlakyDisk, Plan};
use crate::subjects::{Files, reopen, try_flaky};

/// Runs the script on a disk that crashes at step `at`. Returns the disk, and the account of what
/// the journal answered, if it could be opened at all.
fn crash(at: usize) -> (FlakyDisk, Option<Account<Files<FlakyDisk>>>) {
    let disk = FlakyDisk::new();
    disk.plan(Some(Plan { at, times: 1, fault: Fault::Crash }));
    let mut account = Files::try_new(disk.clone()).ok().map(Account::new);
    if let Some(account) = &mut account {
        script().iter().for_each(|step| account.step(step));
    }
    (disk, account)
}

fn allows(account: &Option<Account<Files<FlakyDisk>>>, seen: &[hit7::record::Record]) -> bool {
    account.as_ref().map_or(seen.is_empty(), |account| account.allows(seen).is_some())
}

/// Returns everything that a crash may leave of what was not durable.
fn leftovers(disk: &FlakyDisk) -> impl Iterator<Item = After> {
    let torn = 0..=disk.unsynced();
    let torn = torn.flat_map(|count| [After::Torn(count), After::Zeros(count)]);
    [After::Lost, After::Kept].into_iter().chain(torn)
}

#[test]
fn no_crash_at_any_step_loses_what_was_durable() {
    for at in 0.. {
        let (disk, account) = crash(at);
        for after in leftovers(&disk) {
            let disk = disk.reboot(after);
            let seen = reopen(&disk);
            assert!(allows(&account, &seen), "crash at {at}, {after:?}: {seen:?}");
            // From now on the records must survive; only discarded windows may come back.
            let again = reopen(&disk.reboot(After::Lost));
            let back: Vec<_> = again.iter().filter(|record| seen.contains(record)).collect();
            assert!(back.into_iter().eq(&seen), "crash at {at}, {after:?}, again: {again:?}");
            assert!(allows(&account, &again), "crash at {at}, {after:?}, again: {again:?}");
        }
        if !disk.is_past_plan() {
            assert!(at > 30 && account.unwrap().refused.is_empty(), "{at}");
            break;
        }
    }
}

#[test]
fn no_crash_while_a_crash_is_mended_loses_what_was_durable() {
    for at in 0.. {
        let (disk, account) = crash(at);
        for first in [After::Kept, After::Torn(0), After::Torn(50), After::Torn(200)] {
            for again in 0.. {
                let disk = disk.reboot(first);
                disk.plan(Some(Plan { at: again, times: 1, fault: Fault::Crash }));
                let _ = try_flaky(&disk);
                for second in [After::Lost, After::Kept, After::Torn(0), After::Zeros(20)] {
                    let seen = reopen(&disk.reboot(second));
                    let crashes = format!("crash at {at}, {first:?}, at {again}, {second:?}");
                    assert!(allows(&account, &seen), "{crashes}: {seen:?}");
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
