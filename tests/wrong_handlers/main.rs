//! What the compiler says of handlers that are none: that it is one, which one, and what is expected.
//!
//! Each file in `cases` has one mistake, and says at its head, after `//~`, what has to be in the compiler's words about it. `right.rs` has none.

#![expect(clippy::unwrap_used, reason = "a test, in functions that tests share")]

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_compiler_names_the_handler_and_the_fix() {
    let cases: BTreeMap<String, String> =
        fs::read_dir(Path::new(ROOT).join(CASES)).unwrap().map(case).collect();
    let said = compile(&cases);
    let mut wrong = String::new();
    for (name, source) in &cases {
        let said = said.get(name).map_or("", String::as_str);
        let expected: Vec<_> = source.lines().filter_map(|line| line.strip_prefix("//~ ")).collect();
        match name.as_str() {
            "right" => {
                assert!(said.is_empty(), "the right handlers are refused, so nothing is shown:\n{said}")
            }
            _ => assert!(!expected.is_empty(), "{name} expects nothing"),
        }
        for expected in expected.iter().filter(|expected| !said.contains(**expected)) {
            writeln!(wrong, "{name}: `{expected}` is not in:\n{said}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(cases.len() > 20, "{} cases", cases.len());
}

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const CASES: &str = "tests/wrong_handlers/cases";

fn case(entry: std::io::Result<fs::DirEntry>) -> (String, String) {
    let path = entry.unwrap().path();
    (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap())
}

/// The errors of each, as the compiler prints them. A package of its own, so that it has no features but the default ones.
fn compile(cases: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wrong-handlers");
    fs::create_dir_all(&folder).unwrap();
    let mut manifest = format!(
        "[workspace]\n[package]\nname = \"wrong-handlers\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
         [dependencies]\nanybroker = {{ path = {ROOT:?} }}\nserde = {{ version = \"1\", features = [\"derive\"] }}\n"
    );
    for name in cases.keys() {
        let path = Path::new(ROOT).join(CASES).join(format!("{name}.rs"));
        writeln!(manifest, "[[bin]]\nname = {name:?}\npath = {path:?}").unwrap();
    }
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    // The versions of the repository, all of which are here already.
    fs::copy(Path::new(ROOT).join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--keep-going", "--bins", "--message-format=json"])
        .current_dir(&folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .output()
        .unwrap();
    let mut said: BTreeMap<String, String> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        if message["reason"] == "compiler-message" && message["message"]["level"] == "error" {
            let name = message["target"]["name"].as_str().unwrap().to_owned();
            said.entry(name).or_default().push_str(message["message"]["rendered"].as_str().unwrap());
        }
    }
    assert!(!said.is_empty(), "nothing was compiled:\n{}", String::from_utf8_lossy(&output.stderr));
    said
}
