//! Tests the live views in a real terminal, tmux, whose screen a test can read.
//!
//! Without tmux these tests are skipped.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "../src/main/panic.rs"]
mod panic;

use std::fs;
use std::net::UdpSocket;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use hit7::clock::{Clock, Now};
use hit7::view::{Live, Logs, Screen};
use hit7_support::{poll, skip};
use ratatui::Frame;
use tokio::sync::mpsc::channel;

const HIT7: &str = env!("CARGO_BIN_EXE_hit7");

/// Flags in the output of `stty -a` that show a terminal left in raw mode.
const RAW_MODE_FLAGS: [&str; 4] = ["-icanon", "-echo", "-isig", "-opost"];

/// The number of terminals opened so far, for unique names.
static TERMINALS: AtomicUsize = AtomicUsize::new(0);

/// A shell in a tmux terminal of its own, killed when dropped.
struct Terminal {
    name: String,
    folder: tempfile::TempDir,
}

impl Terminal {
    /// Opens a terminal of this size; `None` without tmux.
    fn open(columns: u16, lines: u16) -> Option<Terminal> {
        if Command::new("tmux").arg("-V").output().is_err() {
            skip("no tmux here; apt-get install tmux");
            return None;
        }
        let count = TERMINALS.fetch_add(1, Ordering::Relaxed);
        let name = format!("hit7-{}-{count}", std::process::id());
        let terminal = Terminal { name, folder: tempfile::tempdir().unwrap() };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let shell = "exec env -i PATH=\"$PATH\" TERM=tmux-256color LANG=C.UTF-8 PS1='ready> ' \
                     sh";
        let new = ["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &lines, shell];
        assert!(terminal.tmux(&new).status.success());
        terminal.shows(&["ready>"]);
        Some(terminal)
    }

    fn tmux(&self, words: &[&str]) -> Output {
        // The tests may themselves run in a tmux, or have no locale.
        let mut tmux = Command::new("tmux");
        tmux.env_remove("TMUX").args(["-u", "-L", &self.name]).args(words).output().unwrap()
    }

    fn types(&self, line: &str) {
        self.presses("-l", line);
        self.presses("Enter", "");
    }

    fn presses(&self, key: &str, text: &str) {
        let words = ["send-keys", key, text];
        let words = if text.is_empty() { &words[..2] } else { &words[..] };
        assert!(self.tmux(words).status.success());
    }

    fn resize(&self, columns: u16, lines: u16) {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        assert!(self.tmux(&["resize-window", "-x", &columns, "-y", &lines]).status.success());
    }

    fn screen(&self) -> String {
        String::from_utf8(self.tmux(&["capture-pane", "-p"]).stdout).unwrap()
    }

    /// Returns the text of the screen and its scrollback, into which a resize may move lines.
    fn scroll(&self) -> String {
        String::from_utf8(self.tmux(&["capture-pane", "-p", "-S", "-"]).stdout).unwrap()
    }

    /// Waits until all pieces are on the screen at once, and returns the screen.
    #[track_caller]
    fn shows(&self, pieces: &[&str]) -> String {
        let screen = poll(|| {
            let screen = self.screen();
            pieces.iter().all(|piece| screen.contains(piece)).then_some(screen)
        });
        screen.unwrap_or_else(|| panic!("{pieces:?} are not on\n{}", self.screen()))
    }

    /// Checks that the shell has its terminal back: its screen, a cursor, echo and line mode.
    fn assert_restored(&self) {
        self.shows(&["ready>"]);
        assert!(self.scroll().contains("before it"), "{}", self.scroll());
        let state = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).stdout;
        assert_eq!(String::from_utf8(state).unwrap().trim(), "0 1");
        self.types(
            "stty -a | grep -ow -e -icanon -e -echo -e -isig -e -opost; echo 'all' 'printed'",
        );
        let screen = self.shows(&["all printed"]);
        assert!(!screen.lines().any(|line| RAW_MODE_FLAGS.contains(&line)), "{screen}");
    }

    /// Starts a registry in this terminal, and returns its port.
    fn serve(&self) -> u16 {
        self.types("echo before it");
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = self.folder.path().display();
        let serve = format!("{HIT7} serve 127.0.0.1 {port} --window 4s --data {folder}/data");
        self.types(&format!("sh -c 'echo $$ >{folder}/pid; exec {serve}'"));
        self.shows(&["hit7 serve", &format!("127.0.0.1:{port}")]);
        port
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// Checks that the boxes on the screen are closed: no line is too long or too short.
fn assert_boxes_closed(screen: &str) {
    for line in screen.lines().filter(|line| line.starts_with(['│', '╭', '╰'])) {
        assert!(line.ends_with(['│', '╮', '╯', '█']), "{line:?} in\n{screen}");
    }
}

#[test]
fn every_view_shows_a_window_that_opens() {
    let Some(registry) = Terminal::open(80, 24) else { return };
    let (ana, eve) = (Terminal::open(80, 24).unwrap(), Terminal::open(200, 50).unwrap());
    let guest = Terminal::open(80, 24).unwrap();
    let port = registry.serve();
    for (terminal, words) in [
        (&ana, format!("join 127.0.0.1 {port} --name ana --say 'hola'")),
        (
            &eve,
            format!("join 127.0.0.1 {port} --name eve --say '\u{202e}live {}'", "日".repeat(99)),
        ),
        (&guest, format!("watch 127.0.0.1 {port}")),
    ] {
        terminal.types("echo before it");
        terminal.types(&format!("{HIT7} {words}"));
    }
    assert_boxes_closed(&ana.shows(&["2 members · met 1 of 1", "eve", "yes", "\\u{202e}live 日"]));
    assert_boxes_closed(&eve.shows(&["2 members · met 1 of 1", "ana", "hola", "registered as"]));
    assert_boxes_closed(&guest.shows(&["2 members", "127.0.0.1:", "what happened"]));
    assert_boxes_closed(&registry.shows(&["2 in 1 room", "      2  main", "2 members so far"]));
    for terminal in [&registry, &ana, &eve, &guest] {
        terminal.resize(100, 30);
        assert_boxes_closed(&terminal.shows(&["hit7 ", "· ↑ ↓ scroll"]));
        terminal.resize(12, 3);
        terminal.shows(&["hit7"]);
        terminal.resize(80, 24);
        assert_boxes_closed(&terminal.shows(&["· ↑ ↓ scroll"]));
    }
    for (terminal, last) in [(&ana, "meeting"), (&eve, "meeting"), (&guest, "of room main seen")] {
        terminal.presses("C-c", "");
        terminal.shows(&[last]);
        terminal.assert_restored();
    }
    registry.presses("q", "");
    registry.shows(&["opened, 0 missed", "data in "]);
    registry.assert_restored();
}

#[test]
fn a_signal_restores_the_terminal() {
    let Some(terminal) = Terminal::open(80, 24) else { return };
    terminal.serve();
    let pid = fs::read_to_string(terminal.folder.path().join("pid")).unwrap();
    assert!(Command::new("kill").args(["-TERM", pid.trim()]).status().unwrap().success());
    terminal.shows(&["opened, 0 missed"]);
    terminal.assert_restored();
}

/// A view during which another thread panics at the first event.
struct Panics;

impl Live for Panics {
    type Event = ();

    fn handle(&mut self, _now: Now, (): ()) {
        let _ = thread::spawn(|| panic!("a thread that panics on purpose")).join();
    }

    fn draw(&mut self, _now: Now, _logs: &[String], frame: &mut Frame<'_>) {
        frame.render_widget("about to panic: press q", frame.area());
    }

    fn summary(&self) -> Vec<String> {
        Vec::new()
    }
}

#[test]
#[ignore = "run in a terminal by a_panic_restores_the_terminal"]
fn a_thread_panics() {
    panic::install();
    let mut screen = Screen::enter(std::io::stdout, Logs::new(std::io::stderr)).unwrap();
    let (events, shown) = channel(1);
    let ended = screen.run(&mut Panics, shown, Clock::start(), || events.try_send(()).unwrap());
    unreachable!("{ended:?}");
}

#[test]
fn a_panic_restores_the_terminal() {
    let Some(terminal) = Terminal::open(200, 24) else { return };
    terminal.types("echo before it");
    let this = std::env::current_exe().unwrap();
    let test = "--ignored --exact a_thread_panics --nocapture";
    terminal.types(&format!("{} {test}; echo exit code $?", this.display()));
    let screen = terminal.shows(&["about to panic: press q"]);
    assert!(!screen.contains("before it"), "it has a screen of its own: {screen}");
    terminal.presses("q", "");
    let text = "this is a bug in hit7";
    terminal.shows(&[text, "a thread that panics on purpose at tests/terminal.rs:", "exit code 1"]);
    terminal.assert_restored();
}

#[test]
fn lines_are_printed_where_there_is_no_live_view() {
    let Some(terminal) = Terminal::open(80, 24) else { return };
    let data = terminal.folder.path().join("data").display().to_string();
    let serve = format!("{HIT7} serve 127.0.0.1 0 --window 1s --data {data}");
    for how in ["HIT7_PLAIN=1", "NO_COLOR=1", "TERM=dumb"] {
        terminal.types("clear; echo before it");
        terminal.types(&format!("{how} {serve}"));
        let screen = terminal.shows(&["listening on 127.0.0.1:", "data in "]);
        assert!(!screen.contains('╭') && screen.contains("before it"), "{screen}");
        terminal.presses("C-c", "");
        terminal.assert_restored();
    }
}

#[test]
fn the_view_shows_logs_which_stay_when_it_ends() {
    let Some(terminal) = Terminal::open(120, 30) else { return };
    terminal.types("export HIT7_LOG_LEVEL=info");
    let port = terminal.serve();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"{\"type\":\"DANCE\"}", ("127.0.0.1", port)).unwrap();
    assert_boxes_closed(&terminal.shows(&["turned away: unknown_type 1", "datagrams turned away"]));
    terminal.presses("C-c", "");
    terminal.shows(&["datagrams turned away", "stopped"]);
    terminal.assert_restored();
}
