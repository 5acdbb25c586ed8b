//! When a refused client should come again: the longer, the more requests a level refuses.
//!
//! Doubled while refusals go on and lowered by a second when they cease, as TCP does. Upstream:
//! `util/flowcontrol/dropped_requests_tracker.go`.

use std::collections::VecDeque;

/// The longest time that is asked for, in seconds.
const MOST: u64 = 32;

/// What was refused lately.
#[derive(Debug)]
pub(super) struct Refusals {
    /// Seconds with what was refused in them.
    past: VecDeque<(u64, u64)>,
    current: (u64, u64),
    retry_after: u64,
    /// When the time was raised last.
    raised: Option<u64>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            past: VecDeque::new(),
            current: (0, 0),
            retry_after: 1,
            raised: None,
        }
    }
}

impl Refusals {
    /// Notes a refusal in a second; says after how many to try again.
    pub(super) fn note(&mut self, second: u64) -> u64 {
        if self.current.0 == second {
            self.current.1 += 1;
            return self.retry_after;
        }
        // Of the second that begins nothing is known yet: the ones before it decide.
        let ended = std::mem::replace(&mut self.current, (second, 1));
        self.past.push_back(ended);
        let keep = (2 * self.retry_after).min(MOST);
        self.past
            .retain(|(then, _)| ended.0.saturating_sub(*then) <= keep);
        self.adjust(second);
        self.retry_after
    }

    fn adjust(&mut self, second: u64) {
        let after = self.retry_after;
        let counts = |then: u64| then < second && second - then <= after;
        let recent = self.past.iter().filter(|(then, _)| counts(*then));
        let refused: u64 = recent.map(|(_, count)| count).sum();
        let may_raise = self
            .raised
            .is_none_or(|raised| second.saturating_sub(raised) >= after);
        if may_raise && refused >= 3 * after {
            self.retry_after = (2 * after).min(MOST);
            self.raised = Some(second);
        } else if refused < after && after > 1 {
            self.retry_after = after - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_doubles_while_requests_are_refused_and_falls_when_they_are_not() {
        let mut refusals = Refusals::default();
        let mut flood = |from: u64, to: u64, each: u64| -> Vec<u64> {
            (from..to)
                .map(|second| (0..each).map(|_| refusals.note(second)).last().unwrap())
                .collect()
        };
        assert_eq!(flood(1, 8, 100), [1, 2, 2, 4, 4, 4, 4]);
        // It never exceeds its bound.
        assert_eq!(flood(8, 200, 100).last(), Some(&32));
        // One every now and then.
        let calm: Vec<u64> = (0..40)
            .map(|i| flood(300 + i * 40, 301 + i * 40, 1)[0])
            .collect();
        assert_eq!(calm[0], 31);
        assert_eq!(calm.last(), Some(&1));
    }

    #[test]
    fn a_few_refusals_raise_nothing() {
        let mut refusals = Refusals::default();
        for second in 0..100 {
            assert_eq!(refusals.note(second), 1);
            assert_eq!(refusals.note(second), 1);
        }
    }
}
