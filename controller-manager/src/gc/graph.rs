//! Who depends on whom. Pure: observations in, work out.
//!
//! Nodes are found by UID. An owner that no watch has shown yet is a *virtual* node: it is looked up before anybody
//! believes that it is gone. Source: `pkg/controller/garbagecollector/graph_builder.go`.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use component::client::Target;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

pub(super) const ORPHAN: &str = "orphan";
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// An object's UID; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Uid(Arc<str>);

impl Uid {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How an object is called: as a watch showed it, or as a reference names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    pub api_version: Arc<str>,
    pub kind: Arc<str>,
    /// Empty for cluster scope; a reference's is its dependent's.
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

/// An object in the graph.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub identity: Identity,
    /// The resource, once a watch showed it.
    pub target: Option<Arc<Target>>,
    pub owners: Vec<Owner>,
    pub dependents: BTreeSet<Uid>,
    /// It waits for its dependents to go.
    pub deleting_dependents: bool,
    pub being_deleted: bool,
}

/// A reference to an owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Owner {
    pub uid: Uid,
    pub api_version: Arc<str>,
    pub kind: Arc<str>,
    pub name: Arc<str>,
    pub blocks: bool,
}

impl Owner {
    fn of(reference: &OwnerReference) -> Self {
        Self {
            uid: reference.uid.as_str().into(),
            api_version: reference.api_version.as_str().into(),
            kind: reference.kind.as_str().into(),
            name: reference.name.as_str().into(),
            blocks: reference.block_owner_deletion == Some(true),
        }
    }
}

impl Node {
    /// Whether a watch has shown it.
    pub(super) fn is_observed(&self) -> bool {
        self.target.is_some()
    }
}

/// What has to be looked at.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Work {
    /// Whether this object has to go.
    Collect(Uid),
    /// The dependents of this object lose their reference to it, and it its finalizer.
    Orphan(Uid),
    /// This object refers to an owner of another namespace.
    Misplaced { dependent: Uid, owner: Uid },
}

/// The graph.
#[derive(Default, Debug)]
pub(super) struct Graph {
    nodes: HashMap<Uid, Node>,
}

/// What of an object's metadata the graph is made of.
struct Facts {
    deleting: bool,
    orphans: bool,
    foreground: bool,
}

impl Facts {
    fn of(meta: &ObjectMeta) -> Self {
        let has = |wanted: &str| {
            let finalizers = meta.finalizers.as_deref().unwrap_or_default();
            finalizers.iter().any(|f| f == wanted)
        };
        Self {
            deleting: meta.deletion_timestamp.is_some(),
            orphans: has(ORPHAN),
            foreground: has(FOREGROUND),
        }
    }

    /// Its dependents are to be orphaned, which was not so before.
    fn begins_to_orphan(&self, before: Option<&Self>) -> bool {
        let now = self.deleting && self.orphans;
        now && !before.is_some_and(|b| b.deleting && b.orphans)
    }

    fn begins_to_wait(&self, before: Option<&Self>) -> bool {
        let now = self.deleting && self.foreground;
        now && !before.is_some_and(|b| b.deleting && b.foreground)
    }
}

impl Graph {
    pub(super) fn get(&self, uid: &Uid) -> Option<&Node> {
        self.nodes.get(uid)
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The dependents of an object.
    pub(super) fn dependents(&self, uid: &Uid) -> Vec<(Uid, Node)> {
        let Some(node) = self.nodes.get(uid) else {
            return Vec::new();
        };
        let known = |uid: &Uid| Some((uid.clone(), self.nodes.get(uid)?.clone()));
        node.dependents.iter().filter_map(known).collect()
    }

    /// A watch showed an object: new, or as it is now.
    pub(super) fn observe(
        &mut self,
        target: &Arc<Target>,
        before: Option<&ObjectMeta>,
        meta: &ObjectMeta,
    ) -> Vec<Work> {
        let mut work = Vec::new();
        let Some(uid) = meta.uid.as_deref().map(Uid::from) else {
            return work;
        };
        let identity = Identity {
            api_version: api_version(target).into(),
            kind: target.kind.as_ref().into(),
            namespace: meta.namespace.as_deref().unwrap_or_default().into(),
            name: meta.name.as_deref().unwrap_or_default().into(),
        };
        let references = meta.owner_references.as_deref().unwrap_or_default();
        let owners: Vec<Owner> = references.iter().map(Owner::of).collect();
        let facts = Facts::of(meta);
        let old_owners = self.place(&uid, target, identity, &owners, facts.deleting, &mut work);
        self.link(&uid, &old_owners, &owners, &mut work);
        let before = before.map(Facts::of);
        if facts.begins_to_orphan(before.as_ref()) {
            work.push(Work::Orphan(uid));
        } else if facts.begins_to_wait(before.as_ref())
            && let Some(node) = self.nodes.get_mut(&uid)
        {
            node.deleting_dependents = true;
            work.extend(node.dependents.iter().cloned().map(Work::Collect));
            work.push(Work::Collect(uid));
        }
        work
    }

    /// Puts a node in its place; the owners that it had before.
    fn place(
        &mut self,
        uid: &Uid,
        target: &Arc<Target>,
        identity: Identity,
        owners: &[Owner],
        being_deleted: bool,
        work: &mut Vec<Work>,
    ) -> Vec<Owner> {
        let Some(node) = self.nodes.get_mut(uid) else {
            let node = Node {
                identity,
                target: Some(Arc::clone(target)),
                owners: owners.to_vec(),
                dependents: BTreeSet::new(),
                deleting_dependents: false,
                being_deleted,
            };
            self.nodes.insert(uid.clone(), node);
            return Vec::new();
        };
        if !node.is_observed() && node.identity != identity {
            // Dependents named it otherwise than it is called: whether those names mean anything has to be looked at.
            for dependent in &node.dependents {
                work.push(Work::Collect(dependent.clone()));
            }
        }
        node.identity = identity;
        node.target = Some(Arc::clone(target));
        node.being_deleted = being_deleted;
        std::mem::replace(&mut node.owners, owners.to_vec())
    }

    /// Brings the owners' lists of dependents up to date.
    fn link(&mut self, uid: &Uid, before: &[Owner], after: &[Owner], work: &mut Vec<Work>) {
        for old in before {
            let new = after.iter().find(|o| o.uid == old.uid);
            // An owner that waits may be free now.
            if old.blocks && new.is_none_or(|n| !n.blocks) {
                work.push(Work::Collect(old.uid.clone()));
            }
            if new.is_none()
                && let Some(owner) = self.nodes.get_mut(&old.uid)
            {
                owner.dependents.remove(uid);
            }
        }
        let Some(dependent) = self.nodes.get(uid).map(|n| n.identity.clone()) else {
            return;
        };
        for new in after {
            if before.contains(new) {
                continue;
            }
            let Some(owner) = self.nodes.get_mut(&new.uid) else {
                self.nodes
                    .insert(new.uid.clone(), virtual_node(uid, new, &dependent));
                work.push(Work::Collect(new.uid.clone()));
                continue;
            };
            owner.dependents.insert(uid.clone());
            let other_place = !owner.identity.namespace.is_empty()
                && owner.identity.namespace != dependent.namespace;
            if other_place && owner.is_observed() {
                work.push(Work::Misplaced {
                    dependent: uid.clone(),
                    owner: new.uid.clone(),
                });
            }
            let named_so = owner.identity.api_version == new.api_version
                && owner.identity.kind == new.kind
                && owner.identity.name == new.name;
            if other_place || !named_so {
                work.push(Work::Collect(uid.clone()));
            }
            if owner.deleting_dependents {
                work.push(Work::Collect(uid.clone()));
            }
        }
    }

    /// An object is gone: a watch or the server said so.
    pub(super) fn remove(&mut self, uid: &Uid) -> Vec<Work> {
        let mut work = Vec::new();
        let Some(node) = self.nodes.remove(uid) else {
            return work;
        };
        for owner in &node.owners {
            let Some(parent) = self.nodes.get_mut(&owner.uid) else {
                continue;
            };
            parent.dependents.remove(uid);
            if parent.deleting_dependents {
                work.push(Work::Collect(owner.uid.clone()));
            } else if !parent.is_observed() && parent.dependents.is_empty() {
                // Nobody refers to it any more.
                self.nodes.remove(&owner.uid);
            }
        }
        work.extend(node.dependents.into_iter().map(Work::Collect));
        work
    }

    /// A kind is not served any more: its objects are forgotten, and those that they own looked at.
    pub(super) fn remove_kind(&mut self, target: &Target) -> Vec<Work> {
        let of_kind = |node: &Node| node.target.as_deref() == Some(target);
        let gone: Vec<Uid> = self
            .nodes
            .iter()
            .filter(|(_, node)| of_kind(node))
            .map(|(uid, _)| uid.clone())
            .collect();
        gone.iter().flat_map(|uid| self.remove(uid)).collect()
    }
}

fn virtual_node(dependent: &Uid, reference: &Owner, named_by: &Identity) -> Node {
    Node {
        identity: Identity {
            api_version: Arc::clone(&reference.api_version),
            kind: Arc::clone(&reference.kind),
            namespace: Arc::clone(&named_by.namespace),
            name: Arc::clone(&reference.name),
        },
        target: None,
        owners: Vec::new(),
        dependents: [dependent.clone()].into(),
        deleting_dependents: false,
        being_deleted: false,
    }
}

fn api_version(target: &Target) -> String {
    if target.group.is_empty() {
        target.version.to_string()
    } else {
        format!("{}/{}", target.group, target.version)
    }
}

#[cfg(test)]
mod tests;
