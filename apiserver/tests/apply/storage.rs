//! Several etcds behind one server, and what must not be in any of them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use store::testing::{Direct, Etcd, Etcds};

use super::config_map;
use super::daemon::Daemon;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

fn version(object: &Value) -> i64 {
    super::version(object).parse().unwrap()
}

/// The line of a metric that has all of these in it.
fn line<'m>(metrics: &'m str, parts: &[&str]) -> Option<&'m str> {
    metrics
        .lines()
        .find(|line| parts.iter().all(|part| line.contains(part)))
}

#[tokio::test]
async fn a_resource_lives_in_the_etcd_that_an_override_names() {
    let mut other = Etcd::start(&Etcds::newest()).await;
    let there = Direct::to(&other);
    // Far ahead: its revisions are of another history.
    for n in 0..500 {
        there.put("/elsewhere", &n.to_string()).await;
    }
    let url = other.url();
    let api = Daemon::start_with(|_| {
        vec![format!(
            "--etcd-servers-overrides=coordination.k8s.io/leases#{url},/events#{url}"
        )]
    })
    .await;
    let here = api.etcd();
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
        "spec": {"holderIdentity": "a"},
    });
    let (code, lease) = api.send("POST", LEASES, &lease).await;
    assert_eq!(code, 201, "{lease}");
    let (code, map) = api
        .send("POST", MAPS, &config_map("m", json!({"a": "b"})))
        .await;
    assert_eq!(code, 201, "{map}");
    assert!(version(&lease) > 500 && version(&map) < 500);
    assert_eq!(here.count("/registry/leases/").await, 0);
    assert!(there.get("/registry/leases/default/l").await.is_some());
    assert_eq!(there.count("/registry/configmaps/").await, 0);
    // Each list is of its own history, and as fresh as that one is.
    let (_, leases) = api.get(LEASES).await;
    assert!(version(&leases) >= version(&lease), "{leases}");
    let (_, maps) = api.get(MAPS).await;
    assert!((version(&map)..500).contains(&version(&maps)), "{maps}");

    let live = api.text("/livez?verbose").await;
    assert!(
        live.contains("etcd ok") && live.contains("etcd-override-0 ok"),
        "{live}"
    );
    let metrics = api.text("/metrics").await;
    let resource = ["apiserver_resource_objects", "configmaps"];
    assert!(line(&metrics, &resource).is_some(), "{metrics}");
    let streams = ["navarch_etcd_watch_streams_total", "etcd-override-0"];
    assert!(
        line(&metrics, &streams).is_some_and(|l| l.ends_with(" 1")),
        "{metrics}"
    );

    // One that is away takes its own with it and nothing else.
    other.kill();
    let start = Instant::now();
    while api.get("/livez/etcd-override-0").await.0 == 200 {
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    assert_eq!(api.get(LEASES).await.0, 500);
    assert_eq!(api.get(MAPS).await.0, 200);
    other.restart().await;
    let start = Instant::now();
    while api.get(LEASES).await.0 != 200 {
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    let (_, again) = api.get(&format!("{LEASES}/l")).await;
    assert_eq!(version(&again), version(&lease));
}

#[tokio::test]
async fn a_broken_value_costs_its_own_kind_alone() {
    let api = Daemon::start().await;
    let (_, map) = api.send("POST", MAPS, &config_map("good", json!({}))).await;
    let stored = "/registry/configmaps/default/broken";
    // An envelope that nothing here can open.
    api.etcd()
        .put(stored, "k8s:enc:kms:v9:somewhere:else")
        .await;
    let start = Instant::now();
    let whole = loop {
        let (code, answer) = api.get(MAPS).await;
        if code != 200 {
            break answer;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "it is left out");
    };
    assert!(
        whole["message"].as_str().unwrap().contains(stored),
        "{whole}"
    );
    let (code, good) = api.get(&format!("{MAPS}/good")).await;
    assert_eq!((code, version(&good)), (200, version(&map)));
    let (code, _) = api.get("/api/v1/namespaces/default/secrets").await;
    assert_eq!(code, 200);
    let metrics = api.text("/metrics").await;
    let errors = ["apiserver_storage_decode_errors_total", "configmaps"];
    assert!(
        line(&metrics, &errors).is_some_and(|l| !l.ends_with(" 0")),
        "{metrics}"
    );
    assert_eq!(api.text("/readyz").await, "ok");
    assert_eq!(
        api.etcd().get(stored).await.unwrap().1,
        "k8s:enc:kms:v9:somewhere:else"
    );

    api.etcd().delete(stored).await;
    let start = Instant::now();
    while api.get(MAPS).await.0 != 200 {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "it is not healed"
        );
    }
}

#[tokio::test]
async fn every_cache_is_compared_with_etcd_again_and_again() {
    let api = Daemon::start().await;
    let (code, _) = api.send("POST", MAPS, &config_map("m", json!({}))).await;
    assert_eq!(code, 201);
    let checks = "apiserver_storage_consistency_checks_total";
    let counted = |metrics: &str, resource: &str, status: &str| {
        let resource = format!("resource=\"{resource}\"");
        let status = format!("status=\"{status}\"");
        let line = line(metrics, &[checks, &resource, &status]);
        line.and_then(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok())
    };
    // Every fifteen seconds and some, as told by the variable of upstream's.
    let start = Instant::now();
    let metrics = loop {
        let metrics = api.text("/metrics").await;
        if counted(&metrics, "events", "success").is_some_and(|n| n > 0.0) {
            break metrics;
        }
        assert!(start.elapsed() < Duration::from_secs(90), "{metrics}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    assert!(counted(&metrics, "configmaps", "success").is_some_and(|n| n > 0.0));
    let different = metrics
        .lines()
        .filter(|l| l.starts_with(checks) && l.contains("failure") && !l.ends_with(" 0"));
    assert_eq!(different.collect::<Vec<_>>(), Vec::<&str>::new());
}
