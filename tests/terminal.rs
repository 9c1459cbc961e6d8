//! Tests the live views in a real terminal, tmux, whose screen a test can read.
//!
//! Without tmux these tests are skipped.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "../src/main/panic.rs"]
mod panic;

use std::fs;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use hit7::clock::{Clock, Now};
use hit7::view::{Live, Logs, Screen};
use hit7_support::{UdpClient, free_port, poll, skip, until};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::stat::Mode;
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::ttyname;
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
        self.shows_so(pieces, |_| true)
    }

    /// Waits until all pieces are on the screen at once, in boxes that are closed.
    #[track_caller]
    fn draws(&self, pieces: &[&str]) {
        // The terminal may show half of a view that is being drawn.
        self.shows_so(pieces, has_closed_boxes);
    }

    #[track_caller]
    fn shows_so(&self, pieces: &[&str], is_so: fn(&str) -> bool) -> String {
        let screen = poll(|| {
            let screen = self.screen();
            let has_all = pieces.iter().all(|piece| screen.contains(piece));
            (has_all && is_so(&screen)).then_some(screen)
        });
        screen.unwrap_or_else(|| panic!("{pieces:?} are not so on\n{}", self.screen()))
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
        let port = free_port();
        self.types(&self.serve_line(port, ""));
        self.shows(&["hit7 serve", &format!("127.0.0.1:{port}")]);
        port
    }

    /// Returns a command line for a registry that writes its process id; `more` are its last words.
    fn serve_line(&self, port: u16, more: &str) -> String {
        let folder = self.folder.path().display();
        let serve =
            format!("{HIT7} serve 127.0.0.1 {port} --window 4s --data {folder}/data {more}");
        format!("sh -c 'echo $$ >{folder}/pid; exec {serve}'")
    }

    /// Sends a signal to the registry that was started in this terminal.
    fn signal(&self, name: &str) {
        let pid = fs::read_to_string(self.folder.path().join("pid")).unwrap();
        let kill = Command::new("kill").args([&format!("-{name}"), pid.trim()]).status();
        assert!(kill.unwrap().success());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// Fails unless a registry answers at this port.
#[track_caller]
fn assert_serves(port: u16) {
    let client = UdpClient::to(([127, 0, 0, 1], port).into());
    assert_eq!(client.ask(r#"{"type":"QUERY","seq":77}"#)["seq"], 77);
}

/// Returns whether the boxes on the screen are closed: no line is too long or too short.
fn has_closed_boxes(screen: &str) -> bool {
    let mut sides = screen.lines().filter(|line| line.starts_with(['│', '╭', '╰']));
    sides.all(|line| line.ends_with(['│', '╮', '╯', '█']))
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
    ana.draws(&["2 members · met 1 of 1", "eve", "yes", "\\u{202e}live 日"]);
    eve.draws(&["2 members · met 1 of 1", "ana", "hola", "registered as"]);
    guest.draws(&["2 members", "127.0.0.1:", "what happened"]);
    registry.draws(&["2 in 1 room", "      2  main", "2 members so far"]);
    for terminal in [&registry, &ana, &eve, &guest] {
        terminal.resize(100, 30);
        terminal.draws(&["hit7 ", "· ↑ ↓ scroll"]);
        terminal.resize(12, 3);
        terminal.shows(&["hit7"]);
        terminal.resize(80, 24);
        terminal.draws(&["· ↑ ↓ scroll"]);
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
    terminal.signal("TERM");
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
    let mut screen = Screen::enter(std::io::stdout, Logs::new(|_| {}, true)).unwrap();
    let (events, mut shown) = channel(1);
    let ended =
        screen.run(&mut Panics, &mut shown, Clock::start(), || events.try_send(()).unwrap());
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
    terminal.draws(&["turned away: unknown_type 1", "datagrams turned away"]);
    terminal.presses("C-c", "");
    terminal.shows(&["datagrams turned away", "stopped"]);
    terminal.assert_restored();
}

#[test]
fn in_the_background_lines_are_printed_and_the_terminal_stops_nothing() {
    let Some(terminal) = Terminal::open(80, 24) else { return };
    terminal.types("echo before it; stty tostop");
    let port = free_port();
    terminal.types(&format!("{} &", terminal.serve_line(port, "")));
    let screen = terminal.shows(&["listening on 127.0.0.1:", "data in "]);
    assert!(!screen.contains('╭') && screen.contains("before it"), "{screen}");
    assert_serves(port);
    let join = format!("{HIT7} join 127.0.0.1 {port} --name ana &");
    terminal.types(&join);
    terminal.shows(&["registered for ", "window ", " is open: 1 member"]);
    terminal.types("kill %1 %2; wait; echo 'all' 'ended'; stty -tostop");
    terminal.shows(&["all ended"]);
    terminal.assert_restored();
}

#[test]
fn control_z_gives_the_terminal_back_and_fg_draws_the_view_again() {
    let Some(terminal) = Terminal::open(80, 24) else { return };
    let port = terminal.serve();
    for _ in 0..2 {
        terminal.presses("C-z", "");
        terminal.shows(&["Stopped"]);
        terminal.assert_restored();
        terminal.types("clear; echo before it; bg");
        assert_serves(port);
        terminal.assert_restored();
        terminal.types("fg");
        terminal.draws(&["hit7 serve", "· ↑ ↓ scroll"]);
    }
    terminal.presses("q", "");
    terminal.shows(&["opened, 0 missed"]);
    terminal.assert_restored();
}

#[test]
fn a_view_that_another_process_stopped_is_drawn_again_and_reads_keys() {
    let Some(terminal) = Terminal::open(80, 24) else { return };
    terminal.serve();
    terminal.signal("STOP");
    terminal.shows(&["Stopped"]);
    // The shell may have found the terminal in raw mode, where Enter is no newline.
    for line in ["stty sane; clear; echo before it; echo 'mode' 'sane'", "fg"] {
        terminal.presses("-l", line);
        terminal.presses("C-j", "");
        terminal.shows(&[if line == "fg" { "hit7 serve" } else { "mode sane" }]);
    }
    terminal.draws(&["hit7 serve", "· ↑ ↓ scroll"]);
    terminal.presses("q", "");
    terminal.shows(&["opened, 0 missed"]);
    terminal.assert_restored();
}

#[test]
fn a_terminal_that_closes_stops_a_registry_in_order_and_has_a_client_leave() {
    let Some(terminal) = Terminal::open(80, 24) else { return };
    let (folder, port) = (terminal.folder.path().to_owned(), free_port());
    let key = folder.join("key");
    fs::write(&key, "a key of a private registry\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let key = key.display();
    let more = format!("--key-file {key} --log-level info 2>{}/log", folder.display());
    terminal.types(&terminal.serve_line(port, &more));
    terminal.shows(&["hit7 serve"]);
    let guest = Terminal::open(80, 24).unwrap();
    guest.types(&format!("{HIT7} join 127.0.0.1 {port} --name ana --key-file {key}"));
    terminal.shows(&["1 member so far"]);
    drop(guest);
    terminal.shows(&["0 members so far"]);
    terminal.signal("HUP");
    let log = || fs::read_to_string(folder.join("log")).unwrap();
    until("the keys are read again", || log().contains("keys read again").then_some(()));
    assert!(!log().contains("stopping"), "{}", log());
    terminal.tmux(&["kill-server"]);
    until("the registry has stopped", || log().contains(" stopped").then_some(()));
    assert!(log().contains("stopping why=\"SIGHUP\""), "{}", log());
}

/// A terminal that no terminal emulator shows, and that controls no process: its end is no SIGHUP.
struct BareTerminal {
    master: OwnedFd,
    slave: OwnedFd,
    cooked: LocalFlags,
}

impl BareTerminal {
    fn open() -> BareTerminal {
        BareTerminal::of_size(None)
    }

    fn of_size(size: Option<&Winsize>) -> BareTerminal {
        let OpenptyResult { master, slave } = openpty(size, None).unwrap();
        // A program that had them too would keep the terminal open.
        for end in [&master, &slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let cooked = tcgetattr(&master).unwrap().local_flags;
        BareTerminal { master, slave, cooked }
    }

    /// Starts hit7 with a live view in this terminal, and waits until it has the terminal.
    fn starts(&self, args: &[&str]) -> Child {
        let mut hit7 = Command::new(HIT7);
        hit7.args(args).env("TERM", "xterm").env_remove("NO_COLOR").stderr(Stdio::piped());
        hit7.stdin(self.slave.try_clone().unwrap()).stdout(self.slave.try_clone().unwrap());
        let program = hit7.spawn().unwrap();
        until("raw mode", || (!self.is_cooked()).then_some(()));
        program
    }

    fn is_cooked(&self) -> bool {
        tcgetattr(&self.master).unwrap().local_flags == self.cooked
    }

    /// Reads what is drawn, until this text is among it. What was drawn in the same place before is
    /// not drawn again.
    fn draws(&self, text: &str) {
        let mut master = fs::File::from(self.master.try_clone().unwrap());
        let mut drawn = Vec::new();
        until(text, || {
            let mut more = [0; 4096];
            let len = master.read(&mut more).unwrap();
            drawn.extend_from_slice(&more[..len]);
            drawn.windows(text.len()).any(|it| it == text.as_bytes()).then_some(())
        });
    }

    /// Writes to the terminal until it takes nothing more.
    fn fill(&self) {
        let options = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let unread = open(&ttyname(&self.slave).unwrap(), options, Mode::empty()).unwrap();
        let mut unread = fs::File::from(unread);
        // What the kernel passes on to the reader's side meanwhile makes room again.
        until("the terminal is full", || {
            let wrote = unread.write(&[b'x'; 1000]).is_ok();
            (!wrote && unread.write(b"x").is_err()).then_some(())
        });
    }
}

/// Waits until the program ends, with its exit code and what it wrote to stderr.
fn ended(mut program: Child) -> (Option<i32>, String) {
    let status = until("the end", || program.try_wait().unwrap());
    let mut said = String::new();
    program.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (status.code(), said)
}

fn terminate(program: &Child) {
    let kill = Command::new("kill").arg(program.id().to_string()).status();
    assert!(kill.unwrap().success());
}

/// Checks that a registry whose live view's terminal takes nothing serves, stops, and leaves the
/// terminal restored.
fn assert_serves_and_stops_in(terminal: &BareTerminal) {
    let (home, port) = (tempfile::tempdir().unwrap(), free_port());
    let data = home.path().join("data").display().to_string();
    let registry = terminal.starts(&["serve", "127.0.0.1", &port.to_string(), "--data", &data]);
    // In raw mode, a terminal takes more than in the other.
    terminal.fill();
    assert_serves(port);
    terminate(&registry);
    assert_eq!(ended(registry), (Some(0), String::new()));
    assert!(terminal.is_cooked(), "the modes are restored");
}

#[test]
fn a_terminal_that_takes_nothing_holds_up_neither_a_registry_nor_its_stop() {
    assert_serves_and_stops_in(&BareTerminal::open());
}

/// So many lines that their frames alone do not fit into what a terminal holds unread: the view waits
/// within a drawing, and cannot restore the terminal itself.
#[test]
fn a_view_that_waits_for_the_terminal_to_take_its_drawing_leaves_it_restored() {
    let size = Winsize { ws_row: 8000, ws_col: 40, ws_xpixel: 0, ws_ypixel: 0 };
    assert_serves_and_stops_in(&BareTerminal::of_size(Some(&size)));
}

#[test]
fn a_terminal_that_is_gone_ends_a_view_and_a_client_but_no_registry() {
    let home = tempfile::tempdir().unwrap();
    let (terminal, port) = (BareTerminal::open(), free_port());
    let (data, port_word) = (home.path().join("data").display().to_string(), port.to_string());
    let registry = ["serve", "127.0.0.1", &port_word, "--data", &data, "--window", "1day"];
    let registry = terminal.starts(&registry);
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let guest = BareTerminal::of_size(Some(&size));
    let client = guest.starts(&["join", "127.0.0.1", &port_word]);
    assert_serves(port);
    drop(terminal);
    // "registering" becomes "registered as": a client that knows of no registration does not leave.
    guest.draws("ed as ");
    drop(guest);
    assert_eq!(ended(client), (Some(0), String::new()));
    until("the client has left", || has_record(&data, "leave").then_some(()));
    assert_serves(port);
    terminate(&registry);
    let (code, said) = ended(registry);
    assert!(code == Some(0) && said.contains("the live view has ended"), "{code:?} {said}");
}

/// Returns whether a journal in the data folder has a record of this kind.
fn has_record(data: &str, kind: &str) -> bool {
    let grep = Command::new("grep").args(["-rq", &format!("\"{kind}\""), data]).status();
    grep.unwrap().success()
}
