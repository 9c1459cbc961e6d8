//! What the kernel alone takes to tell a window: trains of five datagrams to as many members, from
//! one buffer, nothing made and nothing acknowledged.

use std::fs;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use nix::unistd::Pid;
use serde::Serialize;

use crate::wire::{Buffers, open, source, take_trains};

/// Sockets of the receivers, as many as in `minute`.
const PORTS: usize = 512;
/// Datagrams of a train, and how long each is: 200 peers are five parts.
const PARTS: usize = 5;
const SIZE: u16 = 1200;

/// What the sending cost.
#[derive(Debug, Serialize)]
pub struct Report {
    datagrams: usize,
    cpu_us_per_datagram: f64,
}

/// Sends a train to each of `members` from one core, and takes them on another.
pub fn run(members: usize, trains: bool, cores: (usize, usize)) -> io::Result<Report> {
    let sockets: Vec<UdpSocket> = (0..PORTS).map(|_| open()).collect::<io::Result<_>>()?;
    let ports = sockets.iter().map(|it| Ok(it.local_addr()?.port())).collect::<io::Result<_>>()?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let taken = scope.spawn(|| take(&sockets, trains, cores.1, &over));
        let spent = scope.spawn(move || tell(members, ports, cores.0)).join();
        over.store(true, Relaxed);
        taken.join().expect("the receiver does not panic")?;
        let spent = spent.expect("the sender does not panic")?;
        let datagrams = members * PARTS;
        let cpu_us_per_datagram = spent.as_secs_f64() * 1e6 / datagrams as f64;
        Ok(Report { datagrams, cpu_us_per_datagram })
    })
}

fn hold_to(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}

/// The CPU time of all the sending.
fn tell(members: usize, ports: Vec<u16>, core: usize) -> io::Result<Duration> {
    hold_to(core)?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let payload = [b' '; SIZE as usize * PARTS];
    let (slices, cut) = ([IoSlice::new(&payload)], [ControlMessage::UdpGsoSegments(&SIZE)]);
    let before = cpu()?;
    for member in 0..members {
        let to = SocketAddrV4::new(source(member / PORTS), ports[member % PORTS]);
        sendmsg(socket.as_raw_fd(), &slices, &cut, MsgFlags::empty(), Some(&SockaddrIn::from(to)))?;
    }
    Ok(cpu()?.saturating_sub(before))
}

fn take(sockets: &[UdpSocket], trains: bool, core: usize, over: &AtomicBool) -> io::Result<()> {
    hold_to(core)?;
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    for (n, socket) in sockets.iter().enumerate() {
        if trains {
            take_trains(socket)?;
        }
        epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, n as u64))?;
    }
    let mut buffers = if trains { Buffers::of_trains() } else { Buffers::new() };
    let mut events = [EpollEvent::empty(); PORTS];
    while !over.load(Relaxed) {
        let count = epoll.wait(&mut events, 0_u8)?;
        for event in &events[..count] {
            buffers.receive(&sockets[event.data() as usize])?;
        }
    }
    Ok(())
}

/// The CPU time of this thread, by the scheduler's account.
fn cpu() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = stat.split(' ').next().and_then(|word| word.parse().ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| io::Error::other("no schedstat"))
}
