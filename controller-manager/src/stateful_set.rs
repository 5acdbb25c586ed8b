//! Stateful sets: pods with numbers, one after the other. Source: `pkg/controller/statefulset`.

use std::sync::Arc;

use component::client::{Client, Patch};
use component::controller::Next;
use component::events::{Recorder, reference};
use component::informer::{Event, Index, Informer, Key, Lister};
use component::queue::Queue;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};

use crate::context::Context;
use crate::error::Error;
use crate::hash::data_hash;
use crate::history::{self, Stored};
use crate::selector::Selector;
use crate::writes::{LOOK_AGAIN, Writes};
use crate::{owners, pods, update, watch};

mod identity;
mod plan;
mod retention;

use plan::{Seen, Step};

/// The label of a stateful set's revisions.
const REVISION_HASH: &str = "controller.kubernetes.io/hash";

/// Starts `statefulset-controller`.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("statefulset");
    let sets: Informer<StatefulSet> = cx.informer();
    let pods: Informer<Pod> = cx.informer();
    let claims: Informer<PersistentVolumeClaim> = cx.informer();
    let revisions: Informer<ControllerRevision> = cx.informer();
    let controller = Arc::new(Controller {
        cx: cx.clone(),
        sets: sets.lister(),
        by_set: watch::by_controller(&pods),
        pods: pods.lister(),
        claims: claims.lister(),
        revisions_by_set: watch::by_controller(&revisions),
        revisions: revisions.lister(),
        writes: Writes::default(),
        revision_writes: Writes::default(),
        recorder: cx.recorder().clone(),
    });
    watch::own(&sets, &queue);
    let adopters = sets.lister();
    watch::owned::<StatefulSet, Pod>(&pods, &queue, move |pod| {
        owners::adopters(&adopters, &pod.metadata, |set| {
            let selector = Selector::of(&set.spec.selector).ok();
            selector.filter(|_| identity::ordinal(set, pod).is_some())
        })
    });
    watch::owned::<StatefulSet, ControllerRevision>(&revisions, &queue, watch::nobody);
    wake_when_claims_are_gone(&claims, &queue);
    let workers = cx.config().stateful_set.concurrent_stateful_set_syncs;
    cx.run(workers, &queue, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.reconcile(key).await }
    });
    Ok(())
}

/// A claim that belonged to a pod of an earlier scale is what a new pod of that number waits for.
fn wake_when_claims_are_gone(claims: &Informer<PersistentVolumeClaim>, queue: &Queue<Key>) {
    let queue = queue.clone();
    claims.subscribe(move |key, event| {
        if let Event::Deleted(claim) = event {
            for set in identity::sets_of(&claim.metadata) {
                queue.add(Key::new(key.namespace(), set));
            }
        }
    });
}

struct Controller {
    cx: Context,
    sets: Lister<StatefulSet>,
    pods: Lister<Pod>,
    by_set: Index,
    claims: Lister<PersistentVolumeClaim>,
    revisions: Lister<ControllerRevision>,
    revisions_by_set: Index,
    writes: Writes,
    revision_writes: Writes,
    recorder: Recorder,
}

/// The revisions of a set.
struct Revisions {
    current: Arc<ControllerRevision>,
    update: Arc<ControllerRevision>,
    all: Vec<Arc<ControllerRevision>>,
}

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(set) = self.sets.by_key(&key) else {
            self.writes.forget(&key);
            self.revision_writes.forget(&key);
            return Ok(Next::Done);
        };
        if !self.writes.are_seen(&key, &self.pods)
            || !self.revision_writes.are_seen(&key, &self.revisions)
        {
            return Ok(Next::After(LOOK_AGAIN));
        }
        let Ok(selector) = Selector::of(&set.spec.selector) else {
            return Ok(Next::Done);
        };
        let client = self.cx.client().await?;
        let Some(revisions) = self.revisions(&client, &key, &set, &selector).await? else {
            return Ok(Next::Again);
        };
        let candidates = owners::children(&self.pods, self.by_set, &set.metadata);
        let owned = owners::claim(&set.metadata, candidates, |pod| {
            selector.matches(pod.metadata.labels.as_ref()) && identity::ordinal(&set, pod).is_some()
        })
        .settle(&client, &*set, &[])
        .await?;
        let old_template = history::template(&revisions.current);
        let now = self.cx.now();
        let (steps, status) = {
            let seen = Seen {
                set: &set,
                pods: &owned,
                current: (
                    &revisions.current,
                    old_template.as_ref().unwrap_or(&set.spec.template),
                ),
                update: (&revisions.update, &set.spec.template),
                now,
            };
            (plan::steps(&seen), plan::status(&seen))
        };
        let mut done = self.repair(&client, &set, &owned).await;
        for step in &steps {
            if done.is_err() {
                break;
            }
            done = self.take(&client, &key, &set, step).await;
        }
        let api = client.namespaced::<StatefulSet>(key.namespace());
        update::status(&api, &*set, |set| set.status = Some(status)).await?;
        done?;
        self.clean_up(&client, &key, &set, &owned, &revisions)
            .await?;
        let seconds = set.spec.min_ready_seconds.unwrap_or(0);
        let next = pods::next_available(owned.iter().map(AsRef::as_ref), seconds, now);
        Ok(next.map_or(Next::Done, Next::After))
    }

    /// The set's revisions; none if one had to be written, or a collision counted.
    async fn revisions(
        &self,
        client: &Client,
        key: &Key,
        set: &StatefulSet,
        selector: &Selector,
    ) -> Result<Option<Revisions>, Error> {
        let candidates = owners::children(&self.revisions, self.revisions_by_set, &set.metadata);
        let mut all = owners::claim(&set.metadata, candidates, |r| {
            selector.matches(r.metadata.labels.as_ref())
        })
        .settle(client, set, &[])
        .await?;
        all.sort_by_key(|r| (history::number(r), history::name(r).to_owned()));
        let data = history::data(&set.spec.template);
        let next = history::next(all.iter().map(AsRef::as_ref));
        let same = all.iter().rfind(|r| history::holds(r, &data)).cloned();
        let Some(update) = same else {
            let collisions = set.status.as_ref().and_then(|s| s.collision_count);
            let hash = data_hash(
                history::text(&data).as_bytes(),
                Some(collisions.unwrap_or(0)),
            );
            let labels = set.spec.template.metadata.as_ref();
            let labels = labels.and_then(|m| m.labels.as_ref());
            let new = history::made(set, labels, (REVISION_HASH, &hash), data, next);
            match history::store(client, &new).await? {
                Stored::Revision(stored) => self.revision_writes.wrote(key, &stored.metadata),
                Stored::Collision => {
                    let api = client.namespaced::<StatefulSet>(key.namespace());
                    update::status(&api, set, |set| {
                        let status = set.status.get_or_insert_default();
                        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
                    })
                    .await?;
                }
            }
            return Ok(None);
        };
        let newest = all.last().is_some_and(|last| Arc::ptr_eq(last, &update));
        if !newest {
            let written = history::renumber(client, &update, next).await?;
            self.revision_writes.wrote(key, &written.metadata);
            return Ok(None);
        }
        let wanted = set
            .status
            .as_ref()
            .and_then(|s| s.current_revision.as_deref());
        let current = all.iter().find(|r| Some(history::name(r)) == wanted);
        let current = Arc::clone(current.unwrap_or(&update));
        Ok(Some(Revisions {
            current,
            update,
            all,
        }))
    }

    async fn take(
        &self,
        client: &Client,
        key: &Key,
        set: &StatefulSet,
        step: &Step,
    ) -> Result<(), Error> {
        match step {
            // The garbage collector takes the claims of the last pod of that name, then the set is woken.
            Step::Create(number, _) if self.claims_are_stale(set, *number) => Ok(()),
            Step::Create(number, pod) => {
                self.make_claims(client, set, *number).await?;
                self.create(client, key, set, pod).await
            }
            Step::Claims(number) => self.make_claims(client, set, *number).await,
            Step::Delete(pod) => {
                let done = pods::delete_quietly(client, pod).await;
                self.tell(set, "Delete", pod, done.as_ref().err());
                done?;
                self.writes.deleting(key, &pod.metadata);
                Ok(())
            }
        }
    }

    fn claims_are_stale(&self, set: &StatefulSet, number: i32) -> bool {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let pod = format!("{}-{number}", identity::name(set));
        identity::claims(set, number).iter().any(|(_, claim)| {
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            let there = self.claims.get(namespace, name);
            there.is_some_and(|claim| identity::belongs_to_pod(&claim.metadata, &pod))
        })
    }

    /// Gives pods their labels back, and claims the owners that the retention policy asks for.
    async fn repair(
        &self,
        client: &Client,
        set: &StatefulSet,
        owned: &[Arc<Pod>],
    ) -> Result<(), Error> {
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        for pod in owned.iter().filter(|p| pods::is_active(p)) {
            let Some(number) = identity::ordinal(set, pod) else {
                continue;
            };
            if let Some(patch) = identity::repair(pod, number) {
                let api = client.namespaced::<Pod>(namespace);
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let done = api.patch(name, &Patch::merge(&patch)?).await;
                let done = done.map_err(Error::from).map(drop);
                self.tell(set, "Update", pod, done.as_ref().err());
                done?;
            }
            for (_, claim) in identity::claims(set, number) {
                let name = claim.metadata.name.as_deref().unwrap_or_default();
                let Some(claim) = self.claims.get(namespace, name) else {
                    continue;
                };
                if let Some(references) = retention::owners(set, pod, number, &claim.metadata) {
                    let mut changed = (*claim).clone();
                    changed.metadata.owner_references = Some(references);
                    let api = client.namespaced::<PersistentVolumeClaim>(namespace);
                    match update::update(&api, "", &claim, &changed).await {
                        Err(e) if !e.is_not_found() => return Err(e.into()),
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    async fn create(
        &self,
        client: &Client,
        key: &Key,
        set: &StatefulSet,
        pod: &Pod,
    ) -> Result<(), Error> {
        let api = client.namespaced::<Pod>(key.namespace());
        match api.create(pod).await {
            Ok(created) => {
                self.writes.wrote(key, &created.metadata);
                self.tell(set, "Create", pod, None);
                Ok(())
            }
            // The cache is late, or the last pod of that name is not gone yet: its event wakes the set.
            Err(e) if e.is_already_exists() => Ok(()),
            Err(e) if e.is_namespace_terminating() => Ok(()),
            Err(e) => {
                let e = Error::from(e);
                self.tell(set, "Create", pod, Some(&e));
                Err(e)
            }
        }
    }

    fn tell(&self, set: &StatefulSet, verb: &str, pod: &Pod, error: Option<&Error>) {
        let pod = pod.metadata.name.as_deref().unwrap_or_default();
        let set_name = identity::name(set);
        let about = reference(set);
        match error {
            None => {
                let text = format!("{verb} Pod {pod} in StatefulSet {set_name} successful");
                self.recorder
                    .normal(&about, &format!("Successful{verb}"), &text);
            }
            Some(e) => {
                let text = format!(
                    "{verb} Pod {pod} in StatefulSet {set_name} failed error: {}",
                    e.chain()
                );
                self.recorder
                    .warning(&about, &format!("Failed{verb}"), &text);
            }
        }
    }

    async fn make_claims(
        &self,
        client: &Client,
        set: &StatefulSet,
        number: i32,
    ) -> Result<(), Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let api = client.namespaced::<PersistentVolumeClaim>(namespace);
        for (_, claim) in identity::claims(set, number) {
            let name = claim.metadata.name.clone().unwrap_or_default();
            if self.claims.get(namespace, &name).is_some() {
                continue;
            }
            let set_name = identity::name(set);
            match api.create(&claim).await {
                Ok(_) => {
                    let text = format!(
                        "Create Claim {name} Pod {set_name}-{number} in StatefulSet {set_name} success"
                    );
                    self.recorder
                        .normal(&reference(set), "SuccessfulCreate", &text);
                }
                Err(e) if e.is_already_exists() => {}
                Err(e) => {
                    let text = format!(
                        "Create Claim {name} for Pod {set_name}-{number} in StatefulSet {set_name} failed error: {e}"
                    );
                    self.recorder
                        .warning(&reference(set), "FailedCreate", &text);
                    return Err(e.into());
                }
            }
        }
        Ok(())
    }

    /// Deletes old revisions beyond the limit that no pod has.
    async fn clean_up(
        &self,
        client: &Client,
        key: &Key,
        set: &StatefulSet,
        owned: &[Arc<Pod>],
        revisions: &Revisions,
    ) -> Result<(), Error> {
        let live = |r: &ControllerRevision| {
            let name = history::name(r);
            name == history::name(&revisions.current)
                || name == history::name(&revisions.update)
                || owned.iter().any(|pod| identity::revision(pod) == name)
        };
        let all: Vec<_> = revisions.all.iter().map(AsRef::as_ref).collect();
        let limit = set.spec.revision_history_limit.unwrap_or(10);
        let limit = usize::try_from(limit).unwrap_or(0);
        for revision in history::surplus(&all, live, limit) {
            history::delete(client, revision).await?;
            self.revision_writes.deleting(key, &revision.metadata);
        }
        Ok(())
    }
}
