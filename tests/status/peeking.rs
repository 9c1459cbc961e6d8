//! Rule 4: before a window opens, nothing over HTTP names one of its members.

use crate::http::{get, listen};
use crate::registry::{Client, Registry};

#[test]
fn nothing_names_a_member_of_the_next_window() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start("1h", data.path());
    let client = Client::new(&registry);
    let window = client.register("veiled-room", "veiled-name");
    let addr = client.0.local_addr().unwrap();
    let secrets = ["veiled".to_owned(), addr.to_string()];
    let heard = listen(registry.http, "/api/v1/events", r#""members":1}"#);
    let events = [("/api/v1/events".to_owned(), heard)];
    let asked = [
        "/".to_owned(),
        "/api/v1/window".to_owned(),
        "/api/v1/window?limit=1000".to_owned(),
        "/api/v1/window?room=main".to_owned(),
        "/api/v1/windows".to_owned(),
        format!("/api/v1/windows/{window}"),
        "/metrics".to_owned(),
        "/livez".to_owned(),
        "/readyz".to_owned(),
    ];
    let answers = asked.map(|path| (path.clone(), get(registry.http, &path)));
    assert_eq!(answers[1].1.json()["next"]["members"], 1);
    // A room that is asked for by name looks as one that does not exist.
    let guessed = get(registry.http, "/api/v1/window?room=veiled-room").json();
    assert_eq!(guessed["rooms"], serde_json::json!([]));
    assert_eq!(answers[5].1.json()["error"], "not_open");
    let answers = answers.map(|(path, answer)| (path, answer.head + &answer.body));
    for (path, text) in events.iter().chain(&answers) {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{path} names {secret}: {text}");
        }
    }
    assert_eq!(client.register("veiled-room", "veiled-name"), window, "no window turned meanwhile");
}
