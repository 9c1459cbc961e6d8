//! Files on disk are readable by their owner alone, and nothing is written outside the data folder.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hit7::proto::{Auth, Profile, Request};
use hit7_support::{Program, until};

use crate::HIT7;
use crate::wire::{Reply, answer, socket};

/// Starts a registry with windows of a second and umask 0; returns what it prints until it serves
/// or ends.
fn start(data: &Path) -> (Program, String) {
    let serve = "umask 000; exec \"$0\" serve 127.0.0.1 0 --window 1s --data \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", serve, HIT7.0]).arg(data);
    let mut program = Program::start(command);
    until("it neither starts nor ends", || {
        let is_running = program.is_running();
        let printed = program.lines().join("\n");
        (printed.contains("data in ") || !is_running).then_some(())
    });
    let printed = program.lines().join("\n");
    (program, printed)
}

/// Registers until some windows have opened; returns whether any registration was accepted.
fn registers(printed: &str) -> bool {
    let Some(addr) = printed.lines().find_map(|line| line.strip_prefix("listening on ")) else {
        return false;
    };
    let (client, addr, begun) = (socket([127, 0, 0, 1]), addr.parse().unwrap(), Instant::now());
    let mut is_in = false;
    for seq in 0.. {
        let request = Request::register("a".parse().ok(), Some(seq), Profile::default());
        let ask = request.encode(&Auth::NONE);
        let reply = answer(&client, addr, &ask).map(|answer| Reply::of(&answer));
        is_in |= reply == Some(Reply::Registered);
        if begun.elapsed() > Duration::from_millis(2500) {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    is_in
}

/// Collects all files and folders below `dir` with their modes.
fn modes(dir: &Path, found: &mut Vec<(PathBuf, u32)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let Ok(is) = fs::symlink_metadata(&path) else { continue };
        found.push((path.clone(), is.permissions().mode() & 0o777));
        if is.is_dir() {
            modes(&path, found);
        }
    }
}

#[test]
fn what_is_on_disk_is_its_owners_alone() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("hit7-data");
    let (_registry, printed) = start(&data);
    assert!(registers(&printed));
    let mut found = vec![(data.clone(), fs::metadata(&data).unwrap().permissions().mode() & 0o777)];
    modes(&data, &mut found);
    assert!(found.iter().any(|(path, _)| path.extension().is_some_and(|end| end == "json")));
    assert!(found.iter().any(|(path, _)| path.extension().is_some_and(|end| end == "jsonl")));
    for (path, mode) in found {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert!(mode == expected || !path.exists(), "{}: {mode:o}", path.display());
    }
}

#[test]
fn nothing_is_written_through_a_link_out_of_the_data_folder() {
    for place in ["lock", "secret", "journal", "windows", "journal/DAY", "windows/DAY"] {
        let home = tempfile::tempdir().unwrap();
        let (data, outside) = (home.path().join("hit7-data"), home.path().join("outside"));
        fs::create_dir(&outside).unwrap();
        // Today and tomorrow, in case midnight is near.
        let now = std::time::SystemTime::now();
        for days in 0..2 {
            let day = day(now + Duration::from_secs(days * 86_400));
            let link = data.join(place.replace("DAY", &day));
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            let is_file = matches!(place, "lock" | "secret");
            let target = if is_file { outside.join("file") } else { outside.clone() };
            let _ = symlink(target, link);
        }
        let (_registry, printed) = start(&data);
        let is_in = registers(&printed);
        println!("{place}: {}", if printed.is_empty() { "refused" } else { "runs" });
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{place} leads out");
        assert!(!is_in || place.starts_with("windows"), "{place}: acked, and not stored");
    }
}

/// Returns the name of the day's folder at a time.
fn day(at: std::time::SystemTime) -> String {
    let since = at.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    hit7::window::Wall::from_millis(since).to_string()[..10].to_owned()
}
