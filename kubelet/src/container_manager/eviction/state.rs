//! Which thresholds are met, since when, and what follows. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::container_manager::threshold::{Pressure, Signal, Threshold};

/// How much there is of something, in bytes or in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observation {
    pub available: i64,
    pub capacity: i64,
}

pub type Observations = BTreeMap<Signal, Observation>;

/// What is remembered between two measurements.
#[derive(Default)]
pub struct State {
    /// Thresholds that are met, with the time since when.
    since: Vec<(Threshold, Instant)>,
    /// When a condition was last true.
    last: BTreeMap<Pressure, Instant>,
    /// Thresholds that were acted upon and count as met until enough is free.
    acting: Vec<Threshold>,
}

/// What follows from a measurement.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Step {
    pub pressure: BTreeSet<Pressure>,
    /// Thresholds to act upon, the most urgent first.
    pub act: Vec<Threshold>,
}

/// Thresholds that are met; `with_reclaim` asks for what is to be freed beyond them.
#[must_use]
pub fn met(thresholds: &[Threshold], seen: &Observations, with_reclaim: bool) -> Vec<Threshold> {
    let is_met = |threshold: &&Threshold| {
        let Some(now) = seen.get(&threshold.signal) else {
            return false;
        };
        let mut bound = threshold.value.of(now.capacity);
        if let Some(more) = threshold.min_reclaim.filter(|_| with_reclaim) {
            bound = bound.saturating_add(more.of(now.capacity));
        }
        now.available < bound
    };
    thresholds.iter().filter(is_met).copied().collect()
}

impl State {
    /// Takes a measurement into account.
    pub fn step(
        &mut self,
        thresholds: &[Threshold],
        seen: &Observations,
        transition: Duration,
        now: Instant,
    ) -> Step {
        let mut all = met(thresholds, seen, false);
        for threshold in met(&self.acting, seen, true) {
            if !all.contains(&threshold) {
                all.push(threshold);
            }
        }
        let since = |threshold: &Threshold| {
            let known = self.since.iter().find(|(t, _)| t == threshold);
            known.map_or(now, |(_, at)| *at)
        };
        self.since = all.iter().map(|t| (*t, since(t))).collect();
        for threshold in &all {
            self.last.insert(threshold.signal.pressure(), now);
        }
        self.last
            .retain(|_, at| now.duration_since(*at) < transition || *at == now);
        let mut act: Vec<Threshold> = self
            .since
            .iter()
            .filter(|(t, at)| now.duration_since(*at) >= t.grace)
            .map(|(t, _)| *t)
            .collect();
        self.acting.clone_from(&act);
        act.sort_by_key(|t| t.signal.pressure() != Pressure::Memory);
        Step {
            pressure: self.last.keys().copied().collect(),
            act,
        }
    }
}
