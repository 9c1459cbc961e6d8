//! Documents on a disk that crashes at every step: a document is there as a whole or not at all,
//! and one that was reported durable survives a power failure right after.

use std::path::Path;

use hit7::archive::{Archive, Document, ReadError};
use hit7::window::Length;

use crate::conformance::records::window;
use crate::disk::{After, Fault, FlakyDisk, Plan, ROOT};

fn archive(disk: &FlakyDisk) -> Archive<FlakyDisk> {
    Archive::new(disk.clone(), Path::new(ROOT).join("windows"))
}

/// Returns the document of the window with this index; the indexes span two days.
fn document(index: u64) -> Document {
    let window = window(index);
    let (closes, rooms) = (Length::MINUTE.closes(window), Default::default());
    Document { window, closes, opened: Some(window.opens()), rooms }
}

#[test]
fn no_crash_at_any_step_loses_a_document_or_leaves_half_of_one() {
    for at in 0.. {
        let disk = FlakyDisk::new();
        disk.plan(Some(Plan { at, times: 1, fault: Fault::Crash }));
        let durable =
            (0..4).take_while(|&n| archive(&disk).write(&document(n), Length::MINUTE).is_ok());
        let durable = durable.count() as u64;
        for after in [After::Lost, After::Kept, After::Torn(0), After::Torn(9), After::Zeros(9)] {
            let found = disk.reboot(after);
            for n in 0..4 {
                match archive(&found).read(window(n)) {
                    Ok(read) => assert_eq!(read, document(n)),
                    Err(ReadError::Missing { .. }) if n >= durable => {}
                    other => panic!("crash at {at}, {after:?}: of {durable}, {n} is {other:?}"),
                }
            }
        }
        if !disk.is_past_plan() {
            assert!(at > 12 && durable == 4, "{at}");
            break;
        }
    }
}
