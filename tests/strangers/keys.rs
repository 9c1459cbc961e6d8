//! A private registry: without its key no client can register or list members.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hit7::cookie::Key;
use hit7::proto::{Auth, Code, Datagram, Profile, Request, Room};

use hit7_support::{Home, until};

use crate::HIT7;
use crate::cookies::aged;
use crate::wire::{Reply, answer, cookie, register, reply, socket};

const KEY: &str = "correct horse battery staple";

/// Writes a key file that only its owner can read.
fn key_file(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("key");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn signed(request: &Request, cookie: &str, key: &str) -> Vec<u8> {
    let (key, mut auth) = (Key::from_text(key).unwrap(), Auth::with_cookie(cookie));
    auth.sign(request, |signed_bytes| key.mac(signed_bytes));
    request.encode(&auth)
}

fn signed_register(cookie: &str, key: &str) -> Vec<u8> {
    let id = Some("a".parse().unwrap());
    signed(&Request::register(id, Some(1), Profile::default()), cookie, key)
}

/// Returns the number of registrations in the journal.
fn recorded(home: &Home) -> usize {
    let texts = home.journals().into_iter().map(|path| fs::read_to_string(path).unwrap());
    texts.map(|text| text.matches(r#""type":"register""#).count()).sum()
}

#[test]
fn only_who_has_the_key_gets_in() {
    let dir = tempfile::tempdir().unwrap();
    let file = key_file(dir.path(), KEY);
    let flags = ["--key-file", file.to_str().unwrap(), "--window", "1day"];
    // Loopback is trusted, but in a private registry nobody skips the cookie.
    let registry = HIT7.serve(&flags);
    let here = socket([127, 0, 0, 1]);
    let ask = |datagram: &[u8]| reply(&here, registry.addr, datagram);
    let cookie = cookie(&here, registry.addr);
    let forbidden = Reply::Error(Code::Forbidden);
    assert_eq!(ask(&register("a", &cookie)), forbidden, "without key");
    assert_eq!(ask(&signed_register(&cookie, "another key of that length")), forbidden);
    let (query, auth) =
        (Request::query(None, None, Room::default(), 0), Auth::with_cookie(&cookie));
    assert_eq!(ask(&query.encode(&auth)), forbidden, "nothing is listed");

    let good = signed_register(&cookie, KEY);
    let elsewhere = socket([127, 0, 0, 1]);
    let replayed = reply(&elsewhere, registry.addr, &good);
    assert_eq!(replayed, Reply::Challenge, "replayed from another port");
    let changed = String::from_utf8(good.clone()).unwrap().replace(r#""main""#, r#""mine""#);
    assert_eq!(ask(changed.as_bytes()), forbidden, "another room");
    let home = &registry.home;
    let late = signed_register(&aged(home, &here, 121), KEY);
    assert_eq!(ask(&late), Reply::Challenge, "replayed after two minutes");
    let leave = Request::leave(None, None).encode(&auth);
    assert_eq!(ask(&leave), forbidden, "nobody is withdrawn");
    assert_eq!(recorded(home), 0, "nothing was registered");
    assert_eq!(ask(&good), Reply::Registered);
    assert_eq!(recorded(home), 1);
    let listed = answer(&here, registry.addr, &signed(&query, &cookie, KEY)).unwrap();
    assert!(matches!(Datagram::decode(&listed).unwrap(), Datagram::Peers(_)));
}

#[test]
fn keys_are_read_again_on_sighup() {
    let dir = tempfile::tempdir().unwrap();
    let file = key_file(dir.path(), KEY);
    let flags = ["--key-file", file.to_str().unwrap(), "--window", "1day"];
    let registry = HIT7.serve(&flags);
    let (here, addr) = (socket([127, 0, 0, 1]), registry.addr);
    let cookie = cookie(&here, addr);
    let new = "another key of that length";
    let ask = |key: &str| reply(&here, addr, &signed_register(&cookie, key));
    let forbidden = Reply::Error(Code::Forbidden);
    assert_eq!(ask(new), forbidden);
    let write = |text: &str| fs::write(&file, text).unwrap();
    write(&format!("{KEY}\n{new}\n"));
    registry.program.signal("HUP");
    until("two lines are two keys", || (ask(new) == Reply::Registered).then_some(()));
    assert_eq!(ask(KEY), Reply::Registered);
    write(new);
    registry.program.signal("HUP");
    until("the old one is gone", || (ask(KEY) == forbidden).then_some(()));
    assert_eq!(ask(new), Reply::Registered);
    // A key file that others can read is rejected, and the keys stay as they were.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    write(KEY);
    registry.program.signal("HUP");
    until("it is refused", || {
        let said = registry.program.error_lines().join("\n");
        said.contains("the keys stay as they were").then_some(())
    });
    assert_eq!((ask(new), ask(KEY)), (Reply::Registered, Reply::Error(Code::Forbidden)));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    registry.program.signal("HUP");
    until("it is read again", || (ask(KEY) == Reply::Registered).then_some(()));
    assert_eq!(ask(new), forbidden);
}
