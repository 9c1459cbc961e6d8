//! Checks that each test that `docs/SECURITY.md` names for a claim exists, and is a test, and that the
//! examples of README.md can be read in a terminal.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns each claim with the cell that names its tests, from the tables with the columns `claim`
/// and `test`.
fn claims(page: &str) -> Vec<(String, String)> {
    let mut claims = Vec::new();
    let mut is_claims = false;
    for line in page.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        match (line.starts_with('|'), &cells[..]) {
            (true, ["claim", _, "test"]) => is_claims = true,
            (true, [claim, _, tests]) if is_claims && !claim.starts_with("---") => {
                claims.push(((*claim).to_owned(), (*tests).to_owned()));
            }
            (false, _) => is_claims = false,
            _ => {}
        }
    }
    claims
}

/// Returns the files where a module's tests may be: `gate::tests::x` is in src/gate.rs,
/// `peer::tests::greetings::x` in src/peer/tests/greetings.rs, `strangers::caps::x` in
/// tests/strangers/caps.rs.
fn places(module: &str) -> Vec<PathBuf> {
    let path = module.replace("::", "/");
    let beside = path.strip_suffix("/tests").unwrap_or(&path);
    ["src", "tests"]
        .iter()
        .flat_map(|top| [root().join(top).join(&path), root().join(top).join(beside)])
        .map(|place| place.with_extension("rs"))
        .collect()
}

/// Returns whether `text` has a function `name` below an attribute that makes it a test.
fn has_test(text: &str, name: &str) -> bool {
    let is_it = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ").is_some_and(|rest| rest.starts_with(&format!("{name}(")))
    };
    let lines: Vec<&str> = text.lines().collect();
    let marked = |at: usize| {
        let above = lines[..at].iter().rev().map(|line| line.trim());
        above.take_while(|line| line.starts_with("#[")).any(|line| line.ends_with("test]"))
    };
    lines.iter().enumerate().any(|(at, line)| is_it(line) && marked(at))
}

#[test]
fn each_claim_has_a_test_that_exists() {
    let page = fs::read_to_string(root().join("docs/SECURITY.md")).unwrap();
    let claims = claims(&page);
    assert!(claims.len() > 15, "the claims are where they are looked for");
    for (claim, tests) in claims {
        let names: Vec<&str> = tests.split(',').map(|name| name.trim().trim_matches('`')).collect();
        assert!(names.iter().all(|name| !name.is_empty()), "no test shows: {claim}");
        for name in names {
            let (module, function) = name.rsplit_once("::").expect(name);
            let texts = places(module).into_iter().filter_map(|path| fs::read_to_string(path).ok());
            let found = texts.collect::<Vec<_>>().iter().any(|text| has_test(text, function));
            assert!(found, "docs/SECURITY.md names {name}, which is no test");
        }
    }
}

#[test]
fn the_examples_of_the_readme_fit_into_80_columns() {
    let page = fs::read_to_string(root().join("README.md")).unwrap();
    let examples: Vec<&str> = page.split("```").skip(1).step_by(2).collect();
    assert!(examples.len() > 8, "the examples are where they are looked for");
    let mut lines = examples.into_iter().flat_map(str::lines);
    assert_eq!(lines.find(|line| line.chars().count() > 80), None);
}

#[test]
fn a_function_is_no_test_because_of_its_name() {
    assert!(has_test("#[test]\nfn a() {", "a"));
    assert!(has_test("    #[tokio::test]\n    async fn a() {", "a"));
    assert!(!has_test("#[test]\nfn ab() {\nfn a() {", "a"));
    assert!(!has_test("fn a() {", "a") && !has_test("// fn a() {", "a"));
}
