//! Pod sandboxes: what a pod's containers share. Names are CRI's.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::container::Resources;
use crate::sys::userns::IdMap;

/// Which pod a sandbox belongs to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PodSandboxMetadata {
    pub name: String,
    pub uid: String,
    pub namespace: String,
    /// How many sandboxes this pod had before.
    pub attempt: u32,
}

/// A sandbox to be made.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PodSandboxConfig {
    pub metadata: PodSandboxMetadata,
    /// Empty for pods in the node's UTS namespace, which is those in its network namespace.
    pub hostname: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// The pod's cgroup, relative to the root of the hierarchies, as made by
    /// [`cgroup::pod_path`](super::cgroup::pod_path).
    pub cgroup_parent: String,
    /// Limits of the pod's cgroup.
    pub resources: Resources,
    pub network: Network,
    pub ipc: NamespaceMode,
    /// `Pod` (`shareProcessNamespace`), `Container` or `Node`.
    pub pid: NamespaceMode,
    /// Maps of the pod's user namespace (`hostUsers: false`); `None` is the node's.
    pub user: Option<UserNamespace>,
    /// Namespaced sysctls, set once, when the sandbox is made.
    pub sysctls: BTreeMap<String, String>,
    /// Addresses that the pod network gave, for the status.
    pub ips: Vec<IpAddr>,
}

/// Where a namespace comes from.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// Shared by the pod's containers.
    #[default]
    Pod,
    /// Each container has its own.
    Container,
    /// The node's.
    Node,
    /// That of another container (ephemeral containers with `targetContainerName`), by id.
    Target(String),
}

/// A pod's network namespace.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Network {
    /// The node's.
    Node,
    /// Made by the pod network, pinned by this file (a bind mount or `/proc/PID/fd/N`). The sandbox
    /// holds it open from then on.
    Path(PathBuf),
    /// A fresh one with nothing but loopback, made by the sandbox itself.
    #[default]
    Isolated,
}

/// The maps of a user namespace: one range each, as the kubelet hands them out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UserNamespace {
    pub uids: Vec<IdMapping>,
    pub gids: Vec<IdMapping>,
}

impl UserNamespace {
    /// The same mappings for users and groups, as the kubelet hands them out.
    #[must_use]
    pub fn ids(&self) -> Vec<IdMap> {
        self.uids.iter().map(|ids| ids.map()).collect()
    }
}

impl IdMapping {
    /// As the kernel is told.
    #[must_use]
    pub const fn map(&self) -> IdMap {
        IdMap {
            inside: self.container_id,
            host: self.host_id,
            length: self.length,
        }
    }
}

/// A range of ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IdMapping {
    pub host_id: u32,
    pub container_id: u32,
    pub length: u32,
}

/// Whether a sandbox can take containers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PodSandboxState {
    Ready,
    NotReady,
}

/// A sandbox as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodSandboxStatus {
    pub id: String,
    pub state: PodSandboxState,
    pub created_at: SystemTime,
    pub config: PodSandboxConfig,
}

/// Which sandboxes to list; what is unset matches all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PodSandboxFilter {
    pub id: Option<String>,
    pub state: Option<PodSandboxState>,
    pub pod_uid: Option<String>,
    pub labels: BTreeMap<String, String>,
}

impl PodSandboxFilter {
    #[must_use]
    pub fn matches(&self, status: &PodSandboxStatus) -> bool {
        self.id.as_ref().is_none_or(|id| *id == status.id)
            && self.state.is_none_or(|state| state == status.state)
            && self
                .pod_uid
                .as_ref()
                .is_none_or(|uid| *uid == status.config.metadata.uid)
            && self
                .labels
                .iter()
                .all(|(key, value)| status.config.labels.get(key) == Some(value))
    }
}
