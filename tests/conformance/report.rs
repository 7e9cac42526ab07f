//! What a whole run has shown, per adapter.

use anybroker::conformance::{Fixture, Verdict, checks, unexercised};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// The verdicts of a run, by adapter and check.
#[derive(Default)]
pub(crate) struct Report(Mutex<BTreeMap<String, BTreeMap<&'static str, Verdict>>>);

impl Report {
    pub(crate) fn note(&self, fixture: &str, check: &'static str, verdict: Verdict) {
        let mut verdicts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        verdicts.entry(fixture.to_owned()).or_default().insert(check, verdict);
    }

    /// One line per adapter, with what was skipped and why; the matrix too when it is asked for. Says whether each whole run has shown all that its
    /// adapter declares.
    pub(crate) fn print(&self, fixtures: &[Arc<dyn Fixture>]) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        let mut complete = true;
        for (name, verdicts) in &*all {
            text.push_str(&summary(name, verdicts));
            let fixture = fixtures.iter().find(|fixture| fixture.name() == name);
            if let Some(fixture) = fixture.filter(|_| verdicts.len() == checks().len()) {
                let idle = never_shown(fixture, verdicts);
                complete &= idle.is_empty();
                idle.iter().for_each(|idle| text.push_str(&format!("  declared and never shown: {idle}\n")));
                if documented(name) != Some(column(verdicts)) {
                    complete = false;
                    text.push_str("  the matrix in src/docs/conformance.md says otherwise; CONFORMANCE_MATRIX=1 prints it anew\n");
                }
            }
        }
        if std::env::var_os("CONFORMANCE_MATRIX").is_some() {
            text.push_str(&matrix(&all));
        }
        let _ = std::io::stdout().write_all(text.as_bytes());
        complete
    }
}

fn never_shown(fixture: &Arc<dyn Fixture>, verdicts: &BTreeMap<&'static str, Verdict>) -> Vec<String> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return vec![String::from("unknown, for want of a runtime")];
    };
    match runtime.block_on(fixture.adapter()).map(|adapter| adapter.capabilities()) {
        Ok(declared) => {
            let run = checks().iter().filter_map(|check| Some((check, verdicts.get(check.name)?)));
            unexercised(&declared, run).iter().map(ToString::to_string).collect()
        }
        Err(error) => vec![format!("unknown: {error}")],
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
            text.push_str(&format!(" {} |", verdicts[*fixture].get(check.name).map_or("", mark)));
        }
        text.push('\n');
    }
    text
}

const fn mark(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "yes",
        Verdict::Skipped(_) => "–",
        _ => "**no**",
    }
}

fn column(verdicts: &BTreeMap<&'static str, Verdict>) -> BTreeMap<&'static str, &'static str> {
    verdicts.iter().map(|(check, verdict)| (*check, mark(verdict))).collect()
}

/// What the documentation says of the adapter; none where it does not, or not of every check.
fn documented(fixture: &str) -> Option<BTreeMap<&'static str, &'static str>> {
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim);
    let mut rows = include_str!("../../src/docs/conformance.md").lines().filter(|line| line.starts_with('|'));
    let at = cells(rows.next()?).position(|name| name == fixture)?;
    rows.skip(1).map(|row| Some((cells(row).next()?, cells(row).nth(at)?))).collect()
}
