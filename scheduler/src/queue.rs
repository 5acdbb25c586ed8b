//! The pods that wait: active, backing off, and unschedulable until something happens.
//!
//! Source: `pkg/scheduler/backend/queue`. Pure but for the clock, which is an argument. A pod is in one
//! place at a time; while it is tried it is in flight, and what happens meanwhile is kept so that a pod
//! that comes back unschedulable does not miss the event that would have helped it.
//!
//! Invariant: every known pod is in exactly one place, and in the ordered sets of that place only.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::framework::{Change, Event};
use crate::pod::PodInfo;

mod nominated;
mod place;
mod strategy;

pub use nominated::Nominated;
use place::Place;
use strategy::{CREATED, Cause, Strategy, gated, strategy};

/// Pods back off until the next full second, so that those of one second come in order of priority.
const WINDOW: Duration = Duration::from_secs(1);

/// Numbers of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub initial_backoff: Duration,
    /// Zero: no back-off at all.
    pub max_backoff: Duration,
    /// How long a pod waits for an event before it is tried again all the same.
    pub max_unschedulable: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(10),
            max_unschedulable: Duration::from_secs(300),
        }
    }
}

/// Where a pod stands; lower is earlier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SortKey {
    pub rank: i64,
    pub since: Instant,
}

impl SortKey {
    /// In the order of coming.
    #[must_use]
    pub fn first_come(queued: &Queued) -> Self {
        Self {
            rank: 0,
            since: queued.since,
        }
    }
}

/// A pod that waits.
#[derive(Clone, Debug)]
pub struct Queued {
    pub pod: Arc<PodInfo>,
    /// When it came, or came back.
    pub since: Instant,
    /// When it was first tried.
    pub first_try: Option<Instant>,
    pub attempts: u32,
    /// How often plugins rejected it; back-off grows with it.
    pub rejections: u32,
    /// Failures in a row that were not the pod's.
    pub errors: u32,
    pub rejected_by: Vec<&'static str>,
    pub pending: Vec<&'static str>,
    /// The plugin that does not let it be tried.
    pub gated_by: Option<&'static str>,
    backoff_until: Option<Instant>,
    /// When it was last moved without an event.
    flushed: Option<Instant>,
}

impl Queued {
    #[must_use]
    pub fn new(pod: Arc<PodInfo>, now: Instant) -> Self {
        Self {
            pod,
            since: now,
            first_try: None,
            attempts: 0,
            rejections: 0,
            errors: 0,
            rejected_by: Vec::new(),
            pending: Vec::new(),
            gated_by: None,
            backoff_until: None,
            flushed: None,
        }
    }
}

/// What the queue asks the plugins of a pod's profile.
pub trait Plugins {
    /// The plugin that does not let the pod be tried.
    fn gate(&self, pod: &PodInfo) -> Option<&'static str>;
    /// Where it stands.
    fn sort_key(&self, queued: &Queued) -> SortKey;
    /// Whether any plugin is interested in an event.
    fn interested(&self, event: Event) -> bool;
    /// Whether a plugin is interested in an event.
    fn cares(&self, plugin: &str, pod: &PodInfo, event: Event) -> bool;
    /// Whether an event may help against the word of `plugin`.
    fn helps(&self, plugin: &str, pod: &PodInfo, event: Event, change: &Change) -> bool;
}

/// The queue.
pub struct Queue {
    settings: Settings,
    epoch: Instant,
    pods: HashMap<Arc<str>, Entry>,
    active: BTreeMap<(SortKey, u64), Arc<str>>,
    backoff: BTreeMap<(Instant, SortKey, u64), Arc<str>>,
    /// Those that back off from failures that were not theirs.
    error_backoff: BTreeMap<(Instant, SortKey, u64), Arc<str>>,
    /// Pods that are tried or bound, with the first event that came since.
    in_flight: HashMap<Arc<str>, u64>,
    /// Events since the oldest of them was taken.
    events: VecDeque<(Event, Change)>,
    /// The number of the first of `events`.
    first_event: u64,
    nominated: Nominated,
    next_seq: u64,
    /// Why pods are moved now, and how often they were moved since metrics were asked for.
    cause: Cause,
    moves: HashMap<(&'static str, Cause), u64>,
}

struct Entry {
    queued: Queued,
    place: Place,
}

impl Queue {
    #[must_use]
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            epoch: now,
            pods: HashMap::new(),
            active: BTreeMap::new(),
            backoff: BTreeMap::new(),
            error_backoff: BTreeMap::new(),
            in_flight: HashMap::new(),
            events: VecDeque::new(),
            first_event: 0,
            nominated: Nominated::default(),
            next_seq: 0,
            cause: Cause::None,
            moves: HashMap::new(),
        }
    }

    /// Pods that were cleared to come to a node, whether they wait here or are in flight.
    #[must_use]
    pub fn nominated(&self) -> &Nominated {
        &self.nominated
    }

    pub fn nominated_mut(&mut self) -> &mut Nominated {
        &mut self.nominated
    }

    /// Takes a pod in that has no node yet.
    pub fn add(&mut self, pod: Arc<PodInfo>, plugins: &impl Plugins, now: Instant) {
        self.nominated.add(&pod, pod.nominated_node());
        self.remove_entry(&pod.uid.clone());
        self.cause = CREATED;
        self.activate_or_gate(Queued::new(pod, now), plugins);
    }

    /// Takes a pod's new state over.
    pub fn update(
        &mut self,
        old: &Arc<PodInfo>,
        pod: &Arc<PodInfo>,
        plugins: &impl Plugins,
        now: Instant,
    ) {
        let events = crate::framework::pod_changes(old, pod, true);
        let change = || Change::Pod {
            old: Some(Arc::clone(old)),
            new: Some(Arc::clone(pod)),
        };
        if self.in_flight.contains_key(&pod.uid) {
            self.events
                .extend(events.into_iter().map(|e| (e, change())));
            return;
        }
        let Some(mut entry) = self.remove_entry(&pod.uid) else {
            return self.add(Arc::clone(pod), plugins, now);
        };
        self.nominated.update(old, pod);
        entry.queued.pod = Arc::clone(pod);
        self.cause = Cause::None;
        match entry.place {
            Place::Active(_) => self.put_active(entry.queued, plugins),
            Place::Backoff(..) | Place::ErrorBackoff(..) => self.put_backoff(entry.queued, plugins),
            Place::Unschedulable => {
                let best = events
                    .iter()
                    .map(|e| strategy(&entry.queued, *e, &change(), plugins))
                    .max()
                    .unwrap_or(Strategy::Stay);
                if let (Some(event), true) = (events.first(), best != Strategy::Stay) {
                    self.cause = Cause::Happened(*event);
                }
                self.requeue(entry.queued, best, plugins, now);
            }
        }
    }

    /// Has a pod tried again without an event, now or when it comes back from being tried.
    pub fn activate(&mut self, pod: &Arc<PodInfo>, plugins: &impl Plugins) {
        if self.in_flight.contains_key(&pod.uid) {
            let only = Change::Pod {
                old: None,
                new: Some(Arc::clone(pod)),
            };
            self.events.push_back((Event::FORCE_ACTIVATE, only));
            return;
        }
        let waits = |e: &Entry| !matches!(e.place, Place::Active(_));
        if self.pods.get(&pod.uid).is_some_and(waits)
            && let Some(entry) = self.remove_entry(&pod.uid)
        {
            self.cause = Cause::Happened(Event::FORCE_ACTIVATE);
            self.activate_or_gate(entry.queued, plugins);
        }
    }

    /// Forgets a pod: it was deleted, or somebody bound it.
    pub fn delete(&mut self, uid: &str) {
        self.nominated.remove(uid);
        self.remove_entry(uid);
    }

    /// The pod to try next. It is in flight until [`Queue::done`] or [`Queue::come_back`].
    pub fn pop(&mut self, now: Instant) -> Option<Queued> {
        let uid = self
            .active
            .first_key_value()
            .map(|(_, uid)| Arc::clone(uid))
            // Nothing else to do: back-off need not be waited for.
            .or_else(|| {
                let (_, uid) = self.backoff.first_key_value()?;
                let popped = ("active", Cause::Named("PopFromBackoffQ"));
                *self.moves.entry(popped).or_default() += 1;
                Some(Arc::clone(uid))
            })?;
        let mut queued = self.remove_entry(&uid)?.queued;
        queued.attempts += 1;
        queued.first_try.get_or_insert(now);
        queued.backoff_until = None;
        let position = self.first_event + self.events.len() as u64;
        self.in_flight.insert(uid, position);
        Some(queued)
    }

    /// A pod in flight will not come back as unschedulable: it is bound, or gone.
    pub fn done(&mut self, uid: &str) {
        self.in_flight.remove(uid);
        self.trim();
    }

    /// A pod in flight could not be scheduled, and waits again.
    pub fn come_back(&mut self, mut queued: Queued, plugins: &impl Plugins, now: Instant) {
        let uid = Arc::clone(&queued.pod.uid);
        let since = self.in_flight.remove(&uid);
        if self.pods.contains_key(&uid) {
            return self.trim();
        }
        if queued.rejected_by.is_empty() && queued.pending.is_empty() {
            queued.errors += 1;
        } else {
            queued.rejections += 1;
            queued.errors = 0;
        }
        queued.since = now;
        queued.backoff_until = None;
        queued.flushed = None;
        let strategy = self.missed(&queued, since, plugins);
        self.trim();
        self.cause = Cause::Named("ScheduleAttemptFailure");
        self.requeue(queued, strategy, plugins, now);
    }

    /// What the events since a pod was taken mean for it.
    fn missed(&self, queued: &Queued, since: Option<u64>, plugins: &impl Plugins) -> Strategy {
        if queued.rejected_by.is_empty() && queued.pending.is_empty() {
            return Strategy::AfterBackoff;
        }
        let Some(since) = since else {
            return Strategy::AfterBackoff;
        };
        let skip = usize::try_from(since.saturating_sub(self.first_event)).unwrap_or(usize::MAX);
        let all = self.events.iter().skip(skip);
        all.map(|(event, change)| strategy(queued, *event, change, plugins))
            .max()
            .unwrap_or(Strategy::Stay)
    }

    /// Something happened. Pods that it may help are tried again; `only` narrows which are asked.
    pub fn happened(
        &mut self,
        event: Event,
        change: &Change,
        only: impl Fn(&PodInfo) -> bool,
        plugins: &impl Plugins,
        now: Instant,
    ) {
        if !event.is_wildcard() && !plugins.interested(event) {
            return;
        }
        let mut moved = Vec::new();
        for (uid, entry) in &self.pods {
            if matches!(entry.place, Place::Unschedulable) && only(&entry.queued.pod) {
                // What does not interest the plugin that keeps it from being tried cannot help.
                let gate = entry.queued.gated_by.filter(|_| !event.is_wildcard());
                if gate.is_some_and(|gate| !plugins.cares(gate, &entry.queued.pod, event)) {
                    continue;
                }
                let strategy = strategy(&entry.queued, event, change, plugins);
                if strategy != Strategy::Stay {
                    moved.push((Arc::clone(uid), strategy));
                }
            }
        }
        self.cause = Cause::Happened(event);
        for (uid, strategy) in moved {
            if let Some(entry) = self.remove_entry(&uid) {
                self.requeue(entry.queued, strategy, plugins, now);
            }
        }
        if !self.in_flight.is_empty() {
            self.events.push_back((event, change.clone()));
        }
    }

    /// Moves what has backed off for long enough, and what waited for an event for too long.
    pub fn flush(&mut self, plugins: &impl Plugins, now: Instant) {
        let until = self.window(now);
        self.cause = Cause::Named("BackoffComplete");
        while let Some(uid) =
            first_before(&self.backoff, until).or_else(|| first_before(&self.error_backoff, until))
        {
            if let Some(entry) = self.remove_entry(&uid) {
                self.put_active(entry.queued, plugins);
            }
        }
        let longest = self.settings.max_unschedulable;
        let late: Vec<_> = self
            .pods
            .iter()
            .filter(|(_, e)| matches!(e.place, Place::Unschedulable))
            .filter(|(_, e)| {
                now.duration_since(e.queued.flushed.unwrap_or(e.queued.since)) > longest
            })
            .map(|(uid, _)| Arc::clone(uid))
            .collect();
        self.cause = Cause::Happened(Event::UNSCHEDULABLE_TIMEOUT);
        for uid in late {
            if let Some(mut entry) = self.remove_entry(&uid) {
                entry.queued.flushed = Some(now);
                self.requeue(entry.queued, Strategy::AfterBackoff, plugins, now);
            }
        }
    }

    /// When [`Queue::flush`] has something to do next because of back-off.
    #[must_use]
    pub fn next_flush(&self) -> Option<Instant> {
        let first = |set: &BTreeMap<(Instant, SortKey, u64), Arc<str>>| {
            set.first_key_value().map(|((t, ..), _)| *t)
        };
        let next = [first(&self.backoff), first(&self.error_backoff)]
            .into_iter()
            .flatten()
            .min();
        next.map(|at| at + WINDOW)
    }

    /// Pods by place: active, backing off, unschedulable, gated.
    #[must_use]
    pub fn lengths(&self) -> [usize; 4] {
        let waiting = self
            .pods
            .values()
            .filter(|e| matches!(e.place, Place::Unschedulable));
        let gated = waiting
            .clone()
            .filter(|e| e.queued.gated_by.is_some())
            .count();
        let backing_off = self.backoff.len() + self.error_backoff.len();
        [
            self.active.len(),
            backing_off,
            waiting.count() - gated,
            gated,
        ]
    }

    /// How often pods came to a place since this was asked last, by place and event.
    pub fn take_moves(&mut self) -> HashMap<(&'static str, String), u64> {
        let moves = std::mem::take(&mut self.moves).into_iter();
        moves
            .map(|((place, cause), count)| ((place, cause.name()), count))
            .collect()
    }

    /// How many pods wait for what a plugin said, by plugin and profile.
    #[must_use]
    pub fn rejections(&self) -> HashMap<(&'static str, String), i64> {
        let mut counts = HashMap::new();
        for Entry { queued, .. } in self.pods.values() {
            for plugin in &queued.rejected_by {
                let profile = queued.pod.scheduler_name().to_owned();
                *counts.entry((*plugin, profile)).or_default() += 1;
            }
        }
        counts
    }
}

/// Moving between places.
impl Queue {
    fn activate_or_gate(&mut self, mut queued: Queued, plugins: &impl Plugins) {
        if gated(&mut queued, plugins) {
            self.put(queued, Place::Unschedulable);
        } else {
            self.put_active(queued, plugins);
        }
    }

    fn requeue(
        &mut self,
        queued: Queued,
        strategy: Strategy,
        plugins: &impl Plugins,
        now: Instant,
    ) {
        match strategy {
            Strategy::Stay => self.put(queued, Place::Unschedulable),
            Strategy::AfterBackoff if self.backs_off(&queued, now) => {
                let mut queued = queued;
                if gated(&mut queued, plugins) {
                    self.put(queued, Place::Unschedulable);
                } else {
                    self.put_backoff(queued, plugins);
                }
            }
            Strategy::AfterBackoff | Strategy::AtOnce => self.activate_or_gate(queued, plugins),
        }
    }

    fn put_active(&mut self, queued: Queued, plugins: &impl Plugins) {
        let key = (plugins.sort_key(&queued), self.seq());
        self.active.insert(key, Arc::clone(&queued.pod.uid));
        self.put(queued, Place::Active(key));
    }

    fn put_backoff(&mut self, mut queued: Queued, plugins: &impl Plugins) {
        let until = self.backoff_until(&queued);
        queued.backoff_until = Some(until);
        let key = (until, plugins.sort_key(&queued), self.seq());
        let uid = Arc::clone(&queued.pod.uid);
        if queued.rejected_by.is_empty() && queued.pending.is_empty() {
            self.error_backoff.insert(key, uid);
            self.put(queued, Place::ErrorBackoff(key));
        } else {
            self.backoff.insert(key, uid);
            self.put(queued, Place::Backoff(key));
        }
    }

    fn put(&mut self, queued: Queued, place: Place) {
        if self.cause != Cause::None {
            let name = match place {
                Place::Active(_) => "active",
                Place::Backoff(_) | Place::ErrorBackoff(_) => "backoff",
                Place::Unschedulable => "unschedulable",
            };
            *self.moves.entry((name, self.cause)).or_default() += 1;
        }
        self.pods
            .insert(Arc::clone(&queued.pod.uid), Entry { queued, place });
    }

    fn remove_entry(&mut self, uid: &str) -> Option<Entry> {
        let entry = self.pods.remove(uid)?;
        match &entry.place {
            Place::Active(key) => drop(self.active.remove(key)),
            Place::Backoff(key) => drop(self.backoff.remove(key)),
            Place::ErrorBackoff(key) => drop(self.error_backoff.remove(key)),
            Place::Unschedulable => {}
        }
        Some(entry)
    }

    fn seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq
    }

    fn backs_off(&self, queued: &Queued, now: Instant) -> bool {
        self.settings.max_backoff > Duration::ZERO
            && (queued.rejections > 0 || queued.errors > 0)
            && self.backoff_until(queued) >= self.window(now)
    }

    /// Doubles from the first back-off up to the longest.
    fn backoff_until(&self, queued: &Queued) -> Instant {
        if let Some(until) = queued.backoff_until {
            return until;
        }
        let count = if queued.errors > 0 {
            queued.errors
        } else {
            queued.rejections
        };
        let factor = 1_u32
            .checked_shl(count.saturating_sub(1))
            .unwrap_or(u32::MAX);
        let wait = self
            .settings
            .initial_backoff
            .saturating_mul(factor)
            .min(self.settings.max_backoff);
        self.window(queued.since + wait)
    }

    /// The beginning of the window that a time is in.
    fn window(&self, at: Instant) -> Instant {
        let since = at.saturating_duration_since(self.epoch);
        self.epoch + Duration::from_secs(since.as_secs() / WINDOW.as_secs() * WINDOW.as_secs())
    }

    /// Forgets events that no pod in flight can have missed.
    fn trim(&mut self) {
        let oldest = self.in_flight.values().min().copied();
        let end = self.first_event + self.events.len() as u64;
        let keep_from = oldest.unwrap_or(end);
        while self.first_event < keep_from && self.events.pop_front().is_some() {
            self.first_event += 1;
        }
    }
}

fn first_before(
    set: &BTreeMap<(Instant, SortKey, u64), Arc<str>>,
    until: Instant,
) -> Option<Arc<str>> {
    let ((at, ..), uid) = set.first_key_value()?;
    (*at < until).then(|| Arc::clone(uid))
}

#[cfg(test)]
mod tests;
