//! What probes found out.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Kind;

/// What is known of a running container.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProbeState {
    /// There is no startup probe, or it succeeded.
    pub started: bool,
    /// It has started, and there is no readiness probe, or it succeeded.
    pub ready: bool,
    /// The container has to be stopped, because of this.
    pub liveness_failed: Option<String>,
    /// The container has to be stopped, because of this.
    pub startup_failed: Option<String>,
}

/// The verdict of a probe that reached its threshold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Success,
    /// With what the probe said.
    Failure(String),
}

pub(super) struct Results {
    changed: Box<dyn Fn(&str) + Send + Sync>,
    containers: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    uid: String,
    state: ProbeState,
    /// Of the readiness probe, whether started or not.
    ready: bool,
    /// Opens liveness and readiness.
    started: watch::Sender<bool>,
    workers: Vec<(Kind, CancellationToken)>,
}

impl Entry {
    fn stop(&self, which: impl Fn(Kind) -> bool) {
        let chosen = self.workers.iter().filter(|(kind, _)| which(*kind));
        chosen.for_each(|(_, stop)| stop.cancel());
    }
}

impl Results {
    pub(super) fn new(changed: Box<dyn Fn(&str) + Send + Sync>) -> Self {
        Self {
            changed,
            containers: Mutex::default(),
        }
    }

    /// Takes a container up, and returns, for each of its probes, what the worker ends by and what
    /// tells that the container has started. Nothing for a container that is known.
    pub(super) fn watch(
        &self,
        uid: &str,
        id: &str,
        (started, ready): (bool, bool),
        kinds: &[Kind],
    ) -> Vec<(Kind, CancellationToken, watch::Receiver<bool>)> {
        let mut containers = self.containers.lock();
        if containers.contains_key(id) {
            return Vec::new();
        }
        let sender = watch::Sender::new(started);
        let workers: Vec<_> = kinds
            .iter()
            .map(|kind| (*kind, CancellationToken::new()))
            .collect();
        let handed = workers.iter();
        let handed = handed.map(|(kind, stop)| (*kind, stop.clone(), sender.subscribe()));
        let handed = handed.collect();
        let state = ProbeState {
            started,
            ready: started && ready,
            ..ProbeState::default()
        };
        let entry = Entry {
            uid: uid.to_owned(),
            state,
            ready,
            started: sender,
            workers,
        };
        containers.insert(id.to_owned(), entry);
        handed
    }

    /// Takes a verdict in; tells the pod's worker if it is news.
    pub(super) fn set(&self, id: &str, kind: Kind, verdict: Verdict) {
        let uid = {
            let mut containers = self.containers.lock();
            let Some(entry) = containers.get_mut(id) else {
                return;
            };
            let before = entry.state.clone();
            match (kind, verdict) {
                (Kind::Readiness, verdict) => entry.ready = verdict == Verdict::Success,
                (Kind::Startup, Verdict::Success) => {
                    entry.state.started = true;
                    entry.started.send_replace(true);
                }
                (Kind::Startup, Verdict::Failure(why)) => entry.state.startup_failed = Some(why),
                (Kind::Liveness, Verdict::Success) => {}
                (Kind::Liveness, Verdict::Failure(why)) => entry.state.liveness_failed = Some(why),
            }
            entry.state.ready = entry.state.started && entry.ready;
            if entry.state == before {
                return;
            }
            entry.uid.clone()
        };
        (self.changed)(&uid);
    }

    pub(super) fn state(&self, id: &str) -> ProbeState {
        let containers = self.containers.lock();
        containers
            .get(id)
            .map(|entry| entry.state.clone())
            .unwrap_or_default()
    }

    pub(super) fn forget(&self, id: &str) {
        if let Some(entry) = self.containers.lock().remove(id) {
            entry.stop(|_| true);
        }
    }

    pub(super) fn forget_pod(&self, uid: &str) {
        self.containers.lock().retain(|_, entry| {
            if entry.uid == uid {
                entry.stop(|_| true);
            }
            entry.uid != uid
        });
    }

    pub(super) fn only_readiness(&self, uid: &str) {
        let mut containers = self.containers.lock();
        for entry in containers.values_mut().filter(|entry| entry.uid == uid) {
            entry.stop(|kind| kind != Kind::Readiness);
            entry.state.liveness_failed = None;
            entry.state.startup_failed = None;
        }
    }
}
