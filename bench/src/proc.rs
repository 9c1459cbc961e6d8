//! What a process has cost, by the kernel's account of it.

use std::fs;
use std::io;
use std::time::Duration;

/// CPU time of the threads that a process has now, by the scheduler's account in nanoseconds
/// (`/proc/PID/task/TID/schedstat`); softirqs that run on their time are in it.
pub fn cpu(pid: u32) -> io::Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        let stat = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        nanos += stat.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanos))
}

/// The resident memory of a process, in bytes.
pub fn memory(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    let kib = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
    Ok(kib * 1024)
}
