//! A datagram that is decoded and encoded again is the same; no input makes the decoder panic.

use hit7::proto::{Current, Datagram, Envelope, MAX_DATAGRAM, Peers, Registered};

/// The most milliseconds that are written.
const MAX_MS: u64 = 99_999_999;

/// What a datagram may grow by when it is written again: the defaults that it had left out.
const DEFAULTS: usize = r#","room":"main","part":0,"reason":"""#.len();

pub(crate) fn check(input: &[u8]) {
    let envelope = Envelope::open(input);
    if let Ok(envelope) = &envelope {
        let _ = (envelope.seq(), envelope.cookie(), envelope.mac(), envelope.signed_bytes());
    }
    let decoded = Datagram::decode(input);
    if let (Ok(_), Err(error)) = (envelope.and_then(|it| it.request()), &decoded) {
        panic!("a request, and no datagram: {error}");
    }
    let Ok(decoded) = decoded else { return };
    let written = decoded.encode();
    assert!(written.len() <= input.len() + DEFAULTS, "it grew: {}", text(&written));
    if written.len() > MAX_DATAGRAM {
        return;
    }
    let again = Datagram::decode(&written).unwrap_or_else(|e| panic!("{e}: {}", text(&written)));
    assert_eq!(again, clamped(decoded));
    assert_eq!(again.encode(), written);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The datagram as it is written: with at most eight digits of milliseconds.
fn clamped(datagram: Datagram<'_>) -> Datagram<'_> {
    match datagram {
        Datagram::Registered(it) => Datagram::Registered(Registered {
            opens_in_ms: it.opens_in_ms.min(MAX_MS),
            window_ms: it.window_ms.min(MAX_MS),
            current: Current { closes_in_ms: it.current.closes_in_ms.min(MAX_MS), ..it.current },
            ..it
        }),
        Datagram::Peers(it) => {
            Datagram::Peers(Peers { closes_in_ms: it.closes_in_ms.min(MAX_MS), ..it })
        }
        Datagram::Window(mut it) => {
            it.closes_in_ms = it.closes_in_ms.min(MAX_MS);
            Datagram::Window(it)
        }
        Datagram::Error(mut it) => {
            it.retry_in_ms = it.retry_in_ms.map(|ms| ms.min(MAX_MS));
            Datagram::Error(it)
        }
        other => other,
    }
}
