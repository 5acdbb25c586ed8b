//! How many decisions a second, in shapes of upstream's `scheduler_perf`.
//!
//! `cargo run --profile fast --example throughput -- [shape] [nodes] [pods]`. What is measured is what one
//! cycle costs without the API server: taking a pod from the queue, deciding, taking the place. Upstream's
//! figures, which are end to end, are in `ARCHITECTURE.md`.

use std::sync::Arc;
use std::time::Instant;

use component::features::Features;
use k8s_openapi::api::core::v1::{Node, Pod};
use scheduler::cluster::Cluster;
use scheduler::config::ProfileConfig;
use scheduler::decide::{Failure, Search, decide};
use scheduler::pod::PodInfo;
use scheduler::profile::{Asked, Profile, Profiles};
use scheduler::queue::{Queue, Settings};
use serde_json::{Value, json};

/// A kind of pods, as `scheduler_perf` has them: its name, what is placed beforehand, what is measured.
type Shape = (&'static str, fn(usize) -> Value, fn(usize) -> Value);

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

const SHAPES: &[Shape] = &[
    ("basic", basic, basic),
    ("spreading", basic, |i| {
        let constraint = json!({ "maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": { "matchLabels": { "color": "blue" } } });
        with(i, "topologySpreadConstraints", json!([constraint]))
    }),
    ("preferred-spreading", basic, |i| {
        let constraint = json!({ "maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": { "matchLabels": { "color": "blue" } } });
        with(i, "topologySpreadConstraints", json!([constraint]))
    }),
    (
        "affinity",
        |i| terms(i, "podAffinity", ZONE),
        |i| terms(i, "podAffinity", ZONE),
    ),
    (
        "anti-affinity",
        |i| terms(i, "podAntiAffinity", HOST),
        |i| terms(i, "podAntiAffinity", HOST),
    ),
    ("node-affinity", basic, |i| {
        let term = json!({ "matchExpressions": [{ "key": ZONE, "operator": "In", "values": ["zone-1", "zone-2"] }] });
        let required = json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [term] } });
        with(i, "affinity", json!({ "nodeAffinity": required }))
    }),
    // Every node is full of pods that are less important.
    ("preemption", |i| large(i, 0), |i| large(i, 10)),
];

fn basic(i: usize) -> Value {
    json!({
        "metadata": { "name": format!("pod-{i}"), "namespace": "bench", "uid": format!("{i}"), "labels": { "color": "blue" } },
        "spec": { "schedulerName": "default-scheduler", "containers": [{ "name": "pause",
            "resources": { "requests": { "cpu": "100m", "memory": "500Mi" } } }] },
    })
}

fn with(i: usize, field: &str, value: Value) -> Value {
    let mut pod = basic(i);
    pod["spec"][field] = value;
    pod
}

fn terms(i: usize, kind: &str, key: &str) -> Value {
    let term =
        json!({ "topologyKey": key, "labelSelector": { "matchLabels": { "color": "blue" } } });
    with(
        i,
        "affinity",
        json!({ kind: { "requiredDuringSchedulingIgnoredDuringExecution": [term] } }),
    )
}

fn large(i: usize, priority: i32) -> Value {
    let mut pod = with(i, "priority", json!(priority));
    let cpu = if priority > 0 { "3" } else { "900m" };
    pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!(cpu);
    pod
}

fn node(i: usize) -> Arc<Node> {
    let name = format!("node-{i}");
    let node = json!({
        "metadata": { "name": name, "labels": { HOST: name, ZONE: format!("zone-{}", i % 3) } },
        "status": { "allocatable": { "cpu": "4", "memory": "32Gi", "pods": "110" } },
    });
    Arc::new(proto::typed::from_json_value(node).expect("a node"))
}

fn pod(object: Value) -> Arc<PodInfo> {
    let pod: Pod = proto::typed::from_json_value(object).expect("a pod");
    Arc::new(PodInfo::new(Arc::new(pod)))
}

fn profile() -> Profile {
    let config = ProfileConfig {
        scheduler_name: "default-scheduler".to_owned(),
        ..ProfileConfig::default()
    };
    config
        .build(0, &Features::defaults())
        .expect("the defaults")
}

/// The CPU time of this process so far, in seconds.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|n| n.parse::<f64>().ok());
    nanos.unwrap_or(0.0) / 1e9
}

struct Bench {
    cluster: Cluster,
    queue: Queue,
    profiles: Profiles,
    search: Search,
    unplaced: usize,
    victims: usize,
}

impl Bench {
    /// Takes pods through queue and cycle.
    fn schedule(&mut self, pods: Vec<Arc<PodInfo>>) {
        let now = tokio::time::Instant::now();
        for pod in pods {
            let asked = Asked {
                profiles: &self.profiles,
                cluster: &self.cluster,
            };
            self.queue.add(pod, &asked, now);
        }
        while let Some(queued) = self.queue.pop(now) {
            let pod = &queued.pod;
            let profile = self.profiles.of(pod).expect("the only profile");
            let decision = decide(
                &self.cluster,
                profile,
                pod,
                self.queue.nominated(),
                &mut self.search,
            );
            match decision {
                Ok(decision) => {
                    self.cluster.assume(pod, decision.node);
                }
                Err(Failure::Unfit { nominate, .. }) => {
                    self.unplaced += 1;
                    let made = nominate.unwrap_or_default();
                    self.victims += made.victims.len();
                    self.queue
                        .nominated_mut()
                        .add(pod, made.nominate.as_deref().unwrap_or_default());
                }
                Err(other) => panic!("{other}"),
            }
            self.queue.done(&pod.uid);
        }
    }
}

fn run((name, before, measured): &Shape, nodes: usize, pods: usize) {
    let mut bench = Bench {
        cluster: Cluster::default(),
        queue: Queue::new(Settings::default(), tokio::time::Instant::now()),
        profiles: Profiles::new(vec![profile()]),
        search: Search::seeded(1),
        unplaced: 0,
        victims: 0,
    };
    for i in 0..nodes {
        bench.cluster.set_node(&node(i));
    }
    let full = *name == "preemption";
    let first = if full { nodes * 4 } else { nodes / 5 };
    bench.schedule((0..first).map(|i| pod(before(i))).collect());
    assert_eq!(bench.unplaced, 0, "there is room for those that come first");
    let incoming: Vec<_> = (first..first + pods).map(|i| pod(measured(i))).collect();
    let (began, spent) = (Instant::now(), cpu());
    bench.schedule(incoming);
    let (took, spent) = (began.elapsed().as_secs_f64(), cpu() - spent);
    let count = pods as f64;
    println!(
        "{name:20} {nodes:6} nodes {pods:6} pods {:9.0} decisions/s {:8.1} us CPU each  {} unplaced {} victims",
        count / took,
        spent / count * 1e6,
        bench.unplaced,
        bench.victims
    );
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |at: usize, default: usize| args.get(at).and_then(|a| a.parse().ok()).unwrap_or(default);
    let wanted = args.first().map(String::as_str).filter(|w| *w != "all");
    let (nodes, pods) = (number(1, 5000), number(2, 1000));
    for shape in SHAPES.iter().filter(|s| wanted.is_none_or(|w| w == s.0)) {
        run(shape, nodes, pods);
    }
}
