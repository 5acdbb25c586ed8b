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

#[tokio::test]
async fn what_is_stored_and_asked_of_etcd_is_told_under_upstreams_names() {
    let api = Daemon::start_with(|_| vec!["--lease-reuse-duration-seconds=0".into()]).await;
    let map = config_map("m", json!({"text": "x".repeat(10_000)}));
    assert_eq!(api.send("POST", MAPS, &map).await.0, 201);
    assert_eq!(
        api.send("DELETE", &format!("{MAPS}/none"), &json!({}))
            .await
            .0,
        404
    );
    assert_eq!(api.get(MAPS).await.0, 200);
    let events = "/api/v1/namespaces/default/events";
    for name in ["a", "b"] {
        let event = json!({
            "metadata": {"name": name}, "reason": "Test", "type": "Normal", "message": "m",
            "involvedObject": {"kind": "ConfigMap", "namespace": "default", "name": "m"},
        });
        let (code, event) = api.send("POST", events, &event).await;
        assert_eq!(code, 201, "{event}");
    }
    let metrics = api.text("/metrics").await;
    let value = |parts: &[&str]| {
        let found = line(&metrics, parts).and_then(|line| line.rsplit_once(' '));
        let (_, value) = found.unwrap_or_else(|| panic!("{parts:?} is missing: {metrics}"));
        value.parse::<f64>().unwrap()
    };
    let maps = ["group=\"\"", "resource=\"configmaps\""];
    let of_maps = |name| value(&[name, maps[0], maps[1]]);
    let count = of_maps("apiserver_resource_objects{");
    assert!(count >= 1.0);
    assert_eq!(
        value(&["apiserver_storage_objects{resource=\"configmaps\"}"]),
        count
    );
    let size = of_maps("apiserver_resource_size_estimate_bytes{");
    assert!((10_000.0..30_000.0).contains(&size), "{size}");
    // Of events, whose bodies are not held in memory, the size is known as well.
    let told = metrics
        .lines()
        .filter(|l| l.starts_with("apiserver_resource_size_estimate_bytes{"));
    let mut events = told.filter(|l| l.contains("resource=\"events\""));
    assert!(events.any(|l| !l.ends_with(" 0")), "{metrics}");
    assert!(of_maps("apiserver_watch_cache_resource_version{") > 1.0);
    assert!(value(&["apiserver_storage_size_bytes{storage_cluster_id=\"etcd-0\"}"]) > 1000.0);
    let created = ["etcd_requests_total{", maps[1], "operation=\"create\""];
    assert!(value(&created) >= 1.0);
    let took = [
        "etcd_request_duration_seconds_bucket{",
        maps[1],
        "operation=\"create\"",
        "le=\"0.025\"",
    ];
    line(&metrics, &took).unwrap();
    assert_eq!(
        value(&[
            "etcd_request_errors_total{",
            maps[1],
            "operation=\"create\""
        ]),
        0.0
    );
    // Each event has a lease of its own, as told: all but the last have been replaced.
    assert!(value(&["etcd_lease_object_counts_count"]) >= 1.0);
    assert!(value(&["apiserver_watch_cache_read_wait_seconds_count{", maps[1]]) >= 1.0);
    let lists = [
        "apiserver_storage_list_total{",
        maps[1],
        "storage=\"watchcache\"",
    ];
    line(&metrics, &lists).unwrap();
}
