use std::collections::BTreeSet;
use std::path::PathBuf;

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

/// `api/discovery` of upstream's module, where its sources are on the machine.
fn upstream() -> Option<PathBuf> {
    let home = PathBuf::from(std::env::var_os("HOME")?);
    let gopath = std::env::var_os("GOPATH").map_or_else(|| home.join("go"), PathBuf::from);
    let dir = gopath.join("pkg/mod/k8s.io/kubernetes@v1.37.1/api/discovery");
    dir.is_dir().then_some(dir)
}

/// What the catalogue has for what is stored, and upstream serves no more.
fn is_gone(r: &Resource) -> bool {
    r.removed
        .is_some_and(|removed| removed <= catalogue::Release::CURRENT)
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
    let documents = Documents::new(|r| !is_gone(r), |_, _| true);
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
