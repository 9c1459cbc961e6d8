//! What a process has cost, by the kernel's account of it.

use std::fs;
use std::io;
use std::time::Duration;

/// The kernel tells CPU time in hundredths of a second (`USER_HZ`, proc(5)).
const TICKS_PER_SECOND: u64 = 100;

/// CPU time of all threads of a process, those that have ended included.
pub fn cpu(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything; after it come state, ppid, … utime, stime.
    let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    let ticks = after.split(' ').skip(11).take(2).filter_map(|word| word.parse::<u64>().ok());
    Ok(Duration::from_millis(ticks.sum::<u64>() * 1000 / TICKS_PER_SECOND))
}

/// Resident memory, in bytes.
pub fn memory(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    let kib = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
    Ok(kib * 1024)
}
