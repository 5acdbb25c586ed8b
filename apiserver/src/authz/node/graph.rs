//! Which node needs which object.
//!
//! Not a graph to search but the answers themselves: for every object that pods refer to, the nodes of
//! those pods, counted. A question costs a lookup, a pod costs its references; only volumes are found
//! over their claims.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::RwLock;
use proto::catalogue::names as n;
use proto::view::core_v1::{PersistentVolume, Pod};
use proto::view::{Node, View};
use proto::{NameId, Value};
use resources::object::{self, Type};
use store::Entry;

use super::references;
use crate::registry::follow::Told;

/// What pods refer to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Kind {
    Secret,
    ConfigMap,
    Claim,
    ServiceAccount,
    ResourceClaim,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Target {
    kind: Kind,
    namespace: Box<str>,
    name: Box<str>,
}

/// Objects that are on one node each, by key.
#[derive(Default)]
pub(super) struct Placed(HashMap<Box<str>, Box<str>>);

impl Placed {
    pub(super) fn is_on(&self, key: &str, node: &str) -> bool {
        self.0.get(key).is_some_and(|on| **on == *node)
    }

    fn put(&mut self, key: &str, node: &str) {
        if node.is_empty() {
            self.0.remove(key);
        } else {
            self.0.insert(key.into(), node.into());
        }
    }
}

/// A volume that is bound to a claim.
struct Volume {
    claim: Target,
    secrets: Vec<Target>,
}

#[derive(Default)]
pub(super) struct Graph {
    pub(super) pods: Placed,
    pub(super) attachments: Placed,
    pub(super) slices: Placed,
    pub(super) certificates: Placed,
    /// What each pod on a node refers to.
    references: HashMap<Box<str>, Vec<Arc<Target>>>,
    /// How many pods of each node refer to an object.
    nodes: HashMap<Arc<Target>, HashMap<Box<str>, u32>>,
    volumes: HashMap<Box<str>, Volume>,
    /// The volumes that need a secret.
    by_secret: HashMap<Target, HashSet<Box<str>>>,
}

impl Graph {
    /// Whether a pod on the node refers to the object, itself or by one of its volumes.
    pub(super) fn refers(&self, kind: Kind, namespace: &str, name: &str, node: &str) -> bool {
        let target = Target {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        };
        let mut volumes = self.by_secret.get(&target).into_iter().flatten();
        self.needs(&target, node) || volumes.any(|volume| self.volume(volume, node))
    }

    fn needs(&self, target: &Target, node: &str) -> bool {
        self.nodes
            .get(target)
            .is_some_and(|nodes| nodes.contains_key(node))
    }

    /// Whether a pod on the node has the claim that the volume is bound to.
    pub(super) fn volume(&self, name: &str, node: &str) -> bool {
        self.volumes
            .get(name)
            .is_some_and(|v| self.needs(&v.claim, node))
    }

    fn drop_pod(&mut self, key: &str) {
        let Some(node) = self.pods.0.remove(key) else {
            return;
        };
        for target in self.references.remove(key).unwrap_or_default() {
            let Some(nodes) = self.nodes.get_mut(&target) else {
                continue;
            };
            if let Some(count) = nodes.get_mut(&node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&node);
                }
            }
            if nodes.is_empty() {
                self.nodes.remove(&target);
            }
        }
    }

    fn put_pod(&mut self, key: &str, pod: &Value) {
        self.drop_pod(key);
        let node = Pod::of(Node::new(pod)).spec().node_name();
        if node.is_empty() {
            return;
        }
        self.pods.put(key, node);
        let mut references = Vec::new();
        for target in targets(pod) {
            let target = match self.nodes.get_key_value(&target) {
                Some((known, _)) => known.clone(),
                None => Arc::new(target),
            };
            *self
                .nodes
                .entry(target.clone())
                .or_default()
                .entry(node.into())
                .or_default() += 1;
            references.push(target);
        }
        self.references.insert(key.into(), references);
    }

    fn drop_volume(&mut self, name: &str) {
        let Some(volume) = self.volumes.remove(name) else {
            return;
        };
        for secret in volume.secrets {
            if let Some(volumes) = self.by_secret.get_mut(&secret) {
                volumes.remove(name);
                if volumes.is_empty() {
                    self.by_secret.remove(&secret);
                }
            }
        }
    }

    fn put_volume(&mut self, name: &str, object: &Value) {
        self.drop_volume(name);
        let pv = PersistentVolume::of(Node::new(object));
        let Some(bound) = pv.spec().claim_ref() else {
            return;
        };
        let target = |kind, namespace: &str, name: &str| Target {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        };
        let secrets = references::volume_secrets(pv, bound.namespace()).into_iter();
        let secrets: Vec<Target> = secrets
            .map(|(namespace, name)| target(Kind::Secret, namespace, name))
            .collect();
        for secret in &secrets {
            self.by_secret
                .entry(secret.clone())
                .or_default()
                .insert(name.into());
        }
        let claim = target(Kind::Claim, bound.namespace(), bound.name());
        self.volumes.insert(name.into(), Volume { claim, secrets });
    }

    fn placed(&mut self, of: Of) -> Option<&mut Placed> {
        match of {
            Of::Attachments => Some(&mut self.attachments),
            Of::Slices => Some(&mut self.slices),
            Of::Certificates => Some(&mut self.certificates),
            Of::Pods | Of::Volumes => None,
        }
    }

    fn forget(&mut self, of: Of) {
        match of {
            Of::Pods => {
                self.pods.0.clear();
                self.references.clear();
                self.nodes.clear();
            }
            Of::Volumes => {
                self.volumes.clear();
                self.by_secret.clear();
            }
            other => drop(self.placed(other).map(|p| p.0.clear())),
        }
    }

    fn put(&mut self, of: Of, key: &str, object: &Value) {
        const NODE_NAME: [NameId; 2] = [n::SPEC, n::NODE_NAME];
        match of {
            Of::Pods => self.put_pod(key, object),
            Of::Volumes => self.put_volume(key, object),
            other => {
                let node = object
                    .at(&NODE_NAME)
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                if let Some(placed) = self.placed(other) {
                    placed.put(key, node);
                }
            }
        }
    }

    fn gone(&mut self, of: Of, key: &str) {
        match of {
            Of::Pods => self.drop_pod(key),
            Of::Volumes => self.drop_volume(key),
            other => drop(self.placed(other).and_then(|p| p.0.remove(key))),
        }
    }
}

/// What a pod refers to, once each. A mirror pod refers to nothing: a node that makes one must not
/// reach anything by it.
fn targets(pod: &Value) -> HashSet<Target> {
    let view = Pod::of(Node::new(pod));
    if references::is_mirror(pod) {
        return HashSet::new();
    }
    let spec = view.spec();
    let namespace = view.metadata().namespace();
    let target = |kind, name: &str| Target {
        kind,
        namespace: namespace.into(),
        name: name.into(),
    };
    let account = Some(spec.service_account_name()).filter(|name| !name.is_empty());
    let mut all: HashSet<Target> = account
        .map(|name| target(Kind::ServiceAccount, name))
        .into_iter()
        .collect();
    all.extend(references::secrets(spec).map(|name| target(Kind::Secret, name)));
    all.extend(references::config_maps(spec).map(|name| target(Kind::ConfigMap, name)));
    all.extend(references::claims(view).map(|name| target(Kind::Claim, &name)));
    all.extend(references::resource_claims(view).map(|name| target(Kind::ResourceClaim, name)));
    all
}

/// What a collection tells the graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Of {
    Pods,
    Volumes,
    Attachments,
    Slices,
    Certificates,
}

pub(super) struct Source {
    pub(super) group: &'static str,
    pub(super) resource: &'static str,
    of: Of,
}

/// The collections that are followed.
pub(super) static SOURCES: &[Source] = &[
    Source {
        group: "",
        resource: "pods",
        of: Of::Pods,
    },
    Source {
        group: "",
        resource: "persistentvolumes",
        of: Of::Volumes,
    },
    Source {
        group: "storage.k8s.io",
        resource: "volumeattachments",
        of: Of::Attachments,
    },
    Source {
        group: "resource.k8s.io",
        resource: "resourceslices",
        of: Of::Slices,
    },
    Source {
        group: "certificates.k8s.io",
        resource: "podcertificaterequests",
        of: Of::Certificates,
    },
];

/// Brings the graph up to date with what a collection tells.
pub(super) fn apply(graph: &RwLock<Graph>, source: &Source, hub: &Type, told: &Told) {
    match told {
        Told::Reset => graph.write().forget(source.of),
        Told::Gone(entry) => graph.write().gone(source.of, &entry.key),
        Told::Put(entry) => put(graph, source, hub, entry),
        Told::Complete => {}
    }
}

fn put(graph: &RwLock<Graph>, source: &Source, hub: &Type, entry: &Entry) {
    // Most pods that wait for a node are never decoded.
    if source.of == Of::Pods && entry.field("spec.nodeName").is_some_and(str::is_empty) {
        return graph.write().gone(source.of, &entry.key);
    }
    match object::from_body(&entry.body, hub) {
        Ok(object) => graph.write().put(source.of, &entry.key, &object),
        Err(error) => {
            // What cannot be read gives access to nothing.
            tracing::warn!(key = %entry.key, %error, "the node authorizer cannot read an object");
            graph.write().gone(source.of, &entry.key);
        }
    }
}

#[cfg(test)]
impl Graph {
    pub(super) fn with(mut self, of: Of, key: &str, object: &Value) -> Self {
        self.put(of, key, object);
        self
    }

    pub(super) fn without(mut self, of: Of, key: &str) -> Self {
        self.gone(of, key);
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
            && self.references.is_empty()
            && self.pods.0.is_empty()
            && self.by_secret.is_empty()
    }
}
