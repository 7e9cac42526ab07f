use cpu_time::ProcessTime;
use std::time::{Duration, Instant};

/// Measures a stretch of the program: time that passed, and processor time of all threads.
#[derive(Debug)]
pub struct Stopwatch {
    started: Instant,
    cpu: ProcessTime,
}

impl Stopwatch {
    /// Starts measuring.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures the machine's own time")]
    pub fn start() -> Self {
        Self { started: Instant::now(), cpu: ProcessTime::now() }
    }

    /// Ends measuring a stretch that moved this many messages.
    #[must_use]
    pub fn stop(self, messages: usize) -> Sample {
        Sample { elapsed: self.started.elapsed(), cpu: self.cpu.elapsed(), messages }
    }
}

/// What one run measured.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Sample {
    /// Time that passed.
    pub elapsed: Duration,
    /// Processor time of all threads, in user and kernel mode.
    pub cpu: Duration,
    /// Messages handed to a consumer.
    pub messages: usize,
}

impl Sample {
    /// What a program of another language has measured of itself.
    #[must_use]
    pub const fn new(elapsed: Duration, cpu: Duration, messages: usize) -> Self {
        Self { elapsed, cpu, messages }
    }

    /// Messages per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64()
    }

    /// Nanoseconds of processor time per message.
    #[must_use]
    pub fn cpu_per_message(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e9 / self.messages as f64
    }
}
