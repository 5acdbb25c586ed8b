//! Objects that upstream's releases wrote lie in etcd: both servers read the same out of them.
//!
//! The objects are the API module's own golden ones, of this release and of all older ones that it keeps; every field of
//! each is set.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::command;
use e2e::workshop::Workshop;
use serde_json::Value;

use super::api::{Api, PROTOBUF, Resource, differences, text};
use super::etcd::Etcd;
use super::known::{Difference, judge};
use super::samples::{self, Sample};
use super::storage::{first_difference, live_twice, two};

/// What every golden object calls itself.
const NAME: &str = "nameValue";
const NAMESPACE: &str = "namespaceValue";
/// What they are called when they are created.
const NEW_NAME: &str = "name-value";

/// A golden object's file: `HEAD/apps.v1.Deployment.pb`.
struct Golden {
    release: String,
    /// As `apps.v1`.
    version: String,
    kind: String,
    path: PathBuf,
}

#[test]
fn what_any_release_wrote_is_read_alike() {
    let (fixture, ours, theirs) = two("golden");
    let etcd = Etcd::of(&fixture.cluster);
    let workshop = Workshop::new("dev");
    let samples = samples::read(&workshop.upstream_tree().unwrap());
    let served = theirs.resources();
    let mut report = Vec::new();
    let mut read = 0;
    for golden in all(&testdata(workshop.root())) {
        let Some((resource, sample)) = stored(&golden, &served, &samples) else {
            continue; // not a kind that is stored, or not served
        };
        let within = if resource.namespaced {
            format!("{NAMESPACE}/")
        } else {
            String::new()
        };
        let key = format!("{}{within}{NAME}", sample.prefix());
        etcd.put(&key, &fs::read(&golden.path).unwrap());
        let path = format!("{}/{NAME}", resource.path(Some(NAMESPACE)));
        let found = compare(&ours, &theirs, &path, &mut read);
        etcd.delete(&key);
        report.extend(found.into_iter().map(|what| Difference {
            kind: format!("{}/{}", resource.group(), golden.kind),
            what: format!("{} {}: {what}", golden.release, golden.version),
        }));
    }
    assert!(read > 400, "{read} objects were read");
    judge("read", &report, include_str!("known/read.tsv"));
}

#[test]
fn what_any_release_wrote_is_created_or_refused_alike() {
    let (fixture, ours, theirs) = two("golden-created");
    let etcd = Etcd::of(&fixture.cluster);
    let workshop = Workshop::new("dev");
    let samples = samples::read(&workshop.upstream_tree().unwrap());
    let served = theirs.resources();
    let mut report = Vec::new();
    let mut asked = 0;
    for golden in all(&testdata(workshop.root())) {
        let version = golden
            .version
            .strip_prefix("core.")
            .unwrap_or(&golden.version);
        let version = match version.rsplit_once('.') {
            Some((group, version)) => format!("{group}/{version}"),
            None => version.to_owned(),
        };
        let Some((_, stored)) = stored(&golden, &served, &samples) else {
            continue;
        };
        let named = |of: &&Resource| of.version == version && of.kind == golden.kind;
        let Some(resource) = served.iter().find(named).filter(|of| of.can("create")) else {
            continue; // not served in this version
        };
        let text = fs::read(golden.path.with_extension("json")).unwrap();
        let within = if resource.namespaced {
            format!("{}/", samples::NAMESPACE)
        } else {
            String::new()
        };
        let sample = Sample {
            version,
            resource: resource.name.clone(),
            namespaced: resource.namespaced,
            object: as_new(serde_json::from_slice(&text).unwrap()),
            status: None,
            key: format!("{}{within}{NEW_NAME}", stored.prefix()),
        };
        asked += 1;
        let found = live_twice(&etcd, &ours, &theirs, resource, &sample).into_iter();
        report.extend(found.map(|what| Difference {
            kind: format!("{}/{}", resource.group(), golden.kind),
            what: format!("{} {}: {what}", golden.release, golden.version),
        }));
    }
    assert!(asked > 200, "{asked} objects were created or refused");
    judge("created", &report, include_str!("known/created.tsv"));
}

/// The object without what only a server writes, under a name that can be had.
fn as_new(mut object: Value) -> Value {
    let meta = &object["metadata"];
    let kept = ["labels", "annotations"].map(|field| (field.to_owned(), meta[field].clone()));
    let mut meta: serde_json::Map<String, Value> = kept.into_iter().collect();
    meta.insert("name".to_owned(), NEW_NAME.into());
    object["metadata"] = meta.into();
    object
}

/// Reads the object at `path` from both servers in both forms, and counts it if it can be read.
fn compare(ours: &Api, theirs: &Api, path: &str, read: &mut usize) -> Vec<String> {
    let [a, b] = [ours, theirs].map(|api| api.get(path));
    if a.status != b.status {
        let said = text(&a.json()["message"]).to_owned();
        return vec![format!("{} {said} | {}", a.status, b.status)];
    }
    // What cannot be read is refused alike, in other words.
    if a.status != 200 {
        let [a, b] = [a, b].map(|answer| answer.json()["reason"].clone());
        return differences(&a, &b);
    }
    *read += 1;
    let found = differences(&a.json(), &b.json());
    if !found.is_empty() {
        return found;
    }
    let [a, b] = [ours, theirs].map(|api| api.get_as(path, PROTOBUF).body);
    let told = (a != b).then(|| format!("protobuf {}", first_difference(&a, &b)));
    told.into_iter().collect()
}

/// How the object is asked for, and where it is stored.
fn stored<'a>(
    golden: &Golden,
    served: &'a [Resource],
    samples: &'a [Sample],
) -> Option<(&'a Resource, &'a Sample)> {
    let (group, _) = golden.version.rsplit_once('.').unwrap_or(("core", ""));
    let group = if group == "core" { "" } else { group };
    let resource = served
        .iter()
        .find(|of| of.group() == group && of.kind == golden.kind && of.can("get"))?;
    let sample = samples
        .iter()
        .find(|sample| sample.group() == group && sample.resource == resource.name)?;
    Some((resource, sample))
}

/// The test data of the API module that `hack/go` pins.
fn testdata(root: &Path) -> PathBuf {
    let module = root.join("hack/go/kubernetes");
    let args = ["list", "-m", "-f", "{{.Dir}}", "k8s.io/api"];
    let dir = command::run_in(&module, "go", &args).unwrap();
    Path::new(dir.trim()).join("testdata")
}

fn all(testdata: &Path) -> Vec<Golden> {
    let mut all = Vec::new();
    for release in fs::read_dir(testdata).unwrap().flatten() {
        if !release.path().is_dir() {
            continue;
        }
        for file in fs::read_dir(release.path()).unwrap().flatten() {
            let name = file.file_name().into_string().unwrap();
            let Some(stem) = name.strip_suffix(".pb") else {
                continue;
            };
            let Some((version, kind)) = stem.rsplit_once('.') else {
                continue;
            };
            // What an older release's object became on its way through this one.
            if kind.ends_with("after_roundtrip") {
                continue;
            }
            all.push(Golden {
                release: release.file_name().into_string().unwrap(),
                version: version.to_owned(),
                kind: kind.to_owned(),
                path: file.path(),
            });
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

#[test]
fn differences_are_told_by_path() {
    let a: Value = serde_json::json!({"a": [1, {"b": 2}], "c": 1});
    let b: Value = serde_json::json!({"a": [1, {"b": 3}], "d": null});
    assert_eq!(
        differences(&a, &b),
        [".a[1].b: 2 | 3", ".c: 1 | none", ".d: none | null"]
    );
}
