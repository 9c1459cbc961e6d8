//! A cookie proves one address and port, for two minutes, also after a restart.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hit7::cookie::Secret;

use crate::registry::Registry;
use crate::wire::{TRUST_NOBODY, Told, answer, cookie, register, socket, told};

/// The cookie that the registry with that data would have given `to` so many seconds ago.
pub(crate) fn aged(data: &Path, to: &UdpSocket, seconds: i64) -> String {
    let secret: [u8; 32] = fs::read(data.join("secret")).unwrap().try_into().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let cookies = Secret::from_bytes(secret).cookie_issuer();
    cookies.issue(to.local_addr().unwrap(), (now - seconds) as u32).as_str().to_owned()
}

fn ask(registry: &Registry, socket: &UdpSocket, cookie: &str) -> Told {
    told(&answer(socket, registry.addr, &register("a", cookie)).unwrap())
}

#[test]
fn a_cookie_is_good_where_it_was_sent_to_and_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start_with(0, &TRUST_NOBODY, data.path());
    let here = socket([127, 0, 0, 1]);
    let cookie = cookie(&here, registry.addr);
    assert_eq!(ask(&registry, &here, &cookie), Told::Registered);
    let another = |ip| ask(&registry, &socket(ip), &cookie);
    assert_eq!(another([127, 0, 0, 1]), Told::Challenge, "another port");
    assert_eq!(another([127, 0, 0, 9]), Told::Challenge, "another ip");
    let port = registry.addr.port();
    registry.kill();
    let registry = Registry::start_with(port, &TRUST_NOBODY, data.path());
    assert_eq!(ask(&registry, &here, &cookie), Told::Registered, "after a restart");
}

#[test]
fn not_one_bit_of_a_cookie_may_differ() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start_with(0, &TRUST_NOBODY, data.path());
    let here = socket([127, 0, 0, 1]);
    let cookie = cookie(&here, registry.addr);
    let bytes = URL_SAFE_NO_PAD.decode(&cookie).unwrap();
    assert_eq!(bytes.len(), 12);
    for bit in 0..96 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let flipped = URL_SAFE_NO_PAD.encode(flipped);
        assert_eq!(ask(&registry, &here, &flipped), Told::Challenge, "bit {bit}");
    }
    assert_eq!(ask(&registry, &here, &cookie), Told::Registered, "never a ban");
}

#[test]
fn a_cookie_is_good_for_two_minutes() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start_with(0, &TRUST_NOBODY, data.path());
    let here = socket([127, 0, 0, 1]);
    for (seconds, expected) in [
        (0, Told::Registered),
        (90, Told::Registered),
        (121, Told::Challenge),
        (3600, Told::Challenge),
        (-60, Told::Challenge),
    ] {
        let cookie = aged(data.path(), &here, seconds);
        assert_eq!(ask(&registry, &here, &cookie), expected, "{seconds} s old");
    }
}
