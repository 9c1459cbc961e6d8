//! A registry with its page, as a process, and clients of it.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hit7::proto::{Datagram, Register};
use hit7::window::Window;

/// How long a test waits for anything, on the slowest machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// A registry; it is killed when this is dropped.
pub(crate) struct Registry {
    child: Child,
    pub(crate) udp: SocketAddr,
    pub(crate) http: SocketAddr,
}

/// A client that registers.
pub(crate) struct Client(pub(crate) UdpSocket);

impl Registry {
    /// Starts one with windows of that length.
    pub(crate) fn start(window: &str, data: &Path) -> Registry {
        Registry::start_with(&["--window", window], data, Stdio::inherit())
    }

    /// Starts one with these flags, whose logs go to `logs`.
    pub(crate) fn start_with(flags: &[&str], data: &Path, logs: Stdio) -> Registry {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hit7"))
            .args(["serve", "127.0.0.1", "0", "--http", "127.0.0.1:0"])
            .args(flags)
            .arg("--data")
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(logs)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = |start: &str| {
            let line = lines.next().expect("a line").unwrap();
            line.strip_prefix(start).unwrap_or_else(|| panic!("{line}: not {start}")).to_owned()
        };
        let udp = line("listening on ").parse().unwrap();
        line("data in ");
        let http = line("page on http://").parse().unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        Registry { child, udp, http }
    }

    /// Stops it with SIGTERM, and checks that it exits with success.
    pub(crate) fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let ended = until("it stops", || self.child.try_wait().unwrap());
        assert!(ended.success());
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Client {
    pub(crate) fn new(registry: &Registry) -> Client {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(registry.udp).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Client(socket)
    }

    /// Registers; returns for which window.
    pub(crate) fn register(&self, room: &str, name: &str) -> Window {
        let register = Register {
            room: room.parse().unwrap(),
            name: Some(name.parse().unwrap()),
            ..Register::default()
        };
        self.ask(std::str::from_utf8(&register.encode()).unwrap())
    }

    /// Sends the text of a REGISTER; returns for which window it was.
    pub(crate) fn ask(&self, register: &str) -> Window {
        self.0.send(register.as_bytes()).unwrap();
        let mut buffer = [0; 2048];
        loop {
            let length = self.0.recv(&mut buffer).expect("REGISTER is answered");
            if let Ok(Datagram::Registered(registered)) = Datagram::decode(&buffer[..length]) {
                return registered.window;
            }
        }
    }
}

/// Tries again until there is a result.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
