//! What a deployment reads off its replica sets and writes on them.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetCondition};
use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::strategy::{max_surge, replicas};
use crate::template::filled;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
pub(super) const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
/// The label that tells the pods of a deployment's replica sets apart.
pub(super) const HASH_LABEL: &str = "pod-template-hash";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The longest history of revisions in characters: about a hundred.
const HISTORY: usize = 2000;

pub(super) type Annotations = BTreeMap<String, String>;

/// Annotations that belong to the one object, and are not copied between a deployment and its replica sets.
pub(super) fn stays(annotation: &str) -> bool {
    [
        LAST_APPLIED,
        REVISION,
        REVISION_HISTORY,
        DESIRED_REPLICAS,
        MAX_REPLICAS,
        ROLLBACK_TO,
    ]
    .contains(&annotation)
}

pub(super) fn name(set: &ReplicaSet) -> &str {
    set.metadata.name.as_deref().unwrap_or_default()
}

/// The replicas that a set is to have.
pub(super) fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// The pods that it has.
pub(super) fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |s| s.replicas)
}

pub(super) fn ready(set: &ReplicaSet) -> i32 {
    let status = set.status.as_ref();
    status.and_then(|s| s.ready_replicas).unwrap_or(0)
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    let status = set.status.as_ref();
    status.and_then(|s| s.available_replicas).unwrap_or(0)
}

pub(super) fn observed_generation(set: &ReplicaSet) -> i64 {
    let status = set.status.as_ref();
    status.and_then(|s| s.observed_generation).unwrap_or(0)
}

/// Why it could not create or delete pods.
pub(super) fn failure(set: &ReplicaSet) -> Option<&ReplicaSetCondition> {
    let conditions = set.status.as_ref()?.conditions.as_deref()?;
    conditions
        .iter()
        .find(|c| c.type_.as_deref() == Some("ReplicaFailure"))
}

fn annotation<'s>(set: &'s ReplicaSet, key: &str) -> Option<&'s str> {
    let annotations = set.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// Its revision: 0 if it has none yet, none if what it has is no number.
pub(super) fn revision(set: &ReplicaSet) -> Option<i64> {
    match annotation(set, REVISION) {
        None => Some(0),
        Some(text) => text.parse().ok(),
    }
}

fn count(set: &ReplicaSet, key: &str) -> Option<i32> {
    let text = annotation(set, key)?;
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// The replicas that the deployment had when it last scaled this set.
pub(super) fn desired(set: &ReplicaSet) -> Option<i32> {
    count(set, DESIRED_REPLICAS)
}

/// The most pods that the deployment could have then.
pub(super) fn max_before(set: &ReplicaSet) -> Option<i32> {
    count(set, MAX_REPLICAS)
}

/// Oldest first; sets of the same second by name.
pub(super) fn by_age(a: &ReplicaSet, b: &ReplicaSet) -> Ordering {
    let created = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|t| t.0);
    created(a)
        .cmp(&created(b))
        .then_with(|| name(a).cmp(name(b)))
}

/// Oldest revision first; those without one, and equal ones, by age.
pub(super) fn by_revision(a: &ReplicaSet, b: &ReplicaSet) -> Ordering {
    match (revision(a), revision(b)) {
        (Some(x), Some(y)) if x != y => x.cmp(&y),
        _ => by_age(a, b),
    }
}

/// Whether two templates make the same pods: the hash in their labels does not count.
pub(super) fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let (a, b) = (plain(a), plain(b));
    if a == b {
        return true;
    }
    let tree = |template| serde_json::to_value(template).ok().map(|t| filled(&t));
    tree(&a) == tree(&b)
}

/// The template without the hash label, and without what the server adds.
fn plain(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut plain = template.clone();
    let mut meta = plain.metadata.take().unwrap_or_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH_LABEL);
    }
    meta.creation_timestamp = None;
    plain.metadata = Some(meta);
    plain
}

/// The annotations that the newest set is to have: those of the deployment, its revision, and those it had before if
/// it is an old one that comes back.
pub(super) fn newest_annotations(
    deployment: &Deployment,
    before: &Annotations,
    new_revision: i64,
) -> Annotations {
    let mut after = before.clone();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !stays(key) {
            after.insert(key.clone(), value.clone());
        }
    }
    let old_text = before.get(REVISION);
    let old = match old_text.map(String::as_str) {
        None | Some("") => Some(0),
        Some(text) => text.parse::<i64>().ok(),
    };
    // What is no number is left alone.
    let Some(old) = old.filter(|old| *old < new_revision) else {
        return after;
    };
    after.insert(REVISION.to_owned(), new_revision.to_string());
    if old_text.is_some() {
        let history = before.get(REVISION_HISTORY).map_or("", String::as_str);
        if let Some(history) = longer_history(history, &old.to_string()) {
            after.insert(REVISION_HISTORY.to_owned(), history);
        }
    }
    after
}

/// A history with one more revision; the oldest go where it would be too long.
fn longer_history(history: &str, revision: &str) -> Option<String> {
    if history.is_empty() {
        return Some(revision.to_owned());
    }
    let mut rest = history;
    while rest.len() + 1 + revision.len() > HISTORY {
        let Some((_, younger)) = rest.split_once(',') else {
            return (revision.len() <= HISTORY).then(|| revision.to_owned());
        };
        rest = younger;
    }
    Some(format!("{rest},{revision}"))
}

/// The annotations by which a set remembers how large its deployment was.
pub(super) fn size_annotations(deployment: &Deployment, before: &Annotations) -> Annotations {
    let desired = replicas(deployment);
    let most = desired.saturating_add(max_surge(deployment));
    let mut after = before.clone();
    after.insert(DESIRED_REPLICAS.to_owned(), desired.to_string());
    after.insert(MAX_REPLICAS.to_owned(), most.to_string());
    after
}
