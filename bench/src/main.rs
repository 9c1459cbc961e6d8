//! Loads a server on this machine and tells what an answer costs it.
//!
//! `bench/compare.sh` and `bench/minute.sh` run it; docs/BENCHMARKS.md has what came of it.

mod documents;
mod floor;
mod grow;
mod load;
mod minute;
mod proc;
mod talk;
mod wire;

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde::Serialize;

use load::{Load, Outcome, Plan};
use talk::{Announce, Register, Subject, Talk};

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
        /// What is asked
        #[arg(value_enum)]
        subject: Subject,
        /// Rooms that the clients are spread over
        #[arg(long, default_value_t = 1)]
        rooms: usize,
        /// Write which address was acked for which window into this file, a line each
        #[arg(long)]
        acked: Option<PathBuf>,
        #[command(flatten)]
        words: Words,
    },
    /// Load a BitTorrent tracker (BEP 15)
    Tracker {
        /// Torrents that the clients are spread over
        #[arg(long, default_value_t = 1)]
        torrents: usize,
        #[command(flatten)]
        words: Words,
    },
    /// Register members, and follow the opening of their window; the registry must trust loopback
    Minute {
        /// The registry, on loopback
        server: SocketAddr,
        /// Its process, whose CPU time is told
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
        /// Members
        #[arg(long, default_value_t = 10_000)]
        members: usize,
        /// Members take trains whole
        #[arg(long)]
        trains: bool,
        /// The core that sends, and the one that receives
        #[arg(long, num_args = 2, default_values_t = [0, 1])]
        cores: Vec<usize>,
    },
    /// Tell how long REGISTERs take while very many are told, and while their document is written
    Documents {
        /// The registry's program
        hit7: std::path::PathBuf,
        /// An empty folder for its data
        data: std::path::PathBuf,
        /// The core that it is held to
        #[arg(long, default_value_t = 0)]
        core: usize,
        /// Members of one room
        #[arg(long, default_value_t = 1_000_000)]
        members: usize,
    },
    /// Tell what so many members, rooms and peers cost, without sockets
    Grow {
        /// Members of one window
        #[arg(long, default_value_t = 10_000)]
        members: usize,
        /// Rooms that they are spread over
        #[arg(long, default_value_t = 1)]
        rooms: usize,
        /// Peers per list
        #[arg(long, default_value_t = 200)]
        peers: usize,
    },
}

#[derive(Debug, clap::Args)]
struct Words {
    /// The server, on loopback
    server: SocketAddr,
    /// Its process, whose CPU time is told
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
    /// Seconds that count
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
}

/// One run.
#[derive(Debug, Serialize)]
struct Told {
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
    let told = match Cli::parse().command {
        Command::Grow { members, rooms, peers } => {
            println!("{}", serde_json::to_string(&grow::run(members, rooms, peers)?)?);
            return Ok(());
        }
        Command::Minute { server, pid, members, probes, trains } => {
            let told = minute::run(minute::Plan { server, pid, members, probes, trains })?;
            println!("{}", serde_json::to_string(&told)?);
            return Ok(());
        }
        Command::Documents { hit7, data, core, members } => {
            let told = documents::run(&hit7, core, &data, members)?;
            println!("{}", serde_json::to_string(&told)?);
            return Ok(());
        }
        Command::Floor { members, trains, cores } => {
            let told = floor::run(members, trains, (cores[0], cores[1]))?;
            println!("{}", serde_json::to_string(&told)?);
            return Ok(());
        }
        Command::Hit7 { subject, rooms, acked, words } => {
            let mut talk = Register::new(subject, words.clients, rooms);
            talk.acked = acked.is_some().then(Vec::new);
            let mut told = run(&words, &mut talk)?;
            (told.errors, told.longest_answer) = (Some(talk.errors), Some(talk.longest));
            if let (Some(path), Some(acked)) = (acked, &talk.acked) {
                let line = |(window, addr): &(String, String)| format!("{window} {addr}\n");
                fs::write(path, acked.iter().map(line).collect::<String>())?;
            }
            told
        }
        Command::Tracker { torrents, words } => {
            run(&words, &mut Announce::new(words.clients, torrents))?
        }
    };
    println!("{}", serde_json::to_string(&told)?);
    Ok(())
}

fn run(words: &Words, talk: &mut impl Talk) -> Result<Told, Box<dyn Error>> {
    let plan = Plan {
        server: words.server,
        clients: words.clients,
        rate: words.rate,
        warm_up: Duration::from_secs_f64(words.warm_up),
        time: Duration::from_secs_f64(words.seconds),
    };
    let cpu = || proc::cpu(words.pid).unwrap_or_default();
    let (mut before, mut after) = (Duration::ZERO, Duration::ZERO);
    let outcome = Load::new(plan, talk)?.run(|| before = cpu(), || after = cpu())?;
    Ok(told(&outcome, after.saturating_sub(before), proc::memory(words.pid)?))
}

fn told(outcome: &Outcome, cpu: Duration, memory: u64) -> Told {
    let Outcome { asked, answered, latency, time } = outcome;
    let seconds = time.as_secs_f64();
    Told {
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
