//! Ours against upstream's scheduler, on random clusters: the same nodes fit for the same reasons, every
//! plugin gives them the same score, and the same pods have to go where none fits.
//!
//! Upstream answers through `placement`, a program around its scheduling framework that `hack/tools
//! placement` builds from `hack/go/kubernetes/placement`. `NAVARCH_SCENARIOS` sets how many clusters are
//! tried, `NAVARCH_SEED` where their numbers begin; a failure names the number of the cluster.

#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use component::features::Features;
use k8s_openapi::api::core::v1::Pod;
use scheduler::cluster::disruption::Budget;
use scheduler::cluster::volumes::Storage;
use scheduler::cluster::{Cluster, Workload};
use scheduler::config::ProfileConfig;
use scheduler::decide::{Failure, Search, decide, feasible};
use scheduler::framework::{Code, Cycle, Prepared};
use scheduler::pod::PodInfo;
use scheduler::profile::Profile;
use scheduler::queue::Nominated;
use scheduler::selector::Selector;
use serde::Deserialize;
use serde_json::Value;

mod scenario;

use scenario::scenario;

/// What is said of a cluster and a pod.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    /// The word of the plugins that ruled out all nodes.
    pre_filter: String,
    /// By node: `Success: `, or how it was rejected and why.
    nodes: BTreeMap<String, String>,
    /// By node and plugin, weighted.
    scores: BTreeMap<String, BTreeMap<String, i64>>,
    /// What can be done where no node fits, and who has to go.
    post: String,
    victims: Vec<String>,
}

fn profile() -> Profile {
    let config = ProfileConfig {
        scheduler_name: "default-scheduler".to_owned(),
        percentage_of_nodes_to_score: Some(100),
        ..ProfileConfig::default()
    };
    config.build(0, &Features::defaults()).unwrap()
}

fn pod(object: &Value) -> Arc<PodInfo> {
    let pod: Pod = proto::typed::from_json_value(object.clone()).unwrap();
    Arc::new(PodInfo::new(Arc::new(pod)))
}

fn key(object: &Value) -> String {
    let meta = &object["metadata"];
    let name = meta["name"].as_str().unwrap();
    match meta["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

macro_rules! storage {
    ($cluster:expr, $scenario:expr, $list:literal, $kind:expr) => {
        for object in list($scenario, $list) {
            let typed = Arc::new(proto::typed::from_json_value(object.clone()).unwrap());
            let seen = $kind((None, Some(typed)));
            $cluster.volumes_mut().set(&key(object), &seen);
        }
    };
}

fn list<'a>(scenario: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    scenario[name].as_array().into_iter().flatten()
}

fn cluster(scenario: &Value) -> Cluster {
    let mut cluster = Cluster::default();
    for object in list(scenario, "Namespaces") {
        let labels = serde_json::from_value(object["metadata"]["labels"].clone()).unwrap();
        cluster.set_namespace(&key(object), Some(labels));
    }
    for object in list(scenario, "Services") {
        let selector = serde_json::from_value(object["spec"]["selector"].clone()).unwrap();
        let name = object["metadata"]["name"].as_str().unwrap();
        cluster.set_service("default", name, Some(selector));
    }
    for object in list(scenario, "ReplicaSets") {
        let selector = proto::typed::from_json_value(object["spec"]["selector"].clone()).unwrap();
        let selector = Selector::of(Some(&selector));
        cluster.set_workload(Workload::ReplicaSet, &key(object), Some(selector));
    }
    for object in list(scenario, "Budgets") {
        let budget = proto::typed::from_json_value(object.clone()).unwrap();
        let all = cluster.disruption_mut();
        all.set_budget(&key(object), Some(Budget::of(&budget)));
    }
    storage!(cluster, scenario, "Claims", Storage::Claim);
    storage!(cluster, scenario, "Volumes", Storage::Volume);
    storage!(cluster, scenario, "Classes", Storage::Class);
    storage!(cluster, scenario, "CSINodes", Storage::Node);
    for object in list(scenario, "Nodes") {
        cluster.set_node(&Arc::new(
            proto::typed::from_json_value(object.clone()).unwrap(),
        ));
    }
    for object in list(scenario, "Pods") {
        cluster.set_pod(&pod(object));
    }
    cluster
}

fn named(code: Code) -> &'static str {
    match code {
        Code::Unschedulable => "Unschedulable",
        Code::Unresolvable => "UnschedulableAndUnresolvable",
        Code::Pending => "Pending",
        Code::Error => "Error",
    }
}

/// Ours.
fn ask_ours(scenario: &Value) -> Answer {
    let (cluster, profile) = (cluster(scenario), profile());
    let pod = pod(&scenario["Pod"]);
    let nominated = Nominated::default();
    let mut search = Search::seeded(1);
    let mut said = Answer::default();
    let (nodes, diagnosis) =
        feasible(&cluster, &profile, &pod, &nominated, "", &mut search).unwrap();
    if !diagnosis.pre_filter.is_empty() {
        let code = diagnosis.absent.as_ref().map_or("", |r| named(r.code));
        said.pre_filter = format!("{code}: {}", diagnosis.pre_filter);
    }
    for (node, rejection) in &diagnosis.nodes {
        let text = format!("{}: {}", named(rejection.code), rejection.reasons.join());
        said.nodes.insert(cluster.name(*node).to_owned(), text);
    }
    for node in &nodes {
        let name = cluster.name(*node).to_owned();
        said.nodes.insert(name.clone(), "Success: ".to_owned());
        said.scores.insert(name, BTreeMap::new());
    }
    let cycle = Cycle::new(&cluster, &pod);
    for plugin in profile.plugins.iter().filter(|p| p.points.score) {
        let Prepared::Ready { state, .. } = plugin.plugin.pre_score(&cycle, &nodes) else {
            continue;
        };
        let mut scores = vec![0; nodes.len()];
        plugin.plugin.score(&cycle, &*state, &nodes, &mut scores);
        plugin.plugin.normalize(&*state, &nodes, &mut scores);
        for (node, score) in nodes.iter().zip(scores) {
            let of_node = said.scores.get_mut(cluster.name(*node)).unwrap();
            of_node.insert(plugin.plugin.name().to_owned(), score * plugin.weight);
        }
    }
    if nodes.is_empty() {
        let decided = decide(&cluster, &profile, &pod, &nominated, &mut search);
        let Err(Failure::Unfit { error, nominate }) = decided else {
            panic!("no node fits")
        };
        said.post.clone_from(&error.diagnosis.post_filter);
        // Those that are leaving already are not asked to again.
        let victims = nominate.unwrap_or_default().victims;
        let asked = victims.iter().filter(|v| !v.terminating);
        said.victims = asked.map(|v| v.key.name().to_owned()).collect();
        said.victims.sort();
    }
    said
}

/// Plugins that upstream asks although they have no opinion give every node the same. Where all nodes are
/// ruled out beforehand, upstream says that state of its own was not found.
fn comparable(mut answer: Answer) -> Answer {
    if !answer.pre_filter.is_empty() {
        answer.post.clear();
    }
    for scores in answer.scores.values_mut() {
        scores.retain(|plugin, score| *score != 0 && plugin != "DynamicResources");
    }
    answer
}

fn program() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let built = Command::new(root.join("hack/tools"))
        .arg("placement")
        .status()
        .unwrap();
    assert!(built.success(), "hack/tools placement");
    let cache = std::env::var_os("NAVARCH_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/navarch"),
        PathBuf::from,
    );
    cache.join("tools/placement")
}

fn ask_upstream(scenarios: &[Value]) -> Vec<Answer> {
    let mut child = Command::new(program())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let text: String = scenarios.iter().map(|s| format!("{s}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.and_then(|t| t.parse().ok()).unwrap_or(default)
}

/// Whether both would do, as far as upstream chooses by chance between equal candidates.
fn same(ours: &Answer, theirs: &Answer) -> bool {
    let tie = ours.victims != theirs.victims
        && ours.victims.len() == theirs.victims.len()
        && !ours.victims.is_empty();
    if !tie {
        return ours == theirs;
    }
    let apart = |a: &Answer| Answer {
        post: String::new(),
        victims: Vec::new(),
        ..a.clone()
    };
    apart(ours) == apart(theirs)
}

#[test]
fn decisions_are_those_of_upstream() {
    let (first, count) = (number("NAVARCH_SEED", 1), number("NAVARCH_SCENARIOS", 200));
    let scenarios: Vec<Value> = (first..first + count).map(scenario).collect();
    let theirs = ask_upstream(&scenarios);
    assert_eq!(theirs.len(), scenarios.len(), "upstream gave up");
    let (mut wrong, mut fitted, mut preempted) = (0, 0, 0);
    for (at, (scenario, theirs)) in scenarios.iter().zip(theirs).enumerate() {
        let (ours, theirs) = (comparable(ask_ours(scenario)), comparable(theirs));
        fitted += usize::from(!theirs.scores.is_empty());
        preempted += usize::from(!theirs.victims.is_empty());
        if !same(&ours, &theirs) {
            wrong += 1;
            let at = first + u64::try_from(at).unwrap();
            eprintln!("cluster {at}:\n  ours   {ours:?}\n  theirs {theirs:?}");
            if wrong == 1 {
                eprintln!("{}", serde_json::to_string_pretty(scenario).unwrap());
            }
        }
    }
    eprintln!("{fitted} fitted, {preempted} by preemption, of {count}");
    assert!(
        wrong == 0,
        "{wrong} of {count} clusters are decided differently"
    );
    assert!(
        fitted * 4 > scenarios.len() && preempted > 0,
        "the clusters test little"
    );
}
