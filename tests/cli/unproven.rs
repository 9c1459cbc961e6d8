//! Tests what an untrusted source is answered until it has proven its address.

use hit7_support::{Registry, text};
use serde_json::Value;

use crate::HIT7;

/// Starts a registry that does not trust loopback.
fn serve(window: &str) -> Registry {
    HIT7.serve(&["--window", window, "--trust", "192.0.2.1/32"])
}

fn register(cookie: &Value) -> String {
    format!(r#"{{"type":"REGISTER","seq":1,"cookie":{cookie}}}"#)
}

#[test]
fn a_cookie_proves_an_address() {
    let registry = serve("1day");
    let (ana, ben) = (registry.client(), registry.client());
    let challenge = ana.ask(r#"{"type":"REGISTER","seq":1}"#);
    assert_eq!((&challenge["type"], &challenge["seq"]), (&"CHALLENGE".into(), &1.into()));
    let cookie = &challenge["cookie"];
    assert_eq!(text(cookie).len(), 16);
    // The cookie is not valid for another port, which gets its own.
    let other = ben.ask(register(cookie));
    assert_eq!(other["type"], "CHALLENGE");
    assert_ne!(&other["cookie"], cookie);
    assert_eq!(ana.ask(register(cookie))["type"], "REGISTERED");
    assert_eq!(ben.ask(register(&other["cookie"]))["type"], "REGISTERED");
    assert_eq!(ana.ask(register(&"wrong".into()))["type"], "CHALLENGE", "never a ban");
}

#[test]
fn fields_are_looked_at_after_the_proof() {
    let registry = serve("1day");
    let ana = registry.client();
    let bad = r#"{"type":"REGISTER","name":"a  b","cookie":"AAAAAAAAAAAAAAAA"}"#;
    let challenge = ana.ask(bad);
    assert_eq!(challenge["type"], "CHALLENGE");
    let proven = bad.replace("AAAAAAAAAAAAAAAA", &text(&challenge["cookie"]));
    assert_eq!(ana.ask(proven)["code"], "bad_field");
}

#[test]
fn what_cannot_be_read_is_not_answered() {
    let registry = serve("1day");
    let ana = registry.client();
    let large = "x".repeat(1300);
    for datagram in ["hello", "", "{}", r#"{"type":"HELLO"}"#, r#"{"type":"ERROR"}"#, &large] {
        ana.send(datagram);
    }
    assert_eq!(ana.ask(r#"{"type":"QUERY","seq":3}"#)["seq"], 3, "the first that is answered");
}

#[test]
fn the_program_proves_itself() {
    let registry = serve("1s");
    let mut ana = registry.join(&["--json"]);
    ana.event("window");
    registry.peers(&[]).succeeded();
    assert_eq!(ana.stop("INT").succeeded().last().unwrap(), r#"{"event":"left"}"#);
}
