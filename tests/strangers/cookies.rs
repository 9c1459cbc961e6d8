//! A cookie proves one address and port, for two minutes, also after a restart.

use std::fs;
use std::net::UdpSocket;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hit7::cookie::Secret;
use hit7_support::{Home, Registry};

use crate::HIT7;
use crate::wire::{Reply, TRUST_NOBODY, cookie, register, reply, socket};

/// Returns the cookie that the registry of `home` would have given `to` this many seconds ago.
pub(crate) fn aged(home: &Home, to: &UdpSocket, seconds: i64) -> String {
    let secret: [u8; 32] = fs::read(home.data().join("secret")).unwrap().try_into().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let cookies = Secret::from_bytes(secret).cookie_issuer();
    cookies.issue(to.local_addr().unwrap(), (now - seconds) as u32).as_str().to_owned()
}

fn ask(registry: &Registry, socket: &UdpSocket, cookie: &str) -> Reply {
    reply(socket, registry.addr, &register("a", cookie))
}

#[test]
fn a_cookie_is_good_where_it_was_sent_to_and_after_a_restart() {
    let mut registry = HIT7.serve(&TRUST_NOBODY);
    let here = socket([127, 0, 0, 1]);
    let cookie = cookie(&here, registry.addr);
    assert_eq!(ask(&registry, &here, &cookie), Reply::Registered);
    let another = |ip| ask(&registry, &socket(ip), &cookie);
    assert_eq!(another([127, 0, 0, 1]), Reply::Challenge, "another port");
    assert_eq!(another([127, 0, 0, 9]), Reply::Challenge, "another ip");
    registry.program.kill();
    let registry = registry.home.serve_at(registry.addr.port(), &TRUST_NOBODY);
    assert_eq!(ask(&registry, &here, &cookie), Reply::Registered, "after a restart");
}

#[test]
fn not_one_bit_of_a_cookie_may_differ() {
    let registry = HIT7.serve(&TRUST_NOBODY);
    let here = socket([127, 0, 0, 1]);
    let cookie = cookie(&here, registry.addr);
    let bytes = URL_SAFE_NO_PAD.decode(&cookie).unwrap();
    assert_eq!(bytes.len(), 12);
    for bit in 0..96 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let flipped = URL_SAFE_NO_PAD.encode(flipped);
        assert_eq!(ask(&registry, &here, &flipped), Reply::Challenge, "bit {bit}");
    }
    assert_eq!(ask(&registry, &here, &cookie), Reply::Registered, "never a ban");
}

#[test]
fn a_cookie_is_good_for_two_minutes() {
    let registry = HIT7.serve(&TRUST_NOBODY);
    let here = socket([127, 0, 0, 1]);
    for (seconds, expected) in [
        (0, Reply::Registered),
        (90, Reply::Registered),
        (121, Reply::Challenge),
        (3600, Reply::Challenge),
        (-60, Reply::Challenge),
    ] {
        let cookie = aged(&registry.home, &here, seconds);
        assert_eq!(ask(&registry, &here, &cookie), expected, "{seconds} s old");
    }
}
