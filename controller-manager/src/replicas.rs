//! Replica sets and replication controllers: as many pods as asked for. One controller for both kinds, as upstream's.
//!
//! The plan ([`plan::changes`]) counts pods that it sees, so it is made only once the cache shows all own writes; the
//! status is of the same moment.
//!
//! Source: `pkg/controller/replicaset`.

use std::sync::Arc;

use component::controller::Next;
use component::events::Recorder;
use component::informer::{Index, Informer, Key, Lister};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::jiff::Timestamp;

use crate::batch::slow_start;
use crate::context::Context;
use crate::error::Error;
use crate::writes::{LOOK_AGAIN, Writes};
use crate::{owners, pods, update, watch};

mod kind;
mod plan;

use kind::Replicas;
use plan::Changes;

/// Starts `replicaset-controller`.
pub fn start_replica_sets(cx: &Context) -> anyhow::Result<()> {
    let workers = cx.config().replica_set.concurrent_rs_syncs;
    start::<ReplicaSet>(cx, "replicaset", "replicaset-controller", workers);
    Ok(())
}

/// Starts `replicationcontroller-controller`.
pub fn start_replication_controllers(cx: &Context) -> anyhow::Result<()> {
    let workers = cx.config().replication_controller.concurrent_rc_syncs;
    start::<ReplicationController>(cx, "replicationmanager", "replication-controller", workers);
    Ok(())
}

/// The controller of one of the two kinds.
struct Controller<R> {
    cx: Context,
    owners: Lister<R>,
    /// Owners by their own controller: the replica sets of a deployment share the load of nodes.
    siblings: Index,
    pods: Lister<Pod>,
    by_owner: Index,
    writes: Writes,
    recorder: Recorder,
}

fn start<R: Replicas>(cx: &Context, queue: &str, source: &str, workers: i32) {
    let queue = cx.queue::<Key>(queue);
    let owners: Informer<R> = cx.informer();
    let pods: Informer<Pod> = cx.informer();
    let controller = Arc::new(Controller {
        cx: cx.clone(),
        owners: owners.lister(),
        siblings: watch::by_controller(&owners),
        pods: pods.lister(),
        by_owner: watch::by_controller(&pods),
        writes: Writes::default(),
        recorder: cx.recorder_as(source),
    });
    watch::own(&owners, &queue);
    let adopters = owners.lister();
    watch::owned::<R, Pod>(&pods, &queue, move |pod| {
        owners::adopters(&adopters, &pod.metadata, |o| o.selector().ok())
    });
    cx.run(workers, &queue, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.reconcile(key).await }
    });
}

/// The owners whose selectors select an orphan.
impl<R: Replicas> Controller<R> {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(owner) = self.owners.by_key(&key) else {
            self.writes.forget(&key);
            return Ok(Next::Done);
        };
        if !self.writes.are_seen(&key, &self.pods) {
            return Ok(Next::After(LOOK_AGAIN));
        }
        let Ok(selector) = owner.selector() else {
            // Validation keeps it from happening; trying again would not help.
            return Ok(Next::Done);
        };
        let client = self.cx.client().await?;
        let meta = owner.metadata();
        let all = owners::children(&self.pods, self.by_owner, meta);
        let (active, ended): (Vec<_>, Vec<_>) = all.into_iter().partition(|p| pods::is_active(p));
        let selected = |pod: &Pod| selector.matches(pod.metadata.labels.as_ref());
        let active = owners::claim(meta, active, selected)
            .settle(&client, &*owner, &[])
            .await?;
        let uid = meta.uid.as_deref().unwrap_or_default();
        let terminating = ended.iter().filter(|p| {
            pods::is_terminating(p) && owners::is_controlled_by(&p.metadata, uid) && selected(p)
        });
        let terminating = terminating.count();

        let managed = self.manage(&key, &owner, &active).await;
        let now = self.cx.now();
        self.write_status(&owner, &active, terminating, managed.as_ref().err(), now)
            .await?;
        managed?;
        let wanted = owner.wanted();
        let active = active.iter().map(AsRef::as_ref);
        let next = pods::next_available(active, wanted.min_ready_seconds, now);
        Ok(next.map_or(Next::Done, Next::After))
    }

    /// Creates what is missing, deletes what is too much.
    async fn manage(&self, key: &Key, owner: &Arc<R>, active: &[Arc<Pod>]) -> Result<(), Error> {
        if owner.metadata().deletion_timestamp.is_some() {
            return Ok(());
        }
        let wanted = owner.wanted();
        let related = || self.related(owner);
        match plan::changes(active, wanted.replicas, related, self.cx.now()) {
            Changes::None => Ok(()),
            Changes::Create(count) => self.create(key, owner, count).await,
            Changes::Delete(surplus) => self.delete(key, owner, &surplus).await,
        }
    }

    async fn create(&self, key: &Key, owner: &Arc<R>, count: usize) -> Result<(), Error> {
        let Some(template) = owner.wanted().template else {
            return Err(Error::Unusable("no pod template".to_owned()));
        };
        let name = owner.metadata().name.as_deref().unwrap_or_default();
        let pod = pods::from_template(template, name, owners::reference(&**owner));
        let client = self.cx.client().await?;
        let (created, error) = slow_start(count, |_| async {
            match pods::create(&client, &self.recorder, &**owner, &pod).await {
                Ok(pod) => Ok(Some(pod)),
                // Nothing will be created there any more.
                Err(Error::Client(e)) if e.is_namespace_terminating() => Ok(None),
                Err(e) => Err(e),
            }
        })
        .await;
        for pod in created.iter().flatten() {
            self.writes.wrote(key, &pod.metadata);
        }
        error.map_or(Ok(()), Err)
    }

    async fn delete(&self, key: &Key, owner: &Arc<R>, surplus: &[Arc<Pod>]) -> Result<(), Error> {
        let client = self.cx.client().await?;
        let deletions = surplus.iter().map(|pod| async {
            pods::delete(&client, &self.recorder, &**owner, pod).await?;
            self.writes.deleting(key, &pod.metadata);
            Ok::<_, Error>(())
        });
        let first = futures::future::join_all(deletions)
            .await
            .into_iter()
            .find(Result::is_err);
        first.unwrap_or(Ok(()))
    }

    /// The active pods of this owner and of its siblings.
    fn related(&self, owner: &R) -> Vec<Arc<Pod>> {
        let of = |uid: &str| owners::controlled(&self.pods, self.by_owner, uid);
        let uid = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
            meta.uid.clone().unwrap_or_default()
        };
        let all = match owners::controller(owner.metadata()) {
            None => of(&uid(owner.metadata())),
            Some(parent) => {
                let siblings = owners::controlled(&self.owners, self.siblings, &parent.uid);
                siblings
                    .iter()
                    .flat_map(|sibling| of(&uid(sibling.metadata())))
                    .collect()
            }
        };
        all.into_iter().filter(|pod| pods::is_active(pod)).collect()
    }

    async fn write_status(
        &self,
        owner: &Arc<R>,
        active: &[Arc<Pod>],
        terminating: usize,
        failure: Option<&Error>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let old = owner.status();
        let terminating = self
            .cx
            .features()
            .enabled("DeploymentReplicaSetTerminatingReplicas")
            .then_some(terminating)
            .filter(|_| R::REPORTS_TERMINATING);
        let seen = plan::Seen {
            active,
            terminating,
            failure: failure.map(Error::chain),
            now,
        };
        let new = plan::status(&**owner, &old, &seen);
        let namespace = owner.metadata().namespace.as_deref().unwrap_or_default();
        let api = self.cx.client().await?.namespaced::<R>(namespace);
        update::status(&api, &**owner, |owner| owner.set_status(new))
            .await
            .map(drop)
    }
}
