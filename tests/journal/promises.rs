//! The journal in files passes the conformance tests of all journals, however the disk fails.

use std::io::ErrorKind;

use crate::conformance;
use crate::disk::{After, Fault, FlakyDisk};
use crate::failing::FailingDisk;
use crate::subjects::Files;

const DISK_FULL: Fault = Fault::Fail(ErrorKind::StorageFull);

fn check(fault: Fault, after: After) {
    conformance::check(|| Files::new(FlakyDisk::new().with(fault, after)));
}

#[test]
fn on_the_machines_disk() {
    conformance::check(|| Files::new(FailingDisk::new()));
}

#[test]
fn on_a_disk_that_loses_what_was_not_synced() {
    check(DISK_FULL, After::Lost);
}

#[test]
fn on_a_disk_that_syncs_and_says_that_it_failed() {
    check(Fault::Late, After::Lost);
}

#[test]
fn on_a_disk_that_keeps_what_was_not_synced() {
    check(DISK_FULL, After::Kept);
}

#[test]
fn on_a_disk_that_tears_what_was_not_synced() {
    check(DISK_FULL, After::Torn(40));
    check(Fault::Short, After::Torn(200));
}

#[test]
fn on_a_disk_that_has_zeros_for_what_was_not_synced() {
    check(DISK_FULL, After::Zeros(200));
    check(Fault::Short, After::Zeros(40));
}
