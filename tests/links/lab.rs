//! Network namespaces joined by virtual cables: a few hosts that nobody else can reach.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::sched::{CloneFlags, setns};

use hit7_support::skip;

/// One test at a time: each measures how long things take.
static MACHINE: Mutex<()> = Mutex::new(());

/// Tells the namespaces of this process apart.
static LABS: AtomicU32 = AtomicU32::new(0);

/// What the labs need of `ip` and the kernel, tried and taken back.
const LINKS: &str = "link add probe0 type veth peer name probe1\nlink add probe2 type bridge\n\
                     link del probe2\nlink del probe0\n";

/// What they need of `tc` and the kernel.
const SHAPE: &str = "qdisc add dev lo root tbf rate 1mbit burst 20kb limit 1mb\n\
                     qdisc del dev lo root\n";

/// Some hosts; dropped, they are removed.
pub(crate) struct Lab {
    name: String,
    hosts: Vec<&'static str>,
    _alone: MutexGuard<'static, ()>,
}

impl Lab {
    /// Makes so many hosts, each with its loopback; `None`, said aloud, where that cannot be done.
    pub(crate) fn new(hosts: &[&'static str]) -> Option<Lab> {
        let alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("hit7-{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let mut lab = Lab { name, hosts: Vec::new(), _alone: alone };
        match hosts.iter().try_for_each(|host| lab.add(host)) {
            Ok(()) => Some(lab),
            Err(why) => {
                skip(&format!("no hosts of its own: {why}"));
                None
            }
        }
    }

    fn add(&mut self, host: &'static str) -> Result<(), String> {
        run("ip", &["netns", "add", &self.name_of(host)], "")?;
        self.hosts.push(host);
        self.batch("ip", host, LINKS)?;
        self.batch("tc", host, SHAPE)?;
        self.batch("ip", host, "link set lo up")
    }

    fn batch(&self, program: &str, host: &str, commands: &str) -> Result<(), String> {
        run(program, &["-n", &self.name_of(host), "-batch", "-"], commands)
    }

    fn name_of(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    /// Joins two hosts by a cable, each end with its name.
    pub(crate) fn cable(&self, one: [&str; 2], other: [&str; 2]) {
        let (peer, name) = (self.name_of(other[0]), other[1]);
        self.ip(one[0], &format!("link add {} type veth peer name {name} netns {peer}", one[1]));
        self.ip(one[0], &format!("link set {} up", one[1]));
        self.ip(other[0], &format!("link set {name} up"));
    }

    /// `ip` at a host: a command a line.
    pub(crate) fn ip(&self, host: &str, commands: &str) {
        self.batch("ip", host, commands).unwrap();
    }

    /// Makes what leaves by that interface slow.
    pub(crate) fn slow_down(&self, host: &str, interface: &str, rate: &str) {
        let shape = format!("qdisc add dev {interface} root tbf rate {rate} burst 20kb limit 1mb");
        self.batch("tc", host, &shape).unwrap();
    }

    /// Does something on a thread of its own that stands on that host; sockets and processes that
    /// it makes are the host's.
    pub(crate) fn at<T: Send>(&self, host: &str, does: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.name_of(host))).unwrap();
        let on_host = || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
            does()
        };
        thread::scope(|scope| scope.spawn(on_host).join().unwrap())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in &self.hosts {
            let removed = run("ip", &["netns", "del", &self.name_of(host)], "");
            removed.unwrap_or_else(|why| eprintln!("a namespace stays: {why}"));
        }
    }
}

/// Runs a program, which reads `input`; or why it failed.
fn run(program: &str, args: &[&str], input: &str) -> Result<(), String> {
    let failed = |error| format!("{program}: {error}");
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).map_err(failed)?;
    let Output { status, stderr, .. } = child.wait_with_output().map_err(failed)?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&stderr).trim())),
    }
}
