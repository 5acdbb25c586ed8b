//! How many nodes of each failure zone are well, and how fast nodes are tainted there.
//!
//! When many nodes are silent at once it is more likely that the control plane is cut off than that
//! they all died; then pods are evicted slowly, or not at all.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

/// What decides about states and rates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    /// Nodes tainted in a second, in a healthy zone.
    pub rate: f32,
    /// The same in a large zone of which a part is not well.
    pub secondary_rate: f32,
    /// Nodes that make a zone large.
    pub large: usize,
    /// The part of the nodes that must be unwell to make it a disruption.
    pub unhealthy: f32,
    /// How long a node waits before it is tainted, so that others that failed with it are counted.
    pub settle: Duration,
}

/// How a zone is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Normal,
    Partial,
    /// No node is well.
    Full,
}

/// What a change of the zones' states asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// All nodes of the cluster are silent: take the taints from all of them.
    Spare,
    /// Some are heard again: give all of them time.
    Resume,
}

#[derive(Debug)]
struct Zone {
    nodes: usize,
    ready: usize,
    state: State,
    rate: f32,
    /// When the next node may be tainted.
    next: Instant,
    /// Nodes to be tainted, by the time at which they were queued.
    queue: BTreeMap<(Instant, u64), String>,
}

/// All zones.
#[derive(Debug)]
pub(super) struct Zones {
    policy: Policy,
    zones: BTreeMap<String, Zone>,
    /// Each counted node's zone and whether it is well.
    nodes: HashMap<String, (String, bool)>,
    queued: HashMap<String, (String, (Instant, u64))>,
    numbers: u64,
    /// No zone has a node that is well.
    dark: bool,
}

impl Zones {
    #[must_use]
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            zones: BTreeMap::new(),
            nodes: HashMap::new(),
            queued: HashMap::new(),
            numbers: 0,
            dark: false,
        }
    }

    /// Counts a node.
    pub(super) fn set(
        &mut self,
        node: &str,
        zone: &str,
        ready: bool,
        now: Instant,
    ) -> Option<Effect> {
        self.uncount(node);
        let entry = self.zones.entry(zone.to_owned()).or_insert(Zone {
            nodes: 0,
            ready: 0,
            state: State::Normal,
            rate: self.policy.rate,
            next: now,
            queue: BTreeMap::new(),
        });
        entry.nodes += 1;
        entry.ready += usize::from(ready);
        self.nodes.insert(node.to_owned(), (zone.to_owned(), ready));
        self.judge()
    }

    /// The node is gone, or does not count.
    pub(super) fn remove(&mut self, node: &str) -> Option<Effect> {
        self.uncount(node);
        self.judge()
    }

    fn uncount(&mut self, node: &str) {
        if let Some((zone, ready)) = self.nodes.remove(node)
            && let Some(zone) = self.zones.get_mut(&zone)
        {
            zone.nodes -= 1;
            zone.ready -= usize::from(ready);
        }
    }

    /// Sets states and rates anew.
    fn judge(&mut self) -> Option<Effect> {
        let policy = self.policy;
        let counted = || self.zones.values().filter(|z| z.nodes > 0);
        let dark = counted().next().is_some() && counted().all(|z| z.ready == 0);
        let was = std::mem::replace(&mut self.dark, dark);
        for zone in self.zones.values_mut() {
            zone.state = zone.judged(policy);
            zone.rate = match zone.state {
                _ if dark => 0.0,
                State::Normal | State::Full => policy.rate,
                State::Partial if zone.nodes > policy.large => policy.secondary_rate,
                State::Partial => 0.0,
            };
        }
        match (was, dark) {
            (false, true) => Some(Effect::Spare),
            (true, false) => Some(Effect::Resume),
            _ => None,
        }
    }

    /// Queues a node for its taint, unless it is queued.
    pub(super) fn queue(&mut self, node: &str, zone: &str, now: Instant) {
        if self.queued.contains_key(node) {
            return;
        }
        let Some(entry) = self.zones.get_mut(zone) else {
            return;
        };
        self.numbers += 1;
        let at = (now + self.policy.settle, self.numbers);
        entry.queue.insert(at, node.to_owned());
        self.queued.insert(node.to_owned(), (zone.to_owned(), at));
    }

    /// The node needs no taint.
    pub(super) fn unqueue(&mut self, node: &str) {
        if let Some((zone, at)) = self.queued.remove(node)
            && let Some(zone) = self.zones.get_mut(&zone)
        {
            zone.queue.remove(&at);
        }
    }

    /// The next node that may be tainted now; otherwise when to ask again, if nothing changes.
    ///
    /// # Errors
    /// If there is none now.
    pub(super) fn take(&mut self, now: Instant) -> Result<String, Option<Instant>> {
        let mut wait = None::<Instant>;
        let mut found = None;
        for zone in self.zones.values_mut().filter(|z| z.rate > 0.0) {
            let Some((first, _)) = zone.queue.first_key_value() else {
                continue;
            };
            let at = first.0.max(zone.next);
            if at <= now {
                zone.next = now + Duration::from_secs_f32(1.0 / zone.rate);
                found = zone.queue.pop_first();
                break;
            }
            wait = Some(wait.map_or(at, |w| w.min(at)));
        }
        let (_, node) = found.ok_or(wait)?;
        self.queued.remove(&node);
        Ok(node)
    }
}

impl Zone {
    #[allow(clippy::cast_precision_loss, reason = "numbers of nodes")]
    fn judged(&self, policy: Policy) -> State {
        let unwell = self.nodes - self.ready;
        if self.ready == 0 && unwell > 0 {
            State::Full
        } else if unwell > 2 && unwell as f32 / self.nodes as f32 >= policy.unhealthy {
            State::Partial
        } else {
            State::Normal
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones() -> Zones {
        Zones::new(Policy {
            rate: 0.1,
            secondary_rate: 0.01,
            large: 5,
            unhealthy: 0.55,
            settle: Duration::ZERO,
        })
    }

    fn fill(
        zones: &mut Zones,
        zone: &str,
        ready: usize,
        unwell: usize,
        now: Instant,
    ) -> Option<Effect> {
        let mut last = None;
        for i in 0..ready + unwell {
            last = zones
                .set(&format!("{zone}{i}"), zone, i < ready, now)
                .or(last);
        }
        last
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_are_tainted_at_the_zones_rate() {
        let now = Instant::now();
        let mut zones = zones();
        fill(&mut zones, "a", 2, 2, now);
        zones.queue("a2", "a", now);
        zones.queue("a2", "a", now);
        zones.queue("a3", "a", now);
        assert_eq!(zones.take(now), Ok("a2".to_owned()));
        let next = now + Duration::from_secs(10);
        assert_eq!(zones.take(now), Err(Some(next)));
        assert_eq!(zones.take(next), Ok("a3".to_owned()));
        assert_eq!(zones.take(next), Err(None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_partial_disruption_slows_large_zones_and_stops_small_ones() {
        let now = Instant::now();
        for (ready, unwell, expected) in [(1, 3, 0.0), (2, 4, 0.01), (3, 2, 0.1)] {
            let mut zones = zones();
            fill(&mut zones, "a", ready, unwell, now);
            assert!(
                (zones.zones["a"].rate - expected).abs() < 0.001,
                "{ready} {unwell}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn when_no_node_at_all_is_heard_nothing_is_tainted() {
        let now = Instant::now();
        let mut zones = zones();
        assert_eq!(zones.set("a", "z", true, now), None);
        assert_eq!(zones.set("b", "y", false, now), None);
        assert!(zones.zones["y"].rate > 0.0, "one zone alone may go");
        zones.queue("b", "y", now);
        assert_eq!(zones.set("a", "z", false, now), Some(Effect::Spare));
        assert_eq!(zones.take(now), Err(None));
        assert_eq!(zones.set("a", "z", true, now), Some(Effect::Resume));
        assert_eq!(zones.take(now), Ok("b".to_owned()));
        assert_eq!(zones.remove("a"), Some(Effect::Spare));
    }
}
