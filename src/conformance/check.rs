use super::lab::Lab;
use super::{
    Fixture, Hook, capabilities, failure, fidelity, foreign, lifecycle, limits, order, point_to_point,
    publish_subscribe, request_reply, scopes, secrets, settlement,
};
use crate::adapter::{BoxFuture, Capability, Error};
use std::fmt;
use std::sync::{Arc, LazyLock};

/// One promise of the contract, and the experiment that would show it broken.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Check {
    /// What it is called, such as `order/per-key-competing`.
    pub name: &'static str,
    /// The capabilities without which it is skipped.
    pub needs: &'static [Capability],
    /// The capabilities that it puts to the test where the adapter declares them: those it needs, and those that the portable layer makes up for.
    pub exercises: &'static [Capability],
    /// The hooks of the fixture without which it is skipped.
    pub hooks: &'static [Hook],
    /// Whether it is new in this minor release: reported, and not yet held against an adapter.
    pub advisory: bool,
    experiment: Experiment,
}

type Experiment = fn(Lab) -> BoxFuture<'static, Checked>;

impl Check {
    pub(super) const fn new(name: &'static str, experiment: Experiment) -> Self {
        Self { name, needs: &[], exercises: &[], hooks: &[], advisory: false, experiment }
    }

    /// Needs these, and so exercises them.
    pub(super) const fn needs(mut self, needs: &'static [Capability]) -> Self {
        self.needs = needs;
        self.exercises = needs;
        self
    }

    /// Exercises these, whether it needs them or not.
    pub(super) const fn exercises(mut self, exercises: &'static [Capability]) -> Self {
        self.exercises = exercises;
        self
    }

    pub(super) const fn hooks(mut self, hooks: &'static [Hook]) -> Self {
        self.hooks = hooks;
        self
    }

    /// Whether it disturbs whatever else uses the broker, so that it has to run alone.
    #[must_use]
    pub fn disturbs(&self) -> bool {
        self.hooks.iter().any(|hook| matches!(hook, Hook::Restart | Hook::Cut | Hook::Stall))
    }

    /// Why it would be skipped with an adapter of those capabilities, before anything runs.
    #[must_use]
    pub fn obstacle(
        &self,
        capabilities: &crate::adapter::Capabilities,
        fixture: &dyn Fixture,
    ) -> Option<String> {
        if let Some(missing) = self.needs.iter().find(|need| !capabilities.has(**need)) {
            return Some(format!("the adapter does not declare `{missing}`"));
        }
        let missing = self.hooks.iter().find(|hook| !fixture.hooks().contains(hook))?;
        Some(format!("the fixture has no hook `{missing}`"))
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The promise was kept.
    Passed,
    /// It was not tried, for that reason.
    Skipped(String),
    /// The promise was broken: what was seen.
    Failed(String),
}

/// All checks, by topic, in the order of documents.
#[must_use]
pub fn checks() -> &'static [Check] {
    static ALL: LazyLock<Vec<Check>> = LazyLock::new(|| {
        [
            fidelity::CHECKS,
            point_to_point::CHECKS,
            publish_subscribe::CHECKS,
            order::CHECKS,
            settlement::CHECKS,
            foreign::CHECKS,
            limits::CHECKS,
            lifecycle::CHECKS,
            scopes::CHECKS,
            failure::CHECKS,
            request_reply::CHECKS,
            capabilities::CHECKS,
            secrets::CHECKS,
        ]
        .concat()
    });
    &ALL
}

/// Runs one check on channels of its own. Needs a Tokio runtime with time; several checks may run at once.
///
/// It always ends: each wait is bounded by [`super::Timing::patience`], and the whole by eight of them.
pub async fn run(check: &Check, fixture: Arc<dyn Fixture>) -> Verdict {
    let lab = match Lab::new(Arc::clone(&fixture)).await {
        Ok(lab) => lab,
        Err(Stop::Failed(report)) => return Verdict::Failed(report),
        Err(Stop::Skipped(reason)) => return Verdict::Skipped(reason),
    };
    if let Some(reason) = check.obstacle(lab.capabilities(), &*fixture) {
        return Verdict::Skipped(reason);
    }
    let limit = fixture.timing().patience * 8;
    let ended = lab.within_time(limit, "the check to end", (check.experiment)(lab.clone())).await;
    fixture.tidy(&lab.names()).await;
    match ended.and_then(|ended| ended) {
        Ok(()) => Verdict::Passed,
        Err(Stop::Skipped(reason)) => Verdict::Skipped(reason),
        Err(Stop::Failed(report)) => Verdict::Failed(report),
    }
}

/// The capabilities that an adapter declares and that no check has put to the test and passed.
///
/// Meant for the end of a whole run: what is left over was declared and never shown, which is as bad as a failed check.
#[must_use]
pub fn unexercised<'a>(
    declared: &crate::adapter::Capabilities,
    verdicts: impl IntoIterator<Item = (&'a Check, &'a Verdict)>,
) -> Vec<Capability> {
    let passed = verdicts.into_iter().filter(|(_, verdict)| **verdict == Verdict::Passed);
    let shown: Vec<Capability> = passed.flat_map(|(check, _)| check.exercises).copied().collect();
    Capability::ALL
        .into_iter()
        .filter(|capability| declared.has(*capability) && !shown.contains(capability))
        .collect()
}

/// How an experiment ends early.
#[derive(Debug)]
pub(super) enum Stop {
    Failed(String),
    Skipped(String),
}

pub(super) type Checked<T = ()> = Result<T, Stop>;

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(format!("unexpected error: {error:?}"))
    }
}

impl From<tokio::task::JoinError> for Stop {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Failed(format!("a task of the check broke: {error}"))
    }
}

impl From<String> for Stop {
    fn from(report: String) -> Self {
        Self::Failed(report)
    }
}

/// Makes a [`Check`] of an async function over a lab.
macro_rules! check {
    ($name:literal, $experiment:path) => {
        $crate::conformance::check::Check::new($name, |lab| Box::pin($experiment(lab)))
    };
}

/// Fails the check with that report unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($report:tt)+) => {
        if !$condition {
            return Err($crate::conformance::check::Stop::Failed(format!($($report)+)));
        }
    };
}

pub(super) use {check, ensure};
