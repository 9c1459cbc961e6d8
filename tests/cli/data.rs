//! Tests how `hit7 serve` locks, rejects and mends its data folder.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use hit7_support::{Home, assert_has};

use crate::HIT7;

/// Makes the data folder of a stopped registry with `count` members of a window that has not
/// opened; returns it with its journal file.
fn with_members(count: usize) -> (Home, PathBuf) {
    let home = HIT7.home();
    let registry = home.serve(&["--window", "1day"]);
    for _ in 0..count {
        registry.client().register();
    }
    registry.stop("TERM").succeeded();
    let journal = home.journals().pop().unwrap();
    (home, journal)
}

#[test]
fn a_folder_that_cannot_be_made_is_named_with_the_remedy() {
    let home = HIT7.home();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    for data in [file.clone(), file.join("below")] {
        let args = ["serve", "127.0.0.1", "0", "--data", data.to_str().unwrap()];
        HIT7.run(&args).failed(1, &[data.to_str().unwrap(), "move it away", "--data"]);
    }
}

#[test]
fn what_stands_in_the_place_of_a_file_is_named_with_the_remedy() {
    for (name, make) in
        [("lock", "mkdir"), ("lock", "mkfifo"), ("secret", "mkdir"), ("secret", "mkfifo")]
    {
        let home = HIT7.home();
        home.serve(&[]).stop("TERM").succeeded();
        let path = home.data().join(name);
        fs::remove_file(&path).unwrap();
        assert!(Command::new(make).arg(&path).status().unwrap().success());
        home.refused(&[]).failed(1, &[path.to_str().unwrap(), "not a regular file; move it away"]);
    }
}

#[test]
fn a_folder_in_use_is_refused_until_its_registry_stops() {
    let home = HIT7.home();
    let registry = home.serve(&[]);
    let path = home.data();
    let refuses =
        || home.refused(&[]).failed(1, &[path.to_str().unwrap(), "another registry", "--data"]);
    refuses();
    fs::remove_file(path.join("lock")).unwrap();
    refuses();
    registry.serves();
    registry.stop("INT").succeeded();
    home.serve(&[]).serves();
}

#[test]
fn another_window_holds_from_the_first_that_nobody_registered_for() {
    let (home, _) = with_members(2);
    let told = |args: &[&str]| {
        let registry = home.serve(args);
        let answer = registry.client().ask(r#"{"type":"REGISTER"}"#);
        registry.stop("TERM").succeeded();
        (answer["window"].clone(), answer["window_ms"].clone())
    };
    let before = told(&["--window", "1day"]);
    assert_eq!(told(&["--window", "12h", "--peers", "8"]), before);
    let text = fs::read_to_string(home.journals().pop().unwrap()).unwrap();
    assert!(text.contains(r#""window_ms":86400000,"peers":200"#), "{text}");
}

#[test]
fn another_window_is_fine_where_nobody_waits() {
    let home = HIT7.home();
    home.serve(&["--window", "1day"]).stop("TERM").succeeded();
    home.serve(&["--window", "2s"]).serves();
}

#[test]
fn a_journal_that_is_gone_at_the_start_is_told() {
    let (home, _) = with_members(1);
    let gone = home.data().join("journal");
    fs::rename(&gone, home.path().join("elsewhere")).unwrap();
    let mut registry = home.serve(&["--window", "1day"]);
    assert_has(&registry.program.error_line(), &[gone.to_str().unwrap(), "is gone", "put it back"]);
    registry.serves();
}

#[test]
fn a_torn_journal_is_mended_and_that_is_said() {
    let (home, journal) = with_members(2);
    let bytes = fs::read(&journal).unwrap();
    fs::write(&journal, &bytes[..bytes.len() - 9]).unwrap();
    let mut registry = home.serve(&["--window", "1day"]);
    assert_has(&registry.program.error_line(), &[journal.to_str().unwrap(), "torn", "cut off"]);
    registry.serves();
    let whole = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
    assert_eq!(fs::read(&journal).unwrap(), bytes[..=whole]);
}

#[test]
fn a_damaged_journal_is_refused_until_the_damage_is_accepted() {
    let (home, journal) = with_members(3);
    let mut bytes = fs::read(&journal).unwrap();
    let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    bytes[second + 20] ^= 1;
    fs::write(&journal, &bytes).unwrap();
    let pieces = [journal.to_str().unwrap(), "line 2 ", "--accept-damage"];
    home.refused(&["--window", "1day"]).failed(1, &pieces);
    assert_eq!(fs::read(&journal).unwrap(), bytes, "it is left as it was");
    let mut registry = home.serve(&["--window", "1day", "--accept-damage"]);
    assert_has(&registry.program.error_line(), &[journal.to_str().unwrap(), "copied"]);
    registry.serves();
    registry.stop("TERM").succeeded();
    let lines = fs::read_to_string(&journal).unwrap().lines().count();
    assert_eq!(lines, 3, "a header and two members");
    home.serve(&["--window", "1day"]).serves();
}

#[test]
fn a_secret_of_another_length_is_refused() {
    let home = HIT7.home();
    home.serve(&[]).stop("TERM").succeeded();
    let path = home.data().join("secret");
    fs::write(&path, [7; 31]).unwrap();
    home.refused(&[]).failed(1, &[path.to_str().unwrap(), "32 bytes", "restore it"]);
}

#[test]
fn nobody_else_reads_the_journal_and_the_secret() {
    use std::os::unix::fs::PermissionsExt;
    let (home, journal) = with_members(1);
    for path in [journal, home.data().join("secret"), home.data().join("lock")] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
    }
}
