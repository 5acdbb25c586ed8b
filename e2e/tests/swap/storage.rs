//! What ours stores is what upstream's stores, byte for byte, for an object of every kind.
//!
//! Each object is created by one server and changed by the other, and then the other way round. What two creations cannot
//! have in common is masked where it stands, and nothing else: the uid, and times that are of the moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use e2e::cluster::{Cluster, Daemon, Spec, Upstream};
use e2e::diff::etcd::Etcd;
use e2e::diff::known::Difference;
use e2e::diff::mask::Mask;
use e2e::diff::resource::Resource;
use e2e::diff::samples::{self, NAMESPACE, Sample};
use e2e::diff::value::{self, list, text};
use e2e::diff::wire;
use e2e::progress::Progress;
use e2e::workshop::Workshop;
use serde_json::{Value, json};

use super::api::{Answer, Api};
use super::fixture::Fixture;
use super::known::judge;

/// The second API server's host, which runs upstream's.
pub(super) const THEIRS: &str = "control-plane-2";

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
    let etcd = Etcd::of(&fixture.cluster).unwrap();
    let tree = Workshop::new("dev").upstream_tree().unwrap();
    let served: Vec<Resource> = theirs.resources();
    let mut report = Vec::new();
    let mut compared = 0;
    for mut sample in samples::read(&tree).unwrap() {
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
    compare(&a, &b, &sample.object)
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
        etcd.delete(&sample.key).unwrap();
    }
    steps
}

/// What is different between the lives of an object that ours created and of one that upstream's did: each part once,
/// and how it is stored where the answers are the same.
fn compare(ours: &[Step], theirs: &[Step], sent: &Value) -> Vec<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mask = Mask::new(Vec::new(), now.as_secs());
    let sent = sent.to_string();
    let mut parts = BTreeSet::new();
    let mut found = Vec::new();
    for (ours, theirs) in ours.iter().zip(theirs) {
        let what = ours.what;
        if ours.status != theirs.status {
            let say = |step: &Step| format!("{} {}", step.status, text(&step.answer["message"]));
            found.push(format!("{what}: {} | {}", say(ours), say(theirs)));
            return found;
        }
        let answers = [ours, theirs].map(|step| comparable(&step.answer, &mask, &sent));
        let told = differences(&answers[0], &answers[1]);
        if told.is_empty() {
            let [a, b] = [ours, theirs].map(|step| {
                let mut stored = wire::value(step.stored.as_deref().unwrap_or_default());
                mask.value(&mut stored, &sent);
                stored
            });
            let stored = differences(&a, &b).into_iter();
            found.extend(stored.map(|told| format!("{what}: stored {told}")));
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
fn comparable(answer: &Value, mask: &Mask, sent: &str) -> Value {
    if answer["kind"] == "Status" {
        let cause = |cause: &Value| format!("{} {}", text(&cause["field"]), text(&cause["reason"]));
        let causes = list(&answer["details"]["causes"]).iter().map(cause);
        let causes: BTreeMap<String, bool> = causes.map(|cause| (cause, true)).collect();
        return json!({"reason": answer["reason"], "causes": causes});
    }
    let mut answer = answer.clone();
    mask.value(&mut answer, sent);
    answer
}

/// Where two values differ, each place as a line.
pub(super) fn differences(ours: &Value, theirs: &Value) -> Vec<String> {
    let all = value::differences(ours, theirs).into_iter();
    all.map(|told| told.to_string()).collect()
}

/// Where two stored objects, or two bodies in protobuf, differ.
pub(super) fn stored_differences(ours: &[u8], theirs: &[u8]) -> Vec<String> {
    differences(&wire::value(ours), &wire::value(theirs))
}
