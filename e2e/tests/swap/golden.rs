//! Objects that upstream's releases wrote lie in etcd: both servers read the same out of them.
//!
//! The objects are the API module's own golden ones, of this release and of all older ones that it keeps; every field of
//! each is set.

use std::fs;

use e2e::diff::etcd::Etcd;
use e2e::diff::golden::{self, Golden, NEW_NAME};
use e2e::diff::known::Difference;
use e2e::diff::resource::Resource;
use e2e::diff::samples::{self, Sample};
use e2e::diff::value::text;
use e2e::workshop::Workshop;

use super::api::{Api, PROTOBUF};
use super::known::judge;
use super::storage::{differences, live_twice, stored_differences, two};

/// What every golden object calls itself.
const NAME: &str = "nameValue";
const NAMESPACE: &str = "namespaceValue";

#[test]
fn what_any_release_wrote_is_read_alike() {
    let (fixture, ours, theirs) = two("golden");
    let etcd = Etcd::of(&fixture.cluster).unwrap();
    let workshop = Workshop::new("dev");
    let samples = samples::read(&workshop.upstream_tree().unwrap()).unwrap();
    let served = theirs.resources();
    let mut report = Vec::new();
    let mut read = 0;
    for golden in golden::all(&workshop).unwrap() {
        let Some((resource, sample)) = stored(&golden, &served, &samples) else {
            continue; // not a kind that is stored, or not served
        };
        let within = if resource.namespaced {
            format!("{NAMESPACE}/")
        } else {
            String::new()
        };
        let key = format!("{}{within}{NAME}", sample.prefix());
        etcd.put(&key, &fs::read(&golden.path).unwrap()).unwrap();
        let path = format!("{}/{NAME}", resource.path(Some(NAMESPACE)));
        let found = compare(&ours, &theirs, &path, &mut read);
        etcd.delete(&key).unwrap();
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
    let etcd = Etcd::of(&fixture.cluster).unwrap();
    let workshop = Workshop::new("dev");
    let samples = samples::read(&workshop.upstream_tree().unwrap()).unwrap();
    let served = theirs.resources();
    let mut report = Vec::new();
    let mut asked = 0;
    for golden in golden::all(&workshop).unwrap() {
        let version = golden.group_version();
        let Some((_, stored)) = stored(&golden, &served, &samples) else {
            continue;
        };
        let named = |of: &&Resource| of.version == version && of.kind == golden.kind;
        let Some(resource) = served.iter().find(named).filter(|of| of.can("create")) else {
            continue; // not served in this version
        };
        let within = if resource.namespaced {
            format!("{}/", samples::NAMESPACE)
        } else {
            String::new()
        };
        let sample = Sample {
            version,
            resource: resource.name.clone(),
            namespaced: resource.namespaced,
            object: golden.as_new().unwrap(),
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
    let told = stored_differences(&a, &b).into_iter();
    told.map(|told| format!("protobuf {told}")).collect()
}

/// How the object is asked for, and where it is stored.
fn stored<'a>(
    golden: &Golden,
    served: &'a [Resource],
    samples: &'a [Sample],
) -> Option<(&'a Resource, &'a Sample)> {
    let group = golden.group();
    let resource = served
        .iter()
        .find(|of| of.group() == group && of.kind == golden.kind && of.can("get"))?;
    let sample = samples
        .iter()
        .find(|sample| sample.group() == group && sample.resource == resource.name)?;
    Some((resource, sample))
}
