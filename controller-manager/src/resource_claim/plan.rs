//! Which claims pods have and need, and who may keep one. Pure.
//!
//! Sources: `pkg/controller/resourceclaim`, `k8s.io/dynamic-resource-allocation/resourceclaim`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodResourceClaim};
use k8s_openapi::api::resource::v1::{
    ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::{owners, pods};

/// Which of a pod's claims one was made for.
const MADE_FOR: &str = "resource.kubernetes.io/pod-claim-name";
/// On claims that the scheduler allocates.
pub(super) const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// So many may use a claim at a time.
const CONSUMERS: usize = 256;
/// What is left of a name of 63 characters before the server's five and a hyphen.
const LONGEST_PREFIX: usize = 57;

/// What one of a pod's claims is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Named {
    /// It has this name; made for the pod, or anybody's.
    Claim { name: String, own: bool },
    /// It turned out not to be needed.
    Skipped,
    /// It has to be made.
    Missing,
    /// In a way that is not known here.
    Unknown,
}

pub(super) fn named(pod: &Pod, claim: &PodResourceClaim) -> Named {
    if let Some(name) = &claim.resource_claim_name {
        let (name, own) = (name.clone(), false);
        return Named::Claim { name, own };
    }
    if claim.resource_claim_template_name.is_none() {
        return Named::Unknown;
    }
    let status = pod.status.as_ref();
    let mut known = status
        .into_iter()
        .flat_map(|s| s.resource_claim_statuses.iter().flatten());
    match known.find(|s| s.name == claim.name) {
        None => Named::Missing,
        Some(status) => status
            .resource_claim_name
            .clone()
            .map_or(Named::Skipped, |name| Named::Claim { name, own: true }),
    }
}

/// The claims that a pod's spec asks for.
pub(super) fn wanted(pod: &Pod) -> &[PodResourceClaim] {
    let spec = pod.spec.as_ref();
    spec.and_then(|s| s.resource_claims.as_deref())
        .unwrap_or_default()
}

/// The names of all claims that a pod has.
pub(super) fn names(pod: &Pod) -> Vec<String> {
    let named = wanted(pod).iter().filter_map(|c| match named(pod, c) {
        Named::Claim { name, .. } => Some(name),
        _ => None,
    });
    let mut all: Vec<String> = named.collect();
    all.sort();
    all.dedup();
    all
}

/// The claim that the scheduler made for a pod's extended resources.
pub(super) fn extended(pod: &Pod) -> Option<&str> {
    let status = pod
        .status
        .as_ref()?
        .extended_resource_claim_status
        .as_ref()?;
    Some(&status.resource_claim_name)
}

/// The names of the templates that a pod's claims come from.
pub(super) fn templates(pod: &Pod) -> Vec<String> {
    let names = wanted(pod).iter();
    let mut all: Vec<String> = names
        .filter_map(|c| c.resource_claim_template_name.clone())
        .collect();
    all.sort();
    all.dedup();
    all
}

pub(super) fn is_scheduled(pod: &Pod) -> bool {
    let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
    node.is_some_and(|n| !n.is_empty())
}

/// None of its containers runs, nor ever will.
pub(super) fn is_done(pod: &Pod) -> bool {
    pods::is_terminal(pod) || (pod.metadata.deletion_timestamp.is_some() && !is_scheduled(pod))
}

/// Whether a claim was made for a pod.
pub(super) fn is_for(pod: &Pod, claim: &ResourceClaim) -> bool {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    owners::is_controlled_by(&claim.metadata, uid)
}

/// Whether a claim was made for this claim of its pod.
pub(super) fn is_made_for(claim: &ResourceClaim, wanted: &PodResourceClaim) -> bool {
    let annotations = claim.metadata.annotations.as_ref();
    annotations.and_then(|a| a.get(MADE_FOR)) == Some(&wanted.name)
}

fn consumers(claim: &ResourceClaim) -> &[ResourceClaimConsumerReference] {
    let status = claim.status.as_ref();
    status
        .and_then(|s| s.reserved_for.as_deref())
        .unwrap_or_default()
}

fn is_allocated(claim: &ResourceClaim) -> bool {
    claim
        .status
        .as_ref()
        .is_some_and(|s| s.allocation.is_some())
}

fn is_pod(consumer: &ResourceClaimConsumerReference) -> bool {
    consumer.resource == "pods" && consumer.api_group.as_deref().unwrap_or_default().is_empty()
}

/// The claim with a pod among those that may use it; none if there is nothing to do for that.
pub(super) fn reserved(pod: &Pod, claim: &ResourceClaim) -> Option<ResourceClaim> {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let all = consumers(claim);
    let has = all.iter().any(|c| is_pod(c) && c.uid == uid);
    if !is_allocated(claim) || has || all.len() >= CONSUMERS {
        return None;
    }
    let mut new = claim.clone();
    let status = new.status.get_or_insert_default();
    let consumers = status.reserved_for.get_or_insert_default();
    consumers.push(ResourceClaimConsumerReference {
        api_group: None,
        name: pod.metadata.name.clone().unwrap_or_default(),
        resource: "pods".to_owned(),
        uid,
    });
    Some(new)
}

/// A claim out of a template.
pub(super) fn made(
    pod: &Pod,
    wanted: &PodResourceClaim,
    template: &ResourceClaimTemplate,
) -> ResourceClaim {
    let spec = template.spec.clone().unwrap_or_default();
    let meta = spec.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(MADE_FOR.to_owned(), wanted.name.clone());
    let name = pod.metadata.name.clone().unwrap_or_default();
    ResourceClaim {
        metadata: ObjectMeta {
            generate_name: Some(prefix(&name, &wanted.name)),
            namespace: pod.metadata.namespace.clone(),
            annotations: Some(annotations),
            labels: meta.labels,
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                block_owner_deletion: None,
                controller: Some(true),
                kind: "Pod".to_owned(),
                name,
                uid: pod.metadata.uid.clone().unwrap_or_default(),
            }]),
            ..ObjectMeta::default()
        },
        spec: spec.spec,
        status: None,
    }
}

/// `pod-claim-`; both names are cut in proportion if that is too long.
fn prefix(pod: &str, claim: &str) -> String {
    let whole = format!("{pod}-{claim}-");
    if whole.len() <= LONGEST_PREFIX {
        return whole;
    }
    let first = pod.len() * LONGEST_PREFIX / whole.len();
    let second = claim.len() * LONGEST_PREFIX / whole.len();
    let cut = |text: &str, len: usize| text.get(..len).unwrap_or(text).to_owned();
    format!("{}-{}", cut(pod, first), cut(claim, second))
}

/// The names of a pod's claims as its status is to have them, in order.
pub(super) fn statuses(pod: &Pod, new: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let status = pod.status.as_ref();
    let known = status
        .into_iter()
        .flat_map(|s| s.resource_claim_statuses.iter().flatten());
    let mut all: BTreeMap<String, String> = known
        .filter_map(|s| Some((s.name.clone(), s.resource_claim_name.clone()?)))
        .collect();
    all.extend(new.clone());
    all
}

/// What becomes of a claim.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Verdict {
    /// Its status has to be this one's.
    pub status: Option<ResourceClaim>,
    /// The finalizer goes then.
    pub release: bool,
    /// Nobody uses it.
    pub unused: bool,
}

/// The verdict, if of its consumers those stay that `stays` says.
pub(super) fn judge(
    claim: &ResourceClaim,
    stays: impl Fn(&ResourceClaimConsumerReference) -> bool,
) -> Verdict {
    let before = consumers(claim);
    let left: Vec<_> = before.iter().filter(|c| stays(c)).cloned().collect();
    let finalizers = claim.metadata.finalizers.iter().flatten();
    let ours = finalizers.into_iter().any(|f| f == FINALIZER);
    let unused = left.is_empty();
    let lost = left.len() < before.len();
    let going = ours && claim.metadata.deletion_timestamp.is_some() && unused;
    // With its last consumer a claim loses its devices: the next one may run elsewhere.
    let frees = ours && unused && (lost || going);
    let mut new = claim.clone();
    let status = new.status.get_or_insert_default();
    status.reserved_for = Some(left);
    if frees {
        status.allocation = None;
    }
    let changes = lost || (frees && is_allocated(claim));
    let allocated = is_allocated(&new);
    Verdict {
        status: changes.then_some(new),
        release: ours && !allocated && (lost || going),
        unused,
    }
}

/// The pods among a claim's consumers.
pub(super) fn pods_of(claim: &ResourceClaim) -> Vec<&ResourceClaimConsumerReference> {
    consumers(claim).iter().filter(|c| is_pod(c)).collect()
}

/// The pod that a claim was made for: name and UID.
pub(super) fn owner(claim: &ResourceClaim) -> Option<(&str, &str)> {
    let owner = owners::controller(&claim.metadata)?;
    (owner.kind == "Pod" && owner.api_version == "v1")
        .then_some((owner.name.as_str(), owner.uid.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(statuses: Value) -> Pod {
        proto::typed::from_json_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"containers": [], "resourceClaims": [
                {"name": "shared", "resourceClaimName": "theirs"},
                {"name": "own", "resourceClaimTemplateName": "t"}]},
            "status": {"resourceClaimStatuses": statuses},
        }))
        .unwrap()
    }

    fn claim(finalized: bool, deleted: bool, consumers: &[&str]) -> ResourceClaim {
        let finalizers = if finalized { vec![FINALIZER] } else { vec![] };
        let consumers: Vec<Value> = consumers
            .iter()
            .map(|uid| json!({"resource": "pods", "name": uid, "uid": uid}))
            .collect();
        let gone = deleted.then_some("2026-01-01T00:00:00Z");
        proto::typed::from_json_value(json!({
            "metadata": {"name": "c", "finalizers": finalizers, "deletionTimestamp": gone},
            "spec": {},
            "status": {"allocation": {}, "reservedFor": consumers},
        }))
        .unwrap()
    }

    #[test]
    fn a_pods_claims_are_found_by_its_spec_and_its_status() {
        let of = |statuses| {
            let pod = pod(statuses);
            wanted(&pod)
                .iter()
                .map(|c| named(&pod, c))
                .collect::<Vec<_>>()
        };
        let shared = Named::Claim {
            name: "theirs".into(),
            own: false,
        };
        assert_eq!(of(json!([])), [shared.clone(), Named::Missing]);
        assert_eq!(
            of(json!([{"name": "own"}])),
            [shared.clone(), Named::Skipped]
        );
        let own = Named::Claim {
            name: "p-own-x".into(),
            own: true,
        };
        let known = json!([{"name": "own", "resourceClaimName": "p-own-x"}]);
        assert_eq!(of(known.clone()), [shared, own]);
        assert_eq!(names(&pod(known)), ["p-own-x", "theirs"]);
    }

    #[test]
    fn a_claim_is_made_for_one_claim_of_one_pod() {
        let template = proto::typed::from_json_value(json!({
            "spec": {"metadata": {"labels": {"a": "b"}}, "spec": {"devices": {}}},
        }))
        .unwrap();
        let pod = pod(json!([]));
        let own = &wanted(&pod)[1];
        let made = made(&pod, own, &template);
        assert_eq!(made.metadata.generate_name.as_deref(), Some("p-own-"));
        assert!(is_for(&pod, &made) && is_made_for(&made, own));
        assert!(!is_made_for(&made, &wanted(&pod)[0]));
        assert_eq!(owner(&made), Some(("p", "u")));
        let long = prefix(&"p".repeat(60), &"c".repeat(20));
        assert_eq!(long, format!("{}-{}", "p".repeat(41), "c".repeat(13)));
    }

    #[test]
    fn a_claim_loses_its_devices_with_its_last_consumer() {
        let both = claim(true, false, &["a", "b"]);
        let one = judge(&both, |c| c.uid == "a");
        assert!(one.status.as_ref().is_some_and(is_allocated) && !one.release && !one.unused);
        let none = judge(&both, |_| false);
        assert!(none.status.is_some_and(|c| !is_allocated(&c)) && none.release && none.unused);
        let kept = judge(&both, |_| true);
        assert_eq!(kept, Verdict::default());
        // Not the scheduler's: whoever allocated it takes it back.
        let foreign = judge(&claim(false, false, &["a"]), |_| false);
        assert!(foreign.status.is_some_and(|c| is_allocated(&c)) && !foreign.release);
    }

    #[test]
    fn an_unused_claim_that_is_deleted_goes() {
        let gone = judge(&claim(true, true, &[]), |_| true);
        assert!(gone.status.is_some_and(|c| !is_allocated(&c)) && gone.release);
        let stays = judge(&claim(true, false, &[]), |_| true);
        assert!(stays.status.is_none() && !stays.release && stays.unused);
    }

    #[test]
    fn a_scheduled_pod_is_put_among_the_consumers_once() {
        let free = claim(true, false, &[]);
        let pod = pod(json!([]));
        let taken = reserved(&pod, &free).unwrap();
        assert_eq!(pods_of(&taken)[0].uid, "u");
        assert_eq!(reserved(&pod, &taken), None);
        let mut unallocated = free;
        unallocated.status = None;
        assert_eq!(reserved(&pod, &unallocated), None);
    }
}
