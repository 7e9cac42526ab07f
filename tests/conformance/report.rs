//! What a whole run has shown, per adapter.

use anybroker::conformance::{Verdict, checks};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

/// The verdicts of a run, by adapter and check.
#[derive(Default)]
pub(crate) struct Report(Mutex<BTreeMap<String, BTreeMap<&'static str, Verdict>>>);

impl Report {
    pub(crate) fn note(&self, fixture: &str, check: &'static str, verdict: Verdict) {
        let mut verdicts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        verdicts.entry(fixture.to_owned()).or_default().insert(check, verdict);
    }

    /// One line per adapter, with what was skipped and why; the matrix too when it is asked for.
    pub(crate) fn print(&self) {
        let verdicts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (fixture, verdicts) in &*verdicts {
            text.push_str(&summary(fixture, verdicts));
        }
        if std::env::var_os("CONFORMANCE_MATRIX").is_some() {
            text.push_str(&matrix(&verdicts));
        }
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
}

fn summary(fixture: &str, verdicts: &BTreeMap<&'static str, Verdict>) -> String {
    let count = |is: fn(&Verdict) -> bool| verdicts.values().filter(|verdict| is(verdict)).count();
    let passed = count(|verdict| *verdict == Verdict::Passed);
    let failed = count(|verdict| matches!(verdict, Verdict::Failed(_)));
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (check, verdict) in verdicts {
        if let Verdict::Skipped(reason) = verdict {
            reasons.entry(reason).or_default().push(check);
        }
    }
    let skipped: usize = reasons.values().map(Vec::len).sum();
    let mut text = format!("{fixture}: {} checks, {passed} passed", verdicts.len());
    if failed > 0 {
        text.push_str(&format!(", {failed} failed"));
    }
    text.push_str(&format!(", {skipped} skipped\n"));
    for (reason, checks) in reasons {
        text.push_str(&format!("  skipped, because {reason}: {}\n", checks.join(", ")));
    }
    for check in checks().iter().filter(|check| check.advisory) {
        if let Some(Verdict::Failed(seen)) = verdicts.get(check.name) {
            text.push_str(&format!("  advisory, failed: {}: {seen}\n", check.name));
        }
    }
    text
}

fn matrix(verdicts: &BTreeMap<String, BTreeMap<&'static str, Verdict>>) -> String {
    let fixtures: Vec<&String> = verdicts.keys().collect();
    let mut text = String::from("\n| check |");
    fixtures.iter().for_each(|fixture| text.push_str(&format!(" {fixture} |")));
    text.push_str(&format!("\n|---|{}\n", "---|".repeat(fixtures.len())));
    for check in checks() {
        text.push_str(&format!("| {} |", check.name));
        for fixture in &fixtures {
            text.push_str(match verdicts[*fixture].get(check.name) {
                Some(Verdict::Passed) => " yes |",
                Some(Verdict::Skipped(_)) => " – |",
                Some(_) => " **no** |",
                None => " |",
            });
        }
        text.push('\n');
    }
    text
}
