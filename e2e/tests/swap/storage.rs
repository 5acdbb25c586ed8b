//! What ours stores is what upstream's stores, byte for byte, for an object of every kind.
//!
//! Each object is created by one server and changed by the other, and then the other way round. What two creations cannot
//! have in common is masked where it stands, and nothing else: the uid, and times that are of the moment.

use std::collections::{BTreeMap, BTreeSet};

use e2e::cluster::{Cluster, Daemon, Spec, Upstream};
use e2e::progress::Progress;
use e2e::workshop::Workshop;
use serde_json::{Value, json};

use super::api::{Answer, Api, Resource, differences, list, text};
use super::etcd::Etcd;
use super::fixture::Fixture;
use super::known::{Difference, judge};
use super::samples::{self, NAMESPACE, Sample};

/// The second API server's host, which runs upstream's.
pub(super) const THEIRS: &str = "control-plane-2";

/// Seconds within which an object lives.
const MOMENT: u64 = 300;

impl Fixture {
    /// etcd and API servers alone: nobody else writes.
    pub(super) fn api_servers(name: &str, change: impl FnOnce(&mut Spec)) -> Self {
        let (spec, _, guard) = Self::prepare(name, change);
        let cluster = Cluster::up_api_server(spec.clone(), Progress::Screen);
        Self::standing(cluster, spec, guard)
    }
}

/// Two API servers on one etcd, ours and upstream's, and a namespace for samples.
pub(super) fn two(name: &str) -> (Fixture, Api, Api) {
    let fixture = Fixture::api_servers(name, |spec| {
        spec.api_servers = 2;
        spec.upstream = Upstream::default().and(Daemon::KubeApiserver, THEIRS);
        let flag = |flag: &str| (Daemon::KubeApiserver, flag.to_owned());
        spec.flags = vec![
            // What is asked for here is how objects are stored, not who may create them.
            flag("--disable-admission-plugins=ServiceAccount,ResourceQuota"),
            // It writes the status of its own objects at any time.
            flag("--enable-priority-and-fairness=false"),
        ];
    });
    let ours = Api::on(&fixture.cluster, "ours", "control-plane");
    let theirs = Api::on(&fixture.cluster, "upstream's", THEIRS);
    let namespace = json!({"metadata": {"name": NAMESPACE}});
    ours.post("/api/v1/namespaces", &namespace).good();
    (fixture, ours, theirs)
}

#[test]
fn every_kind_is_stored_as_upstream_stores_it() {
    let (fixture, ours, theirs) = two("storage");
    let etcd = Etcd::of(&fixture.cluster);
    let tree = Workshop::new("dev").upstream_tree().unwrap();
    let served: Vec<Resource> = theirs.resources();
    let mut report = Vec::new();
    let mut compared = 0;
    for mut sample in samples::read(&tree) {
        let named = |of: &&Resource| of.version == sample.version && of.name == sample.resource;
        let Some(resource) = served.iter().find(named) else {
            continue; // not served unless asked for
        };
        settle(&mut sample);
        compared += 1;
        let found = live_twice(&etcd, &ours, &theirs, resource, &sample).into_iter();
        report.extend(found.map(|what| Difference {
            kind: format!("{}/{}", sample.version, sample.resource),
            what,
        }));
    }
    assert!(compared > 60, "{compared} kinds were compared");
    judge("stored", &report, include_str!("known/stored.tsv"));
}

/// Makes two creations equal where the server would choose: addresses and ports.
fn settle(sample: &mut Sample) {
    let spec = &mut sample.object["spec"];
    if sample.resource == "services" {
        spec["clusterIP"] = "10.96.77.77".into();
        spec["ports"][0]["nodePort"] = 31777.into();
    }
}

/// Lets the object live once by the hand of each server; what differs.
pub(super) fn live_twice(
    etcd: &Etcd,
    ours: &Api,
    theirs: &Api,
    resource: &Resource,
    sample: &Sample,
) -> Vec<String> {
    let both = [(ours, theirs), (theirs, ours)];
    let [a, b] = both.map(|(creator, other)| live(etcd, creator, other, resource, sample));
    compare(&a, &b)
}

/// One state of an object: what a step was answered, and what etcd has then.
struct Step {
    what: &'static str,
    status: u16,
    answer: Value,
    stored: Option<Vec<u8>>,
}

/// Creates, changes, changes the status, and deletes; the changes by the other server.
fn live(
    etcd: &Etcd,
    creator: &Api,
    other: &Api,
    resource: &Resource,
    sample: &Sample,
) -> Vec<Step> {
    let path = resource.path(Some(NAMESPACE));
    let own = format!("{path}/{}", sample.name());
    let mut steps = Vec::new();
    let mut note = |what, answer: Answer| {
        let (status, answer) = (answer.status, answer.json());
        // At the answer's revision: controllers of the servers themselves may have written since.
        let version = text(&answer["metadata"]["resourceVersion"]).parse();
        let stored = version
            .ok()
            .and_then(|at| etcd.get_at(&sample.key, at).unwrap());
        let success = status < 300;
        steps.push(Step {
            what,
            status,
            answer,
            stored: stored.map(|stored| stored.value),
        });
        success
    };
    let mut object = sample.object.clone();
    object["apiVersion"] = resource.version.clone().into();
    object["kind"] = resource.kind.clone().into();
    if note("create", creator.post(&path, &object)) {
        note("read", creator.get(&own));
        note("read by the other", other.get(&own));
        let label = json!({"metadata": {"labels": {"changed": "yes"}}});
        note("label", other.merge(&own, &label));
        if let Some(status) = &sample.status {
            note("status", other.merge(&format!("{own}/status"), status));
        }
        creator.delete(&own);
        // Those that finalizers hold would wait for a controller.
        etcd.delete(&sample.key);
    }
    steps
}

/// What is different between the lives of an object that ours created and of one that upstream's did: each part once,
/// and how it is stored where the answers are the same.
fn compare(ours: &[Step], theirs: &[Step]) -> Vec<String> {
    let mut parts = BTreeSet::new();
    let mut found = Vec::new();
    for (ours, theirs) in ours.iter().zip(theirs) {
        let what = ours.what;
        if ours.status != theirs.status {
            let say = |step: &Step| format!("{} {}", step.status, text(&step.answer["message"]));
            found.push(format!("{what}: {} | {}", say(ours), say(theirs)));
            return found;
        }
        let answers = [ours, theirs].map(|step| comparable(&step.answer));
        let told = differences(&answers[0], &answers[1]);
        let [a, b] = [ours, theirs].map(|step| {
            let stored = step.stored.clone().unwrap_or_default();
            mask(stored, &step.answer)
        });
        if told.is_empty() && a != b {
            found.push(format!("{what}: stored {}", first_difference(&a, &b)));
        }
        let new = told.into_iter().filter(|path| parts.insert(path.clone()));
        found.extend(new.map(|path| format!("{what}: {path}")));
    }
    if ours.len() != theirs.len() {
        found.push(format!("{} steps | {}", ours.len(), theirs.len()));
    }
    found
}

/// An answer without what no two creations have in common. Of a refusal, what clients act on: the words are free.
fn comparable(answer: &Value) -> Value {
    if answer["kind"] == "Status" {
        let cause = |cause: &Value| format!("{} {}", text(&cause["field"]), text(&cause["reason"]));
        let causes = list(&answer["details"]["causes"]).iter().map(cause);
        let causes: BTreeMap<String, bool> = causes.map(|cause| (cause, true)).collect();
        return json!({"reason": answer["reason"], "causes": causes});
    }
    let mut answer = answer.clone();
    let Some(meta) = answer["metadata"].as_object_mut() else {
        return answer;
    };
    let uid = meta.get("uid").map(|uid| text(uid).to_owned());
    for name in ["uid", "resourceVersion"] {
        if let Some(value) = meta.get_mut(name) {
            *value = "masked".into();
        }
    }
    let mut text = answer.to_string();
    // Some kinds have the uid in labels and selectors as well.
    for secret in moments(&answer).into_iter().chain(uid) {
        if !secret.is_empty() {
            text = text.replace(&secret, "masked");
        }
    }
    serde_json::from_str(&text).unwrap()
}

/// The times in an answer that are of about the moment when the object was created: the server's clock, not the object's.
fn moments(answer: &Value) -> BTreeSet<String> {
    let created = unix(text(&answer["metadata"]["creationTimestamp"]));
    let mut found = BTreeSet::new();
    let mut left = vec![answer];
    while let (Some(value), Some(created)) = (left.pop(), created) {
        match value {
            Value::Object(fields) => left.extend(fields.values()),
            Value::Array(items) => left.extend(items),
            Value::String(time) if unix(time).is_some_and(|at| at.abs_diff(created) <= MOMENT) => {
                found.insert(time.clone());
            }
            _ => {}
        }
    }
    found
}

/// Overwrites the uid and the times of the moment in a stored value, in place.
fn mask(mut stored: Vec<u8>, answer: &Value) -> Vec<u8> {
    let mut secrets = vec![text(&answer["metadata"]["uid"]).as_bytes().to_vec()];
    for time in moments(answer) {
        secrets.extend(unix(&time).map(seconds));
        secrets.push(time.into_bytes());
    }
    for secret in secrets.iter().filter(|secret| secret.len() > 4) {
        let mut at = 0;
        while let Some(found) = find(&stored[at..], secret) {
            let start = at + found;
            stored[start..start + secret.len()].fill(b'*');
            at = start + secret.len();
        }
    }
    stored
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|part| part == needle)
}

/// A time as protobuf has it: field 1 with the seconds since 1970.
fn seconds(time: u64) -> Vec<u8> {
    let mut left = time;
    let mut bytes = vec![0x08];
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

/// Seconds since 1970 of `2026-01-02T03:04:05Z` (the civil calendar, by years that begin in March).
fn unix(time: &str) -> Option<u64> {
    let shape = time.len() == 20 && time.is_ascii() && time.ends_with('Z');
    let number = |from: usize, to: usize| time.get(from..to)?.parse::<u64>().ok();
    let [year, month, day] = [number(0, 4)?, number(5, 7)?, number(8, 10)?];
    let [hour, minute, second] = [number(11, 13)?, number(14, 16)?, number(17, 19)?];
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = (365 * year + year / 4 - year / 100 + year / 400 + of_year).checked_sub(719_468)?;
    shape.then_some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Where two values part, with some bytes of both.
pub(super) fn first_difference(a: &[u8], b: &[u8]) -> String {
    let at = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let from = at.saturating_sub(12);
    let show = |bytes: &[u8]| {
        let part = &bytes[from.min(bytes.len())..(at + 20).min(bytes.len())];
        part.escape_ascii().to_string()
    };
    format!(
        "at {at} of {} and {}: {} | {}",
        a.len(),
        b.len(),
        show(a),
        show(b)
    )
}

#[test]
fn times_are_masked_in_both_forms_and_nothing_else() {
    assert_eq!(unix("2026-11-29T03:44:54Z"), Some(1_795_923_894));
    assert_eq!(unix("2024-02-29T00:00:00Z"), Some(1_709_164_800));
    assert_eq!(unix("nothing of a date at"), None);
    let answer =
        json!({"metadata": {"creationTimestamp": "2024-02-29T00:00:00Z", "uid": "1-2-3-4-5"}});
    let json = br#"{"uid":"1-2-3-4-5","at":"2024-02-29T00:00:00Z","b":1}"#.to_vec();
    assert_eq!(
        mask(json, &answer).escape_ascii().to_string(),
        r#"{\"uid\":\"*********\",\"at\":\"********************\",\"b\":1}"#
    );
    let mut protobuf = vec![0x42, 0x08];
    protobuf.extend(seconds(1_709_164_800));
    protobuf.extend([0x10, 0x00, 0x4a]);
    assert_eq!(mask(protobuf, &answer), b"\x42\x08******\x10\x00\x4a");
}
