//! What informers tell, brought into the state (`pkg/scheduler/eventhandlers.go`).

use std::sync::Arc;

use component::client::Kind;
use component::informer::{Event as Seen, Informers, Key, Selection};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ReplicationController, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use tokio::time::Instant;

use super::{Engine, State};
use crate::cluster::Workload;
use crate::cluster::disruption::Budget;
use crate::cluster::volumes::{Pair, Storage};
use crate::framework::{Action, Change, Event, Resource, node_changes, pod_changes};
use crate::pod::PodInfo;
use crate::profile::Asked;
use crate::selector::Selector;

/// Pods that ended take no place.
pub(crate) const RUNNING: &str = "status.phase!=Succeeded,status.phase!=Failed";

impl Engine {
    /// Subscribes to all that decisions depend on.
    pub fn follow(&self, informers: &Informers) {
        let engine = self.clone();
        informers.of::<Namespace>().subscribe(move |key, event| {
            let labels = match event {
                Seen::Deleted(_) => None,
                other => Some(other.object().metadata.labels.clone().unwrap_or_default()),
            };
            engine
                .shared
                .state
                .lock()
                .cluster
                .set_namespace(key.name(), labels);
        });
        self.follow_workloads(informers);
        self.follow_storage(informers);
        let engine = self.clone();
        informers
            .of::<PodDisruptionBudget>()
            .subscribe(move |key, event| {
                let budget = match event {
                    Seen::Deleted(_) => None,
                    other => Some(Budget::of(other.object())),
                };
                let mut state = engine.shared.state.lock();
                state
                    .cluster
                    .disruption_mut()
                    .set_budget(key.as_str(), budget);
            });
        let engine = self.clone();
        informers
            .of::<Node>()
            .subscribe(move |_, event| engine.node(event));
        let engine = self.clone();
        informers
            .select::<Pod>(Selection::fields(RUNNING))
            .subscribe(move |_, event| engine.pod(event));
    }

    fn follow_workloads(&self, informers: &Informers) {
        let engine = self.clone();
        informers.of::<Service>().subscribe(move |key, event| {
            let selector = event
                .object()
                .spec
                .as_ref()
                .and_then(|s| s.selector.clone());
            // A service without a selector selects nothing, not everything.
            let selector = selector.filter(|_| !matches!(event, Seen::Deleted(_)));
            let mut state = engine.shared.state.lock();
            state
                .cluster
                .set_service(key.namespace(), key.name(), selector);
        });
        self.follow_kind::<ReplicaSet>(informers, Workload::ReplicaSet, |rs| {
            Some(Selector::of(Some(&rs.spec.selector)))
        });
        self.follow_kind::<StatefulSet>(informers, Workload::StatefulSet, |set| {
            Some(Selector::of(Some(&set.spec.selector)))
        });
        self.follow_kind::<ReplicationController>(
            informers,
            Workload::ReplicationController,
            |rc| {
                let selector = rc.spec.as_ref()?.selector.as_ref()?;
                Some(Selector::of_labels(selector))
            },
        );
    }

    fn follow_kind<K: Kind>(
        &self,
        informers: &Informers,
        kind: Workload,
        selector: fn(&K) -> Option<Selector>,
    ) {
        let engine = self.clone();
        informers.of::<K>().subscribe(move |key, event| {
            let selector = match event {
                Seen::Deleted(_) => None,
                other => selector(other.object()),
            };
            engine
                .shared
                .state
                .lock()
                .cluster
                .set_workload(kind, key.as_str(), selector);
        });
    }

    fn follow_storage(&self, informers: &Informers) {
        self.follow_kind_of_storage(informers, Resource::PersistentVolumeClaim, Storage::Claim);
        self.follow_kind_of_storage(informers, Resource::PersistentVolume, Storage::Volume);
        self.follow_kind_of_storage(informers, Resource::StorageClass, Storage::Class);
        self.follow_kind_of_storage(informers, Resource::CsiNode, Storage::Node);
        self.follow_kind_of_storage(informers, Resource::CsiDriver, Storage::Driver);
        self.follow_kind_of_storage(informers, Resource::CsiStorageCapacity, Storage::Capacity);
        self.follow_kind_of_storage(informers, Resource::VolumeAttachment, Storage::Attachment);
    }

    fn follow_kind_of_storage<K: Kind>(
        &self,
        informers: &Informers,
        resource: Resource,
        storage: fn(Pair<K>) -> Storage,
    ) {
        let engine = self.clone();
        informers.of::<K>().subscribe(move |key, event| {
            let (old, new, action) = match event {
                Seen::Added(new) => (None, Some(new), Action::ADD),
                Seen::Updated { old, new } => (Some(old), Some(new), Action::UPDATE),
                Seen::Deleted(old) => (Some(old), None, Action::DELETE),
            };
            let seen = storage((old.cloned(), new.cloned()));
            engine.storage(key, Event::new(resource, action), seen);
        });
    }

    fn storage(&self, key: &Key, event: Event, seen: Storage) {
        let state = &mut *self.shared.state.lock();
        state.cluster.volumes_mut().set(key.as_str(), &seen);
        self.happened(state, event, &Change::Storage(seen), |_| true);
        self.shared.storage.notify_waiters();
    }

    fn node(&self, event: &Seen<Node>) {
        let state = &mut *self.shared.state.lock();
        let (old, new) = match event {
            Seen::Added(new) => (None, Some(Arc::clone(new))),
            Seen::Updated { old, new } => (Some(Arc::clone(old)), Some(Arc::clone(new))),
            Seen::Deleted(old) => (Some(Arc::clone(old)), None),
        };
        let events = match (&old, &new) {
            (Some(old), Some(new)) => node_changes(old, new),
            (None, _) => vec![Event::new(Resource::Node, Action::ADD)],
            (_, None) => vec![Event::new(Resource::Node, Action::DELETE)],
        };
        match &new {
            Some(node) => state.cluster.set_node(node),
            None => state
                .cluster
                .remove_node(event.object().metadata.name.as_deref().unwrap_or_default()),
        }
        let change = Change::Node { old, new };
        for event in events {
            self.happened(state, event, &change, |_| true);
        }
    }

    fn pod(&self, event: &Seen<Pod>) {
        match event {
            Seen::Added(pod) => self.pod_added(&info(pod)),
            Seen::Updated { old, new } => self.pod_updated(&info(old), &info(new)),
            Seen::Deleted(pod) => self.pod_deleted(&info(pod)),
        }
    }

    fn ours(&self, pod: &PodInfo) -> bool {
        self.shared.profiles.of(pod).is_some()
    }

    fn pod_added(&self, pod: &Arc<PodInfo>) {
        let state = &mut *self.shared.state.lock();
        if !pod.node_name().is_empty() {
            self.placed(state, pod);
        } else if self.ours(pod) {
            let asked = Asked {
                profiles: &self.shared.profiles,
                cluster: &state.cluster,
            };
            state.queue.add(Arc::clone(pod), &asked, Instant::now());
            self.shared.wake.notify_one();
        }
    }

    /// A pod has its node: the place that was assumed becomes the one it has.
    fn placed(&self, state: &mut State, pod: &Arc<PodInfo>) {
        state.cluster.set_pod(pod);
        let change = Change::Pod {
            old: None,
            new: Some(Arc::clone(pod)),
        };
        self.happened(
            state,
            Event::new(Resource::AssignedPod, Action::ADD),
            &change,
            |_| true,
        );
    }

    fn pod_updated(&self, old: &Arc<PodInfo>, new: &Arc<PodInfo>) {
        let state = &mut *self.shared.state.lock();
        if old.uid != new.uid {
            // It was deleted and created again between two sights of it.
            self.gone(state, old);
            return if new.node_name().is_empty() {
                self.waiting(state, None, new)
            } else {
                self.placed(state, new)
            };
        }
        match (old.node_name().is_empty(), new.node_name().is_empty()) {
            (false, _) => {
                state.cluster.set_pod(new);
                let change = Change::Pod {
                    old: Some(Arc::clone(old)),
                    new: Some(Arc::clone(new)),
                };
                for event in pod_changes(old, new, false) {
                    self.happened(state, event, &change, |_| true);
                }
            }
            (true, false) => {
                self.placed(state, new);
                state.queue.delete(&old.uid);
            }
            (true, true) => self.waiting(state, Some(old), new),
        }
    }

    /// A pod without a node changed.
    fn waiting(&self, state: &mut State, old: Option<&Arc<PodInfo>>, new: &Arc<PodInfo>) {
        if !self.ours(new)
            || old.is_some_and(|old| old.resource_version() == new.resource_version())
        {
            return;
        }
        if state.cluster.is_assumed(&new.uid) {
            if new.terminating && old.is_some_and(|old| !old.terminating) {
                self.gone(state, new);
            }
            return;
        }
        let asked = Asked {
            profiles: &self.shared.profiles,
            cluster: &state.cluster,
        };
        match old {
            Some(old) => state.queue.update(old, new, &asked, Instant::now()),
            None => state.queue.add(Arc::clone(new), &asked, Instant::now()),
        }
        if let Some(old) = old
            && !old.nominated_node().is_empty()
            && old.nominated_node() != new.nominated_node()
        {
            // The room that was kept for it is free for pods that are not more important.
            self.freed(state, old);
        }
        self.shared.wake.notify_one();
    }

    fn freed(&self, state: &mut State, pod: &Arc<PodInfo>) {
        let change = Change::Pod {
            old: Some(Arc::clone(pod)),
            new: None,
        };
        let priority = pod.priority;
        self.happened(
            state,
            Event::new(Resource::AssignedPod, Action::DELETE),
            &change,
            |p| p.priority <= priority,
        );
    }

    fn pod_deleted(&self, pod: &Arc<PodInfo>) {
        self.gone(&mut self.shared.state.lock(), pod);
    }

    fn gone(&self, state: &mut State, pod: &Arc<PodInfo>) {
        state.queue.delete(&pod.uid);
        // The state that the cluster has knows the node, also of an assumed pod.
        if let Some(known) = state.cluster.remove_pod(&pod.uid) {
            self.shared.storage.notify_waiters();
            let change = Change::Pod {
                old: Some(known),
                new: None,
            };
            self.happened(
                state,
                Event::new(Resource::AssignedPod, Action::DELETE),
                &change,
                |_| true,
            );
        } else if !pod.nominated_node().is_empty() {
            self.freed(state, pod);
        }
    }
}

fn info(pod: &Arc<Pod>) -> Arc<PodInfo> {
    Arc::new(PodInfo::new(Arc::clone(pod)))
}
