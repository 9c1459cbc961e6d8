//! Checks the examples in docs/PROTOCOL.md against the program: datagrams in blocks fenced as json,
//! a journal file in one fenced as jsonl, a MAC in one fenced as text.

use std::fs;
use std::path::Path;

use hit7::archive::{Archive, Document};
use hit7::cookie::Key;
use hit7::proto::{Datagram, Envelope, Kind};
use hit7::record::{Header, Record};
use hit7::store::Disk;
use hit7::window::Length;
use serde_json::{Map, Value};

use super::samples::full;

/// Returns the lines of the blocks in docs/PROTOCOL.md that are fenced as `language`.
fn fenced(language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PROTOCOL.md");
    let text = fs::read_to_string(path).unwrap();
    let (mut lines, mut inside) = (Vec::new(), None);
    for line in text.lines() {
        inside = match (inside, line.strip_prefix("```")) {
            (None, opening) => opening,
            (Some(_), Some(_)) => None,
            (Some(block), None) => {
                if block == language {
                    lines.push(line.to_owned());
                }
                Some(block)
            }
        };
    }
    lines
}

#[test]
fn each_example_is_what_the_program_writes() {
    let examples = fenced("json");
    for example in &examples {
        let datagram = Datagram::decode(example.as_bytes());
        let datagram = datagram.unwrap_or_else(|error| panic!("{error}: {example}"));
        assert_eq!(&String::from_utf8(datagram.encode()).unwrap(), example);
    }
    for &kind in Kind::ALL {
        let shows = |it: &String| Envelope::open(it.as_bytes()).unwrap().kind() == kind;
        assert!(examples.iter().any(shows), "there is no example of {}", kind.name());
    }
}

#[test]
fn the_table_of_fields_names_each_field() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PROTOCOL.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, fields) = text.split_once("\n## Fields\n").unwrap();
    let table = fields.split_once("\n## ").unwrap().0;
    for (_, sample) in full() {
        let object: Map<String, Value> = serde_json::from_str(sample).unwrap();
        for key in object.keys().filter(|key| *key != "current") {
            assert!(table.contains(&format!("`{key}`")), "there is no row for {key}");
        }
    }
}

#[test]
fn the_journal_is_what_the_program_writes() {
    let lines = fenced("jsonl");
    let (first, records) = lines.split_first().expect("a journal file is shown");
    let header = Header::read_line(first.as_bytes()).unwrap();
    let mut written = Vec::new();
    header.write_line(&mut written);
    for line in records {
        let read = Record::read_line(line.as_bytes(), header);
        let read = read.unwrap_or_else(|error| panic!("{error}: {line}"));
        read.record.write_line(&mut written, read.batch.expect("the line names its batch"));
    }
    assert_eq!(String::from_utf8(written).unwrap(), lines.join("\n") + "\n");
    for kind in ["register", "leave", "open"] {
        let shows = |line: &String| line.starts_with(&format!(r#"{{"type":"{kind}","#));
        assert!(records.iter().any(shows), "there is no example of a {kind} line");
    }
}

#[test]
fn the_document_is_what_the_program_writes() {
    let text = fenced("json document").join("\n") + "\n";
    let document: Document = serde_json::from_str(&text).unwrap();
    let home = tempfile::tempdir().unwrap();
    let archive = Archive::new(Disk, home.path().to_owned());
    archive.write(&document, Length::MINUTE).unwrap();
    let written = home.path().join("2026-11-23/11-29.json");
    assert_eq!(fs::read_to_string(written).unwrap(), text);
}

/// Returns the value of `name` in the worked example of a `mac`.
fn example(name: &str) -> String {
    let lines = fenced("text");
    let found = lines.iter().find_map(|line| line.strip_prefix(name));
    found.unwrap_or_else(|| panic!("{name} is not shown")).trim().to_owned()
}

#[test]
fn the_mac_is_what_the_program_makes() {
    let request = example("request");
    let signed_bytes = Envelope::open(request.as_bytes()).unwrap().signed_bytes();
    let hex: String = signed_bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(example("signed"), hex);
    let key = Key::from_text(&example("key")).unwrap();
    assert_eq!(example("mac"), key.mac(&signed_bytes));
}
