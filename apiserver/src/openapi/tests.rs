//! The documents against those that upstream publishes, where its sources are on the machine.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::*;

/// `api/openapi-spec` of upstream's module.
fn upstream() -> Option<PathBuf> {
    let home = PathBuf::from(std::env::var_os("HOME")?);
    let gopath = std::env::var_os("GOPATH").map_or_else(|| home.join("go"), PathBuf::from);
    let dir = gopath.join("pkg/mod/k8s.io/kubernetes@v1.37.1/api/openapi-spec");
    dir.is_dir().then_some(dir)
}

/// What may differ: texts, the version, CBOR (which is off by default), allowed values (which the
/// published documents lack), unions (which no client reads), maps that are said to be what maps are
/// anyway, and a reference alone or in `allOf`.
fn normal(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut out = Map::new();
            for (key, below) in map {
                let text = key == "description" && below.is_string();
                let union = key == "x-kubernetes-unions" || key.ends_with("cbor-seq");
                let allowed = key == "enum" && below.is_array();
                let granular = below.as_str() == Some("granular");
                if text || union || allowed || granular || key.ends_with("cbor") {
                    continue;
                }
                out.insert(key.clone(), normal(below));
            }
            if let Some(Value::Array(one)) = out.get("allOf").cloned()
                && let [Value::Object(only)] = one.as_slice()
            {
                out.remove("allOf");
                out.extend(only.clone());
            }
            Value::Object(out)
        }
        Value::Array(items) => {
            let mut items: Vec<Value> = items
                .iter()
                .filter(|i| !i.as_str().is_some_and(|s| s.contains("cbor")))
                .map(normal)
                .collect();
            // Only sets are lists here.
            items.sort_by_key(ToString::to_string);
            Value::Array(items)
        }
        other => other.clone(),
    }
}

fn differences(path: &str, ours: &Value, theirs: &Value, into: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let at = format!("{path} {key}");
                match (a.get(key), b.get(key)) {
                    (Some(x), Some(y)) => differences(&at, x, y, into),
                    (Some(x), None) => into.push(format!("{at}: only ours: {x:.100}")),
                    (None, Some(y)) => into.push(format!("{at}: only theirs: {y:.100}")),
                    (None, None) => {}
                }
            }
        }
        (x, y) if x == y => {}
        (x, y) => into.push(format!("{path}: {x} instead of {y}")),
    }
}

/// Known differences, by what they begin with.
const ALLOWED: &[&str] = &[
    // The group versions that are served, which in the catalogue are not quite those.
    "DeleteOptions x-kubernetes-group-version-kind",
    "WatchEvent x-kubernetes-group-version-kind",
    // Not about resources, and read by nobody but generators of clients.
    "paths /.well-known/openid-configuration/: only theirs",
    "paths /logs/: only theirs",
    "paths /logs/{logpath}: only theirs",
    "paths /openid/v1/jwks/: only theirs",
    "paths /version/: only theirs",
    "definitions io.k8s.apimachinery.pkg.version.Info: only theirs",
];

/// What the catalogue has for what is stored, and upstream serves no more.
fn served() -> Vec<&'static Resource> {
    let gone = |r: &Resource| {
        matches!(
            (r.group, r.version),
            (
                "authentication.k8s.io" | "networking.k8s.io" | "storage.k8s.io",
                "v1beta1"
            ) | ("certificates.k8s.io", "v1alpha1")
        ) || (r.version == "v1beta1" && r.name.starts_with("validatingadmissionpolic"))
    };
    catalogue::resources().iter().filter(|r| !gone(r)).collect()
}

fn report(all: Vec<String>) {
    let left: Vec<String> = all
        .into_iter()
        .filter(|d| !ALLOWED.iter().any(|a| d.contains(a)))
        .collect();
    let shown: Vec<&String> = left.iter().take(60).collect();
    assert!(left.is_empty(), "{} differences: {shown:#?}", left.len());
}

#[test]
fn v3_documents_are_those_of_upstream() {
    let Some(dir) = upstream() else { return };
    let set = document::all(&served());
    let mut all = Vec::new();
    for (name, ours) in &set.v3 {
        let file = dir
            .join("v3")
            .join(format!("{}_openapi.json", name.replace('/', "__")));
        let Ok(text) = std::fs::read(&file) else {
            all.push(format!("{name}: only ours"));
            continue;
        };
        let theirs: Value = serde_json::from_slice(&text).expect("their document is JSON");
        for part in ["paths", "components"] {
            let at = format!("{name} {part}");
            differences(&at, &normal(&ours[part]), &normal(&theirs[part]), &mut all);
        }
    }
    report(all);
}

#[test]
fn the_v2_document_is_that_of_upstream() {
    let Some(dir) = upstream() else { return };
    let ours = document::all(&served()).v2;
    let text = std::fs::read(dir.join("swagger.json")).expect("it is in the module");
    let mut theirs: Value = serde_json::from_slice(&text).expect("their document is JSON");
    let shared = theirs["parameters"].clone();
    resolve(&mut theirs, &shared);
    let mut all = Vec::new();
    for part in ["paths", "definitions", "security", "securityDefinitions"] {
        differences(part, &normal(&ours[part]), &normal(&theirs[part]), &mut all);
    }
    report(all);
}

/// Upstream's document names the parameters that many operations have, ours repeats them.
fn resolve(value: &mut Value, shared: &Value) {
    match value {
        Value::Object(map) => {
            let name = map.get("$ref").and_then(Value::as_str).unwrap_or_default();
            if let Some(name) = name.strip_prefix("#/parameters/") {
                *value = shared[name].clone();
                return;
            }
            map.values_mut().for_each(|v| resolve(v, shared));
        }
        Value::Array(items) => items.iter_mut().for_each(|v| resolve(v, shared)),
        _ => {}
    }
}
