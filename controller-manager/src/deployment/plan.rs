//! What has to happen to a deployment. Pure: the deployment and its replica sets in, changes and status out.
//!
//! Rollout, recreation, pause, scaling, rollback and history are decided here. Source: `pkg/controller/deployment`.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::conditions::{self, PROGRESSING, condition};
use super::progress::{Sets, counted, is_complete, look_again, rollout};
use super::replica_set::{self as set, Annotations};
use super::scale::{newest, old_shrunk, resized, sum};
use super::strategy::{history_limit, is_paused, is_rolling, progress_deadline, replicas};
use crate::hash::template_hash;
use crate::owners;

/// What the controller sees.
pub(super) struct Seen<'s> {
    pub deployment: &'s Deployment,
    /// The replica sets that are its own.
    pub sets: Vec<Arc<ReplicaSet>>,
    /// Whether a pod of one of these sets is there that has not ended.
    pub has_pods: &'s dyn Fn(&ReplicaSet) -> bool,
    /// `DeploymentReplicaSetTerminatingReplicas`
    pub reports_terminating: bool,
    pub now: Timestamp,
}

/// A change to a replica set.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Update {
    pub set: Arc<ReplicaSet>,
    pub replicas: i32,
    pub min_ready_seconds: Option<i32>,
    pub annotations: Annotations,
}

impl Update {
    fn new(set: &Arc<ReplicaSet>) -> Self {
        Self {
            replicas: set::wanted(set),
            min_ready_seconds: set.spec.min_ready_seconds,
            annotations: set.metadata.annotations.clone().unwrap_or_default(),
            set: Arc::clone(set),
        }
    }

    fn changes_anything(&self) -> bool {
        let before = self.set.metadata.annotations.as_ref();
        self.replicas != set::wanted(&self.set)
            || self.min_ready_seconds.unwrap_or(0) != self.set.spec.min_ready_seconds.unwrap_or(0)
            || before.is_none_or(|b| *b != self.annotations) && !self.annotations.is_empty()
    }
}

/// A way back to an earlier revision, asked for by annotation.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Rollback {
    /// What the deployment gets; none if it stays as it is.
    pub to: Option<(PodTemplateSpec, Annotations)>,
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
}

/// What to do.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Plan {
    pub rollback: Option<Rollback>,
    pub create: Option<Box<ReplicaSet>>,
    pub updates: Vec<Update>,
    pub delete: Vec<Arc<ReplicaSet>>,
    /// The deployment's own revision.
    pub revision: Option<String>,
    pub status: DeploymentStatus,
    /// When to look again if nothing happens.
    pub after: Option<Duration>,
}

/// Makes the plan.
pub(super) fn plan(seen: &Seen<'_>) -> Plan {
    let deployment = seen.deployment;
    let (newest, old) = sorted(deployment, &seen.sets);
    let sets = Sets {
        newest: newest.as_ref(),
        old: &old,
    };
    let mut before = deployment.status.clone().unwrap_or_default();
    let count = |before: &DeploymentStatus| {
        counted(deployment, before, sets, seen.reports_terminating, seen.now)
    };
    let mut plan = Plan {
        rollback: None,
        create: None,
        updates: Vec::new(),
        delete: Vec::new(),
        revision: None,
        status: DeploymentStatus::default(),
        after: None,
    };
    if deployment.metadata.deletion_timestamp.is_some() {
        plan.status = count(&before);
        return plan;
    }
    mark_pause(deployment, &mut before, seen.now);
    let mut newest_update = sets.newest.map(|set| revised(deployment, set, &old));
    if let Some(update) = &newest_update {
        plan.revision = update.annotations.get(set::REVISION).cloned();
        note_found(deployment, &update.set, &mut before, seen.now);
    }
    let paused = is_paused(deployment);
    let rollback_to = rollback_to(deployment);
    if !paused && let Some(revision) = rollback_to {
        plan.rollback = Some(rollback(deployment, sets, revision));
        plan.status = before;
        return plan;
    }
    if paused || is_scaling(deployment, sets) {
        let (sizes, remember) = resized(deployment, sets.newest, sets.old);
        resize(deployment, &mut newest_update, &mut plan, sizes, remember);
        plan.status = count(&before);
        if paused && rollback_to.is_none() {
            plan.delete = surplus_history(deployment, sets.old);
        }
    } else {
        roll_out(seen, sets, &mut newest_update, &mut plan);
        plan.status = rollout(deployment, &before, count(&before), sets, seen.now);
        if let Some(created) = &plan.create {
            note_created(deployment, set::name(created), &mut plan.status, seen.now);
        } else if is_complete(deployment, &before) {
            plan.delete = surplus_history(deployment, sets.old);
        }
        plan.after = look_again(deployment, &plan.status, seen.now);
    }
    plan.updates
        .extend(newest_update.filter(Update::changes_anything));
    plan
}

/// The set with the deployment's template, the oldest if there are several; and the others, oldest first.
fn sorted(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
) -> (Option<Arc<ReplicaSet>>, Vec<Arc<ReplicaSet>>) {
    let mut old = sets.to_vec();
    old.sort_by(|a, b| set::by_age(a, b));
    let wanted = &deployment.spec.template;
    let has_template = |s: &Arc<ReplicaSet>| {
        let template = s.spec.template.as_ref();
        template.is_some_and(|t| set::same_template(t, wanted))
    };
    let newest = old.iter().position(has_template).map(|at| old.remove(at));
    (newest, old)
}

/// Pausing stops the clock of the deadline: the condition says so while it lasts.
fn mark_pause(deployment: &Deployment, status: &mut DeploymentStatus, now: Timestamp) {
    if progress_deadline(deployment).is_none() {
        return;
    }
    let reason = conditions::reason(status, PROGRESSING);
    let told = reason == conditions::PAUSED;
    let (reason, message) = match (is_paused(deployment), told) {
        _ if reason == conditions::TIMED_OUT => return,
        (true, false) => (conditions::PAUSED, "Deployment is paused"),
        (false, true) => (conditions::RESUMED, "Deployment is resumed"),
        _ => return,
    };
    let new = condition(PROGRESSING, "Unknown", reason, message, now);
    conditions::set(status, new);
}

/// The newest set with its revision, the deployment's annotations and readiness time.
fn revised(deployment: &Deployment, newest: &Arc<ReplicaSet>, old: &[Arc<ReplicaSet>]) -> Update {
    let mut update = Update::new(newest);
    update.annotations =
        set::newest_annotations(deployment, &update.annotations, next_revision(old));
    update.min_ready_seconds = deployment.spec.min_ready_seconds;
    update
}

fn next_revision(old: &[Arc<ReplicaSet>]) -> i64 {
    let revisions = old.iter().filter_map(|s| set::revision(s));
    revisions.max().unwrap_or(0).max(0).saturating_add(1)
}

fn note_found(
    deployment: &Deployment,
    newest: &ReplicaSet,
    status: &mut DeploymentStatus,
    now: Timestamp,
) {
    if progress_deadline(deployment).is_some() && conditions::get(status, PROGRESSING).is_none() {
        let message = format!("Found new replica set \"{}\"", set::name(newest));
        let new = condition(PROGRESSING, "True", conditions::FOUND, &message, now);
        conditions::set(status, new);
    }
}

fn note_created(
    deployment: &Deployment,
    name: &str,
    status: &mut DeploymentStatus,
    now: Timestamp,
) {
    if progress_deadline(deployment).is_some() {
        let message = format!("Created new replica set \"{name}\"");
        let new = condition(PROGRESSING, "True", conditions::CREATED, &message, now);
        conditions::set(status, new);
    }
}

/// The deployment's size is another than the one that its active sets were told.
fn is_scaling(deployment: &Deployment, sets: Sets<'_>) -> bool {
    let active = sets.all().filter(|s| set::wanted(s) > 0);
    let mut told = active.filter_map(|s| set::desired(s));
    told.any(|n| n != replicas(deployment))
}

/// Sets sizes. `remember` tells the sets the deployment's size even where theirs stays.
fn resize(
    deployment: &Deployment,
    newest: &mut Option<Update>,
    plan: &mut Plan,
    sizes: Vec<(Arc<ReplicaSet>, i32)>,
    remember: bool,
) {
    for (one, size) in sizes {
        if !remember && set::wanted(&one) == size {
            continue;
        }
        let is_newest = |u: &&mut Update| u.set.metadata.uid == one.metadata.uid;
        if let Some(update) = newest.as_mut().filter(is_newest) {
            update.replicas = size;
            update.annotations = set::size_annotations(deployment, &update.annotations);
            continue;
        }
        let mut update = Update::new(&one);
        update.replicas = size;
        update.annotations = set::size_annotations(deployment, &update.annotations);
        if update.changes_anything() {
            plan.updates.push(update);
        }
    }
}

fn roll_out(seen: &Seen<'_>, sets: Sets<'_>, newest_update: &mut Option<Update>, plan: &mut Plan) {
    let deployment = seen.deployment;
    let sizes = if is_rolling(deployment) {
        rolling(deployment, sets)
    } else {
        recreated(seen, sets)
    };
    match sizes {
        Step::Create(size) => plan.create = Some(Box::new(created(deployment, sets.old, size))),
        Step::Resize(sizes) => resize(deployment, newest_update, plan, sizes, false),
        Step::Wait => {}
    }
}

/// The next step of a rollout.
enum Step {
    Create(i32),
    Resize(Vec<(Arc<ReplicaSet>, i32)>),
    Wait,
}

fn rolling(deployment: &Deployment, sets: Sets<'_>) -> Step {
    let total = sum(sets.all(), set::wanted);
    let Some(current) = sets.newest else {
        return Step::Create(newest(deployment, 0, total));
    };
    let (has, all) = (set::wanted(current), replicas(deployment));
    let gets = if has > all {
        all
    } else {
        newest(deployment, has, total)
    };
    if gets != has {
        return Step::Resize(vec![(Arc::clone(current), gets)]);
    }
    Step::Resize(old_shrunk(deployment, current, has, sets.old))
}

fn recreated(seen: &Seen<'_>, sets: Sets<'_>) -> Step {
    let active = sets.old.iter().filter(|s| set::wanted(s) > 0);
    let to_zero: Vec<_> = active.map(|s| (Arc::clone(s), 0)).collect();
    if !to_zero.is_empty() {
        return Step::Resize(to_zero);
    }
    if sets
        .old
        .iter()
        .any(|s| set::actual(s) > 0 || (seen.has_pods)(s))
    {
        return Step::Wait;
    }
    let all = replicas(seen.deployment);
    match sets.newest {
        Some(current) => Step::Resize(vec![(Arc::clone(current), all)]),
        None => Step::Create(all),
    }
}

/// A replica set for the deployment's template.
fn created(deployment: &Deployment, old: &[Arc<ReplicaSet>], size: i32) -> ReplicaSet {
    let spec = &deployment.spec;
    let collisions = deployment.status.as_ref().and_then(|s| s.collision_count);
    let hash = template_hash(&spec.template, collisions);
    let labelled = |labels: Option<&crate::selector::Labels>| {
        let mut labels = labels.cloned().unwrap_or_default();
        labels.insert(set::HASH_LABEL.to_owned(), hash.clone());
        Some(labels)
    };
    let mut template = spec.template.clone();
    let meta = template.metadata.get_or_insert_default();
    meta.labels = labelled(meta.labels.as_ref());
    let labels = meta.labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels = labelled(selector.match_labels.as_ref());
    let annotations = set::newest_annotations(deployment, &Annotations::new(), next_revision(old));
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(set_name(deployment, &hash)),
            namespace: deployment.metadata.namespace.clone(),
            owner_references: Some(vec![owners::reference(deployment)]),
            labels,
            annotations: Some(set::size_annotations(deployment, &annotations)),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(size),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        },
        status: None,
    }
}

/// The deployment's name with the hash, cut to what a name may be long.
fn set_name(deployment: &Deployment, hash: &str) -> String {
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    // Names are ASCII.
    let most = 253usize.saturating_sub(1 + hash.len());
    let name = name.get(..most).unwrap_or(name);
    format!("{name}-{hash}")
}

/// Old sets beyond the history that is kept: those without pods, whose controller has seen that.
fn surplus_history(deployment: &Deployment, old: &[Arc<ReplicaSet>]) -> Vec<Arc<ReplicaSet>> {
    let Some(limit) = history_limit(deployment) else {
        return Vec::new();
    };
    let alive = old
        .iter()
        .filter(|s| s.metadata.deletion_timestamp.is_none());
    let mut sets: Vec<_> = alive.cloned().collect();
    let surplus = sets
        .len()
        .saturating_sub(usize::try_from(limit).unwrap_or(0));
    sets.sort_by(|a, b| set::by_revision(a, b));
    sets.truncate(surplus);
    sets.retain(|s| {
        set::actual(s) == 0
            && set::wanted(s) == 0
            && s.metadata.generation.unwrap_or(0) <= set::observed_generation(s)
    });
    sets
}

/// The revision that the annotation asks for; 0 means the one before.
fn rollback_to(deployment: &Deployment) -> Option<i64> {
    let annotations = deployment.metadata.annotations.as_ref()?;
    annotations.get(set::ROLLBACK_TO)?.parse().ok()
}

fn rollback(deployment: &Deployment, sets: Sets<'_>, revision: i64) -> Rollback {
    let warning = |reason, message: &str| Rollback {
        to: None,
        warning: true,
        reason,
        message: message.to_owned(),
    };
    let not_found = "DeploymentRollbackRevisionNotFound";
    let revision = if revision == 0 {
        let mut all: Vec<_> = sets.all().filter_map(|s| set::revision(s)).collect();
        all.sort_unstable();
        match all.iter().rev().nth(1) {
            Some(before) if *before > 0 => *before,
            _ => return warning(not_found, "Unable to find last revision."),
        }
    } else {
        revision
    };
    let Some(target) = sets.all().find(|s| set::revision(s) == Some(revision)) else {
        return warning(not_found, "Unable to find the revision to rollback to.");
    };
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let template = target.spec.template.clone().unwrap_or_default();
    if set::same_template(&template, &deployment.spec.template) {
        let message = format!(
            "The rollback revision contains the same template as current deployment \"{name}\""
        );
        return warning("DeploymentRollbackTemplateUnchanged", &message);
    }
    let mut template = template;
    if let Some(labels) = template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
        labels.remove(set::HASH_LABEL);
    }
    let own = deployment.metadata.annotations.iter().flatten();
    let own = own.filter(|(key, _)| set::stays(key) && *key != set::ROLLBACK_TO);
    let its = target.metadata.annotations.iter().flatten();
    let its = its.filter(|(key, _)| !set::stays(key));
    let annotations = own.chain(its).map(|(k, v)| (k.clone(), v.clone()));
    Rollback {
        to: Some((template, annotations.collect())),
        warning: false,
        reason: "DeploymentRollback",
        message: format!("Rolled back deployment \"{name}\" to revision {revision}"),
    }
}

#[cfg(test)]
mod tests;
