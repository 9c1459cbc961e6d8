//! The house stands: a file imports only from lower floors, and the pure ones know no system.
//!
//! ARCHITECTURE.md draws the floors; here they are checked against the code.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

/// The rooms by floor; a room's own folder stands where the room stands.
const FLOORS: [&[&str]; 8] = [
    &["window", "mesh", "limit", "cookie", "tally", "path"],
    &["proto", "clock", "events", "udp"],
    &["roster", "record", "gate", "ask", "store"],
    &["registry", "fanout", "peer", "journal", "archive", "datadir", "keyfile", "snapshot"],
    &["server", "client", "status"],
    &["view"],
    &["cli"],
    &["main"],
];

/// Rooms that must not know sockets, files or a runtime.
const PURE: [&str; 9] =
    ["window", "mesh", "path", "registry", "peer", "fanout", "gate", "ask", "roster"];

/// What the pure rooms must not name.
const SYSTEM: [&str; 5] = ["tokio", "std::fs", "UdpSocket", "std::thread", "std::process"];

/// What the page must not name: it sees what the registry shows, and documents.
const HIDDEN_FROM_STATUS: [&str; 6] =
    ["UdpSocket", "crate::udp", "journal", "crate::registry", "crate::server", "NextWindow"];

/// The only room that reads a clock.
const CLOCK: &str = "clock";

struct Source {
    /// The room it belongs to: the first part of its path.
    room: String,
    path: String,
    /// Its code without tests.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    assert!(found.len() > 20, "the sources are where they are looked for");
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let place = path.strip_prefix(root).unwrap().with_extension("");
            let room = place.iter().next().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
            let test_only = ["tests.rs", "stage.rs"].iter().any(|name| path.ends_with(name));
            if room != "lib" && !test_only {
                found.push(Source { room, path: place.display().to_string(), code });
            }
        }
    }
}

fn floor_of(room: &str) -> usize {
    FLOORS
        .iter()
        .position(|rooms| rooms.contains(&room))
        .unwrap_or_else(|| panic!("{room} stands on no floor: give it one in ARCHITECTURE.md"))
}

/// The rooms that some code names after `crate::` or `hit7::`, whatever else is imported with them.
fn imports(code: &str) -> Vec<String> {
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code: String = lines.map(|line| format!("{line}\n")).collect();
    let mut rooms = Vec::new();
    for start in ["crate::", "hit7::"] {
        for (at, _) in code.match_indices(start) {
            let rest = &code[at + start.len()..];
            match rest.strip_prefix('{') {
                Some(group) => {
                    let group = &group[..group.find("};").unwrap_or(group.len())];
                    let names = group.split(',').map(|name| first_word(name.trim()));
                    rooms.extend(names.filter(|name| !name.is_empty()));
                }
                None => rooms.push(first_word(rest)),
            }
        }
    }
    rooms
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

#[test]
fn imports_are_found() {
    let code = "use crate::window::Wall;\nuse crate::{mesh, udp::Path};\n// crate::server\n";
    assert_eq!(imports(code), ["window", "mesh", "udp"]);
}

#[test]
fn a_file_imports_only_from_lower_floors() {
    for source in sources() {
        let own = floor_of(&source.room);
        for room in imports(&source.code) {
            if room != source.room {
                let other = floor_of(&room);
                assert!(
                    other < own,
                    "{} (floor {own}) imports {room} (floor {other})",
                    source.path
                );
            }
        }
    }
}

#[test]
fn the_architecture_names_each_file_on_its_floor() {
    let drawn = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md"));
    let drawn = drawn.unwrap();
    for source in sources() {
        let row = format!("| {} | `{}.rs` |", floor_of(&source.room), source.room);
        assert!(drawn.contains(&row), "ARCHITECTURE.md has no row {row}");
    }
}

#[test]
fn the_pure_rooms_know_no_system() {
    for source in sources().into_iter().filter(|source| PURE.contains(&source.room.as_str())) {
        for word in SYSTEM {
            assert!(!source.code.contains(word), "{} names {word}", source.path);
        }
    }
}

#[test]
fn the_page_sees_what_is_shown_and_no_more() {
    for source in sources().into_iter().filter(|source| source.room == "status") {
        for word in HIDDEN_FROM_STATUS {
            assert!(!source.code.contains(word), "{} names {word}", source.path);
        }
    }
}

#[test]
fn only_the_clock_reads_time() {
    for source in sources().into_iter().filter(|source| source.room != CLOCK) {
        for word in ["Instant::now", "SystemTime::now", "Utc::now", "Local::now"] {
            assert!(!source.code.contains(word), "{} reads the time", source.path);
        }
    }
}

#[test]
fn only_the_program_prints() {
    for source in sources().into_iter().filter(|source| source.room != "main") {
        for word in ["println!", "print!", "stdout(", "stderr("] {
            assert!(!source.code.contains(word), "{} prints", source.path);
        }
    }
}

#[test]
fn no_unsafe_code() {
    for source in sources() {
        assert!(!source.code.contains("unsafe "), "{}", source.path);
    }
}
