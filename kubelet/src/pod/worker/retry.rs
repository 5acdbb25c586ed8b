//! When what failed is tried again: each container for itself, and the pod as a whole (its sandbox,
//! its volumes). Pure.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::pod::next::Sync;
use crate::pod::spec::{self, Kind};

/// Waits between tries.
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(10);

/// What a failure is of, if it is not a container's.
pub(super) const POD: &str = "";

#[derive(Default)]
pub(super) struct Retries {
    /// By container, or [`POD`].
    waits: BTreeMap<String, (Duration, SystemTime)>,
    /// Of which version of the pod the failures are.
    generation: Option<i64>,
}

impl Retries {
    pub(super) fn clear(&mut self) {
        self.waits.clear();
    }

    /// Whether the pod has changed since the failures.
    pub(super) fn is_other(&mut self, pod: &Pod) -> bool {
        let generation = pod.metadata.generation;
        std::mem::replace(&mut self.generation, generation) != generation
    }

    pub(super) fn succeeded(&mut self, of: &str) {
        self.waits.remove(of);
    }

    /// Tries again later, and later each time.
    pub(super) fn failed(&mut self, of: &str, now: SystemTime) {
        let last = self.waits.get(of).map(|(delay, _)| *delay * 2);
        let delay = last.unwrap_or(FIRST).min(MOST);
        self.waits.insert(of.to_owned(), (delay, now + delay));
    }

    /// Tries again at a time that is known.
    pub(super) fn failed_until(&mut self, of: &str, until: SystemTime) {
        self.waits.insert(of.to_owned(), (FIRST, until));
    }

    /// Takes out what has to wait. Says until when the first does.
    pub(super) fn hold_back(
        &self,
        spec: &PodSpec,
        mut sync: Sync,
        now: SystemTime,
    ) -> (Sync, Option<SystemTime>) {
        let waits = |of: &str| self.waits.get(of).map(|(_, at)| *at).filter(|at| *at > now);
        if let Some(until) = waits(POD) {
            return (Sync::default(), Some(until));
        }
        let mut first = None;
        let mut initializing = true;
        let sidecar = |name: &str| {
            let mut init = spec::init_containers(spec).iter();
            init.any(|c| c.name == name && spec::is_sidecar(c))
        };
        sync.start.retain(|(kind, name)| {
            if !initializing && *kind != Kind::Ephemeral {
                return false;
            }
            let Some(until) = waits(name) else {
                return true;
            };
            first = first.into_iter().chain([until]).min();
            if *kind == Kind::Init && !sidecar(name) {
                initializing = false;
            }
            false
        });
        if sync.start.is_empty() && first.is_some() {
            sync.sandbox = None;
        }
        (sync, first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(names: &[&str]) -> Sync {
        let start = names.iter().map(|name| (Kind::Main, (*name).to_owned()));
        Sync {
            start: start.collect(),
            ..Sync::default()
        }
    }

    #[test]
    fn a_container_that_fails_does_not_hold_the_others_up() {
        let (mut retries, spec) = (Retries::default(), PodSpec::default());
        let now = SystemTime::UNIX_EPOCH;
        retries.failed("a", now);
        let (sync, until) = retries.hold_back(&spec, start(&["a", "b"]), now);
        assert_eq!((sync, until), (start(&["b"]), Some(now + FIRST)));
        let (sync, until) = retries.hold_back(&spec, start(&["a", "b"]), now + FIRST);
        assert_eq!((sync, until), (start(&["a", "b"]), None));
    }

    #[test]
    fn waits_double_up_to_ten_seconds() {
        let mut retries = Retries::default();
        let now = SystemTime::UNIX_EPOCH;
        for seconds in [1, 2, 4, 8, 10, 10] {
            retries.failed(POD, now);
            let (_, until) = retries.hold_back(&PodSpec::default(), start(&["a"]), now);
            assert_eq!(until, Some(now + Duration::from_secs(seconds)));
        }
    }
}
