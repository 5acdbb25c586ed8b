//! The pods of this node: one entry each, from the first time that a source names it until nothing
//! is left of it.
//!
//! Invariants: an entry's stage never goes back; its specification is the newest that its source
//! gave; a worker runs for each entry and for no other; the entry is gone only after its worker gave
//! back all that the node held.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::{Notify, watch};

use super::next::{Evict, Stage};
use super::seen::Seen;
use super::spec;

/// Where pods come from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Source {
    Api,
    File,
    Http,
}

impl Source {
    /// As the annotation has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::File => "file",
            Self::Http => "http",
        }
    }
}

/// A pod of this node.
pub(crate) struct Entry {
    pub(crate) pod: Arc<Pod>,
    pub(crate) source: Source,
    /// Grows with each entry: who came first.
    pub(crate) number: u64,
    pub(crate) stage: Stage,
    /// The node took it.
    pub(crate) admitted: bool,
    /// Its source does not name it any more.
    pub(crate) gone: bool,
    /// Named again while the last run is not over yet.
    pub(crate) again: Option<Arc<Pod>>,
    pub(crate) evict: Option<Evict>,
    /// Seconds that its containers get to end; zero until somebody said so. It only gets shorter.
    pub(crate) grace: i64,
    /// As last generated.
    pub(crate) status: Option<PodStatus>,
    pub(crate) seen: Arc<Seen>,
    /// The object as the last write of its status returned it: newer than the cache, maybe.
    pub(crate) written: Option<Arc<Pod>>,
    /// Objects that its files are made of may have changed.
    pub(crate) refresh: Arc<AtomicBool>,
    /// Wakes the worker.
    pub(crate) wake: Arc<Notify>,
    /// Tells who waits for the end.
    pub(crate) ended: watch::Sender<bool>,
}

/// What a worker has to know of its pod.
pub(crate) struct View {
    pub(crate) pod: Arc<Pod>,
    pub(crate) stage: Stage,
    pub(crate) gone: bool,
    pub(crate) evict: Option<Evict>,
    pub(crate) grace: i64,
    pub(crate) old: PodStatus,
}

/// All entries, by uid.
#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) entries: BTreeMap<String, Entry>,
    /// Objects that mirror static pods, by full name.
    pub(crate) mirrors: BTreeMap<String, Arc<Pod>>,
    numbers: u64,
}

/// What became of an offered pod.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Offered {
    /// It is new: it wants a worker.
    New,
    Known,
}

impl Entry {
    /// Whether it takes resources of the node.
    pub(crate) fn is_active(&self) -> bool {
        let told = self.status.as_ref().and_then(|s| s.phase.as_deref());
        let phase = told.unwrap_or_else(|| spec::phase(&self.pod));
        self.stage < Stage::Terminated
            && !(spec::is_terminal(phase) && self.stage == Stage::Running)
    }

    /// Starts the end, if it has not started yet.
    pub(crate) fn terminate(&mut self) {
        self.stage = self.stage.max(Stage::Terminating);
        self.shorten(None);
    }

    /// The grace is the pod's own, unless somebody wants less; less than a second is none.
    pub(crate) fn shorten(&mut self, to: Option<i64>) {
        let before = self.grace;
        let deletion = self.pod.metadata.deletion_grace_period_seconds;
        let mut told = false;
        for less in [deletion, to].into_iter().flatten() {
            if self.grace == 0 || less < self.grace {
                self.grace = less.max(1);
                told = true;
            }
        }
        let own = spec::of(&self.pod).termination_grace_period_seconds;
        if !told && self.grace == 0 {
            self.grace = own.unwrap_or_default();
        }
        self.grace = self.grace.max(1);
        if self.grace != before {
            self.wake.notify_one();
        }
    }

    /// The pod with its status as last generated.
    pub(crate) fn current(&self) -> Arc<Pod> {
        match &self.status {
            Some(status) => Arc::new(Pod {
                status: Some(status.clone()),
                ..Pod::clone(&self.pod)
            }),
            None => self.pod.clone(),
        }
    }
}

impl Registry {
    /// A source names a pod, for the first time or with changes.
    pub(crate) fn offer(&mut self, source: Source, pod: Arc<Pod>) -> Offered {
        let uid = spec::uid(&pod).to_owned();
        if let Some(entry) = self.entries.get_mut(&uid) {
            if entry.gone {
                entry.again = Some(pod);
                return Offered::Known;
            }
            entry.pod = pod;
            if spec::is_being_deleted(&entry.pod) || spec::is_terminal(spec::phase(&entry.pod)) {
                entry.terminate();
            }
            entry.wake.notify_one();
            return Offered::Known;
        }
        self.numbers += 1;
        let mut entry = Entry {
            pod,
            source,
            number: self.numbers,
            stage: Stage::Running,
            admitted: false,
            gone: false,
            again: None,
            evict: None,
            grace: 0,
            status: None,
            seen: Arc::default(),
            written: None,
            refresh: Arc::default(),
            wake: Arc::default(),
            ended: watch::Sender::new(false),
        };
        if spec::is_being_deleted(&entry.pod) || spec::is_terminal(spec::phase(&entry.pod)) {
            entry.terminate();
        }
        self.entries.insert(uid, entry);
        Offered::New
    }

    /// A source does not name the pod any more.
    pub(crate) fn withdraw(&mut self, uid: &str) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.gone = true;
            entry.again = None;
            entry.terminate();
            entry.wake.notify_one();
        }
    }

    pub(crate) fn view(&self, uid: &str) -> Option<View> {
        let entry = self.entries.get(uid)?;
        let mirror = spec::is_static(&entry.pod)
            .then(|| self.mirrors.get(&spec::full_name(&entry.pod)))
            .flatten();
        let told = mirror.unwrap_or(&entry.pod).status.clone();
        Some(View {
            pod: entry.pod.clone(),
            stage: entry.stage,
            gone: entry.gone,
            evict: entry.evict.clone(),
            grace: entry.grace,
            old: entry.status.clone().or(told).unwrap_or_default(),
        })
    }

    /// Pods that were taken before and take resources, but for this one.
    pub(crate) fn admitted_but(&self, uid: &str) -> Vec<Arc<Pod>> {
        let others = self.entries.iter();
        let others = others.filter(|(id, e)| *id != uid && e.admitted && e.is_active());
        others.map(|(_, entry)| entry.pod.clone()).collect()
    }

    /// Whether a static pod has to wait for an older one of its name.
    pub(crate) fn is_blocked(&self, uid: &str) -> bool {
        let Some(entry) = self.entries.get(uid).filter(|e| spec::is_static(&e.pod)) else {
            return false;
        };
        let name = spec::full_name(&entry.pod);
        self.entries.values().any(|other| {
            other.number < entry.number
                && spec::is_static(&other.pod)
                && spec::full_name(&other.pod) == name
        })
    }

    /// Wakes the workers of pods with this full name.
    pub(crate) fn wake_name(&self, name: &str) {
        for entry in self.entries.values() {
            if spec::full_name(&entry.pod) == name {
                entry.wake.notify_one();
            }
        }
    }

    /// The static pod that an object mirrors.
    pub(crate) fn mirrored(&self, mirror: &Pod) -> Option<&Entry> {
        let name = spec::full_name(mirror);
        let mut entries = self.entries.values();
        entries.find(|e| spec::is_static(&e.pod) && !e.gone && spec::full_name(&e.pod) == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(json: serde_json::Value) -> Arc<Pod> {
        Arc::new(proto::typed::from_json_value(json).unwrap())
    }

    fn plain(uid: &str) -> serde_json::Value {
        serde_json::json!({
            "metadata": { "name": "a", "namespace": "n", "uid": uid },
            "spec": { "containers": [], "terminationGracePeriodSeconds": 30 },
        })
    }

    #[test]
    fn a_deletion_starts_the_end_and_its_grace_only_gets_shorter() {
        let mut registry = Registry::default();
        assert_eq!(registry.offer(Source::Api, pod(plain("u"))), Offered::New);
        let mut deleted = plain("u");
        deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        for (seconds, grace) in [(20, 20), (25, 20), (5, 5), (0, 1)] {
            deleted["metadata"]["deletionGracePeriodSeconds"] = seconds.into();
            assert_eq!(
                registry.offer(Source::Api, pod(deleted.clone())),
                Offered::Known
            );
            let view = registry.view("u").unwrap();
            assert_eq!((view.stage, view.grace), (Stage::Terminating, grace));
        }
    }

    #[test]
    fn a_pod_that_is_withdrawn_gets_its_own_grace() {
        let mut registry = Registry::default();
        registry.offer(Source::Api, pod(plain("u")));
        registry.withdraw("u");
        let view = registry.view("u").unwrap();
        assert_eq!(
            (view.stage, view.grace, view.gone),
            (Stage::Terminating, 30, true)
        );
    }

    #[test]
    fn a_pod_named_again_while_it_ends_is_kept_for_later() {
        let mut registry = Registry::default();
        registry.offer(Source::File, pod(plain("u")));
        registry.withdraw("u");
        assert_eq!(
            registry.offer(Source::File, pod(plain("u"))),
            Offered::Known
        );
        let entry = &registry.entries["u"];
        assert!(entry.gone && entry.again.is_some());
    }

    #[test]
    fn a_static_pod_waits_for_the_older_one_of_its_name() {
        let mut registry = Registry::default();
        for uid in ["old", "new"] {
            let mut json = plain(uid);
            json["metadata"]["annotations"] = serde_json::json!({ spec::CONFIG_SOURCE: "file" });
            registry.offer(Source::File, pod(json));
        }
        assert!(registry.is_blocked("new") && !registry.is_blocked("old"));
        registry.entries.remove("old");
        assert!(!registry.is_blocked("new"));
    }
}
