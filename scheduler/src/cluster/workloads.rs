//! What owns pods, as far as default spreading asks: the selectors of services and workloads.
//!
//! Source: `pkg/scheduler/framework/plugins/helper/spread.go`.

use std::collections::HashMap;

use crate::pod::PodInfo;
use crate::selector::{Labels, Selector};

/// Kinds that own pods and have a selector.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Workload {
    ReplicationController,
    ReplicaSet,
    StatefulSet,
}

#[derive(Default)]
pub(super) struct Workloads {
    /// By namespace, then by name.
    services: HashMap<String, HashMap<String, Labels>>,
    selectors: HashMap<(Workload, String), Selector>,
}

impl Workloads {
    pub(super) fn set_service(&mut self, namespace: &str, name: &str, selector: Option<Labels>) {
        let all = self.services.entry(namespace.to_owned()).or_default();
        match selector {
            Some(selector) => drop(all.insert(name.to_owned(), selector)),
            None => drop(all.remove(name)),
        }
        if all.is_empty() {
            self.services.remove(namespace);
        }
    }

    pub(super) fn set(&mut self, kind: Workload, key: &str, selector: Option<Selector>) {
        match selector {
            Some(selector) => drop(self.selectors.insert((kind, key.to_owned()), selector)),
            None => drop(self.selectors.remove(&(kind, key.to_owned()))),
        }
    }

    /// What the services that select a pod and its controller select; everything if there is none.
    pub(super) fn selector(&self, pod: &PodInfo) -> Selector {
        let mut merged = Labels::new();
        for labels in self
            .services
            .get(pod.namespace())
            .into_iter()
            .flat_map(HashMap::values)
        {
            if Selector::of_labels(labels).matches(&pod.labels) {
                merged.extend(labels.clone());
            }
        }
        let services = Selector::of_labels(&merged);
        let owners = pod.pod.metadata.owner_references.iter().flatten();
        let Some(owner) = owners.into_iter().find(|o| o.controller == Some(true)) else {
            return services;
        };
        let kind = match (owner.api_version.as_str(), owner.kind.as_str()) {
            ("v1", "ReplicationController") => Workload::ReplicationController,
            ("apps/v1", "ReplicaSet") => Workload::ReplicaSet,
            ("apps/v1", "StatefulSet") => Workload::StatefulSet,
            _ => return services,
        };
        let key = format!("{}/{}", pod.namespace(), owner.name);
        self.selectors
            .get(&(kind, key))
            .map_or_else(|| services.clone(), |s| services.and(s))
    }
}
