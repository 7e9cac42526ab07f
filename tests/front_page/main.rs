//! The program on the front page: compiled, tested by its own test, and run on memory until it is interrupted.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::panic_in_result_fn,
    clippy::disallowed_methods,
    reason = "a test"
)]

mod kitchen {
    // Not a module of its own: it is laid out as the page shows it, and its `main` is private.
    include!("kitchen.rs");

    pub(super) fn run() -> anybroker::Result<()> {
        main()
    }
}

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

/// Set for the process that is the program.
const PROGRAM: &str = "FRONT_PAGE_PROGRAM";

#[test]
fn the_front_page_shows_the_program() {
    let readme = include_str!("../../README.md");
    assert!(
        readme.contains(include_str!("kitchen.rs")),
        "README.md differs from tests/front_page/kitchen.rs"
    );
}

#[test]
fn the_program_runs_until_it_is_interrupted() {
    if std::env::var_os(PROGRAM).is_some() {
        return kitchen::run().unwrap();
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("front-page");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("messaging.toml"), "[brokers.main]\nurl = \"memory://\"\n").unwrap();
    let mut program = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_program_runs_until_it_is_interrupted", "--nocapture"])
        .env(PROGRAM, "1")
        .current_dir(folder)
        .spawn()
        .unwrap();
    wait(|| catches_interrupts(&program));
    let interrupted = Command::new("kill").args(["-INT", &program.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    wait(|| program.try_wait().unwrap().is_some_and(|status| status.success()));
}

/// Whether the program would hear of an interrupt, rather than be ended by it.
fn catches_interrupts(program: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & 0b10 != 0
}

fn wait(mut done: impl FnMut() -> bool) {
    for _ in 0..30_000 {
        if done() {
            return;
        }
        sleep(Duration::from_millis(1));
    }
    panic!("it never came to that");
}
