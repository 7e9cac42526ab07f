use crate::Sample;
use std::fmt;

/// One of several ways of doing the same work.
pub struct Case<'a> {
    name: &'static str,
    run: Box<dyn FnMut() -> Sample + 'a>,
}

impl<'a> Case<'a> {
    /// The way of that name; `run` does the work once.
    pub fn new(name: &'static str, run: impl FnMut() -> Sample + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }

    /// What it was named.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl fmt::Debug for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The cases of one comparison with their medians, in the order in which they were given. Displays as rows of a Markdown table.
#[derive(Debug)]
pub struct Ranking {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    rate: f64,
    cpu: f64,
}

impl Ranking {
    /// Runs the cases in turns (A B C, A B C, ...), so that the machine's moods hit all of them alike, after one turn that is not counted.
    #[must_use]
    pub fn measure(mut cases: Vec<Case<'_>>, rounds: usize) -> Self {
        let mut samples = vec![Vec::with_capacity(rounds); cases.len()];
        for round in 0..=rounds {
            for (case, samples) in cases.iter_mut().zip(&mut samples) {
                let sample = (case.run)();
                if round > 0 {
                    samples.push(sample);
                }
            }
        }
        let rows = cases.iter().zip(&samples).map(|(case, samples)| Row {
            name: case.name,
            rate: median(samples, Sample::rate),
            cpu: median(samples, Sample::cpu_per_message),
        });
        Self { rows: rows.collect() }
    }
}

impl fmt::Display for Ranking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(base) = self.rows.first() else {
            return Ok(());
        };
        for row in &self.rows {
            let (speed, cpu) = (row.rate / base.rate, row.cpu / base.cpu);
            writeln!(f, "| {} | {speed:.2} | {cpu:.2} | {:.1} | {:.0} |", row.name, row.rate / 1e3, row.cpu)?;
        }
        Ok(())
    }
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::time::Duration;

    fn sample(micros: u64) -> Sample {
        let time = Duration::from_micros(micros);
        Sample { elapsed: time, cpu: time, messages: 1000 }
    }

    #[test]
    fn cases_take_turns_and_the_first_turn_is_not_counted() {
        let turns = RefCell::new(String::new());
        let case = |name: &'static str, slow: u64| {
            let turns = &turns;
            let mut runs = 0;
            Case::new(name, move || {
                turns.borrow_mut().push_str(name);
                runs += 1;
                sample(if runs == 1 { 1_000_000 } else { slow })
            })
        };
        let ranking = Ranking::measure(vec![case("a", 1000), case("b", 4000)], 3);
        assert_eq!(*turns.borrow(), "abababab");
        let rates: Vec<f64> = ranking.rows.iter().map(|row| row.rate).collect();
        assert_eq!(rates, [1e6, 0.25e6]);
        assert!(ranking.to_string().lines().nth(1).is_some_and(|row| row.contains("| 0.25 | 4.00 |")));
    }

    #[test]
    fn one_slow_run_does_not_move_the_median() {
        assert_eq!(median(&[sample(1000), sample(900_000), sample(1000)], Sample::rate), 1e6);
    }
}
