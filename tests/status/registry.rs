//! A registry with a page, as a process.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hit7::proto::{Auth, Datagram, Profile, Request};
use hit7::window::Window;

/// Nothing that is waited for takes longer, on whatever machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// A registry; dropped, it is killed.
pub(crate) struct Registry {
    child: Child,
    pub(crate) udp: SocketAddr,
    pub(crate) http: SocketAddr,
}

/// Who registers.
pub(crate) struct Client(pub(crate) UdpSocket);

impl Registry {
    pub(crate) fn start(window: &str, data: &Path) -> Registry {
        Registry::start_with(&["--window", window], data, Stdio::inherit())
    }

    /// With these flags, and its logs there.
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

    /// SIGTERM; it ends, and well.
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

    /// Registers, and says for which window.
    pub(crate) fn register(&self, room: &str, name: &str) -> Window {
        let (room, name) = (room.parse().unwrap(), Some(name.parse().unwrap()));
        let profile = Profile { room, name, ..Profile::default() };
        let register = Request::register(None, None, profile).encode(&Auth::NONE);
        self.ask(std::str::from_utf8(&register).unwrap())
    }

    /// Sends a REGISTER as it stands, and says for which window it is.
    pub(crate) fn ask(&self, register: &str) -> Window {
        self.0.send(register.as_bytes()).unwrap();
        let mut buffer = [0; 2048];
        loop {
            let length = self.0.recv(&mut buffer).expect("REGISTER is answered");
            if let Ok(Datagram::Registered(told)) = Datagram::decode(&buffer[..length]) {
                return told.window;
            }
        }
    }
}

/// Asks again until there is something.
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
