//! Resource quotas: how much of its quota a namespace uses. Source: `pkg/controller/resourcequota`.
//!
//! Admission counts up as objects are made; this counts anew when something goes, when a quota changes, and from time
//! to time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use component::client::{PartialObjectMetadata, Target};
use component::controller::Next;
use component::informer::{Event, Informer, Key, Lister};
use component::queue::Queue;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use parking_lot::Mutex;
use proto::quantity::Quantity;

use crate::context::Context;
use crate::discovery::discover;
use crate::error::Error;
use crate::{pods, update};

mod scope;
mod usage;

use usage::Used;
pub(crate) use usage::requests;

/// Between two looks at what resources there are, for counts of objects.
const REDISCOVER: Duration = Duration::from_secs(30);
/// Time for the cache of quotas to catch up with those of what they count.
const CATCH_UP: Duration = Duration::from_secs(1);
/// Counts of these are named without their group.
const LEGACY: [&str; 5] = [
    "configmaps",
    "secrets",
    "replicationcontrollers",
    "resourcequotas",
    "services",
];

/// Starts `resourcequota-controller`.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("resourcequota_primary");
    let quotas: Informer<ResourceQuota> = cx.informer();
    let pods: Informer<Pod> = cx.informer();
    let services: Informer<Service> = cx.informer();
    let claims: Informer<PersistentVolumeClaim> = cx.informer();
    let wake = queue.clone();
    quotas.subscribe(move |key, event| {
        let changed = match event {
            Event::Added(_) => true,
            Event::Updated { old, new } => old.spec != new.spec || needs_look(new),
            Event::Deleted(_) => false,
        };
        if changed {
            wake.add(key.clone());
        }
    });
    let controller = Arc::new(Controller {
        cx: cx.clone(),
        queue: queue.clone(),
        quotas: quotas.lister(),
        pods: pods.lister(),
        services: services.lister(),
        claims: claims.lister(),
        counted: Mutex::default(),
        freed: Mutex::default(),
    });
    controller.wake_on_freed(&pods, |old, new| {
        pods::is_terminal(new) && !pods::is_terminal(old)
    });
    controller.wake_on_freed(&services, |old, new| old.spec != new.spec);
    controller.wake_on_freed(&claims, |old, new| {
        let allocated = |c: &PersistentVolumeClaim| c.status.as_ref()?.allocated_resources.clone();
        allocated(old) != allocated(new)
    });
    let workers = cx.config().resource_quota.concurrent_resource_quota_syncs;
    cx.run(workers, &queue, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.reconcile(key).await }
    });
    Ok(())
}

/// Its status does not tell its limits.
fn needs_look(quota: &ResourceQuota) -> bool {
    let hard = quota.spec.as_ref().and_then(|s| s.hard.as_ref());
    let told = quota.status.as_ref().and_then(|s| s.hard.as_ref());
    hard != told
}

struct Controller {
    cx: Context,
    queue: Queue<Key>,
    quotas: Lister<ResourceQuota>,
    pods: Lister<Pod>,
    services: Lister<Service>,
    claims: Lister<PersistentVolumeClaim>,
    /// Caches of what quotas count by number alone; a kind is watched once a quota counts it.
    counted: Mutex<BTreeMap<String, Informer<PartialObjectMetadata>>>,
    /// Quotas of which something went since they were last counted.
    freed: Mutex<BTreeSet<Key>>,
}

impl Controller {
    fn wake_on_freed<K: component::client::Kind>(
        self: &Arc<Self>,
        informer: &Informer<K>,
        freed: impl Fn(&K, &K) -> bool + Send + Sync + 'static,
    ) {
        let controller = Arc::downgrade(self);
        informer.subscribe(move |key, event| {
            let wake = match event {
                Event::Added(_) => false,
                Event::Updated { old, new } => freed(old, new),
                Event::Deleted(_) => true,
            };
            if let Some(controller) = controller.upgrade().filter(|_| wake) {
                for quota in controller.quotas.in_namespace(key.namespace()) {
                    let quota = Key::of(&quota.metadata);
                    controller.freed.lock().insert(quota.clone());
                    controller.queue.add(quota);
                }
            }
        });
    }

    async fn reconcile(self: &Arc<Self>, key: Key) -> Result<Next, Error> {
        let freed = self.freed.lock().remove(&key);
        let Some(quota) = self.quotas.by_key(&key) else {
            return Ok(Next::Done);
        };
        let spec = quota.spec.clone().unwrap_or_default();
        let hard = spec.hard.clone().unwrap_or_default();
        let mut used = self.used(key.namespace(), &quota);
        for name in hard.keys() {
            if let Some(resource) = counted_name(name)
                && !used.contains_key(name)
                && let Some(count) = self.count(resource, key.namespace()).await?
            {
                used.insert(name.clone(), usage::number(count));
            }
        }
        let before = quota.status.as_ref().and_then(|s| s.used.clone());
        let told = merged(&hard, &used, before.as_ref());
        let api = self.cx.client().await?.namespaced(key.namespace());
        let written = update::status(&api, &*quota, |quota: &mut ResourceQuota| {
            let status = quota.status.get_or_insert_default();
            status.hard = Some(hard);
            // The same amounts in other words are no change.
            if !same(before.as_ref(), &told) {
                status.used = Some(told);
            }
        })
        .await?;
        if freed && written.is_none() {
            // What went may have been admitted by a write of the quota that is not seen yet.
            return Ok(Next::After(CATCH_UP));
        }
        let period = self.cx.config().resource_quota.resource_quota_sync_period.0;
        Ok(Next::After(period))
    }

    /// What pods, services and claims of the namespace use of a quota.
    fn used(&self, namespace: &str, quota: &ResourceQuota) -> Used {
        let scopes = scope::of(quota);
        let now = self.cx.now();
        let mut used = Used::new();
        let hard = quota.spec.as_ref().and_then(|s| s.hard.as_ref());
        let limits = || hard.into_iter().flatten().map(|(name, _)| name.as_str());
        let pods = self.pods.in_namespace(namespace);
        usage::begin(&mut used, usage::POD.iter().copied());
        usage::begin(&mut used, limits().filter(|name| usage::is_of_pods(name)));
        for pod in pods.iter().filter(|p| scope::takes_pod(&scopes, p)) {
            usage::add(&mut used, &usage::pod(pod, now));
        }
        if scopes.is_empty() {
            usage::begin(&mut used, usage::SERVICE.iter().copied());
            for service in self.services.in_namespace(namespace) {
                usage::add(&mut used, &usage::service(&service));
            }
            usage::begin(&mut used, usage::CLAIM.iter().copied());
            usage::begin(&mut used, limits().filter(|name| usage::is_of_claims(name)));
            for claim in self.claims.in_namespace(namespace) {
                usage::add(&mut used, &usage::claim(&claim));
            }
        }
        used
    }

    /// How many objects of a resource (`plural.group`) there are; none if there is no such resource.
    async fn count(
        self: &Arc<Self>,
        resource: &str,
        namespace: &str,
    ) -> Result<Option<usize>, Error> {
        // A cache of their own would lag behind the one that told of this quota, and nothing wakes it later.
        if resource == "resourcequotas" {
            return Ok(Some(self.quotas.in_namespace(namespace).len()));
        }
        let known = self.counted.lock().get(resource).cloned();
        let informer = match known {
            Some(informer) => informer,
            None => match self.target(resource).await? {
                Some(target) => self.watch(resource, target),
                None => return Ok(None),
            },
        };
        if tokio::time::timeout(REDISCOVER, informer.synced())
            .await
            .is_err()
        {
            return Ok(None);
        }
        Ok(Some(informer.lister().in_namespace(namespace).len()))
    }

    fn watch(self: &Arc<Self>, resource: &str, target: Target) -> Informer<PartialObjectMetadata> {
        let informer = self.cx.metadata(target);
        let mut counted = self.counted.lock();
        if counted
            .insert(resource.to_owned(), informer.clone())
            .is_none()
        {
            self.wake_on_freed(&informer, |_, _| false);
        }
        informer
    }

    async fn target(&self, resource: &str) -> Result<Option<Target>, Error> {
        let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
        let discovered = discover(&self.cx.client().await?).await?;
        let found = discovered
            .preferred
            .into_iter()
            .find(|r| r.namespaced && r.group_resource() == (group, plural));
        Ok(found.map(|r| r.target))
    }
}

/// The resource that a limit counts, if it counts objects: `count/deployments.apps`, `configmaps`.
fn counted_name(limit: &str) -> Option<&str> {
    limit
        .strip_prefix("count/")
        .or_else(|| LEGACY.contains(&limit).then_some(limit))
}

/// What is used of each limit; what could not be counted stays as it was.
fn merged(
    hard: &BTreeMap<String, Amount>,
    used: &Used,
    before: Option<&BTreeMap<String, Amount>>,
) -> BTreeMap<String, Amount> {
    let mut told = BTreeMap::new();
    for name in hard.keys() {
        let counted = used.get(name).map(|n| Amount(n.to_string()));
        let known = || before.and_then(|b| b.get(name)).cloned();
        if let Some(amount) = counted.or_else(known) {
            told.insert(name.clone(), amount);
        }
    }
    told
}

fn same(before: Option<&BTreeMap<String, Amount>>, told: &BTreeMap<String, Amount>) -> bool {
    let number = |a: &Amount| a.0.parse::<Quantity>().ok();
    before.is_some_and(|before| {
        before.len() == told.len()
            && before
                .iter()
                .zip(told)
                .all(|((a, x), (b, y))| a == b && number(x) == number(y))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(pairs: &[(&str, &str)]) -> BTreeMap<String, Amount> {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), Amount((*v).to_owned()));
        pairs.iter().map(own).collect()
    }

    #[test]
    fn only_what_is_limited_is_told_and_the_unknown_stays() {
        let hard = amounts(&[("pods", "5"), ("count/widgets.example.com", "3")]);
        let used: Used = [
            ("pods".to_owned(), usage::number(2)),
            ("cpu".to_owned(), usage::number(1)),
        ]
        .into();
        let before = amounts(&[("count/widgets.example.com", "1"), ("gone", "7")]);
        assert_eq!(
            merged(&hard, &used, Some(&before)),
            amounts(&[("pods", "2"), ("count/widgets.example.com", "1")])
        );
    }

    #[test]
    fn equal_amounts_in_other_words_are_the_same() {
        let (a, b) = (amounts(&[("cpu", "1000m")]), amounts(&[("cpu", "1")]));
        assert!(same(Some(&a), &b) && !same(None, &b));
        assert!(!same(Some(&a), &amounts(&[("cpu", "2")])));
    }

    #[test]
    fn limits_that_count_objects_name_a_resource() {
        assert_eq!(counted_name("count/jobs.batch"), Some("jobs.batch"));
        assert_eq!(counted_name("secrets"), Some("secrets"));
        assert_eq!(counted_name("requests.cpu"), None);
    }
}
