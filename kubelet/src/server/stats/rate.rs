//! CPU rates: counters grow, rates need two of them.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::runtime::stats::CgroupStats;

/// A rate is over at least so long, if there is a sample that old: cAdvisor's housekeeping interval.
const INTERVAL: Duration = Duration::from_secs(10);
/// Rates over less say nothing.
const SHORTEST: Duration = Duration::from_millis(500);
/// Who was not asked about for so long is forgotten; upstream's figure.
const FORGET: Duration = Duration::from_secs(600);

/// The last samples of cgroups, by id.
#[derive(Default)]
pub(super) struct Rates {
    samples: Mutex<HashMap<String, Sample>>,
}

#[derive(Clone, Copy)]
struct Sample {
    at: SystemTime,
    usage: u64,
    /// Between the sample before and this one.
    rate: Option<u64>,
}

impl Rates {
    /// Nanoseconds of CPU per second; none on the first look.
    pub(super) fn of(&self, id: &str, stats: &CgroupStats) -> Option<u64> {
        let mut samples = self.samples.lock();
        let now = stats.at;
        let usage = stats.cpu.usage_core_nanos;
        let fresh = |rate| Sample {
            at: now,
            usage,
            rate,
        };
        let Some(last) = samples.get(id).copied() else {
            samples.retain(|_, s| now.duration_since(s.at).is_ok_and(|age| age < FORGET));
            samples.insert(id.to_owned(), fresh(None));
            return None;
        };
        let age = now.duration_since(last.at).unwrap_or_default();
        // A counter that fell is another cgroup's; a clock that went back tells nothing.
        let grown = usage.checked_sub(last.usage);
        let rate = grown
            .filter(|_| age >= SHORTEST)
            .and_then(|grown| per_second(grown, age));
        if age >= INTERVAL || grown.is_none() || now < last.at {
            samples.insert(id.to_owned(), fresh(rate));
            return rate;
        }
        last.rate.or(rate)
    }
}

fn per_second(nanos: u64, over: Duration) -> Option<u64> {
    let rate = u128::from(nanos) * 1_000_000_000 / over.as_nanos().max(1);
    u64::try_from(rate).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(second: f64, usage: u64) -> CgroupStats {
        CgroupStats {
            at: SystemTime::UNIX_EPOCH + Duration::from_secs_f64(1000.0 + second),
            cpu: crate::runtime::stats::CpuUsage {
                usage_core_nanos: usage,
                ..Default::default()
            },
            memory: Default::default(),
            pids: 0,
            cpu_pressure: None,
            memory_pressure: None,
            io_pressure: None,
        }
    }

    #[test]
    fn rates_are_over_ten_seconds_and_provisional_at_first() {
        let rates = Rates::default();
        let second = 1_000_000_000;
        let at = |time, usage| rates.of("a", &stats(time, usage));
        assert_eq!(at(0.0, 0), None);
        assert_eq!(at(0.1, second), None);
        assert_eq!(at(2.0, second), Some(second / 2));
        assert_eq!(at(10.0, 2 * second), Some(second / 5));
        assert_eq!(at(11.0, 9 * second), Some(second / 5), "kept");
        assert_eq!(at(20.0, 2 * second), Some(0));
        assert_eq!(at(30.0, second), None, "another's counter");
        assert_eq!(rates.of("b", &stats(0.0, 5)), None);
    }
}
