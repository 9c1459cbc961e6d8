//! Loads a server on this machine and tells what an answer costs it.
//!
//! The scripts in `bench/` run it; docs/BENCHMARKS.md has what came of it.

mod documents;
mod floor;
mod grow;
mod load;
mod minute;
mod proc;
mod protocol;
mod registry;
mod replay;
mod wire;

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde::Serialize;

use load::{Load, Outcome, Plan};
use protocol::{Announce, Protocol, Register, Subject};

/// Loads a server on this machine and tells what an answer costs it
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load a hit7 registry
    Hit7 {
        /// What clients send
        #[arg(value_enum)]
        subject: Subject,
        /// Rooms that the clients are spread over
        #[arg(long, default_value_t = 1)]
        rooms: usize,
        /// Write which address was acked for which window into this file, a line each
        #[arg(long)]
        acked: Option<PathBuf>,
        #[command(flatten)]
        load: LoadArgs,
    },
    /// Load a BitTorrent tracker (BEP 15)
    Tracker {
        /// Torrents that the clients are spread over
        #[arg(long, default_value_t = 1)]
        torrents: usize,
        #[command(flatten)]
        load: LoadArgs,
    },
    /// Register members, and follow the opening of their window; the registry must trust loopback
    Minute {
        /// The registry, on loopback
        server: SocketAddr,
        /// Its process, whose CPU time is measured
        #[arg(long)]
        pid: u32,
        /// Members, each with an address of 127.0.0.0/8 and port of its own
        #[arg(long, default_value_t = 1000)]
        members: usize,
        /// REGISTERs a second of somebody else meanwhile
        #[arg(long, default_value_t = 1000)]
        probes: u64,
        /// Members take trains whole, as hosts of their own would: to cut them is not the server's
        #[arg(long)]
        trains: bool,
    },
    /// Tell what the kernel alone takes for a window's datagrams
    Floor {
        /// Members that are sent to
        #[arg(long, default_value_t = 10_000)]
        members: usize,
        /// Members take trains whole
        #[arg(long)]
        trains: bool,
        /// The core that sends, and the one that receives
        #[arg(long, num_args = 2, default_values_t = [0, 1])]
        cores: Vec<usize>,
    },
    /// Tell how long REGISTERs take while very many members get WINDOW, and while their document is
    /// written
    Documents(StartArgs),
    /// Tell how long a registry takes to replay the journal of very many members, and their memory
    Replay(StartArgs),
    /// Tell what so many members, rooms and peers cost, without sockets
    Grow {
        /// Members of one window
        #[arg(long, default_value_t = 10_000)]
        members: usize,
        /// Rooms that they are spread over
        #[arg(long, default_value_t = 1)]
        rooms: usize,
        /// Peers in each member's list
        #[arg(long, default_value_t = 200)]
        peers: usize,
    },
}

/// A registry that is started with a journal.
#[derive(Debug, clap::Args)]
struct StartArgs {
    /// The program of the registry
    hit7: PathBuf,
    /// An empty folder for its data
    data: PathBuf,
    /// The core that it is held to
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// Members of one room
    #[arg(long, default_value_t = 1_000_000)]
    members: usize,
}

/// A load on a server that runs.
#[derive(Debug, clap::Args)]
struct LoadArgs {
    /// The server, on loopback
    server: SocketAddr,
    /// Its process, whose CPU time is measured
    #[arg(long)]
    pid: u32,
    /// Clients, each with an address of 127.0.0.0/8 and port of its own
    #[arg(long, default_value_t = 1000)]
    clients: usize,
    /// Requests a second; without it, each client asks again when it was answered
    #[arg(long)]
    rate: Option<u64>,
    /// Seconds before anything counts
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// How many seconds count
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
}

/// What a load measured.
#[derive(Debug, Serialize)]
struct Report {
    asked: u64,
    answered: u64,
    per_second: u64,
    cpu_us: f64,
    cpu_share: f64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
    memory_mb: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    longest_answer: Option<usize>,
}

fn main() -> Result<(), Box<dyn Error>> {
    match Cli::parse().command {
        Command::Grow { members, rooms, peers } => print(&grow::run(members, rooms, peers)?),
        Command::Minute { server, pid, members, probes, trains } => {
            print(&minute::run(minute::Plan { server, pid, members, probes, trains })?)
        }
        Command::Documents(start) => {
            print(&documents::run(&start.hit7, start.core, &start.data, start.members)?)
        }
        Command::Replay(start) => {
            print(&replay::run(&start.hit7, start.core, &start.data, start.members)?)
        }
        Command::Floor { members, trains, cores } => {
            print(&floor::run(members, trains, (cores[0], cores[1]))?)
        }
        Command::Hit7 { subject, rooms, acked, load } => {
            let mut protocol = Register::new(subject, load.clients, rooms);
            protocol.acked = acked.is_some().then(Vec::new);
            let mut report = run(&load, &mut protocol)?;
            (report.errors, report.longest_answer) =
                (Some(protocol.errors), Some(protocol.longest));
            if let (Some(path), Some(acked)) = (acked, &protocol.acked) {
                let line = |(window, addr): &(String, String)| format!("{window} {addr}\n");
                fs::write(path, acked.iter().map(line).collect::<String>())?;
            }
            print(&report)
        }
        Command::Tracker { torrents, load } => {
            print(&run(&load, &mut Announce::new(load.clients, torrents))?)
        }
    }
}

fn print(report: &impl Serialize) -> Result<(), Box<dyn Error>> {
    println!("{}", serde_json::to_string(report)?);
    Ok(())
}

fn run(load: &LoadArgs, protocol: &mut impl Protocol) -> Result<Report, Box<dyn Error>> {
    let plan = Plan {
        server: load.server,
        clients: load.clients,
        rate: load.rate,
        warm_up: Duration::from_secs_f64(load.warm_up),
        time: Duration::from_secs_f64(load.seconds),
    };
    let cpu = || proc::cpu(load.pid).unwrap_or_default();
    let (mut before, mut after) = (Duration::ZERO, Duration::ZERO);
    let outcome = Load::new(plan, protocol)?.run(|| before = cpu(), || after = cpu())?;
    Ok(report(&outcome, after.saturating_sub(before), proc::memory(load.pid)?))
}

fn report(outcome: &Outcome, cpu: Duration, memory: u64) -> Report {
    let Outcome { asked, answered, latency, time } = outcome;
    let seconds = time.as_secs_f64();
    Report {
        asked: *asked,
        answered: *answered,
        per_second: (*answered as f64 / seconds) as u64,
        cpu_us: cpu.as_secs_f64() * 1e6 / (*answered).max(1) as f64,
        cpu_share: cpu.as_secs_f64() / seconds,
        p50_us: latency.value_at_quantile(0.5),
        p99_us: latency.value_at_quantile(0.99),
        p999_us: latency.value_at_quantile(0.999),
        max_us: latency.max(),
        memory_mb: memory as f64 / 1e6,
        errors: None,
        longest_answer: None,
    }
}
