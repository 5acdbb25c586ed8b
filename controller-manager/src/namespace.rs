//! Namespaces that are being deleted: their content goes first. Source: `pkg/controller/namespace`.
//!
//! Pods go before all else, so that what they need is there until they have ended. What has to go is what discovery
//! says there is; what cannot be discovered or deleted is told in conditions, and holds the namespace.

use std::sync::Arc;
use std::time::Duration;

use component::client::{Client, ListParams, RateLimit};
use component::controller::Next;
use component::informer::{Event, Informer, Key, Lister};
use component::queue::Retry;
use futures::future::join_all;
use http::Method;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;

use crate::context::Context;
use crate::discovery::{Discovered, Resource, discover};
use crate::error::Error;
use crate::{pods, update};

mod conditions;

use conditions::Findings;

/// The finalizer that holds a namespace until its content is gone.
const FINALIZER: &str = "kubernetes";
/// Between the deletion and the first look: admission of all API servers sees it meanwhile, and lets nothing new in.
const GRACE: Duration = Duration::from_secs(5);
/// How long finalizers of content are given before the next look, in seconds.
const FINALIZERS_TAKE: i64 = 15;
/// Resources in work at the same time in one namespace.
const AT_ONCE: usize = 8;

/// Starts `namespace-controller`.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let retry = Retry {
        most: Duration::from_secs(60),
        ..Retry::default()
    };
    let queue = cx.queue_with::<Key>("namespace", retry);
    let namespaces: Informer<Namespace> = cx.informer();
    let pods: Informer<Pod> = cx.informer();
    let lister = namespaces.lister();
    let wake = queue.clone();
    namespaces.subscribe(move |key, event| {
        let namespace = event.object();
        let begins = match event {
            Event::Added(_) => true,
            Event::Updated { old, .. } => old.metadata.deletion_timestamp.is_none(),
            Event::Deleted(_) => false,
        };
        if namespace.metadata.deletion_timestamp.is_some() && begins {
            wake.add_after(key.clone(), GRACE);
        }
    });
    wake_when_pods_are_gone(&pods, namespaces.lister(), &queue);
    let controller = Arc::new(Controller {
        cx: cx.clone(),
        namespaces: lister,
    });
    let workers = cx.config().namespace.concurrent_namespace_syncs;
    cx.run(workers, &queue, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.reconcile(key).await }
    });
    Ok(())
}

/// The last pod of a namespace that is going is what its deletion waits for.
fn wake_when_pods_are_gone(
    pods: &Informer<Pod>,
    namespaces: Lister<Namespace>,
    queue: &component::queue::Queue<Key>,
) {
    let queue = queue.clone();
    let left = pods.lister();
    pods.subscribe(move |key, event| {
        if !matches!(event, Event::Deleted(_)) {
            return;
        }
        let going = |ns: Arc<Namespace>| ns.metadata.deletion_timestamp.as_ref().map(|t| t.0);
        let since = namespaces.get("", key.namespace()).and_then(going);
        let waits = since.is_some_and(|since| {
            let age = component::clock::now().duration_since(since);
            age.as_secs() >= i64::try_from(GRACE.as_secs()).unwrap_or(0)
        });
        if waits && left.in_namespace(key.namespace()).is_empty() {
            queue.add(Key::from(key.namespace()));
        }
    });
}

struct Controller {
    cx: Context,
    namespaces: Lister<Namespace>,
}

/// What is left of a resource in a namespace.
#[derive(Default)]
struct Left {
    items: usize,
    finalizers: Vec<String>,
    /// Seconds until it may be gone.
    estimate: i64,
}

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        if self
            .namespaces
            .by_key(&key)
            .is_none_or(|ns| ns.metadata.deletion_timestamp.is_none())
        {
            return Ok(Next::Done);
        }
        let generic = &self.cx.config().generic.client_connection;
        // A namespace takes two requests for each resource: upstream's factors.
        let limit = RateLimit::new(generic.qps * 20.0, generic.burst.saturating_mul(100));
        let client = self.cx.client().await?.named("namespace", limit);
        let api = client.all::<Namespace>();
        let Some(mut namespace) = api.find(key.name()).await? else {
            return Ok(Next::Done);
        };
        if namespace.metadata.deletion_timestamp.is_none() {
            return Ok(Next::Done);
        }
        let terminating = |ns: &mut Namespace| {
            ns.status.get_or_insert_default().phase = Some("Terminating".to_owned());
        };
        if let Some(written) = update::status(&api, &namespace, terminating).await? {
            namespace = written;
        }
        if !holds(&namespace) {
            return Ok(Next::Done);
        }
        let mut findings = Findings::default();
        let estimate = self.empty(&client, key.name(), &mut findings).await;
        let now = self.cx.now();
        let told = update::status(&api, &namespace, |ns| {
            findings.tell(ns.status.get_or_insert_default(), now);
        })
        .await;
        if let Some(cause) = findings.failed() {
            return Err(Error::Unusable(cause));
        }
        if estimate > 0 {
            let seconds = u64::try_from(estimate / 2 + 1).unwrap_or(1);
            return Ok(Next::After(Duration::from_secs(seconds)));
        }
        if findings.anything_left() {
            return Ok(Next::Again);
        }
        let namespace = told?.unwrap_or(namespace);
        finalize(&client, namespace).await
    }

    /// Deletes all content; the seconds after which to look again, 0 if nothing is left.
    async fn empty(&self, client: &Client, namespace: &str, findings: &mut Findings) -> i64 {
        let discovered = match discover(client).await {
            Ok(discovered) => discovered,
            Err(e) => {
                findings.discovery = Some(e.chain());
                return 0;
            }
        };
        findings.stale(&discovered.stale);
        let (first, rest) = deletable(&discovered);
        let mut estimate = 0;
        for group in [first, rest] {
            for some in group.chunks(AT_ONCE) {
                let work = some.iter().map(|r| empty_resource(client, r, namespace));
                for (resource, left) in some.iter().zip(join_all(work).await) {
                    match left {
                        Ok(left) => {
                            estimate = estimate.max(left.estimate);
                            findings.left(resource, left.items, left.finalizers);
                        }
                        Err(e) => findings.failures.push(e.chain()),
                    }
                }
            }
            if findings.anything_left() {
                // Pods remain: the rest waits for them.
                break;
            }
        }
        estimate
    }
}

/// Pods, and all else that is in namespaces and can be deleted.
fn deletable(discovered: &Discovered) -> (Vec<&Resource>, Vec<&Resource>) {
    discovered
        .preferred
        .iter()
        .filter(|r| r.namespaced && r.can("delete"))
        .partition(|r| r.group_resource() == ("", "pods"))
}

async fn empty_resource(
    client: &Client,
    resource: &Resource,
    namespace: &str,
) -> Result<Left, Error> {
    let api = client.metadata(resource.target.clone(), Some(namespace));
    if !resource.can("list") {
        if resource.can("deletecollection") {
            api.delete_collection(&background(), &ListParams::default())
                .await?;
        }
        return Ok(Left::default());
    }
    let list = api.list(&ListParams::default()).await?;
    if list.items.is_empty() {
        return Ok(Left::default());
    }
    let is_pods = resource.group_resource() == ("", "pods");
    // Before they are told to go: afterwards they may be gone.
    let grace = if is_pods {
        longest_grace(client, namespace).await?
    } else {
        0
    };
    if resource.can("deletecollection") {
        api.delete_collection(&background(), &ListParams::default())
            .await?;
    } else {
        for item in &list.items {
            let name = item.metadata.name.as_deref().unwrap_or_default();
            match api.delete(name, &background()).await {
                Err(e) if !e.is_not_found() && !e.is_method_not_supported() => {
                    return Err(e.into());
                }
                _ => {}
            }
        }
    }
    let list = api.list(&ListParams::default()).await?;
    let finalizers: Vec<String> = list
        .items
        .iter()
        .flat_map(|item| item.metadata.finalizers.clone().unwrap_or_default())
        .collect();
    let estimate = match (list.items.is_empty(), grace, finalizers.is_empty()) {
        (true, _, _) => 0,
        (false, 1.., _) => grace,
        (false, _, false) => FINALIZERS_TAKE,
        (false, _, true) => {
            let what = &resource.target;
            let text = format!(
                "unexpected items still remain in namespace: {namespace} for gvr: {}/{}, Resource={}",
                what.group, what.version, what.resource
            );
            return Err(Error::Unusable(text));
        }
    };
    Ok(Left {
        items: list.items.len(),
        finalizers,
        estimate,
    })
}

fn background() -> DeleteOptions {
    DeleteOptions {
        propagation_policy: Some("Background".to_owned()),
        ..DeleteOptions::default()
    }
}

/// The longest time in seconds that a pod of the namespace may take to end.
async fn longest_grace(client: &Client, namespace: &str) -> Result<i64, Error> {
    let all = client
        .namespaced::<Pod>(namespace)
        .list(&ListParams::default())
        .await?;
    let running = all.items.iter().filter(|pod| !pods::is_terminal(pod));
    let graces = running.filter_map(|p| p.spec.as_ref()?.termination_grace_period_seconds);
    Ok(graces.max().unwrap_or(0))
}

fn holds(namespace: &Namespace) -> bool {
    let spec = namespace.spec.as_ref();
    let finalizers = spec
        .and_then(|s| s.finalizers.as_deref())
        .unwrap_or_default();
    finalizers.iter().any(|f| f == FINALIZER)
}

/// Takes the finalizer away, which lets the namespace go.
async fn finalize(client: &Client, mut namespace: Namespace) -> Result<Next, Error> {
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
        finalizers.retain(|f| f != FINALIZER);
    }
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let path = format!("/api/v1/namespaces/{name}/finalize");
    let done: Result<Namespace, _> = client
        .request(Method::PUT, &path, &[], Some(&namespace))
        .await;
    match done {
        Err(e) if !e.is_not_found() => Err(e.into()),
        _ => Ok(Next::Done),
    }
}
