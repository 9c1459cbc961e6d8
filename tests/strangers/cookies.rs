//! A cookie proves one address and port, for two minutes, also after a restart. (Its age is tested
//! beside the code: `cookie::tests`.)

use crate::registry::Registry;
use crate::wire::{TRUST_NOBODY, Told, answer, cookie, register, socket, told};

#[test]
fn a_cookie_is_good_where_it_was_sent_to_and_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start_with(0, &TRUST_NOBODY, data.path());
    let addr = registry.addr;
    let here = socket([127, 0, 0, 1]);
    let cookie = cookie(&here, addr);
    let ask = |socket: &_, cookie: &str| {
        told(&answer(socket, addr, &register("a", cookie).encode()).unwrap())
    };
    assert_eq!(ask(&here, &cookie), Told::Registered);
    assert_eq!(ask(&socket([127, 0, 0, 1]), &cookie), Told::Challenge, "another port");
    assert_eq!(ask(&socket([127, 0, 0, 9]), &cookie), Told::Challenge, "another ip");
    for place in 0..cookie.len() {
        let mut flipped = cookie.clone().into_bytes();
        flipped[place] = if flipped[place] == b'A' { b'B' } else { b'A' };
        let flipped = String::from_utf8(flipped).unwrap();
        assert_eq!(ask(&here, &flipped), Told::Challenge, "{flipped}");
    }
    registry.kill();
    let _registry = Registry::start_with(addr.port(), &TRUST_NOBODY, data.path());
    assert_eq!(ask(&here, &cookie), Told::Registered, "after a restart");
}
