//! Claims of devices: made out of templates for pods, and given back when pods are done (`resourceclaim-controller`).
//!
//! Two queues share the work: pods that need claims, and claims whose consumers may be gone. Pod groups have no claims
//! here: the gates `GenericWorkload` and `DRAWorkloadResourceClaims` are off. Source: `pkg/controller/resourceclaim`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use component::client::{Client, Patch};
use component::controller::Next;
use component::events::{Recorder, reference};
use component::informer::{Event, Index, Informer, Key, Lister};
use component::queue::Queue;
use k8s_openapi::api::core::v1::{Pod, PodResourceClaim};
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimTemplate};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::Error;
use crate::finalizer::changed;
use crate::update::update;
use crate::writes::{LOOK_AGAIN, Writes};
use crate::{owners, watch};

mod plan;

use plan::{FINALIZER, Named};

const MANAGER: &str = "ResourceClaimController";

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let (of_pods, of_claims) = (
        cx.queue::<Key>("resource_claim"),
        cx.queue::<Key>("resource_claim"),
    );
    let pods: Informer<Pod> = cx.informer();
    let claims: Informer<ResourceClaim> = cx.informer();
    let templates: Informer<ResourceClaimTemplate> = cx.informer();
    let named = |pod: &Pod, names: Vec<String>| -> Vec<String> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        names.iter().map(|n| format!("{namespace}/{n}")).collect()
    };
    let by_claim = pods.index("resourceClaim", move |pod| named(pod, plan::names(pod)));
    let by_template = pods.index("resourceClaimTemplate", move |pod| {
        named(pod, plan::templates(pod))
    });
    let this = Arc::new(Controller {
        cx: cx.clone(),
        pods: pods.lister(),
        by_owner: watch::by_controller(&claims),
        claims: claims.lister(),
        templates: templates.lister(),
        writes: Writes::default(),
        recorder: cx.recorder_as("resource_claim"),
    });
    wake_by_pods(&pods, &of_pods, &of_claims);
    watch::owned::<Pod, ResourceClaim>(&claims, &of_pods, watch::nobody);
    let (wake, wake_pods, lister) = (of_claims.clone(), of_pods.clone(), pods.lister());
    claims.subscribe(move |key, event| {
        if !matches!(event, Event::Deleted(_)) {
            wake.add(key.clone());
        }
        wake_all(&lister, by_claim, key, &wake_pods);
    });
    let (wake, lister) = (of_pods.clone(), pods.lister());
    templates.subscribe(move |key, _| wake_all(&lister, by_template, key, &wake));
    let workers = cx.config().resource_claim.concurrent_syncs;
    let controller = Arc::clone(&this);
    cx.run(workers, &of_pods, move |key| {
        let this = Arc::clone(&controller);
        async move { this.pod(&key).await }
    });
    cx.run(workers, &of_claims, move |key| {
        let this = Arc::clone(&this);
        async move { this.claim(&key).await }
    });
    Ok(())
}

fn wake_all(pods: &Lister<Pod>, index: Index, key: &Key, queue: &Queue<Key>) {
    for pod in pods.indexed(index, key.as_str()) {
        queue.add(Key::of(&pod.metadata));
    }
}

/// A pod that lives may need claims, one that is done or gone may give some back.
fn wake_by_pods(pods: &Informer<Pod>, of_pods: &Queue<Key>, of_claims: &Queue<Key>) {
    let (of_pods, of_claims) = (of_pods.clone(), of_claims.clone());
    pods.subscribe(move |key, event| {
        let pod = event.object();
        let extended = plan::extended(pod);
        if plan::wanted(pod).is_empty() && extended.is_none() {
            return;
        }
        if matches!(event, Event::Deleted(_)) || plan::is_done(pod) {
            let names = plan::names(pod);
            for name in names.iter().map(String::as_str).chain(extended) {
                of_claims.add(Key::new(key.namespace(), name));
            }
        }
        if !matches!(event, Event::Deleted(_)) && pod.metadata.deletion_timestamp.is_none() {
            of_pods.add(key.clone());
        }
    });
}

struct Controller {
    cx: Context,
    pods: Lister<Pod>,
    claims: Lister<ResourceClaim>,
    by_owner: Index,
    templates: Lister<ResourceClaimTemplate>,
    /// Claims that were made for a pod.
    writes: Writes,
    recorder: Recorder,
}

impl Controller {
    async fn pod(&self, key: &Key) -> Result<Next, Error> {
        let pod = self.pods.by_key(key);
        let Some(pod) = pod.filter(|p| p.metadata.deletion_timestamp.is_none()) else {
            self.writes.forget(key);
            return Ok(Next::Done);
        };
        if !self.writes.are_seen(key, &self.claims) {
            return Ok(Next::After(LOOK_AGAIN));
        }
        let client = self.cx.client().await?;
        let mut made = BTreeMap::new();
        for wanted in plan::wanted(&pod) {
            match self.ensure(&client, key, &pod, wanted).await {
                Ok(None) => {}
                Ok(Some(name)) => {
                    made.insert(wanted.name.clone(), name);
                }
                Err(e) => {
                    let text = format!("PodResourceClaim {}: {}", wanted.name, e.chain());
                    self.recorder
                        .warning(&reference(&*pod), "FailedResourceClaimCreation", &text);
                    return Err(e);
                }
            }
        }
        if !made.is_empty() {
            tell(&client, &pod, &made).await?;
        }
        if plan::is_scheduled(&pod) {
            self.reserve(&client, &pod).await?;
        }
        Ok(Next::Done)
    }

    /// Makes a claim of a pod if it is not there; its name if that is news.
    async fn ensure(
        &self,
        client: &Client,
        key: &Key,
        pod: &Pod,
        wanted: &PodResourceClaim,
    ) -> Result<Option<String>, Error> {
        let is_there = |name: &str, own: bool| {
            let claim = self.claims.get(key.namespace(), name);
            claim.is_some_and(|c| !own || plan::is_for(pod, &c))
        };
        match plan::named(pod, wanted) {
            Named::Skipped => return Ok(None),
            Named::Claim { name, own } if is_there(&name, own) => return Ok(None),
            Named::Claim { .. } | Named::Missing => {}
            Named::Unknown => {
                let text =
                    "checking for claim before creating it: unsupported PodResourceClaim source";
                return Err(Error::Unusable(text.to_owned()));
            }
        }
        let Some(template) = &wanted.resource_claim_template_name else {
            return Ok(None);
        };
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let mut known = owners::controlled(&self.claims, self.by_owner, uid).into_iter();
        if let Some(known) = known.find(|c| plan::is_made_for(c, wanted)) {
            return Ok(known.metadata.name.clone());
        }
        let found = self.templates.get(key.namespace(), template);
        let template = found.ok_or_else(|| {
            Error::Unusable(format!(
                "resource claim template {template:?}: resourceclaimtemplate.resource.k8s.io {template:?} not found"
            ))
        })?;
        let claim = plan::made(pod, wanted, &template);
        let made = client
            .namespaced::<ResourceClaim>(key.namespace())
            .create(&claim)
            .await?;
        self.writes.wrote(key, &made.metadata);
        Ok(made.metadata.name)
    }

    /// The scheduler puts the pods that it binds among the consumers; others bind pods too.
    async fn reserve(&self, client: &Client, pod: &Pod) -> Result<(), Error> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        for wanted in plan::wanted(pod) {
            let Named::Claim { name, own } = plan::named(pod, wanted) else {
                continue;
            };
            let Some(claim) = self.claims.get(namespace, &name) else {
                return Ok(());
            };
            if own && !plan::is_for(pod, &claim) {
                let pod = Key::of(&pod.metadata);
                return Err(Error::Unusable(format!(
                    "ResourceClaim {namespace}/{name} was not created for pod {pod} (pod is not owner)"
                )));
            }
            if let Some(new) = plan::reserved(pod, &claim) {
                update(&client.namespaced(namespace), "status", &*claim, &new).await?;
            }
        }
        Ok(())
    }

    async fn claim(&self, key: &Key) -> Result<Next, Error> {
        let Some(claim) = self.claims.by_key(key) else {
            return Ok(Next::Done);
        };
        let client = self.cx.client().await?;
        let gone = self.gone(&client, key, &claim).await?;
        let verdict = plan::judge(&claim, |consumer| !gone.contains(&consumer.uid));
        let api = client.namespaced::<ResourceClaim>(key.namespace());
        let mut current = ResourceClaim::clone(&claim);
        if let Some(new) = verdict.status
            && let Some(written) = update(&api, "status", &current, &new).await?
        {
            current = written;
        }
        if verdict.release {
            let new = ResourceClaim {
                metadata: changed(&current.metadata, FINALIZER, false),
                ..current.clone()
            };
            update(&api, "", &current, &new).await?;
        }
        if verdict.unused && self.owner_is_done(key, &claim) {
            match api.delete(key.name(), &DeleteOptions::default()).await {
                Err(e) if !e.is_not_found() => return Err(e.into()),
                _ => {}
            }
        }
        Ok(Next::Done)
    }

    /// The UIDs of a claim's pods that will not run any more. The server is asked of those that the cache does not
    /// know: they may be too young for it.
    async fn gone(
        &self,
        client: &Client,
        key: &Key,
        claim: &ResourceClaim,
    ) -> Result<HashSet<String>, Error> {
        let mut gone = HashSet::new();
        for consumer in plan::pods_of(claim) {
            let is_gone = match self.pods.get(key.namespace(), &consumer.name) {
                Some(pod) => {
                    pod.metadata.uid.as_ref() != Some(&consumer.uid) || plan::is_done(&pod)
                }
                None => {
                    let api = client.namespaced::<Pod>(key.namespace());
                    let pod = api.find(&consumer.name).await?;
                    pod.is_none_or(|pod| pod.metadata.uid.as_ref() != Some(&consumer.uid))
                }
            };
            if is_gone {
                gone.insert(consumer.uid.clone());
            }
        }
        Ok(gone)
    }

    /// Whether the pod that a claim was made for is known and will not need it; one that is not known is left to the
    /// garbage collector.
    fn owner_is_done(&self, key: &Key, claim: &ResourceClaim) -> bool {
        let Some((name, uid)) = plan::owner(claim) else {
            return false;
        };
        let pod = self.pods.get(key.namespace(), name);
        pod.is_some_and(|pod| pod.metadata.uid.as_deref() != Some(uid) || plan::is_done(&pod))
    }
}

/// Says in a pod's status what its claims are called.
async fn tell(client: &Client, pod: &Pod, new: &BTreeMap<String, String>) -> Result<(), Error> {
    let all: Vec<Value> = plan::statuses(pod, new)
        .into_iter()
        .map(|(name, claim)| json!({"name": name, "resourceClaimName": claim}))
        .collect();
    let key = Key::of(&pod.metadata);
    let wanted = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": key.name(), "namespace": key.namespace()},
        "status": {"resourceClaimStatuses": all},
    });
    let patch = Patch::apply(MANAGER, true, &wanted)?;
    let api = client.namespaced::<Pod>(key.namespace());
    match api.patch_status(key.name(), &patch).await {
        Err(e) if !e.is_not_found() => Err(e.into()),
        _ => Ok(()),
    }
}
