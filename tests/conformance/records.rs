//! Makes windows and records for the conformance tests.

use std::time::Duration;

use hit7::mesh::ListCap;
use hit7::proto::Profile;
use hit7::record::{Leaving, Opening, Record, Registration};
use hit7::window::{Length, Window};

/// Returns the window with this index: one-minute windows around a midnight.
pub(crate) fn window(index: u64) -> Window {
    let first: Window = "2026-11-23T23:58:00Z".parse().unwrap();
    Length::MINUTE.window_at(first.opens().plus(Duration::from_secs(60 * index)))
}

/// Returns a registration for the window with this index.
pub(crate) fn register(index: u64, seq: u64) -> Record {
    Record::Register(Registration {
        window: window(index),
        at: window(0).opens(),
        path: hit7::path::Path::new("[2001:db8::7]:40112".parse().unwrap(), [127, 0, 0, 1].into()),
        id: Some("s3cret".parse().unwrap()),
        seq: Some(seq),
        profile: Profile {
            room: "lab".parse().unwrap(),
            name: Some("ana".parse().unwrap()),
            lan: None,
        },
    })
}

/// Returns a withdrawal from the window with this index.
pub(crate) fn leave(index: u64, seq: u64) -> Record {
    let Record::Register(it) = register(index, seq) else { unreachable!() };
    let Registration { window, at, path, id, seq, .. } = it;
    Record::Leave(Leaving { window, at, path, id, seq })
}

/// Returns the opening of the window with this index.
pub(crate) fn open(index: u64) -> Record {
    let window = window(index);
    let cap = Some(ListCap::default());
    Record::Open(Opening { window, length: Length::MINUTE, cap, at: window.opens() })
}
