//! How long a registry takes to start with a journal of very many members, and the memory that they
//! take: the program itself, from its start until it listens.

use std::io;
use std::path::Path;
use std::time::Duration;

use hit7::clock::Clock;
use hit7::mesh::ListCap;
use hit7::record::Header;
use hit7::window::Length;
use serde::Serialize;

use crate::proc;
use crate::registry::{Process, write_journal};

/// Windows are of a day, so that theirs does not open meanwhile.
const WINDOW: Duration = Duration::from_secs(86_400);
/// The least time until it opens: more than it takes to write the journal and to read it back.
const AHEAD: Duration = Duration::from_secs(60);

/// What a start cost.
#[derive(Debug, Serialize)]
pub struct Report {
    members: usize,
    /// From the start of the process until it listens.
    replay_ms: f64,
    /// Its CPU time by then.
    cpu_ms: f64,
    memory_mb: f64,
    memory_bytes_per_member: f64,
}

/// Writes a journal of `members` into `data`, and starts the registry `hit7` with it on `core`.
pub fn run(hit7: &Path, core: usize, data: &Path, members: usize) -> io::Result<Report> {
    let (clock, length) = (Clock::start(), Length::new(WINDOW).expect("a day is a length"));
    let window = length.first_from(clock.now().wall.plus(AHEAD));
    write_journal(
        data,
        Header { window, length, cap: Some(ListCap::default()) },
        members,
        &[40_000],
    )?;
    let begun = clock.now().mono;
    let registry = Process::start(hit7, core, data, &["--window", "1day"])?;
    let replay = clock.now().mono - begun;
    let memory = proc::memory(registry.pid())? as f64;
    Ok(Report {
        members,
        replay_ms: replay.as_secs_f64() * 1e3,
        cpu_ms: proc::cpu(registry.pid())?.as_secs_f64() * 1e3,
        memory_mb: memory / 1e6,
        memory_bytes_per_member: memory / members as f64,
    })
}
