use std::collections::BTreeSet;
use std::path::PathBuf;

use catalogue::Release;
use component::compatibility::EffectiveVersion;

use super::*;

#[test]
fn versions_are_ordered_as_kubectl_orders_them() {
    let mut versions = vec!["v1alpha1", "v2", "v1beta1", "v1", "v1beta2", "v10"];
    versions.sort_by_key(|v| std::cmp::Reverse(rank(v)));
    assert_eq!(
        versions,
        ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha1"]
    );
}

#[test]
fn storage_version_hashes_are_upstreams() {
    // From upstream's published discovery documents.
    assert_eq!(
        storage_version_hash("apps", "v1", "Deployment"),
        "8aSe+NMegvE="
    );
    assert_eq!(
        storage_version_hash("apps", "v1", "DaemonSet"),
        "dd7pWHUlMKQ="
    );
}

#[test]
fn the_hash_is_that_of_the_version_that_older_servers_can_read() {
    let hash = |least| {
        let version = EffectiveVersion {
            min_compatibility: Release::new(1, least),
            ..EffectiveVersion::default()
        };
        let documents = Documents::new(|r| !is_gone(r), |_, _| true, &Features::of(version));
        let document = &documents.plain["/apis/admissionregistration.k8s.io/v1"].value;
        let all = document.get(n::RESOURCES).and_then(Value::as_list).unwrap();
        let named = |r: &&Value| {
            r.get(n::NAME).and_then(Value::as_str) == Some("mutatingadmissionpolicies")
        };
        let policies = all.iter().find(named).unwrap();
        let hash = policies.get(n::STORAGE_VERSION_HASH);
        hash.and_then(Value::as_str).unwrap().to_owned()
    };
    let of = |version| {
        storage_version_hash(
            "admissionregistration.k8s.io",
            version,
            "MutatingAdmissionPolicy",
        )
    };
    assert_eq!((hash(36), hash(35)), (of("v1"), of("v1beta1")));
}

#[test]
fn hashes_are_told_while_their_gate_is_on() {
    let tells = |on| {
        let features = Features::defaults();
        let features = features.with([("StorageVersionHash", on)]).unwrap();
        let documents = Documents::new(|r| !is_gone(r), |_, _| true, &features);
        let mut json = Vec::new();
        let document = &documents.plain["/apis/apps/v1"];
        proto::codec::json::encode(&document.value, document.message, &mut json);
        String::from_utf8(json)
            .unwrap()
            .contains("storageVersionHash")
    };
    assert!(tells(true) && !tells(false));
}

/// `api/discovery` of upstream's module, where its sources are on the machine.
fn upstream() -> Option<PathBuf> {
    let home = PathBuf::from(std::env::var_os("HOME")?);
    let gopath = std::env::var_os("GOPATH").map_or_else(|| home.join("go"), PathBuf::from);
    let dir = gopath.join("pkg/mod/k8s.io/kubernetes@v1.37.1/api/discovery");
    dir.is_dir().then_some(dir)
}

/// What the catalogue has for what is stored, and upstream serves no more.
fn is_gone(r: &Resource) -> bool {
    r.removed.is_some_and(|removed| removed <= Release::CURRENT)
}

fn differences(
    path: &str,
    ours: &serde_json::Value,
    theirs: &serde_json::Value,
    into: &mut Vec<String>,
) {
    use serde_json::Value as Json;
    match (ours, theirs) {
        (Json::Object(a), Json::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let none = Json::Null;
                let (x, y) = (a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none));
                differences(&format!("{path} {key}"), x, y, into);
            }
        }
        (Json::Array(a), Json::Array(b)) if a.len() == b.len() => {
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{i}]"), x, y, into);
            }
        }
        (x, y) if x == y => {}
        (x, y) => into.push(format!("{path}: {x:.300} instead of {y:.300}")),
    }
}

fn compare(name: &str, document: &Document, into: &mut Vec<String>, dir: &std::path::Path) {
    let file = dir.join(format!("{name}.json"));
    let Ok(text) = std::fs::read(&file) else {
        into.push(format!("{name}: only ours"));
        return;
    };
    let mut theirs: serde_json::Value = serde_json::from_slice(&text).expect("their JSON");
    for added in ["kind", "apiVersion"] {
        theirs.as_object_mut().expect("an object").remove(added);
    }
    let mut json = Vec::new();
    proto::codec::json::encode(&document.value, document.message, &mut json);
    let ours = serde_json::from_slice(&json).expect("JSON");
    differences(name, &ours, &theirs, into);
}

#[test]
fn documents_are_those_of_upstream() {
    let Some(dir) = upstream() else { return };
    let documents = Documents::new(|r| !is_gone(r), |_, _| true, &Features::defaults());
    let mut all = Vec::new();
    for (path, document) in &documents.plain {
        compare(&path[1..].replace('/', "__"), document, &mut all, &dir);
    }
    let aggregated = &documents.aggregated["/apis"];
    compare("aggregated_v2", &aggregated.document, &mut all, &dir);
    all.sort();
    assert!(
        all.is_empty(),
        "{} differences: {:#?}",
        all.len(),
        &all[..all.len().min(80)]
    );
}
