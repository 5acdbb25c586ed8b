//! What is the same in the two kinds.

use component::client::Kind;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition,
    ReplicationControllerStatus,
};

use crate::error::Error;
use crate::selector::Selector;

/// What an owner of replicas asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'r> {
    pub replicas: i32,
    pub min_ready_seconds: i32,
    pub template: Option<&'r PodTemplateSpec>,
}

/// An owner of replicas. The statuses of both kinds have the same JSON, but for one field.
pub(super) trait Replicas: Kind + PartialEq {
    /// Whether the status has `terminatingReplicas`.
    const REPORTS_TERMINATING: bool;

    fn wanted(&self) -> Wanted<'_>;

    /// Which pods are its own.
    fn selector(&self) -> Result<Selector, Error>;

    fn status(&self) -> ReplicaSetStatus;

    fn set_status(&mut self, status: ReplicaSetStatus);
}

impl Replicas for ReplicaSet {
    const REPORTS_TERMINATING: bool = true;

    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            replicas: self.spec.replicas.unwrap_or(1),
            min_ready_seconds: self.spec.min_ready_seconds.unwrap_or(0),
            template: self.spec.template.as_ref(),
        }
    }

    fn selector(&self) -> Result<Selector, Error> {
        Selector::of(&self.spec.selector)
    }

    fn status(&self) -> ReplicaSetStatus {
        self.status.clone().unwrap_or_default()
    }

    fn set_status(&mut self, status: ReplicaSetStatus) {
        self.status = Some(status);
    }
}

impl Replicas for ReplicationController {
    const REPORTS_TERMINATING: bool = false;

    fn wanted(&self) -> Wanted<'_> {
        let spec = self.spec.as_ref();
        Wanted {
            replicas: spec.and_then(|s| s.replicas).unwrap_or(1),
            min_ready_seconds: spec.and_then(|s| s.min_ready_seconds).unwrap_or(0),
            template: spec.and_then(|s| s.template.as_ref()),
        }
    }

    fn selector(&self) -> Result<Selector, Error> {
        let labels = self.spec.as_ref().and_then(|s| s.selector.as_ref());
        Selector::of_labels(labels.unwrap_or(&std::collections::BTreeMap::new()))
    }

    fn status(&self) -> ReplicaSetStatus {
        let status = self.status.clone().unwrap_or_default();
        let conditions = status.conditions.map(|all| {
            let each = all.into_iter().map(|c| ReplicaSetCondition {
                last_transition_time: c.last_transition_time,
                message: c.message,
                reason: c.reason,
                status: Some(c.status),
                type_: Some(c.type_),
            });
            each.collect()
        });
        ReplicaSetStatus {
            available_replicas: status.available_replicas,
            conditions,
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
            terminating_replicas: None,
        }
    }

    fn set_status(&mut self, status: ReplicaSetStatus) {
        let conditions = status.conditions.map(|all| {
            let each = all.into_iter().map(|c| ReplicationControllerCondition {
                last_transition_time: c.last_transition_time,
                message: c.message,
                reason: c.reason,
                status: c.status.unwrap_or_default(),
                type_: c.type_.unwrap_or_default(),
            });
            each.collect()
        });
        self.status = Some(ReplicationControllerStatus {
            available_replicas: status.available_replicas,
            conditions,
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
        });
    }
}
