//! Network namespaces joined by virtual cables, as isolated hosts for a test.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::sched::{CloneFlags, setns};

use hit7_support::skip;

/// The lock that lets one of the tests that measure times run at a time, in an optimised build: the
/// limits of others are ten times as high.
static MACHINE: Mutex<()> = Mutex::new(());

/// The number of labs made so far, for unique names of namespaces.
static LABS: AtomicU32 = AtomicU32::new(0);

/// Commands of `ip` that check what the labs need of the kernel, and undo it.
const LINKS: &str = "link add probe0 type veth peer name probe1\nlink add probe2 type bridge\n\
                     link del probe2\nlink del probe0\n";

/// Commands of `tc` that check what the labs need of the kernel.
const SHAPE: &str = "qdisc add dev lo root tbf rate 1mbit burst 20kb limit 1mb\n\
                     qdisc del dev lo root\n";

/// A set of hosts, removed when dropped.
pub(crate) struct Lab {
    name: String,
    hosts: Vec<&'static str>,
    alone: Option<MutexGuard<'static, ()>>,
}

impl Lab {
    /// Makes hosts as [`Lab::new`] does, for a test that measures times.
    pub(crate) fn alone(hosts: &[&'static str]) -> Option<Lab> {
        let alone = || MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
        let alone = (!cfg!(debug_assertions)).then(alone);
        let mut lab = Lab::new(hosts)?;
        lab.alone = alone;
        Some(lab)
    }

    /// Makes hosts with these names, each with its loopback; where that is not possible, says that
    /// the test is skipped, and returns `None`.
    pub(crate) fn new(hosts: &[&'static str]) -> Option<Lab> {
        let name = format!("hit7-{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let mut lab = Lab { name, hosts: Vec::new(), alone: None };
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

    /// Joins two hosts by a cable; each end is given as host and interface name.
    pub(crate) fn cable(&self, one: [&str; 2], other: [&str; 2]) {
        let (peer, name) = (self.name_of(other[0]), other[1]);
        self.ip(one[0], &format!("link add {} type veth peer name {name} netns {peer}", one[1]));
        self.ip(one[0], &format!("link set {} up", one[1]));
        self.ip(other[0], &format!("link set {name} up"));
    }

    /// Runs `ip` on a host, with one command per line.
    pub(crate) fn ip(&self, host: &str, commands: &str) {
        self.batch("ip", host, commands).unwrap();
    }

    /// Limits the rate of what leaves by an interface of a host.
    pub(crate) fn slow_down(&self, host: &str, interface: &str, rate: &str) {
        let shape = format!("qdisc add dev {interface} root tbf rate {rate} burst 20kb limit 1mb");
        self.batch("tc", host, &shape).unwrap();
    }

    /// Runs a closure on a new thread in the namespace of a host: sockets and processes that it
    /// makes belong to the host.
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

/// Runs a program with `input` on its stdin; returns its stderr if it fails.
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
