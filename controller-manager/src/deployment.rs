//! Deployments: replica sets over time. Source: `pkg/controller/deployment`.
//!
//! [`plan::plan`] decides, this file applies. It plans only once the cache shows its own writes to replica sets.

use std::sync::Arc;

use component::client::{Api, Client, Patch};
use component::controller::Next;
use component::events::{Recorder, Type, reference};
use component::informer::{Event, Index, Informer, Key, Lister};
use component::queue::Queue;
use http::Method;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions};
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::Error;
use crate::selector::Selector;
use crate::writes::{LOOK_AGAIN, Writes};
use crate::{owners, pods, update, watch};

mod conditions;
mod plan;
mod progress;
mod replica_set;
mod scale;
mod strategy;

use conditions::{CREATE_ERROR, PROGRESSING, condition};
use plan::{Plan, Rollback, Seen, Update};

pub(crate) use strategy::scaled;

/// Starts `deployment-controller`.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("deployment");
    let deployments: Informer<Deployment> = cx.informer();
    let sets: Informer<ReplicaSet> = cx.informer();
    let pods: Informer<Pod> = cx.informer();
    let controller = Arc::new(Controller {
        cx: cx.clone(),
        deployments: deployments.lister(),
        by_deployment: watch::by_controller(&sets),
        sets: sets.lister(),
        by_set: watch::by_controller(&pods),
        pods: pods.lister(),
        writes: Writes::default(),
        recorder: cx.recorder().clone(),
    });
    watch::own(&deployments, &queue);
    let adopters = deployments.lister();
    watch::owned::<Deployment, ReplicaSet>(&sets, &queue, move |set| {
        owners::adopters(&adopters, &set.metadata, |d| {
            Selector::of(&d.spec.selector).ok()
        })
    });
    wake_for_gone_pods(&pods, sets.lister(), &queue);
    let workers = cx.config().deployment.concurrent_deployment_syncs;
    cx.run(workers, &queue, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.reconcile(key).await }
    });
    Ok(())
}

/// A deployment that is recreated waits for its last old pod, whose end no replica set's status has to show.
fn wake_for_gone_pods(pods: &Informer<Pod>, sets: Lister<ReplicaSet>, queue: &Queue<Key>) {
    let queue = queue.clone();
    pods.subscribe(move |_, event| {
        let ended = match event {
            Event::Deleted(_) => true,
            Event::Updated { old, new } => !pods::is_terminal(old) && pods::is_terminal(new),
            Event::Added(_) => false,
        };
        if !ended {
            return;
        }
        let set = owners::key::<ReplicaSet>(&event.object().metadata);
        let set = set.and_then(|key| sets.by_key(&key));
        if let Some(key) = set.and_then(|s| owners::key::<Deployment>(&s.metadata)) {
            queue.add(key);
        }
    });
}

/// The deployments whose selectors select an orphaned replica set.
struct Controller {
    cx: Context,
    deployments: Lister<Deployment>,
    sets: Lister<ReplicaSet>,
    by_deployment: Index,
    pods: Lister<Pod>,
    by_set: Index,
    writes: Writes,
    recorder: Recorder,
}

/// One reconciliation.
struct Run<'c> {
    controller: &'c Controller,
    key: &'c Key,
    deployment: &'c Deployment,
    client: Client,
}

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(deployment) = self.deployments.by_key(&key) else {
            self.writes.forget(&key);
            return Ok(Next::Done);
        };
        if !self.writes.are_seen(&key, &self.sets) {
            return Ok(Next::After(LOOK_AGAIN));
        }
        let run = Run {
            controller: self,
            key: &key,
            deployment: &deployment,
            client: self.cx.client().await?,
        };
        let Ok(selector) = Selector::of(&deployment.spec.selector) else {
            return Ok(Next::Done);
        };
        if selector.is_everything() {
            return run.refuse_to_select_all().await;
        }
        let candidates = owners::children(&self.sets, self.by_deployment, &deployment.metadata);
        let sets = owners::claim(&deployment.metadata, candidates, |set| {
            selector.matches(set.metadata.labels.as_ref())
        })
        .settle(&run.client, &*deployment, &[])
        .await?;
        let has_pods = |set: &ReplicaSet| {
            let uid = set.metadata.uid.as_deref().unwrap_or_default();
            let pods = owners::controlled(&self.pods, self.by_set, uid);
            pods.iter().any(|pod| !pods::is_terminal(pod))
        };
        let features = self.cx.features();
        let plan = plan::plan(&Seen {
            deployment: &deployment,
            sets,
            has_pods: &has_pods,
            reports_terminating: features.enabled("DeploymentReplicaSetTerminatingReplicas"),
            now: self.cx.now(),
        });
        run.apply(plan).await
    }
}

impl Run<'_> {
    fn deployments(&self) -> Api<Deployment> {
        self.client.namespaced(self.key.namespace())
    }

    fn sets(&self) -> Api<ReplicaSet> {
        self.client.namespaced(self.key.namespace())
    }

    fn tell(&self, kind: Type, reason: &str, message: &str) {
        let about = reference(self.deployment);
        match kind {
            Type::Normal => self.controller.recorder.normal(&about, reason, message),
            Type::Warning => self.controller.recorder.warning(&about, reason, message),
        }
    }

    async fn apply(&self, plan: Plan) -> Result<Next, Error> {
        if let Some(rollback) = &plan.rollback {
            return self.roll_back(rollback).await;
        }
        let mut status = plan.status;
        if let Some(set) = &plan.create {
            self.create(set, &mut status).await?;
        }
        for update in &plan.updates {
            self.update(update).await?;
        }
        for set in &plan.delete {
            self.delete(set).await?;
        }
        let created = plan.create.as_ref();
        let revision = plan.revision.or_else(|| {
            let annotations = created?.metadata.annotations.as_ref();
            annotations?.get(replica_set::REVISION).cloned()
        });
        self.write_status(status, revision.as_deref()).await?;
        Ok(plan.after.map_or(Next::Done, Next::After))
    }

    async fn write_status(
        &self,
        status: DeploymentStatus,
        revision: Option<&str>,
    ) -> Result<(), Error> {
        update::status(&self.deployments(), self.deployment, |d| {
            d.status = Some(status);
            if let Some(revision) = revision {
                // By the status, because a change of annotations elsewhere is a new generation.
                let annotations = d.metadata.annotations.get_or_insert_default();
                annotations.insert(replica_set::REVISION.to_owned(), revision.to_owned());
            }
        })
        .await
        .map(drop)
    }

    async fn refuse_to_select_all(&self) -> Result<Next, Error> {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        self.tell(Type::Warning, "SelectingAll", message);
        let mut status = self.deployment.status.clone().unwrap_or_default();
        status.observed_generation = self.deployment.metadata.generation;
        self.write_status(status, None).await?;
        Ok(Next::Done)
    }

    async fn create(&self, set: &ReplicaSet, status: &mut DeploymentStatus) -> Result<(), Error> {
        let size = set.spec.replicas.unwrap_or(0);
        let name = replica_set::name(set);
        let error = match self.sets().create(set).await {
            Ok(created) => {
                self.controller.writes.wrote(self.key, &created.metadata);
                if size > 0 {
                    let message = format!("Scaled up replica set {name} from 0 to {size}");
                    self.tell(Type::Normal, "ScalingReplicaSet", &message);
                }
                return Ok(());
            }
            Err(e) if e.is_already_exists() => return self.collided(set, e.into()).await,
            Err(e) => e,
        };
        if !error.is_namespace_terminating() {
            let message = format!("Failed to create new replica set \"{name}\": {error}");
            if strategy::progress_deadline(self.deployment).is_some() {
                let now = self.controller.cx.now();
                let failed = condition(PROGRESSING, "False", CREATE_ERROR, &message, now);
                conditions::set(status, failed);
                // The error at hand is the one to report.
                let _ = self.write_status(status.clone(), None).await;
            }
            self.tell(Type::Warning, CREATE_ERROR, &message);
        }
        Err(error.into())
    }

    /// A set of that name is there. If it is ours with this template, the cache was late; otherwise two templates have
    /// one hash, and the count of collisions makes another.
    async fn collided(&self, set: &ReplicaSet, error: Error) -> Result<(), Error> {
        let there = self.sets().get(replica_set::name(set)).await?;
        let uid = self.deployment.metadata.uid.as_deref().unwrap_or_default();
        let template = there.spec.template.as_ref();
        let same =
            template.is_some_and(|t| replica_set::same_template(t, &self.deployment.spec.template));
        if same && owners::is_controlled_by(&there.metadata, uid) {
            self.controller.writes.wrote(self.key, &there.metadata);
            return Ok(());
        }
        let mut status = self.deployment.status.clone().unwrap_or_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
        self.write_status(status, None).await?;
        Err(error)
    }

    async fn update(&self, update: &Update) -> Result<(), Error> {
        let set = &update.set;
        let before = set.metadata.annotations.as_ref();
        let changed = update
            .annotations
            .iter()
            .filter(|(key, value)| before.and_then(|b| b.get(*key)) != Some(*value));
        let annotations: serde_json::Map<String, Value> = changed
            .map(|(key, value)| (key.clone(), json!(value)))
            .collect();
        let (from, to) = (replica_set::wanted(set), update.replicas);
        let patch = json!({
            "metadata": {
                "uid": set.metadata.uid,
                "resourceVersion": set.metadata.resource_version,
                "annotations": annotations,
            },
            "spec": {
                "replicas": to,
                "minReadySeconds": update.min_ready_seconds.unwrap_or(0),
            },
        });
        let name = replica_set::name(set);
        let written = self.sets().patch(name, &Patch::merge(&patch)?).await?;
        self.controller.writes.wrote(self.key, &written.metadata);
        if from != to {
            let way = if from < to { "up" } else { "down" };
            let message = format!("Scaled {way} replica set {name} from {from} to {to}");
            self.tell(Type::Normal, "ScalingReplicaSet", &message);
        }
        Ok(())
    }

    async fn delete(&self, set: &ReplicaSet) -> Result<(), Error> {
        let options = DeleteOptions {
            preconditions: Some(Preconditions {
                uid: set.metadata.uid.clone(),
                // A set that somebody scales up meanwhile stays.
                resource_version: set.metadata.resource_version.clone(),
            }),
            ..DeleteOptions::default()
        };
        match self.sets().delete(replica_set::name(set), &options).await {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => {
                self.controller.writes.deleting(self.key, &set.metadata);
                Ok(())
            }
        }
    }

    /// Writes the template of an earlier revision into the deployment, and takes the annotation away that asked for it.
    /// The right to patch deployments is not the controller's; it replaces the object, read as a tree so that no field
    /// is lost.
    async fn roll_back(&self, rollback: &Rollback) -> Result<Next, Error> {
        let path = self.deployments().target().path(Some(self.key.namespace()));
        let path = format!("{path}/{}", self.key.name());
        let none = None::<&Value>;
        let mut tree: Value = self.client.request(Method::GET, &path, &[], none).await?;
        if tree["metadata"]["resourceVersion"] != json!(self.deployment.metadata.resource_version) {
            return Ok(Next::Again);
        }
        match &rollback.to {
            Some((template, annotations)) => {
                tree["spec"]["template"] = json!(template);
                tree["metadata"]["annotations"] = json!(annotations);
            }
            None => {
                if let Some(annotations) = tree["metadata"]["annotations"].as_object_mut() {
                    annotations.remove(replica_set::ROLLBACK_TO);
                }
            }
        }
        let kind = if rollback.warning {
            Type::Warning
        } else {
            Type::Normal
        };
        let put = Method::PUT;
        let _: Value = self.client.request(put, &path, &[], Some(&tree)).await?;
        self.tell(kind, rollback.reason, &rollback.message);
        Ok(Next::Done)
    }
}
