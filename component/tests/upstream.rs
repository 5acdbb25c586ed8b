//! The client side against upstream's own API server: what our fakes say must be what it says.

#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use component::Supervisor;
use component::client::{Api, Client, ListParams, Patch, Target};
use component::config::LeaderElection;
use component::events::{self, Recorder, reference};
use component::informer::{Event, Informer, Informers, Lister, Selection};
use component::leader::Election;
use component::serving::{Attributes, Authorizer, Decision, User};
use component::supervisor::Shutdown;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenReview, TokenReviewSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions};
use parking_lot::Mutex;
use serde_json::json;

#[path = "upstream/cluster.rs"]
mod cluster;

use cluster::Cluster;

fn config_map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some([("v".to_owned(), value.to_owned())].into()),
        ..ConfigMap::default()
    }
}

/// Waits for something that is on its way.
async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let wait = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .unwrap_or_else(|_| panic!("{what}"));
}

/// One cluster for all: a server takes seconds to start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstreams_api_server() {
    component::logging::install(&component::config::Logging::default()).unwrap();
    let mut cluster = Cluster::start().await;
    let tasks = Supervisor::current();
    let client = cluster.client(&tasks);
    let steps = std::time::Instant::now();
    let done = |what: &str| println!("{what}: {:?}", steps.elapsed());
    objects(&client).await;
    done("objects");
    reviews(&client).await;
    done("reviews");
    recorded(&client, &tasks).await;
    done("events");
    elections(&client).await;
    done("elections");
    handed_over(&client, &cluster).await;
    done("elections with upstream's");
    informed(&client, &tasks, &mut cluster).await;
    done("informers");
    tasks.stop();
    tasks.finished(Shutdown::default()).await.unwrap();
}

async fn objects(client: &Client) {
    let maps = client.namespaced::<ConfigMap>("default");
    let created = maps.create(&config_map("a", "1")).await.unwrap();
    assert!(
        maps.create(&config_map("a", "1"))
            .await
            .unwrap_err()
            .is_already_exists()
    );
    assert_eq!(maps.get("a").await.unwrap(), created);
    assert_eq!(maps.find("none").await.unwrap(), None);

    let patched = maps
        .patch("a", &Patch::merge(&json!({"data": {"v": "2"}})).unwrap())
        .await
        .unwrap();
    assert_eq!(patched.data.unwrap()["v"], "2");
    let mut stale = created.clone();
    stale.data = None;
    assert!(maps.replace(&stale).await.unwrap_err().is_conflict());
    let wanted = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"w": "3"}});
    let applied = maps
        .patch("a", &Patch::apply("me", false, &wanted).unwrap())
        .await
        .unwrap();
    assert_eq!(applied.data.unwrap().len(), 2);
    let taken = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"v": "x"}});
    assert!(
        maps.patch("a", &Patch::apply("me", false, &taken).unwrap())
            .await
            .unwrap_err()
            .is_conflict()
    );
    maps.patch("a", &Patch::apply("me", true, &taken).unwrap())
        .await
        .unwrap();
    let bad = Patch::json(&json!([{"op": "test", "path": "/data/v", "value": "other"}])).unwrap();
    assert!(maps.patch("a", &bad).await.unwrap_err().is_invalid());
    pages_and_deletes(&maps).await;
    other_kinds(client).await;
}

async fn pages_and_deletes(maps: &Api<ConfigMap>) {
    for n in 0..7 {
        maps.create(&config_map(&format!("page-{n}"), "x"))
            .await
            .unwrap();
    }
    let mut params = ListParams {
        limit: 3,
        ..ListParams::default()
    };
    let mut names = Vec::new();
    loop {
        let page = maps.list(&params).await.unwrap();
        names.extend(page.items.iter().filter_map(|m| m.metadata.name.clone()));
        let Some(next) = page.continue_token() else {
            break;
        };
        params.continue_token = next.to_owned();
    }
    assert_eq!(names.iter().filter(|n| n.starts_with("page-")).count(), 7);

    let wrong = Preconditions {
        uid: Some("wrong".into()),
        resource_version: None,
    };
    let options = DeleteOptions {
        preconditions: Some(wrong),
        ..DeleteOptions::default()
    };
    assert!(maps.delete("a", &options).await.unwrap_err().is_conflict());
    maps.delete("a", &DeleteOptions::default()).await.unwrap();
    assert!(maps.get("a").await.unwrap_err().is_not_found());
}

async fn other_kinds(client: &Client) {
    // A name that has to be escaped, and metadata of a kind by its name.
    assert!(
        client
            .all::<ClusterRole>()
            .get("system:node")
            .await
            .unwrap()
            .rules
            .is_some()
    );
    let roles = client.metadata(
        Target::new(
            "rbac.authorization.k8s.io",
            "v1",
            "clusterroles",
            "ClusterRole",
        ),
        None,
    );
    assert!(
        roles
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len()
            > 30
    );
    let node = Node {
        metadata: ObjectMeta {
            name: Some("n".into()),
            ..ObjectMeta::default()
        },
        ..Node::default()
    };
    client.all::<Node>().create(&node).await.unwrap();
    let status =
        Patch::strategic(&json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}))
            .unwrap();
    let node = client
        .all::<Node>()
        .patch_status("n", &status)
        .await
        .unwrap();
    assert_eq!(node.status.unwrap().conditions.unwrap()[0].type_, "Ready");
}

async fn reviews(client: &Client) {
    let accounts = client.namespaced::<ServiceAccount>("default");
    let account = ServiceAccount {
        metadata: ObjectMeta {
            name: Some("robot".into()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    };
    accounts.create(&account).await.unwrap();
    let request = json!({"spec": {"audiences": [], "expirationSeconds": 600}});
    let token: TokenRequest = accounts
        .create_subresource("robot", "token", &request)
        .await
        .unwrap();
    let spec = TokenReviewSpec {
        token: token.status.unwrap().token.unwrap(),
        audiences: None,
    };
    let review = client
        .all::<TokenReview>()
        .create(&TokenReview {
            spec,
            ..TokenReview::default()
        })
        .await
        .unwrap();
    let status = review.status.unwrap();
    assert_eq!(
        status.user.unwrap().username.as_deref(),
        Some("system:serviceaccount:default:robot")
    );

    let authorizer = Authorizer::new(Some(client.clone()), Duration::ZERO, Duration::ZERO, vec![]);
    let user = |name: &str, group: &str| User {
        name: name.into(),
        groups: vec![group.into()],
        ..User::default()
    };
    let metrics = Attributes {
        verb: "get".into(),
        path: "/metrics".into(),
        resource: None,
    };
    let monitor = user("m", "system:monitoring");
    assert_eq!(
        authorizer.authorize(&monitor, &metrics).await.unwrap(),
        Decision::Allowed
    );
    let nobody = user("x", User::AUTHENTICATED);
    assert!(matches!(
        authorizer.authorize(&nobody, &metrics).await.unwrap(),
        Decision::Denied(_)
    ));
}

async fn recorded(client: &Client, tasks: &Supervisor) {
    let namespaces = client.all::<Namespace>();
    let object = reference(&namespaces.get("default").await.unwrap());
    let classic = Recorder::new(client, events::Api::Core, "kubelet", "node-1", tasks);
    let series = Recorder::new(client, events::Api::Events, "default-scheduler", "", tasks);
    for recorder in [&classic, &series] {
        for _ in 0..3 {
            recorder.warning(&object, "Failed", "it did not work");
        }
    }
    let all = client.namespaced::<k8s_openapi::api::core::v1::Event>("default");
    let found = async |count: fn(&k8s_openapi::api::core::v1::Event) -> bool| {
        let events = all.list(&ListParams::default()).await.unwrap().items;
        events
            .iter()
            .filter(|e| e.reason.as_deref() == Some("Failed") && count(e))
            .count()
    };
    let start = std::time::Instant::now();
    loop {
        let counted =
            found(|e| e.count == Some(3) && e.reporting_component.as_deref() == Some("kubelet"))
                .await;
        let in_series = found(|e| e.series.as_ref().is_some_and(|s| s.count == Some(2))).await;
        if (counted, in_series) == (1, 1) {
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{counted} counted, {in_series} in a series"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn election(name: &str) -> LeaderElection {
    LeaderElection {
        lease_duration: component::config::Duration::from_secs(4),
        renew_deadline: component::config::Duration::from_secs(3),
        retry_period: Duration::from_millis(300).into(),
        ..LeaderElection::named(name)
    }
}

async fn elections(client: &Client) {
    let config = election("kube-test");
    let stand = |name: &'static str| {
        let tasks = Supervisor::current();
        let leads = Arc::new(AtomicUsize::new(0));
        let note = Arc::clone(&leads);
        Election::new(config.clone(), client, name.to_owned()).start(&tasks, move || async move {
            note.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        (tasks, leads)
    };
    let (first, leads) = stand("first");
    until("the first leads", || leads.load(Ordering::SeqCst) == 1).await;
    let (second, follows) = stand("second");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(follows.load(Ordering::SeqCst), 0);
    let start = std::time::Instant::now();
    first.stop();
    first.finished(Shutdown::default()).await.unwrap();
    until("the second follows", || follows.load(Ordering::SeqCst) == 1).await;
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "a released lease is not waited for: {:?}",
        start.elapsed()
    );
    let lease = client
        .namespaced::<Lease>("kube-system")
        .get("kube-test")
        .await
        .unwrap()
        .spec
        .unwrap();
    assert_eq!(
        (lease.holder_identity.as_deref(), lease.lease_transitions),
        (Some("second"), Some(1))
    );
    second.stop();
    second.finished(Shutdown::default()).await.unwrap();
}

/// Ours and upstream's take the same lease from each other.
async fn handed_over(client: &Client, cluster: &Cluster) {
    let leases = client.namespaced::<Lease>("kube-system");
    let holder = async || {
        let lease = leases.find("kube-scheduler").await.unwrap();
        lease
            .and_then(|l| l.spec)
            .and_then(|s| s.holder_identity)
            .unwrap_or_default()
    };
    let held_by_theirs = async || {
        let start = std::time::Instant::now();
        loop {
            let holder = holder().await;
            if !holder.is_empty() && holder != "ours" {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "upstream's scheduler does not lead: {holder:?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let theirs = cluster.scheduler();
    held_by_theirs().await;
    let tasks = Supervisor::current();
    let leads = Arc::new(AtomicUsize::new(0));
    let note = Arc::clone(&leads);
    let config = election("kube-scheduler");
    Election::new(config, client, "ours".to_owned()).start(&tasks, move || async move {
        note.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(leads.load(Ordering::SeqCst), 0);
    // Killed, it cannot give the lease up: ours waits for its end.
    drop(theirs);
    let start = std::time::Instant::now();
    until("ours leads", || leads.load(Ordering::SeqCst) == 1).await;
    assert!(
        (2..8).contains(&start.elapsed().as_secs()),
        "{:?}",
        start.elapsed()
    );
    let _theirs = cluster.scheduler();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(holder().await, "ours");
    tasks.stop();
    tasks.finished(Shutdown::default()).await.unwrap();
    held_by_theirs().await;
}

/// A copy of the state kept from events alone, which must be the cache's and the server's.
#[derive(Clone, Default)]
struct Mirror(Arc<Mutex<BTreeMap<String, String>>>);

impl Mirror {
    fn of(informer: &Informer<ConfigMap>) -> Self {
        let mirror = Self::default();
        let note = mirror.clone();
        informer.subscribe(move |key, event| {
            let mut mirror = note.0.lock();
            let name = key.name().to_owned();
            match event {
                Event::Added(new) => assert_eq!(mirror.insert(name, version(new)), None, "{key}"),
                Event::Updated { old, new } => {
                    assert_eq!(
                        mirror.insert(name, version(new)),
                        Some(version(old)),
                        "{key}"
                    );
                }
                Event::Deleted(_) => assert!(mirror.remove(&name).is_some(), "{key}"),
            }
        });
        mirror
    }

    /// Waits until mirror, cache and server say the same.
    async fn agrees(&self, what: &str, lister: &Lister<ConfigMap>, maps: &Api<ConfigMap>) {
        let pair = |m: &ConfigMap| (m.metadata.name.clone().unwrap(), version(m));
        let list = maps.list(&ListParams::default()).await.unwrap();
        let wanted: BTreeMap<_, _> = list.items.iter().map(pair).collect();
        until(what, || {
            let cached: BTreeMap<_, _> = lister.list().iter().map(|m| pair(m)).collect();
            *self.0.lock() == wanted && cached == wanted
        })
        .await;
    }
}

fn version(map: &ConfigMap) -> String {
    map.metadata.resource_version.clone().unwrap()
}

const OBJECTS: usize = 1500;

async fn fill(maps: &Api<ConfigMap>) {
    for chunk in (0..OBJECTS).collect::<Vec<_>>().chunks(50) {
        let creates = chunk.iter().map(|n| {
            let map = config_map(&format!("many-{n:04}"), "0");
            async move { maps.create(&map).await }
        });
        for created in futures::future::join_all(creates).await {
            created.unwrap();
        }
    }
}

async fn informed(client: &Client, tasks: &Supervisor, cluster: &mut Cluster) {
    let maps = client.namespaced::<ConfigMap>("default");
    fill(&maps).await;
    let informers = Informers::new(client.clone(), tasks.clone());
    let informer = informers.select::<ConfigMap>(Selection::namespace("default"));
    let mirror = Mirror::of(&informer);
    informer.synced().await;
    let lister = informer.lister();
    assert!(lister.len() >= OBJECTS);
    mirror.agrees("the initial objects", &lister, &maps).await;

    for n in 0..200 {
        let patch = Patch::merge(&json!({"data": {"v": n.to_string()}})).unwrap();
        maps.patch(&format!("many-{n:04}"), &patch).await.unwrap();
        maps.delete(&format!("many-{:04}", n + 500), &DeleteOptions::default())
            .await
            .unwrap();
    }
    mirror.agrees("updates and deletes", &lister, &maps).await;

    // The server dies, and comes back.
    cluster.kill_api();
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.start_api().await;
    maps.create(&config_map("after", "1")).await.unwrap();
    mirror
        .agrees("the state after a restart", &lister, &maps)
        .await;

    // The server dies, and what the cache knows is gone from etcd when it comes back.
    cluster.kill_api();
    let patch = Patch::merge(&json!({"data": {"v": "new"}})).unwrap();
    assert!(maps.patch("after", &patch).await.is_err());
    cluster.start_api().await;
    cluster.kill_api();
    cluster.compact().await;
    cluster.start_api().await;
    maps.patch("after", &patch).await.unwrap();
    maps.delete("many-0001", &DeleteOptions::default())
        .await
        .unwrap();
    mirror
        .agrees("the state after compaction", &lister, &maps)
        .await;

    // Other kinds decode too.
    let (pods, nodes) = (informers.of::<Pod>(), informers.of::<Node>());
    let roles = informers.metadata(Target::new(
        "rbac.authorization.k8s.io",
        "v1",
        "clusterroles",
        "ClusterRole",
    ));
    informers.synced().await;
    assert!(pods.lister().is_empty() && nodes.lister().get("", "n").is_some());
    assert!(roles.lister().get("", "cluster-admin").is_some());
}
