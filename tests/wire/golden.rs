//! Every datagram type is encoded as in earlier versions, to the byte, for older programs.

use hit7::proto::{Datagram, Envelope, Kind};

use super::samples::{bare, full};

fn check(samples: Vec<(Datagram<'static>, &'static str)>) {
    let kinds: Vec<Kind> =
        samples.iter().map(|(_, text)| Envelope::open(text.as_bytes()).unwrap().kind()).collect();
    assert_eq!(kinds, Kind::ALL, "one of each");
    for (datagram, text) in samples {
        assert_eq!(String::from_utf8(datagram.encode()).unwrap(), text);
        assert_eq!(Datagram::decode(text.as_bytes()).as_ref(), Ok(&datagram), "{text}");
    }
}

#[test]
fn datagrams_with_all_fields_are_written_so() {
    check(full());
}

#[test]
fn datagrams_without_optional_fields_are_written_so() {
    check(bare());
}

#[test]
fn milliseconds_have_at_most_eight_digits() {
    for (mut datagram, _) in full() {
        match &mut datagram {
            Datagram::Registered(it) => {
                (it.opens_in_ms, it.window_ms) = (u64::MAX, u64::MAX);
                it.current.closes_in_ms = u64::MAX;
            }
            Datagram::Peers(it) => it.closes_in_ms = u64::MAX,
            Datagram::Window(it) => it.closes_in_ms = u64::MAX,
            Datagram::Error(it) => it.retry_in_ms = Some(u64::MAX),
            _ => continue,
        }
        let text = String::from_utf8(datagram.encode()).unwrap();
        assert!(text.contains(":99999999") && !text.contains("999999999"), "{text}");
    }
}
