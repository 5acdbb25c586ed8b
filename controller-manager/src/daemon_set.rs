//! Daemon sets: a pod on each node that they belong on. Source: `pkg/controller/daemon`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use component::client::Client;
use component::controller::Next;
use component::events::{Recorder, Type, reference};
use component::informer::{Event, Index, Informer, Key, Lister};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::batch::slow_start;
use crate::context::Context;
use crate::error::Error;
use crate::hash::template_hash;
use crate::history::{self, Stored};
use crate::selector::Selector;
use crate::writes::{LOOK_AGAIN, Writes};
use crate::{owners, pods, update, watch};

mod placement;
mod plan;

use plan::{Changes, Seen, Why};

/// Failed pods are replaced after this, doubled with each failure.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(15 * 60);

/// Starts `daemonset-controller`.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("daemonset");
    let sets: Informer<DaemonSet> = cx.informer();
    let pods: Informer<Pod> = cx.informer();
    let nodes: Informer<Node> = cx.informer();
    let revisions: Informer<ControllerRevision> = cx.informer();
    let controller = Arc::new(Controller {
        cx: cx.clone(),
        sets: sets.lister(),
        by_set: watch::by_controller(&pods),
        pods: pods.lister(),
        nodes: nodes.lister(),
        revisions_by_set: watch::by_controller(&revisions),
        revisions: revisions.lister(),
        writes: Writes::default(),
        revision_writes: Writes::default(),
        recorder: cx.recorder().clone(),
        failures: Mutex::default(),
    });
    watch::own(&sets, &queue);
    let adopters = sets.lister();
    watch::owned::<DaemonSet, Pod>(&pods, &queue, move |pod| {
        owners::adopters(&adopters, &pod.metadata, |set| {
            Selector::of(&set.spec.selector).ok()
        })
    });
    watch::owned::<DaemonSet, ControllerRevision>(&revisions, &queue, watch::nobody);
    let (wake, all) = (queue.clone(), sets.lister());
    nodes.subscribe(move |_, event| {
        if matters(event) {
            for set in all.list() {
                wake.add(Key::of(&set.metadata));
            }
        }
    });
    let workers = cx.config().daemon_set.concurrent_daemon_set_syncs;
    cx.run(workers, &queue, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.reconcile(key).await }
    });
    Ok(())
}

/// Whether a node may mean something else for daemon sets.
fn matters(event: &Event<Node>) -> bool {
    let Event::Updated { old, new } = event else {
        return true;
    };
    let taints = |n: &Node| n.spec.as_ref().and_then(|s| s.taints.clone());
    old.metadata.labels != new.metadata.labels || taints(old) != taints(new)
}

struct Controller {
    cx: Context,
    sets: Lister<DaemonSet>,
    pods: Lister<Pod>,
    by_set: Index,
    nodes: Lister<Node>,
    revisions: Lister<ControllerRevision>,
    revisions_by_set: Index,
    writes: Writes,
    revision_writes: Writes,
    recorder: Recorder,
    /// When the last failed pod of a set on a node was replaced, and how long the next one waits.
    failures: Mutex<HashMap<(Key, String), (Instant, Duration)>>,
}

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(set) = self.sets.by_key(&key) else {
            self.writes.forget(&key);
            self.revision_writes.forget(&key);
            self.failures.lock().retain(|(of, _), _| *of != key);
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
        if selector.is_everything() {
            let message =
                "This daemon set is selecting all pods. A non-empty selector is required.";
            self.tell(&set, Type::Warning, "SelectingAll", message);
            return Ok(Next::Done);
        }
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        let client = self.cx.client().await?;
        let revisions = self.claim_revisions(&client, &set, &selector).await?;
        let Some((current, old)) = self.current(&client, &key, &set, revisions).await? else {
            // Another revision was made, or its number: it is on its way to the cache.
            return Ok(Next::Again);
        };
        let hash = history::hash(&current).to_owned();
        let candidates = owners::children(&self.pods, self.by_set, &set.metadata);
        let owned = owners::claim(&set.metadata, candidates, |pod| {
            selector.matches(pod.metadata.labels.as_ref())
        })
        .settle(&client, &*set, &[])
        .await?;
        let (spec, nodes, now) = (placement::tolerant(&set), self.nodes.list(), self.cx.now());
        let by_node = by_node(&owned);
        let backs_off = |node: &str| self.backs_off(&key, node);
        let seen = Seen {
            set: &set,
            spec: &spec,
            nodes: &nodes,
            pods: &by_node,
            hash: &hash,
            backs_off: &backs_off,
            now,
        };
        let mut changes = plan::manage(&seen);
        if changes.is_empty() && plan::rolls(&set) {
            changes = plan::update(&seen);
        }
        let status = plan::status(&seen, &set.status.clone().unwrap_or_default());
        let done = self.apply(&key, &set, &spec, &hash, &changes).await;
        let api = client.namespaced::<DaemonSet>(key.namespace());
        update::status(&api, &*set, |set| set.status = Some(status)).await?;
        done?;
        self.clean_up(&client, &key, &set, &owned, &old).await?;
        let seconds = set.spec.min_ready_seconds.unwrap_or(0);
        let soon = pods::next_available(owned.iter().map(AsRef::as_ref), seconds, now);
        let retry = changes.waits.then_some(FIRST_BACKOFF);
        let next = soon.into_iter().chain(retry).min();
        Ok(next.map_or(Next::Done, Next::After))
    }

    fn tell(&self, set: &DaemonSet, kind: Type, reason: &str, message: &str) {
        let about = reference(set);
        match kind {
            Type::Normal => self.recorder.normal(&about, reason, message),
            Type::Warning => self.recorder.warning(&about, reason, message),
        }
    }

    async fn claim_revisions(
        &self,
        client: &Client,
        set: &DaemonSet,
        selector: &Selector,
    ) -> Result<Vec<Arc<ControllerRevision>>, Error> {
        let candidates = owners::children(&self.revisions, self.revisions_by_set, &set.metadata);
        owners::claim(&set.metadata, candidates, |r| {
            selector.matches(r.metadata.labels.as_ref())
        })
        .settle(client, set, &[])
        .await
    }

    /// The revision of the template, with the highest number, and the others; none if one had to be written.
    async fn current(
        &self,
        client: &Client,
        key: &Key,
        set: &DaemonSet,
        revisions: Vec<Arc<ControllerRevision>>,
    ) -> Result<Option<(Arc<ControllerRevision>, Vec<Arc<ControllerRevision>>)>, Error> {
        let data = history::data(&set.spec.template);
        let (mut same, old): (Vec<_>, Vec<_>) = revisions
            .into_iter()
            .partition(|r| history::holds(r, &data));
        same.sort_by_key(|r| history::number(r));
        let next = history::next(old.iter().map(AsRef::as_ref));
        let Some(current) = same.pop() else {
            let collisions = set.status.as_ref().and_then(|s| s.collision_count);
            let hash = template_hash(&set.spec.template, collisions);
            let labels = set.spec.template.metadata.as_ref();
            let labels = labels.and_then(|m| m.labels.as_ref());
            let new = history::made(set, labels, (history::HASH_LABEL, &hash), data, next);
            match history::store(client, &new).await? {
                Stored::Revision(stored) => self.revision_writes.wrote(key, &stored.metadata),
                Stored::Collision => {
                    let api = client.namespaced::<DaemonSet>(key.namespace());
                    update::status(&api, set, |set| {
                        let status = set.status.get_or_insert_default();
                        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
                    })
                    .await?;
                }
            }
            return Ok(None);
        };
        if history::number(&current) < next {
            let written = history::renumber(client, &current, next).await?;
            self.revision_writes.wrote(key, &written.metadata);
            return Ok(None);
        }
        Ok(Some((current, old)))
    }

    fn backs_off(&self, key: &Key, node: &str) -> bool {
        let failures = self.failures.lock();
        let last = failures.get(&(key.clone(), node.to_owned()));
        last.is_some_and(|(at, wait)| at.elapsed() < *wait)
    }

    fn failed_again(&self, key: &Key, node: &str) {
        let mut failures = self.failures.lock();
        let entry = failures.entry((key.clone(), node.to_owned()));
        let now = Instant::now();
        entry
            .and_modify(|(at, wait)| {
                // Long after the last failure it is the first again.
                let fresh = at.elapsed() > LONGEST_BACKOFF * 2;
                *wait = if fresh {
                    FIRST_BACKOFF
                } else {
                    (*wait * 2).min(LONGEST_BACKOFF)
                };
                *at = now;
            })
            .or_insert((now, FIRST_BACKOFF));
    }

    async fn apply(
        &self,
        key: &Key,
        set: &DaemonSet,
        spec: &PodSpec,
        hash: &str,
        changes: &Changes,
    ) -> Result<(), Error> {
        let client = self.cx.client().await?;
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let (created, error) = slow_start(changes.create.len(), |n| {
            let template = placement::for_node(set, spec, &changes.create[n], hash);
            let pod = pods::from_template(&template, name, owners::reference(set));
            let client = &client;
            async move {
                match pods::create(client, &self.recorder, set, &pod).await {
                    Ok(pod) => Ok(Some(pod)),
                    Err(Error::Client(e)) if e.is_namespace_terminating() => Ok(None),
                    Err(e) => Err(e),
                }
            }
        })
        .await;
        for pod in created.iter().flatten() {
            self.writes.wrote(key, &pod.metadata);
        }
        let mut results: Vec<Result<(), Error>> = error.map(Err).into_iter().collect();
        for (pod, why) in &changes.delete {
            self.explain(key, set, pod, *why);
            match pods::delete(&client, &self.recorder, set, pod).await {
                Ok(()) => self.writes.deleting(key, &pod.metadata),
                Err(e) => results.push(Err(e)),
            }
        }
        Error::all(results).map(drop)
    }

    fn explain(&self, key: &Key, set: &DaemonSet, pod: &Pod, why: Why) {
        let node = pod.spec.as_ref().and_then(placement::node_of);
        let node = node.unwrap_or_default();
        let pod = pods::key(pod);
        match why {
            Why::Surplus => {}
            Why::Failed => {
                self.failed_again(key, node);
                let text =
                    format!("Found failed daemon pod {pod} on node {node}, will try to kill it");
                self.tell(set, Type::Warning, "FailedDaemonPod", &text);
            }
            Why::Succeeded => {
                let text = format!(
                    "Found succeeded daemon pod {pod} on node {node}, will try to delete it"
                );
                self.tell(set, Type::Normal, "SucceededDaemonPod", &text);
            }
        }
    }

    /// Deletes old revisions beyond the limit that no pod has.
    async fn clean_up(
        &self,
        client: &Client,
        key: &Key,
        set: &DaemonSet,
        owned: &[Arc<Pod>],
        old: &[Arc<ControllerRevision>],
    ) -> Result<(), Error> {
        let limit = set.spec.revision_history_limit.unwrap_or(10);
        let live = |revision: &ControllerRevision| {
            let hash = history::hash(revision);
            owned.iter().any(|pod| {
                let labels = pod.metadata.labels.as_ref();
                labels
                    .and_then(|l| l.get(history::HASH_LABEL))
                    .map(String::as_str)
                    == Some(hash)
            })
        };
        let old: Vec<_> = old.iter().map(AsRef::as_ref).collect();
        let limit = usize::try_from(limit).unwrap_or(0);
        for revision in history::surplus(&old, live, limit) {
            history::delete(client, revision).await?;
            self.revision_writes.deleting(key, &revision.metadata);
        }
        Ok(())
    }
}

/// Pods by the nodes that they are on or meant for. What has ended and is being deleted is in nobody's way.
fn by_node(owned: &[Arc<Pod>]) -> BTreeMap<String, Vec<Arc<Pod>>> {
    let mut all: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    let over = |p: &Pod| pods::is_terminal(p) && p.metadata.deletion_timestamp.is_some();
    for pod in owned.iter().filter(|p| !over(p)) {
        if let Some(node) = pod.spec.as_ref().and_then(placement::node_of) {
            all.entry(node.to_owned())
                .or_default()
                .push(Arc::clone(pod));
        }
    }
    all
}
