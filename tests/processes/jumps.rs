//! Clocks that jump by hours, days or a year: a registry goes on by the old time, says so, and is right
//! again when the clock is; no document is removed for that.
//!
//! `HIT7_LONG=1` lets each jump stand for 15 s, and the last one until it is believed.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use hit7::clock::Clock;
use hit7::window::{Length, Wall, Window};
use hit7_support::{Home, Program, Registry, assert_has, http, is_long_run, until};

use crate::HIT7;
use crate::steps::{Faketime, register};

const FLAGS: [&str; 6] = ["--window", "2s", "--keep", "30d", "--http", "127.0.0.1:0"];
const WINDOW: Duration = Duration::from_secs(2);
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn now() -> Wall {
    Clock::start().now().wall
}

/// A registry whose clock the test sets, and the path of a document that `--keep` keeps.
struct Jumping {
    faketime: Faketime,
    registry: Registry,
    old: PathBuf,
}

impl Jumping {
    fn start(faketime: Faketime) -> Jumping {
        let home = Home::on_disk(HIT7);
        let past = Wall::from_millis(now().millis() - 20 * 1000 * DAY);
        let day = Length::MINUTE.window_at(past).to_string()[..10].to_owned();
        let old = home.data().join("windows").join(day).join("11-29.json");
        fs::create_dir_all(old.parent().unwrap()).unwrap();
        fs::write(&old, "").unwrap();
        let registry = home.start(faketime.applied_to(home.command(&FLAGS)));
        Jumping { faketime, registry, old }
    }

    /// Waits until `/readyz` answers with `status`, and returns what it says.
    fn ready(&self, status: u16) -> String {
        let answer = || Some(http::get(self.registry.http(), "/readyz"));
        until(format!("{status}"), || answer().filter(|it| it.status == status)).body
    }

    /// Reads stderr up to a line that contains `piece`.
    fn logs(&mut self, piece: &str) -> String {
        std::iter::repeat_with(|| self.registry.program.error_line())
            .find(|line| line.contains(piece))
            .unwrap()
    }

    /// Registers a client, checks that its window is the next one by a clock that is `ahead` of the
    /// true one, and waits for the window's document.
    fn registers(&self, name: &str, ahead: i64) -> Window {
        let wall = || Wall::from_millis(now().millis() + 1000 * ahead);
        let (before, (window, current), after) =
            (wall(), register(self.registry.addr, name), wall());
        let opens = window.opens();
        assert!(current < window && before < opens && opens <= after.plus(WINDOW), "{window}");
        self.registry.home.document(&window.to_string());
        window
    }

    /// Sets the clock wrong, and right again: meanwhile windows open by the old time, that is told,
    /// and nothing is pruned.
    fn jumps(&mut self, offset: i64, told: &str) {
        self.faketime.set(offset);
        assert_has(&self.ready(503), &["clock_in_doubt", told, "set the clock right, or wait"]);
        assert_has(&self.logs("ERROR"), &[told, "windows go on by the old time"]);
        self.registers("ana", 0);
        if is_long_run() {
            thread::sleep(Duration::from_secs(15));
            self.registers("ben", 0);
        }
        assert!(self.old.exists(), "a document is gone");
        self.faketime.set(0);
        self.ready(200);
        self.logs("go by the clock again");
    }

    /// Steps the clock by so little that this is believed, and back behind the last window.
    fn falls_behind(&mut self) {
        self.faketime.set(MINUTE);
        let behind = format!("behind window {}", self.registers("fay", MINUTE));
        self.faketime.set(0);
        let remedy = "set the clock right, or wait";
        assert_has(&self.ready(503), &["clock_behind", &behind, remedy]);
        assert_has(&self.logs("ERROR"), &[&behind, remedy]);
        self.faketime.set(MINUTE);
        self.ready(200);
        self.logs("go by the clock again");
        self.registers("gil", MINUTE);
    }

    /// Kills the registry, and starts it again at its port.
    fn restart(&mut self) {
        self.registry.program.kill();
        let home = self.registry.home.clone();
        let command = home.command_at(self.registry.addr.port(), &FLAGS);
        self.registry = home.start(self.faketime.applied_to(command));
        self.ready(200);
    }
}

#[test]
fn a_clock_that_jumps_far_is_not_believed_until_it_has_stood_for_two_minutes() {
    let Some(faketime) = Faketime::find() else { return };
    let mut jumping = Jumping::start(faketime);
    jumping.jumps(40 * DAY, "set forward by 40 days;");
    jumping.jumps(365 * DAY, "set forward by 365 days;");
    jumping.jumps(-2 * HOUR, "set back by 2h;");
    // For as long as it takes to be read.
    jumping.faketime.set(2 * HOUR);
    jumping.ready(503);
    jumping.faketime.set(0);
    jumping.restart();
    jumping.registers("dan", 0);
    jumping.falls_behind();
    if is_long_run() {
        jumping.faketime.set(2 * HOUR);
        jumping.ready(503);
        jumping.registers("hal", MINUTE);
        thread::sleep(Duration::from_secs(110));
        jumping.ready(200);
        jumping.registers("ida", 2 * HOUR);
    }
}

#[test]
fn a_start_while_the_clock_is_wrong_removes_no_document() {
    let Some(faketime) = Faketime::find() else { return };
    let mut jumping = Jumping::start(faketime);
    jumping.faketime.set(40 * DAY);
    jumping.restart();
    // What is to be removed goes once a document is written, and before the next one is.
    jumping.registers("ana", 40 * DAY);
    jumping.registers("ben", 40 * DAY);
    assert!(jumping.old.exists(), "a document is gone");
    jumping.registry.program.kill();
    jumping.faketime.set(0);
    let home = &jumping.registry.home;
    let refused = Program::start(jumping.faketime.applied_to(home.command(&FLAGS))).end();
    refused.failed(1, &["opened already: set the clock right; only if", "another --data"]);
}

#[test]
fn a_start_at_a_time_that_has_no_windows_is_refused() {
    let Some(faketime) = Faketime::find() else { return };
    for offset in [-70 * 365 * DAY, 8000 * 365 * DAY] {
        faketime.set(offset);
        let home = HIT7.home();
        let refused = Program::start(faketime.applied_to(home.command(&FLAGS))).end();
        refused.failed(1, &["before 1970 or after 9999", "set the clock right"]);
    }
}
