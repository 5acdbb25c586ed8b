//! Volumes for a pod on a node.

use std::collections::HashSet;
use std::sync::Arc;

use component::volumes::{
    SELECTED_NODE, allows_access, asked_by, class_of_claim, class_of_volume, is_for, modes_agree,
    size_of_volume,
};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, TopologySelectorTerm};
use k8s_openapi::api::storage::v1::{CSIStorageCapacity, StorageClass};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use proto::quantity::Quantity;

use crate::cluster::volumes::{Volumes, is_bound, volume_of};
use crate::cluster::{Cluster, NodeIndex};
use crate::plugins::node_affinity::NodeSelector;
use crate::plugins::volumes::not_for_pod;
use crate::pod::PodInfo;
use crate::selector::{Labels, Selector};

/// The provisioner of classes whose volumes people make.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// A pod's claims, before any node is looked at.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Volumes that are bound; none for one that does not exist.
    bound: Vec<Option<Candidate>>,
    /// Claims whose volume is chosen with the node, the smallest first.
    delayed: Vec<Delayed>,
    /// There is a claim that somebody else has to bind first.
    pub(super) immediate: bool,
}

/// A volume with the nodes that it can be used on.
#[derive(Clone, Debug)]
struct Candidate {
    volume: Arc<PersistentVolume>,
    nodes: Option<NodeSelector>,
}

impl Candidate {
    fn of(volume: &Arc<PersistentVolume>) -> Self {
        let affinity = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref());
        let required = affinity.and_then(|a| a.required.as_ref());
        Self {
            volume: Arc::clone(volume),
            nodes: required.map(NodeSelector::of),
        }
    }

    fn allows(&self, labels: &Labels) -> bool {
        // A volume's terms are about labels only.
        self.nodes.as_ref().is_none_or(|n| n.matches("", labels))
    }
}

/// A claim whose volume is chosen with the node.
#[derive(Debug)]
struct Delayed {
    claim: Arc<PersistentVolumeClaim>,
    /// A volume is on its way already, for this node.
    selected: Option<String>,
    /// The volume that was set aside for the claim.
    own: Option<Candidate>,
    /// Others that would do, the smallest first.
    candidates: Vec<Candidate>,
}

/// A volume that would have to be made.
#[derive(Debug)]
pub(super) struct Provision {
    pub(super) claim: Arc<PersistentVolumeClaim>,
    /// What the node has room for, where that is known.
    pub(super) capacity: Option<Arc<CSIStorageCapacity>>,
}

/// What there is for a pod on a node.
#[derive(Default, Debug)]
pub(super) struct Found {
    /// Why the node cannot do.
    pub(super) reasons: Vec<&'static str>,
    pub(super) bindings: Vec<(Arc<PersistentVolumeClaim>, Arc<PersistentVolume>)>,
    pub(super) provisions: Vec<Provision>,
}

impl Wanted {
    /// The claims of a pod.
    ///
    /// # Errors
    /// If a claim cannot be judged.
    pub(super) fn of(cluster: &Cluster, pod: &PodInfo) -> Result<Self, String> {
        let volumes = cluster.volumes();
        let mut all = Self {
            bound: Vec::new(),
            delayed: Vec::new(),
            immediate: false,
        };
        for one in &pod.claims {
            let key = pod.claim_key(one);
            let claim = volumes.claims.get(&key);
            let claim = claim.ok_or_else(|| format!("error getting PVC {key:?}: not found"))?;
            if one.ephemeral
                && let Some(reason) = not_for_pod(pod, claim)
            {
                return Err(reason);
            }
            if is_bound(claim) {
                let volume = volumes.volumes.get(volume_of(claim));
                all.bound.push(volume.map(Candidate::of));
            } else if is_delayed(volumes, claim)? && volume_of(claim).is_empty() {
                all.delayed.push(Delayed::of(volumes, claim));
            } else {
                all.immediate = true;
            }
        }
        // Small claims first, so that they do not take the volumes that large ones need.
        all.delayed.sort_by(|a, b| {
            let (a, b) = (asked_by(&a.claim), asked_by(&b.claim));
            a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal)
        });
        Ok(all)
    }

    /// Whether there is anything to choose.
    pub(super) fn chooses(&self) -> bool {
        !self.delayed.is_empty()
    }

    /// What there is on a node.
    ///
    /// # Errors
    /// If a class that is needed does not exist.
    pub(super) fn on(&self, cluster: &Cluster, node: NodeIndex) -> Result<Found, String> {
        let mut found = Found::default();
        let Some(facts) = cluster.facts(node) else {
            return Ok(found);
        };
        let labels = &facts.labels;
        let bound = self.bound.iter().find_map(|volume| match volume {
            None => {
                Some("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)")
            }
            Some(v) if !v.allows(labels) => {
                Some("node(s) didn't match PersistentVolume's node affinity")
            }
            Some(_) => None,
        });
        let chosen = self.choose(cluster, &facts.name, labels, &mut found)?;
        found.reasons.extend(bound);
        found.reasons.extend(chosen);
        found.reasons.sort_by_key(|r| order(r));
        Ok(found)
    }

    /// Chooses volumes for claims, or has them made. Says what is lacking.
    fn choose(
        &self,
        cluster: &Cluster,
        node: &str,
        labels: &Labels,
        found: &mut Found,
    ) -> Result<Option<&'static str>, String> {
        let mut to_make = Vec::new();
        for one in &self.delayed {
            match &one.selected {
                Some(selected) if selected != node => return Ok(Some(NOTHING_TO_BIND)),
                Some(_) => to_make.push(&one.claim),
                None => {}
            }
        }
        let mut taken = HashSet::new();
        for one in self.delayed.iter().filter(|d| d.selected.is_none()) {
            match one.find(labels, &taken) {
                Some(volume) => {
                    taken.insert(volume.metadata.name.clone());
                    let claim = Arc::clone(&one.claim);
                    found.bindings.push((claim, Arc::clone(volume)));
                }
                None => to_make.push(&one.claim),
            }
        }
        for claim in to_make {
            match provision(cluster.volumes(), claim, labels)? {
                Ok(capacity) => found.provisions.push(Provision {
                    claim: Arc::clone(claim),
                    capacity,
                }),
                Err(reason) => {
                    found.provisions.clear();
                    return Ok(Some(reason));
                }
            }
        }
        Ok(None)
    }
}

const NOTHING_TO_BIND: &str = "node(s) didn't find available persistent volumes to bind";
const NO_SPACE: &str = "node(s) did not have enough free storage";

/// Reasons are said in this order.
fn order(reason: &str) -> u8 {
    match reason {
        NOTHING_TO_BIND => 1,
        NO_SPACE => 2,
        r if r.contains("non-existent") => 3,
        _ => 0,
    }
}

fn is_delayed(volumes: &Volumes, claim: &PersistentVolumeClaim) -> Result<bool, String> {
    let name = class_of_claim(claim);
    let Some(class) = volumes.class(name).filter(|_| !name.is_empty()) else {
        return Ok(false);
    };
    match class.volume_binding_mode.as_deref() {
        Some(mode) => Ok(mode == "WaitForFirstConsumer"),
        None => Err(format!(
            "VolumeBindingMode not set for StorageClass {name:?}"
        )),
    }
}

impl Delayed {
    fn of(volumes: &Volumes, claim: &Arc<PersistentVolumeClaim>) -> Self {
        let annotations = claim.metadata.annotations.as_ref();
        let class = class_of_claim(claim);
        let suitable: Vec<_> = volumes
            .of_class(class)
            .filter(|v| suits(claim, v))
            .collect();
        let own = suitable.iter().find(|v| is_for(v, claim));
        let mut candidates: Vec<_> = suitable
            .iter()
            .filter(|v| is_free(claim, v))
            .map(|v| (size_of_volume(v), Candidate::of(v)))
            .collect();
        candidates.sort_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        Self {
            claim: Arc::clone(claim),
            selected: annotations.and_then(|a| a.get(SELECTED_NODE)).cloned(),
            own: own.map(|v| Candidate::of(v)),
            candidates: candidates.into_iter().map(|(_, c)| c).collect(),
        }
    }

    /// The smallest volume that can be used on a node, or the claim's own.
    fn find(
        &self,
        labels: &Labels,
        taken: &HashSet<Option<String>>,
    ) -> Option<&Arc<PersistentVolume>> {
        let free = |c: &&Candidate| !taken.contains(&c.volume.metadata.name);
        if let Some(own) = self.own.as_ref().filter(free) {
            return own.allows(labels).then_some(&own.volume);
        }
        let mut fit = self.candidates.iter().filter(free);
        fit.find(|c| c.allows(labels)).map(|c| &c.volume)
    }
}

/// What a claim asks of any volume, its own included.
fn suits(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let (Some(asked), Some(has)) = (&claim.spec, &volume.spec) else {
        return false;
    };
    let attributes = |a: &Option<String>| a.clone().unwrap_or_default();
    (has.claim_ref.is_none() || is_for(volume, claim))
        && size_of_volume(volume) >= asked_by(claim)
        && modes_agree(volume, claim)
        && attributes(&asked.volume_attributes_class_name)
            == attributes(&has.volume_attributes_class_name)
        && volume.metadata.deletion_timestamp.is_none()
}

/// What a claim asks of a volume that it has to choose.
fn is_free(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let Some(asked) = &claim.spec else {
        return false;
    };
    let labels = volume.metadata.labels.clone().unwrap_or_default();
    let selector = asked.selector.as_ref().map(|s| Selector::of(Some(s)));
    let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
    phase == Some("Available")
        && selector.is_none_or(|s| s.matches(&labels))
        && class_of_volume(volume) == class_of_claim(claim)
        && allows_access(volume, claim)
}

/// Whether a volume can be made for a claim on a node; otherwise what is lacking.
fn provision(
    volumes: &Volumes,
    claim: &PersistentVolumeClaim,
    labels: &Labels,
) -> Result<Result<Option<Arc<CSIStorageCapacity>>, &'static str>, String> {
    let name = class_of_claim(claim);
    if name.is_empty() {
        let meta = &claim.metadata;
        let key = [&meta.namespace, &meta.name].map(|t| t.as_deref().unwrap_or_default());
        return Err(format!("no class for claim {:?}", key.join("/")));
    }
    let class = volumes.class(name);
    let class = class.ok_or_else(|| format!("failed to find storage class {name:?}"))?;
    if class.provisioner.is_empty() || class.provisioner == NO_PROVISIONER {
        return Ok(Err(NOTHING_TO_BIND));
    }
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    if !terms.is_empty() && !terms.iter().any(|t| in_topology(t, labels)) {
        return Ok(Err(NOTHING_TO_BIND));
    }
    Ok(room(volumes, class, claim, labels).ok_or(NO_SPACE))
}

/// A term without expressions matches nothing.
fn in_topology(term: &TopologySelectorTerm, labels: &Labels) -> bool {
    let all = term.match_label_expressions.as_deref().unwrap_or_default();
    !all.is_empty()
        && all
            .iter()
            .all(|e| labels.get(&e.key).is_some_and(|v| e.values.contains(v)))
}

/// Room for a claim, as far as its driver tells; none if there is not enough.
fn room(
    volumes: &Volumes,
    class: &StorageClass,
    claim: &PersistentVolumeClaim,
    labels: &Labels,
) -> Option<Option<Arc<CSIStorageCapacity>>> {
    let asked = storage_request(claim);
    let driver = volumes.driver(&class.provisioner);
    let tells = driver.is_some_and(|d| d.spec.storage_capacity == Some(true));
    let (Some(asked), true) = (asked, tells) else {
        return Some(None);
    };
    let fits = |c: &&Arc<CSIStorageCapacity>| {
        Some(c.storage_class_name.as_str()) == class.metadata.name.as_deref()
            && limit(c).is_some_and(|l| l.value() >= asked.value())
            && c.node_topology.is_some()
            && Selector::of(c.node_topology.as_ref()).matches(labels)
    };
    volumes.capacities().find(fits).map(|c| Some(Arc::clone(c)))
}

/// The largest volume that can be made.
pub(super) fn limit(capacity: &CSIStorageCapacity) -> Option<Quantity> {
    let text = capacity.maximum_volume_size.as_ref();
    text.or(capacity.capacity.as_ref()).map(quantity)
}

pub(super) fn quantity(text: &Text) -> Quantity {
    text.0.parse().unwrap_or_default()
}

fn storage_request(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    resources.requests.as_ref()?.get("storage").map(quantity)
}
