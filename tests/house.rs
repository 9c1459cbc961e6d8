//! Checks the layers of the source: a file imports only from lower layers, and pure modules use no
//! sockets, files, threads or runtime.
//!
//! The table of layers is in ARCHITECTURE.md. Clippy and rustc check that only `clock.rs` reads the
//! time, that nothing uses `println!` and its kin, and that there is no unsafe code (`clippy.toml`,
//! and the lints in `Cargo.toml`); these tests check that no other file allows itself an exception.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

/// The modules of each layer, from the lowest; a module's own folder belongs to its layer.
const LAYERS: [&[&str]; 9] = [
    &["window", "mesh", "limit", "cookie", "tally", "path"],
    &["proto", "clock", "events", "thread", "udp"],
    &["roster", "record", "gate", "ask", "store"],
    &["registry", "fanout", "peer", "journal", "archive", "datadir", "keyfile", "snapshot"],
    &["node"],
    &["server", "client", "status"],
    &["view"],
    &["cli"],
    &["main"],
];

/// Modules that must not know sockets, files or a runtime.
const PURE: [&str; 10] =
    ["window", "mesh", "path", "registry", "peer", "fanout", "gate", "ask", "roster", "node"];

/// Names of system interfaces, which pure modules must not contain.
const SYSTEM: [&str; 5] = ["tokio", "std::fs", "UdpSocket", "std::thread", "std::process"];

/// Names that the module `status` must not contain: it uses only snapshots and documents.
const HIDDEN_FROM_STATUS: [&str; 6] =
    ["UdpSocket", "crate::udp", "crate::journal", "crate::registry", "crate::server", "NextWindow"];

/// Names that only `main` may contain: ways to write to the terminal that clippy does not know, and
/// the names of clippy's lints against the others.
const TERMINAL: [&str; 4] = ["stdout(", "stderr(", "print_stdout", "print_stderr"];

/// One file of the source.
struct Source {
    /// The module that the file belongs to: the first part of its path.
    module: String,
    path: String,
    /// The file's code without unit tests.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    assert!(found.len() > 20, "the sources are where they are looked for");
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let place = path.strip_prefix(root).unwrap().with_extension("");
            let module = place.iter().next().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
            let test_only = ["tests.rs", "stage.rs"].iter().any(|name| path.ends_with(name));
            if module != "lib" && !test_only {
                found.push(Source { module, path: place.display().to_string(), code });
            }
        }
    }
}

/// Collects the text of every Rust file in a folder, with its path.
fn texts(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

fn layer_of(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|modules| modules.contains(&module))
        .unwrap_or_else(|| panic!("{module} is in no layer: give it one in ARCHITECTURE.md"))
}

/// Returns the modules that `code` names after `crate::` or `hit7::`.
fn imports(code: &str) -> Vec<String> {
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code: String = lines.map(|line| format!("{line}\n")).collect();
    let mut modules = Vec::new();
    for start in ["crate::", "hit7::"] {
        for (at, _) in code.match_indices(start) {
            let rest = &code[at + start.len()..];
            match rest.strip_prefix('{') {
                Some(group) => {
                    let group = &group[..group.find("};").unwrap_or(group.len())];
                    let names = group.split(',').map(|name| first_word(name.trim()));
                    modules.extend(names.filter(|name| !name.is_empty()));
                }
                None => modules.push(first_word(rest)),
            }
        }
    }
    modules
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// Fails if the code of a checked module contains one of the words.
fn assert_unnamed(is_checked: impl Fn(&str) -> bool, words: &[&str]) {
    for source in sources().into_iter().filter(|source| is_checked(&source.module)) {
        for word in words {
            assert!(!source.code.contains(word), "{} names {word}", source.path);
        }
    }
}

/// Returns the text of each function in `code`, with its name and the attributes before it.
fn functions(code: &str) -> Vec<(&str, &str)> {
    let mut functions = Vec::new();
    let mut attributes = 0;
    let starts: Vec<usize> = code.match_indices('\n').map(|(at, _)| at + 1).collect();
    for (line, at) in code.lines().zip([0].into_iter().chain(starts)) {
        let words = line.trim_start();
        let indent = &line[..line.len() - words.len()];
        if !words.starts_with(['#', '/']) {
            let fn_at = words.find("fn ").filter(|_| !words.contains(['"', '=', ';']));
            if let Some(name) = fn_at.map(|found| first_word(&words[found + 3..])) {
                let rest = &code[at..];
                let end = rest.find(&format!("\n{indent}}}\n")).unwrap_or(rest.len());
                let named = at + line.find(&name).unwrap();
                functions.push((&code[named..named + name.len()], &code[attributes..at + end]));
            }
            attributes = at + line.len();
        }
    }
    functions
}

/// Where a test returns before its end, with the lines around that show why.
fn early_returns(code: &str) -> Vec<String> {
    let tests = functions(code).into_iter().filter(|(_, text)| text.contains("test]"));
    let returns = |(_, text): (&str, &str)| {
        let lines: Vec<&str> = text.lines().collect();
        let endings = ["return;", "{ return };", "=> return,"];
        let is_return = |at: &usize| endings.iter().any(|end| lines[*at].ends_with(end));
        let around = |at: usize| lines[at.saturating_sub(1)..=at].concat();
        (0..lines.len()).filter(is_return).map(around).collect::<Vec<_>>()
    };
    tests.flat_map(returns).collect()
}

#[test]
fn early_returns_of_tests_are_found() {
    let code = "#[test]\nfn one() {\n    if !has() {\n        return;\n    }\n    two()\n}\n\n\
                fn other() {\n    let Some(it) = find() else { return };\n}\n\n\
                #[test]\nfn two() {\n    let Some(it) = find() else { return };\n}\n";
    let found = early_returns(code);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("has()") && found[1].contains("find()"), "{found:?}");
}

/// A test that returns early without a word passes also where nothing may be skipped.
#[test]
fn a_test_is_left_early_only_by_a_skip() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    ["src", "tests"].iter().for_each(|folder| texts(&root.join(folder), &mut files));
    let all: Vec<_> = files.iter().flat_map(|(_, code)| functions(code)).collect();
    let calls = |text: &str, name: &str| text.contains(&format!("{name}("));
    let mut skipping = vec!["skip"];
    // Who calls one of those that skip skips too: `has_ipv6`, `Lab::new`, and `subnet` by that.
    for _ in 0..3 {
        let skips = |(_, text): &&(&str, &str)| {
            !text.contains("test]") && skipping.iter().any(|name| calls(text, name))
        };
        let more: Vec<&str> = all.iter().filter(skips).map(|(name, _)| *name).collect();
        skipping.extend(more);
        skipping.sort();
        skipping.dedup();
    }
    assert!(skipping.contains(&"subnet") && skipping.contains(&"has_time"), "{skipping:?}");
    for (path, code) in &files {
        for place in early_returns(code) {
            let is_skip = skipping.iter().any(|name| calls(&place, name));
            assert!(is_skip, "{path}: a test returns without `skip`: {place}");
        }
        let announces = code.contains("SKIPPED: ") && !code.contains("HIT7_NO_SKIPS");
        assert!(!announces, "{path} skips without regard to HIT7_NO_SKIPS");
    }
}

#[test]
fn imports_are_found() {
    let code = "use crate::window::Wall;\nuse crate::{mesh, udp::Path};\n// crate::server\n";
    assert_eq!(imports(code), ["window", "mesh", "udp"]);
}

#[test]
fn a_file_imports_only_from_lower_layers() {
    for Source { module, path, code } in sources() {
        let own = layer_of(&module);
        for imported in imports(&code).into_iter().filter(|imported| *imported != module) {
            let other = layer_of(&imported);
            assert!(other < own, "{path} (layer {own}) imports {imported} (layer {other})");
        }
    }
}

#[test]
fn the_architecture_names_each_module_in_its_layer() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let text = fs::read_to_string(path).unwrap();
    for Source { module, .. } in sources() {
        let row = format!("| {} | `{module}.rs` |", layer_of(&module));
        assert!(text.contains(&row), "ARCHITECTURE.md has no row {row}");
    }
}

#[test]
fn pure_modules_know_no_system() {
    assert_unnamed(|module| PURE.contains(&module), &SYSTEM);
}

#[test]
fn the_page_knows_snapshots_and_no_more() {
    assert_unnamed(|module| module == "status", &HIDDEN_FROM_STATUS);
}

#[test]
fn only_the_clock_may_read_time() {
    assert_unnamed(|module| module != "clock", &["disallowed_methods"]);
}

#[test]
fn only_the_program_writes_to_the_terminal() {
    assert_unnamed(|module| module != "main", &TERMINAL);
}
