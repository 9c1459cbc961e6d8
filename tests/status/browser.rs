//! Tests the status page in a real browser (Debian: `chromium` and `chromium-driver`).
//!
//! With `HIT7_SHOTS=folder` the test saves screenshots in that folder.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hit7_support::http::ask;
use hit7_support::{Program, UdpClient, skip, until};
use serde_json::{Value, json};

use crate::serve;

/// The screen sizes of a desktop and of a phone, in CSS pixels.
const SIZES: [(&str, u32, u32); 2] = [("desktop", 1280, 900), ("phone", 390, 844)];

/// A browser controlled by WebDriver, closed when dropped.
struct Browser {
    _driver: Program,
    addr: SocketAddr,
    session: String,
}

impl Browser {
    /// Opens a browser with an empty profile; `None` if none is installed.
    fn open(profile: &Path) -> Option<Browser> {
        let mut driver = Command::new("chromedriver");
        driver.arg("--port=0");
        let mut driver = Program::spawn(driver).ok()?;
        let line = driver.line_with("started successfully on port ");
        let port = line.trim_end_matches('.').rsplit(' ').next()?.parse().ok()?;
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let mut browser = Browser { _driver: driver, addr, session: String::new() };
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

    fn text(&self, id: &str) -> String {
        self.read(&format!("document.getElementById('{id}').textContent"))
    }

    /// Sends a command of the browser's DevTools protocol.
    fn devtools(&self, command: &str, with: &Value) -> Value {
        self.command("/goog/cdp/execute", &json!({"cmd": command, "params": with}))
    }

    /// Sets the colour scheme and the size of the screen.
    fn emulate(&self, scheme: &str, width: u32, height: u32) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": [feature]}));
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": true});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Saves a picture of the whole page, if `HIT7_SHOTS` is set.
    fn screenshot(&self, name: &str) {
        let Some(folder) = env::var_os("HIT7_SHOTS").map(PathBuf::from) else { return };
        let whole = json!({"captureBeyondViewport": true, "format": "png"});
        let taken = self.devtools("Page.captureScreenshot", &whole);
        let picture = STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{name}.png")), picture).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            ask(self.addr, "DELETE", &self.session, "");
        }
    }
}

/// Registers each member in its room, again until all are in one window; returns its time of day.
fn register(members: &[(UdpClient, &str, &str)]) -> String {
    let opens = until("all in one window", || {
        let windows = members.iter().map(|(client, room, name)| client.register_as(room, name));
        let windows: Vec<_> = windows.collect();
        windows.iter().all(|window| *window == windows[0]).then(|| windows[0].clone())
    });
    opens[11..19].to_owned()
}

/// Waits until the page shows the window of this time of day, and its members.
fn wait_until_shown(browser: &Browser, time: &str) {
    until("the page sees it open", || {
        (browser.text("introduced-at") == format!("at {time}")).then_some(())
    });
    until("and who is in", || {
        browser.text("members-note").ends_with(&format!("since {time}")).then_some(())
    });
}

#[test]
fn a_browser_shows_a_window_that_opens() {
    let profile = tempfile::tempdir().unwrap();
    let Some(browser) = Browser::open(profile.path()) else {
        return skip("no browser here; apt-get install chromium chromium-driver");
    };
    let registry = serve("4s");
    browser.command("/url", &json!({"url": format!("http://{}/", registry.http())}));
    until("it is live", || (browser.read("link.dataset.state") == "live").then_some(()));
    let members =
        [("main", "ana"), ("sala-3", "bruno"), ("laboratorio.2026", "小林"), ("main", "eva")]
            .map(|(room, name)| (registry.client(), room, name));
    wait_until_shown(&browser, &register(&members));
    let rooms = browser.text("rooms");
    for (client, room, name) in &members {
        let addr = client.addr();
        assert!([room, name, &addr.as_str()].iter().all(|what| rooms.contains(**what)), "{rooms}");
    }
    assert_eq!((browser.text("now").as_str(), browser.text("rooms-count").as_str()), ("4", "3"));
    assert!(browser.text("announcement").contains("opened with"));
    // The keyboard focus stays in a room when the next window opens.
    browser.read("document.querySelector('.room .scroll').focus()");
    wait_until_shown(&browser, &register(&members));
    assert_eq!(browser.read("document.activeElement.ariaLabel"), "Members of main");
    check_looks(&browser);
    let resources = "performance.getEntriesByType('resource').map(e => new URL(e.name))";
    let elsewhere = format!("{resources}.filter(url => url.origin !== location.origin).length");
    assert_eq!(browser.read(&elsewhere), "0");
    let log = browser.command("/se/log", &json!({"type": "browser"}));
    assert_eq!(log, json!([]), "the console is empty");
    registry.close();
    until("it says that it is not connected", || {
        (browser.read("link.dataset.state") == "lost").then_some(())
    });
}

/// Checks both screens in both colour schemes.
fn check_looks(browser: &Browser) {
    for (size, width, height) in SIZES {
        let papers = ["light", "dark"].map(|scheme| {
            browser.emulate(scheme, width, height);
            let inner = until("it has that size", || {
                let inner = browser.read("innerWidth + ' ' + document.documentElement.scrollWidth");
                inner.starts_with(&format!("{width} ")).then_some(inner)
            });
            assert_eq!(inner, format!("{width} {width}"), "it does not scroll sideways");
            browser.screenshot(&format!("{size}-{scheme}"));
            browser.read("getComputedStyle(document.body).backgroundColor")
        });
        assert_ne!(papers[0], papers[1], "the dark scheme has another background");
    }
}
