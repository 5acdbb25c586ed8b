//! What a person sees while the suite runs: counts and time left on one line, each failure on its own.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use super::suite::runs_alone;
use super::verdict::{Outcome, Verdict};

/// How often the line is renewed: on a terminal it is overwritten, in a log it would fill pages.
const ON_TERMINAL: Duration = Duration::from_secs(1);
const IN_LOG: Duration = Duration::from_secs(30);
/// What a test takes at the mean where nothing is known yet, by upstream's own run on two cores (seconds).
const TOGETHER: f64 = 13.4;
const ALONE: f64 = 37.6;

pub(super) struct Screen {
    terminal: bool,
    started: Instant,
    shown: Option<Instant>,
    count: Count,
}

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Count {
    pub(super) passed: usize,
    pub(super) failed: usize,
    /// Tests that are left, by whether they run alone.
    pub(super) together: usize,
    pub(super) alone: usize,
    pub(super) processes: usize,
}

impl Count {
    pub(super) fn expect(&mut self, test: &str) {
        *self.left(test) += 1;
    }

    pub(super) fn add(&mut self, test: &str, outcome: Outcome) {
        let left = self.left(test);
        *left = left.saturating_sub(1);
        match outcome {
            Outcome::Passed => self.passed += 1,
            Outcome::Failed | Outcome::Skipped => self.failed += 1,
        }
    }

    fn left(&mut self, test: &str) -> &mut usize {
        match runs_alone(test) {
            true => &mut self.alone,
            false => &mut self.together,
        }
    }

    /// About how long the rest takes.
    fn remaining(&self) -> Duration {
        let together = self.together as f64 * TOGETHER / self.processes.max(1) as f64;
        Duration::from_secs_f64(together + self.alone as f64 * ALONE)
    }

    fn line(&self, elapsed: Duration) -> String {
        let left = self.together + self.alone;
        format!(
            "{} passed, {} failed, {left} left   {}, about {} to go",
            self.passed,
            self.failed,
            clock(elapsed),
            clock(self.remaining())
        )
    }
}

impl Screen {
    pub(super) fn new(count: Count) -> Self {
        Self {
            terminal: stderr().is_terminal(),
            started: Instant::now(),
            shown: None,
            count,
        }
    }

    pub(super) fn verdict(&mut self, verdict: &Verdict) {
        self.count.add(&verdict.name, verdict.outcome);
        let word = match verdict.outcome {
            Outcome::Passed => return,
            Outcome::Failed => "FAIL",
            Outcome::Skipped => "SKIP",
        };
        let Verdict { name, seconds, .. } = verdict;
        self.say(&format!(
            "{word} {name} ({seconds:.0} s)\n     {:.160}",
            verdict.reason()
        ));
    }

    /// A line that stays.
    pub(super) fn say(&self, text: &str) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(stderr(), "{clear}{text}");
    }

    /// Renews the line of counts when it is time.
    pub(super) fn tick(&mut self, now: Instant) {
        let every = if self.terminal { ON_TERMINAL } else { IN_LOG };
        if self
            .shown
            .is_some_and(|shown| now.duration_since(shown) < every)
        {
            return;
        }
        self.shown = Some(now);
        let line = self.count.line(now.duration_since(self.started));
        let mut out = stderr();
        let _ = match self.terminal {
            true => write!(out, "\r\x1b[K{line}"),
            false => writeln!(out, "{line}"),
        };
        let _ = out.flush();
    }
}

/// 754 seconds as 12:34.
pub(super) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_counts_what_passed_failed_and_is_left() {
        let mut count = Count {
            processes: 10,
            ..Count::default()
        };
        for test in ["a", "b", "c", "d [Serial]"] {
            count.expect(test);
        }
        count.add("a", Outcome::Passed);
        count.add("b", Outcome::Skipped);
        let line = count.line(Duration::from_secs(754));
        assert_eq!(line, "1 passed, 1 failed, 2 left   12:34, about 0:38 to go");
    }
}
