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
        for &host in hosts {
            if let Err(why) = run("ip", &["netns", "add", &lab.name_of(host)], "") {
                skip(&format!("no network namespaces here: {why}"));
                return None;
            }
            lab.hosts.push(host);
            lab.ip(host, "link set lo up");
        }
        Some(lab)
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
        run("ip", &["-n", &self.name_of(host), "-batch", "-"], commands).expect("ip");
    }

    /// Makes what leaves by that interface slow.
    pub(crate) fn slow_down(&self, host: &str, interface: &str, rate: &str) {
        let shape = format!("qdisc add dev {interface} root tbf rate {rate} burst 20kb limit 1mb");
        run("tc", &["-n", &self.name_of(host), "-batch", "-"], &shape).expect("tc");
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
