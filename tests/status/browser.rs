//! A real browser sees a window turn (Debian: `chromium` and `chromium-driver`).

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::http::ask;
use crate::registry::{Client, Registry, until};

/// A browser, by the protocol of WebDriver; dropped, it is closed.
struct Browser {
    driver: Child,
    addr: SocketAddr,
    session: String,
}

impl Browser {
    /// One with an empty profile, if there is one.
    fn open(profile: &Path) -> Option<Browser> {
        let mut driver = Command::new("chromedriver");
        let driver = driver.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = driver.spawn().ok()?;
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let mut ports = lines.map_while(Result::ok).filter_map(|line| {
            line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok()
        });
        let addr = SocketAddr::from(([127, 0, 0, 1], ports.next()?));
        let mut browser = Browser { driver, addr, session: String::new() };
        let profile = format!("--user-data-dir={}", profile.display());
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            &profile,
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": args},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let opened = browser.command("/session", &wanted);
        browser.session = format!("/session/{}", opened["sessionId"].as_str()?);
        Some(browser)
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        let answer = ask(self.addr, "POST", &format!("{}{path}", self.session), &body.to_string());
        let value = answer.json()["value"].take();
        assert_eq!(answer.status, 200, "{path}: {value}");
        value
    }

    fn read(&self, script: &str) -> String {
        let script = format!("return String({script})");
        let value = self.command("/execute/sync", &json!({"script": script, "args": []}));
        value.as_str().unwrap().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            ask(self.addr, "DELETE", &self.session, "");
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

#[test]
fn a_browser_sees_a_window_turn() {
    let profile = tempfile::tempdir().unwrap();
    let Some(browser) = Browser::open(profile.path()) else {
        eprintln!("SKIPPED: no browser here; apt-get install chromium chromium-driver");
        return;
    };
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start("4s", data.path());
    browser.command("/url", &json!({"url": format!("http://{}/", registry.http)}));
    until("it is live", || (browser.read("link.dataset.state") == "live").then_some(()));
    let (ana, bruno) = (Client::new(&registry), Client::new(&registry));
    let opens = until("both in one window", || {
        let window = ana.register("main", "ana");
        (bruno.register("sala-3", "bruno") == window).then(|| window.to_string())
    });
    let time = &opens[11..19];
    until("the page sees it open", || {
        let seen = browser.read("document.getElementById('introduced-at').textContent");
        (seen == format!("at {time}")).then_some(())
    });
    let rooms = until("and who is in", || {
        let rooms = browser.read("document.getElementById('rooms').textContent");
        rooms.contains("bruno").then_some(rooms)
    });
    assert!(rooms.contains("sala-3") && rooms.contains("ana"), "{rooms}");
    assert_eq!(browser.read("now.textContent"), "2");
    assert!(browser.read("document.getElementById('said').textContent").contains("opened with"));
    let wide = browser.read("document.documentElement.scrollWidth <= innerWidth");
    assert_eq!(wide, "true", "it does not scroll sideways");
    let log = browser.command("/se/log", &json!({"type": "browser"}));
    assert_eq!(log, json!([]), "the console is empty");
    registry.stop();
    until("it says that it is not connected", || {
        (browser.read("link.dataset.state") == "lost").then_some(())
    });
}
