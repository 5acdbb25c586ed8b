//! The pods of a stateful set and their claims: each has a number, and keeps it. Pure.

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::history::{self, HASH_LABEL};
use crate::{owners, pods};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

pub(super) fn name(set: &StatefulSet) -> &str {
    set.metadata.name.as_deref().unwrap_or_default()
}

/// The first number.
pub(super) fn start(set: &StatefulSet) -> i32 {
    let ordinals = set.spec.ordinals.as_ref();
    ordinals.and_then(|o| o.start).unwrap_or(0)
}

/// A pod's number in its set, if its name is one of the set's.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (parent, number) = pod.metadata.name.as_deref()?.rsplit_once('-')?;
    let plain = number.bytes().all(|b| b.is_ascii_digit());
    (parent == name(set) && plain)
        .then(|| number.parse().ok())
        .flatten()
}

/// The revision that a pod is of.
pub(super) fn revision(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    labels
        .and_then(|l| l.get(HASH_LABEL))
        .map_or("", String::as_str)
}

/// A pod of the set.
pub(super) fn made(
    set: &StatefulSet,
    template: &PodTemplateSpec,
    revision: &ControllerRevision,
    ordinal: i32,
) -> Pod {
    let mut pod = pods::from_template(template, name(set), owners::reference(set));
    let own = format!("{}-{ordinal}", name(set));
    pod.metadata.name = Some(own.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_owned(), own.clone());
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
    labels.insert(HASH_LABEL.to_owned(), history::name(revision).to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(own);
    spec.subdomain = set.spec.service_name.clone();
    let mut volumes: Vec<Volume> = Vec::new();
    for (volume, claim) in claims(set, ordinal) {
        volumes.push(Volume {
            name: volume,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.metadata.name.unwrap_or_default(),
                read_only: None,
            }),
            ..Volume::default()
        });
    }
    let rest = spec.volumes.take().unwrap_or_default();
    let rest = rest
        .into_iter()
        .filter(|v| volumes.iter().all(|own| own.name != v.name));
    let rest: Vec<_> = rest.collect();
    volumes.extend(rest);
    spec.volumes = (!volumes.is_empty()).then_some(volumes);
    pod
}

/// The patch that gives a pod its identity back, if somebody took it away.
pub(super) fn repair(pod: &Pod, ordinal: i32) -> Option<Value> {
    let labels = pod.metadata.labels.as_ref();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let is_told = labels.and_then(|l| l.get(POD_NAME)).map(String::as_str) == Some(name);
    let labels = json!({POD_NAME: name, POD_INDEX: ordinal.to_string()});
    let uid = &pod.metadata.uid;
    (!is_told).then(|| json!({"metadata": {"uid": uid, "labels": labels}}))
}

/// Whether an object has a pod of that name among its owners.
pub(super) fn belongs_to_pod(meta: &ObjectMeta, name: &str) -> bool {
    let references = meta.owner_references.iter().flatten();
    references
        .filter(|r| r.api_version == "v1" && r.kind == "Pod")
        .any(|r| r.name == name)
}

/// The names of the sets whose pods are among an object's owners.
pub(super) fn sets_of(meta: &ObjectMeta) -> impl Iterator<Item = &str> {
    let references = meta.owner_references.iter().flatten();
    let pods = references.filter(|r| r.api_version == "v1" && r.kind == "Pod");
    pods.filter_map(|r| r.name.rsplit_once('-').map(|(set, _)| set))
}

/// The claims of the pod with that number, by the names of its volumes.
pub(super) fn claims(set: &StatefulSet, ordinal: i32) -> Vec<(String, PersistentVolumeClaim)> {
    let templates = set.spec.volume_claim_templates.iter().flatten();
    let own = |template: &PersistentVolumeClaim| {
        let volume = template.metadata.name.clone().unwrap_or_default();
        let mut claim = template.clone();
        claim.metadata.name = Some(format!("{volume}-{}-{ordinal}", name(set)));
        claim.metadata.namespace = set.metadata.namespace.clone();
        let labels = claim.metadata.labels.get_or_insert_default();
        labels.extend(set.spec.selector.match_labels.clone().unwrap_or_default());
        claim.status = None;
        (volume, claim)
    };
    templates.map(own).collect()
}
