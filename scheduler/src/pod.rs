//! A pod, reduced once to what decisions need.

use std::collections::BTreeSet;
use std::sync::Arc;

use component::informer::Key;
use k8s_openapi::api::core::v1::{self as core, Pod};

use crate::resources::{self, Amounts, Resources};
use crate::selector::{Labels, Selector};

/// A pod and what was computed of it; immutable.
#[derive(Debug)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    pub key: Key,
    pub uid: Arc<str>,
    pub labels: Labels,
    pub priority: i32,
    /// What it asks for; for a placed pod, also what it was given.
    pub requests: Resources,
    /// CPU and memory as scores count them on its node.
    pub nonzero: Amounts,
    /// The same, when nodes are scored for it.
    pub scored: Amounts,
    pub host_ports: Box<[HostPort]>,
    pub affinity: PodAffinity,
    pub claims: Box<[Claim]>,
    pub terminating: bool,
}

/// A volume claim that a pod uses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    pub name: Box<str>,
    /// It was made for this pod, and goes with it.
    pub ephemeral: bool,
}

/// A port on a node's address.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HostPort {
    pub protocol: Box<str>,
    /// `0.0.0.0` for all addresses.
    pub address: Box<str>,
    pub port: i32,
}

impl HostPort {
    /// Whether both cannot be on one node.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        const ANY: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || &*self.address == ANY || &*other.address == ANY)
    }
}

/// A pod's terms about other pods.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PodAffinity {
    pub required: Vec<Arc<Term>>,
    pub required_anti: Vec<Arc<Term>>,
    pub preferred: Vec<(i32, Arc<Term>)>,
    pub preferred_anti: Vec<(i32, Arc<Term>)>,
}

impl PodAffinity {
    /// Whether it has no term at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which pods a term speaks of.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Matcher {
    pub namespaces: BTreeSet<String>,
    /// Further namespaces, by their labels.
    pub namespace_selector: Selector,
    pub selector: Selector,
}

impl Matcher {
    /// The pods of one namespace.
    #[must_use]
    pub fn in_namespace(namespace: &str, selector: Selector) -> Self {
        Self {
            namespaces: [namespace.to_owned()].into(),
            namespace_selector: Selector::nothing(),
            selector,
        }
    }

    /// Whether it speaks of a pod with these labels, in a namespace with those.
    #[must_use]
    pub fn matches(&self, namespace: &str, labels: &Labels, namespace_labels: &Labels) -> bool {
        (self.namespaces.contains(namespace) || self.namespace_selector.matches(namespace_labels))
            && self.selector.matches(labels)
    }
}

/// A term about other pods: which, and over which domains.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Term {
    pub matcher: Matcher,
    pub topology_key: Arc<str>,
}

impl Term {
    fn of(term: &core::PodAffinityTerm, namespace: &str) -> Self {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(namespace.to_owned());
        }
        Self {
            matcher: Matcher {
                namespaces,
                namespace_selector: Selector::of(term.namespace_selector.as_ref()),
                selector: Selector::of(term.label_selector.as_ref()),
            },
            topology_key: term.topology_key.as_str().into(),
        }
    }
}

/// The fields of a spec that are absent in an empty one.
static EMPTY: std::sync::LazyLock<core::PodSpec> = std::sync::LazyLock::new(core::PodSpec::default);

impl PodInfo {
    #[must_use]
    pub fn new(pod: Arc<Pod>) -> Self {
        let spec = pod.spec.as_ref().unwrap_or(&EMPTY);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let placed = spec.node_name.as_deref().is_some_and(|n| !n.is_empty());
        Self {
            key: Key::of(&pod.metadata),
            uid: pod.metadata.uid.as_deref().unwrap_or_default().into(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            priority: spec.priority.unwrap_or(0),
            requests: resources::pod_requests(&pod, placed),
            nonzero: resources::pod_nonzero(&pod, placed),
            scored: resources::pod_scored(&pod),
            host_ports: host_ports(spec),
            affinity: affinity(spec, namespace),
            claims: claims(&pod, spec),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            pod,
        }
    }

    #[must_use]
    pub fn spec(&self) -> &core::PodSpec {
        self.pod.spec.as_ref().unwrap_or(&EMPTY)
    }

    #[must_use]
    pub fn namespace(&self) -> &str {
        self.key.namespace()
    }

    /// The node that it is bound to; empty if none.
    #[must_use]
    pub fn node_name(&self) -> &str {
        self.spec().node_name.as_deref().unwrap_or_default()
    }

    /// The node that was cleared for it; empty if none.
    #[must_use]
    pub fn nominated_node(&self) -> &str {
        let status = self.pod.status.as_ref();
        status
            .and_then(|s| s.nominated_node_name.as_deref())
            .unwrap_or_default()
    }

    /// Who schedules it.
    #[must_use]
    pub fn scheduler_name(&self) -> &str {
        self.spec().scheduler_name.as_deref().unwrap_or_default()
    }

    #[must_use]
    pub fn tolerations(&self) -> &[core::Toleration] {
        self.spec().tolerations.as_deref().unwrap_or_default()
    }

    #[must_use]
    pub fn resource_version(&self) -> &str {
        self.pod
            .metadata
            .resource_version
            .as_deref()
            .unwrap_or_default()
    }

    /// `namespace/name` of a claim.
    #[must_use]
    pub fn claim_key(&self, claim: &Claim) -> String {
        format!("{}/{}", self.namespace(), claim.name)
    }

    /// Whether it has ended, and takes no place on its node any more.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|s| s.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// Whether a matcher speaks of it.
    #[must_use]
    pub fn matched_by(&self, matcher: &Matcher, namespace_labels: &Labels) -> bool {
        matcher.matches(self.namespace(), &self.labels, namespace_labels)
    }
}

/// The host ports of containers and of init containers that go on running.
fn host_ports(spec: &core::PodSpec) -> Box<[HostPort]> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten());
    ports
        .filter(|p| p.host_port.is_some_and(|port| port > 0))
        .map(|p| HostPort {
            protocol: p
                .protocol
                .as_deref()
                .filter(|p| !p.is_empty())
                .unwrap_or("TCP")
                .into(),
            address: p
                .host_ip
                .as_deref()
                .filter(|ip| !ip.is_empty())
                .unwrap_or("0.0.0.0")
                .into(),
            port: p.host_port.unwrap_or(0),
        })
        .collect()
}

fn claims(pod: &Pod, spec: &core::PodSpec) -> Box<[Claim]> {
    let owner = pod.metadata.name.as_deref().unwrap_or_default();
    let claim = |volume: &core::Volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(Claim {
            name: claim.claim_name.as_str().into(),
            ephemeral: false,
        }),
        (None, Some(_)) => Some(Claim {
            name: format!("{owner}-{}", volume.name).into(),
            ephemeral: true,
        }),
        (None, None) => None,
    };
    spec.volumes.iter().flatten().filter_map(claim).collect()
}

fn affinity(spec: &core::PodSpec, namespace: &str) -> PodAffinity {
    let Some(affinity) = &spec.affinity else {
        return PodAffinity::default();
    };
    let term = |t: &core::PodAffinityTerm| Arc::new(Term::of(t, namespace));
    let required =
        |terms: &Option<Vec<core::PodAffinityTerm>>| terms.iter().flatten().map(term).collect();
    let preferred = |terms: &Option<Vec<core::WeightedPodAffinityTerm>>| {
        terms
            .iter()
            .flatten()
            .map(|t| (t.weight, term(&t.pod_affinity_term)))
            .collect()
    };
    let mut all = PodAffinity::default();
    if let Some(with) = &affinity.pod_affinity {
        all.required = required(&with.required_during_scheduling_ignored_during_execution);
        all.preferred = preferred(&with.preferred_during_scheduling_ignored_during_execution);
    }
    if let Some(apart) = &affinity.pod_anti_affinity {
        all.required_anti = required(&apart.required_during_scheduling_ignored_during_execution);
        all.preferred_anti = preferred(&apart.preferred_during_scheduling_ignored_during_execution);
    }
    all
}
