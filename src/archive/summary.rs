//! Counts a document's members without holding them: there may be a million.

use std::fmt;
use std::io::{BufReader, Read};
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{ReadError, Summary};
use crate::window::{Wall, Window};

/// What is looked at in a document.
#[derive(Deserialize)]
struct Skimmed {
    window: Window,
    opened: Option<Wall>,
    rooms: Rooms,
}

/// How many rooms, and members in all of them.
#[derive(Default)]
struct Rooms {
    rooms: usize,
    members: usize,
}

struct Members(usize);

pub(super) fn count(window: Window, path: PathBuf, file: impl Read) -> Result<Summary, ReadError> {
    let damaged = |path, why| Err(ReadError::Damaged { path, why });
    let skimmed: Skimmed = match serde_json::from_reader(BufReader::with_capacity(1 << 16, file)) {
        Ok(skimmed) => skimmed,
        Err(error) => return damaged(path, error.to_string()),
    };
    if skimmed.window != window {
        return damaged(path, format!("it names {}", skimmed.window));
    }
    let Rooms { rooms, members } = skimmed.rooms;
    Ok(Summary { opened: skimmed.opened, members, rooms, path })
}

impl<'de> Deserialize<'de> for Rooms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rooms, D::Error> {
        struct Counting;
        impl<'de> Visitor<'de> for Counting {
            type Value = Rooms;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("rooms with their members")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Rooms, A::Error> {
                let mut counted = Rooms::default();
                while let Some((_, Members(members))) = map.next_entry::<IgnoredAny, Members>()? {
                    counted.rooms += 1;
                    counted.members += members;
                }
                Ok(counted)
            }
        }
        deserializer.deserialize_map(Counting)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct Counting;
        impl<'de> Visitor<'de> for Counting {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of members")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Members, A::Error> {
                let mut members = 0;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    members += 1;
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_seq(Counting)
    }
}
