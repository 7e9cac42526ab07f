use crate::OPERATIONS;
use crate::random::Random;
use anybroker_offsets::{OutOfPlace, Tracker};
use std::collections::BTreeSet;

#[test]
fn a_tracker_does_what_the_model_does() {
    for style in [Style::Dense, Style::Gaps, Style::LargeGaps, Style::Mixed] {
        let mut random = Random::seeded();
        let mut pair = Pair::new(random.start());
        let mut most = 0;
        for operation in 0..OPERATIONS {
            pair.step(style, &mut random);
            most = most.max(pair.model.unsettled.len());
            if operation % 1000 == 0 {
                pair.compare_all();
            }
        }
        pair.compare_all();
        assert!(most > 500, "{style:?} never had more than {most} unsettled");
    }
}

/// How far the next delivery is from the last.
#[derive(Clone, Copy, Debug)]
enum Style {
    Dense,
    Gaps,
    LargeGaps,
    Mixed,
}

/// Keeps each offset by itself.
struct Model {
    unsettled: BTreeSet<i64>,
    /// The newest of them.
    delivered: BTreeSet<i64>,
    end: i64,
}

impl Model {
    fn position(&self) -> i64 {
        self.unsettled.first().copied().unwrap_or(self.end)
    }

    fn settle(&mut self, offset: i64) -> Result<(), OutOfPlace> {
        if self.unsettled.remove(&offset) {
            Ok(())
        } else if offset < self.end {
            Err(OutOfPlace::Passed)
        } else {
            Err(OutOfPlace::Ahead)
        }
    }
}

struct Pair {
    tracker: Tracker,
    model: Model,
    /// Of 16 steps that deliver or settle, so many deliver. It changes, so that both full and empty trackers are met.
    inflow: u64,
}

impl Pair {
    fn new(start: i64) -> Self {
        let model = Model { unsettled: BTreeSet::new(), delivered: BTreeSet::new(), end: start };
        Self { tracker: Tracker::new(start), model, inflow: 8 }
    }

    fn step(&mut self, style: Style, random: &mut Random) {
        let before = self.tracker.position();
        match random.below(1000) {
            0..930 => match random.pick(&self.model.unsettled) {
                Some(offset) if self.model.unsettled.len() > 2000 || random.below(16) >= self.inflow => {
                    self.settle(offset);
                }
                _ => self.deliver(style, random),
            },
            930..960 => self.stray(random),
            960..970 => {
                // As often behind what was read as before it.
                let offset = self.model.end.saturating_add(random.near(100));
                self.tracker.advance_to(offset);
                self.model.end = self.model.end.max(offset);
            }
            970..972 => self.run(random),
            980..985 => self.inflow = random.below(16),
            985 if random.below(4) == 0 => {
                *self = Self::new(random.start());
                return;
            }
            _ => {
                let offset = self.model.position().saturating_add(random.near(200));
                assert_eq!(self.tracker.is_unsettled(offset), self.model.unsettled.contains(&offset));
            }
        }
        assert!(self.tracker.position() >= before, "the position goes back");
        self.compare();
    }

    fn deliver(&mut self, style: Style, random: &mut Random) {
        let gap = match style {
            Style::Dense => 0,
            Style::Gaps => random.below(4),
            Style::LargeGaps => random.below(5_000_000_000),
            Style::Mixed => match random.below(100) {
                0 => random.below(5_000_000_000),
                1..5 => random.below(1000),
                5..20 => 1,
                _ => 0,
            },
        };
        let offset = self.model.end + i64::try_from(gap).unwrap();
        assert_eq!(self.tracker.deliver(offset), Ok(()));
        self.model.delivered.insert(offset);
        self.model.unsettled.insert(offset);
        self.model.end = offset + 1;
        if self.model.delivered.len() > 5000 {
            self.model.delivered.pop_first();
        }
    }

    fn settle(&mut self, offset: i64) {
        assert_eq!(self.tracker.settle(offset), self.model.settle(offset), "{offset}");
    }

    /// Offsets with which nothing can be done, mostly: settled, in gaps, below the position, ahead; delivered again.
    fn stray(&mut self, random: &mut Random) {
        let known = random.pick(&self.model.delivered).unwrap_or(self.model.end);
        for offset in
            [known, known.saturating_add(random.near(70)), self.model.position() - 1, self.model.end]
        {
            self.settle(offset);
            self.settle(offset);
            if offset < self.model.end {
                assert_eq!(self.tracker.deliver(offset), Err(OutOfPlace::Passed), "{offset}");
            }
        }
    }

    /// Settles many in a row, up or down, so that whole stretches go from the ends and from between.
    fn run(&mut self, random: &mut Random) {
        let Some(from) = random.pick(&self.model.unsettled) else { return };
        let count = usize::try_from(random.below(400)).unwrap();
        let offsets: Vec<i64> = match random.below(2) {
            0 => self.model.unsettled.range(from..).take(count).copied().collect(),
            _ => self.model.unsettled.range(..=from).rev().take(count).copied().collect(),
        };
        for offset in offsets {
            self.settle(offset);
            self.compare();
        }
    }

    fn compare(&self) {
        let (tracker, model) = (&self.tracker, &self.model);
        assert_eq!(tracker.position(), model.position());
        assert_eq!(tracker.span(), model.end.abs_diff(model.position()));
        assert_eq!(tracker.unsettled(), model.unsettled.len());
    }

    fn compare_all(&self) {
        for offset in &self.model.delivered {
            assert_eq!(self.tracker.is_unsettled(*offset), self.model.unsettled.contains(offset));
        }
    }
}
