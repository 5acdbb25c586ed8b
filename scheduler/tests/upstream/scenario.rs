//! Random clusters, small enough to be read.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";
const APPS: [&str; 3] = ["web", "db", "cache"];
const ZONES: [&str; 3] = ["a", "b", "c"];
const NAMESPACES: [&str; 2] = ["default", "other"];

struct Dice(SmallRng);

impl Dice {
    fn chance(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    fn up_to(&mut self, most: i64) -> i64 {
        self.0.random_range(0..=most)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from.choose(&mut self.0).unwrap()
    }
}

/// The cluster of a number, always the same.
pub(crate) fn scenario(number: u64) -> Value {
    let dice = &mut Dice(SmallRng::seed_from_u64(number));
    let count = 2 + dice.up_to(7);
    let nodes: Vec<Value> = (0..count).map(|i| node(dice, i)).collect();
    let mut pods = Vec::new();
    for i in 0..dice.up_to(20) {
        let mut pod = pod(dice, &format!("placed-{i}"), 25);
        let at = usize::try_from(dice.up_to(count - 1)).unwrap();
        pod["spec"]["nodeName"] = nodes[at]["metadata"]["name"].clone();
        let minute = dice.up_to(59);
        pod["status"] = json!({ "phase": "Running", "startTime": format!("2026-01-01T00:{minute:02}:{i:02}Z") });
        if dice.chance(5) {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T01:00:00Z");
            pod["metadata"]["finalizers"] = json!(["example.com/keep"]);
        }
        pods.push(pod);
    }
    let mut incoming = pod(dice, "incoming", 60);
    incoming["spec"]["priority"] = json!(dice.pick(&[0, 10, 100]));
    if dice.chance(5) {
        incoming["spec"]["preemptionPolicy"] = json!("Never");
    }
    let mut all = json!({
        "Nodes": nodes, "Pods": pods, "Pod": incoming,
        "Namespaces": [
            { "metadata": { "name": "default", "labels": { "team": "one" } } },
            { "metadata": { "name": "other", "labels": { "team": "two" } } },
        ],
    });
    workloads(dice, &mut all);
    storage(dice, &mut all);
    all
}

fn node(dice: &mut Dice, i: i64) -> Value {
    let name = format!("node-{i}");
    let mut labels = json!({ HOST: name });
    if dice.chance(85) {
        labels[ZONE] = json!(dice.pick(&ZONES));
    }
    if dice.chance(40) {
        labels["disk"] = json!(dice.pick(&["ssd", "hdd"]));
    }
    if dice.chance(30) {
        labels["rank"] = json!(dice.up_to(9).to_string());
    }
    let mut spec = json!({});
    if dice.chance(10) {
        spec["unschedulable"] = json!(true);
    }
    let mut taints = Vec::new();
    for key in ["dedicated", "old"] {
        if dice.chance(15) {
            let effect = dice.pick(&["NoSchedule", "PreferNoSchedule", "NoExecute"]);
            taints.push(json!({ "key": key, "value": dice.pick(&["x", "y"]), "effect": effect }));
        }
    }
    spec["taints"] = json!(taints);
    let mut room = json!({ "cpu": dice.pick(&["2", "4", "8"]), "memory": dice.pick(&["4Gi", "8Gi", "16Gi"]),
        "ephemeral-storage": "20Gi", "pods": dice.pick(&["3", "10", "110"]) });
    if dice.chance(30) {
        room["example.com/gpu"] = json!(dice.pick(&["1", "4"]));
    }
    let mut images = Vec::new();
    for (image, size) in [
        ("app:1", 300),
        ("app:2", 900),
        ("registry.example.com/big:latest", 2000),
    ] {
        if dice.chance(30) {
            images.push(json!({ "names": [image], "sizeBytes": size * 1024 * 1024 }));
        }
    }
    json!({ "metadata": { "name": name, "labels": labels }, "spec": spec,
        "status": { "allocatable": room, "capacity": room, "images": images } })
}

/// A pod; each of its wishes has a chance of so many percent.
fn pod(dice: &mut Dice, name: &str, wishes: u32) -> Value {
    let mut containers = Vec::new();
    for c in 0..=dice.up_to(1) {
        let mut requests = json!({});
        if dice.chance(70) {
            requests["cpu"] = json!(dice.pick(&["100m", "500m", "1", "2", "3"]));
        }
        if dice.chance(70) {
            requests["memory"] = json!(dice.pick(&["128Mi", "1Gi", "3Gi"]));
        }
        if dice.chance(10) {
            requests["ephemeral-storage"] = json!("8Gi");
        }
        if dice.chance(8) {
            requests["example.com/gpu"] = json!("1");
        }
        let image = dice.pick(&["app:1", "app:2", "registry.example.com/big", "none"]);
        let mut container = json!({ "name": format!("c{c}"), "image": image, "resources": { "requests": requests } });
        if dice.chance(12) {
            let port = dice.pick(&[80, 443]);
            container["ports"] =
                json!([{ "containerPort": port, "hostPort": port, "protocol": "TCP" }]);
        }
        containers.push(container);
    }
    let mut spec = json!({ "schedulerName": "default-scheduler", "containers": containers,
        "priority": dice.pick(&[-5, 0, 5, 10]) });
    if dice.chance(10) {
        spec["initContainers"] = json!([{ "name": "init", "image": "app:1",
            "resources": { "requests": { "cpu": dice.pick(&["1", "4"]) } } }]);
    }
    if dice.chance(8) {
        spec["overhead"] = json!({ "cpu": "250m", "memory": "64Mi" });
    }
    if dice.chance(8) {
        spec["resources"] = json!({ "requests": { "cpu": "3500m" } });
    }
    if dice.chance(wishes / 2) {
        let all = json!({ "operator": "Exists" });
        let one = json!({ "key": "dedicated", "operator": "Equal", "value": "x",
            "effect": dice.pick(&["NoSchedule", "PreferNoSchedule", "NoExecute"]) });
        spec["tolerations"] = json!([if dice.chance(30) { all } else { one }]);
    }
    if dice.chance(wishes / 4) {
        spec["nodeSelector"] = json!({ "disk": dice.pick(&["ssd", "hdd"]) });
    }
    let affinity = affinity(dice, wishes);
    if affinity.as_object().is_some_and(|a| !a.is_empty()) {
        spec["affinity"] = affinity;
    }
    if dice.chance(wishes / 2) {
        let mut all = vec![constraint(dice, ZONE)];
        if dice.chance(40) {
            all.push(constraint(dice, HOST));
        }
        spec["topologySpreadConstraints"] = json!(all);
    }
    let namespace = if dice.chance(85) { "default" } else { "other" };
    json!({ "metadata": { "name": name, "namespace": namespace, "uid": format!("uid-{name}"),
        "labels": { "app": dice.pick(&APPS), "version": dice.pick(&["1", "2"]) } }, "spec": spec })
}

fn affinity(dice: &mut Dice, wishes: u32) -> Value {
    let mut all = json!({});
    if dice.chance(wishes / 3) {
        let mut node = json!({});
        if dice.chance(60) {
            let terms = vec![node_term(dice)];
            node["requiredDuringSchedulingIgnoredDuringExecution"] =
                json!({ "nodeSelectorTerms": terms });
        }
        if dice.chance(60) {
            node["preferredDuringSchedulingIgnoredDuringExecution"] =
                json!([{ "weight": 1 + dice.up_to(99), "preference": node_term(dice) }]);
        }
        all["nodeAffinity"] = node;
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        if !dice.chance(wishes / 3) {
            continue;
        }
        let mut pods = json!({});
        if dice.chance(50) {
            pods["requiredDuringSchedulingIgnoredDuringExecution"] = json!([pod_term(dice)]);
        }
        if dice.chance(60) {
            let mut weighted = Vec::new();
            for _ in 0..=dice.up_to(1) {
                weighted.push(
                    json!({ "weight": 1 + dice.up_to(99), "podAffinityTerm": pod_term(dice) }),
                );
            }
            pods["preferredDuringSchedulingIgnoredDuringExecution"] = json!(weighted);
        }
        all[kind] = pods;
    }
    all
}

fn node_term(dice: &mut Dice) -> Value {
    let one = match dice.up_to(5) {
        0 => {
            json!({ "key": ZONE, "operator": "In", "values": [dice.pick(&ZONES), dice.pick(&ZONES)] })
        }
        1 => json!({ "key": ZONE, "operator": "NotIn", "values": [dice.pick(&ZONES)] }),
        2 => json!({ "key": "disk", "operator": dice.pick(&["Exists", "DoesNotExist"]) }),
        3 => json!({ "key": "rank", "operator": dice.pick(&["Gt", "Lt"]), "values": ["4"] }),
        4 => {
            let name = format!("node-{}", dice.up_to(5));
            let operator = dice.pick(&["In", "NotIn"]);
            return json!({ "matchFields": [{ "key": "metadata.name", "operator": operator, "values": [name] }] });
        }
        _ => json!({ "key": "disk", "operator": "In", "values": ["ssd"] }),
    };
    json!({ "matchExpressions": [one] })
}

fn pod_selector(dice: &mut Dice) -> Value {
    match dice.up_to(3) {
        0 => {
            json!({ "matchExpressions": [{ "key": "app", "operator": "NotIn", "values": [dice.pick(&APPS)] }] })
        }
        1 => json!({ "matchLabels": { "app": dice.pick(&APPS), "version": "1" } }),
        _ => json!({ "matchLabels": { "app": dice.pick(&APPS) } }),
    }
}

fn pod_term(dice: &mut Dice) -> Value {
    let mut term = json!({ "topologyKey": dice.pick(&[ZONE, HOST, "disk"]), "labelSelector": pod_selector(dice) });
    match dice.up_to(5) {
        0 => term["namespaces"] = json!([dice.pick(&NAMESPACES)]),
        1 => {
            term["namespaceSelector"] =
                json!({ "matchLabels": { "team": dice.pick(&["one", "two"]) } })
        }
        2 => term["namespaceSelector"] = json!({}),
        _ => {}
    }
    term
}

fn constraint(dice: &mut Dice, key: &str) -> Value {
    let hard = dice.chance(50);
    let mut one = json!({ "topologyKey": key, "maxSkew": 1 + dice.up_to(2), "labelSelector": pod_selector(dice),
        "whenUnsatisfiable": if hard { "DoNotSchedule" } else { "ScheduleAnyway" } });
    if hard && dice.chance(30) {
        one["minDomains"] = json!(1 + dice.up_to(3));
    }
    if dice.chance(30) {
        one["nodeTaintsPolicy"] = json!(dice.pick(&["Honor", "Ignore"]));
    }
    if dice.chance(30) {
        one["nodeAffinityPolicy"] = json!(dice.pick(&["Honor", "Ignore"]));
    }
    if dice.chance(30) {
        one["matchLabelKeys"] = json!(["version"]);
    }
    one
}

fn workloads(dice: &mut Dice, all: &mut Value) {
    if dice.chance(30) {
        let app = dice.pick(&APPS);
        all["Services"] = json!([{ "metadata": { "name": "s", "namespace": "default" }, "spec": { "selector": { "app": app } } }]);
    }
    if dice.chance(20) {
        let app = all["Pod"]["metadata"]["labels"]["app"].clone();
        all["ReplicaSets"] = json!([{ "metadata": { "name": "r", "namespace": "default" },
            "spec": { "selector": { "matchLabels": { "app": app } } } }]);
        all["Pod"]["metadata"]["ownerReferences"] = json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": true }]);
    }
    if dice.chance(40) {
        let allowed = dice.up_to(2);
        all["Budgets"] = json!([{ "metadata": { "name": "b", "namespace": "default" },
            "spec": { "selector": { "matchLabels": { "app": dice.pick(&APPS) } } },
            "status": { "disruptionsAllowed": allowed, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0 } }]);
    }
}

/// Some pods use a claim: bound, to be bound, to be made, or not there.
fn storage(dice: &mut Dice, all: &mut Value) {
    if !dice.chance(25) {
        return;
    }
    let delayed = "WaitForFirstConsumer";
    all["Classes"] = json!([
        { "metadata": { "name": "local" }, "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": delayed },
        { "metadata": { "name": "made" }, "provisioner": "csi.example.com", "volumeBindingMode": delayed,
            "allowedTopologies": [{ "matchLabelExpressions": [{ "key": ZONE, "values": [dice.pick(&ZONES), dice.pick(&ZONES)] }] }] },
        { "metadata": { "name": "now" }, "provisioner": "csi.example.com", "volumeBindingMode": "Immediate" },
    ]);
    let mut volumes = Vec::new();
    for i in 0..dice.up_to(3) {
        let term = json!({ "matchExpressions": [{ "key": ZONE, "operator": "In", "values": [dice.pick(&ZONES)] }] });
        volumes.push(json!({ "metadata": { "name": format!("v{i}") }, "spec": { "storageClassName": "local",
            "capacity": { "storage": format!("{}Gi", 1 + dice.up_to(8)) }, "accessModes": ["ReadWriteOnce"],
            "nodeAffinity": { "required": { "nodeSelectorTerms": [term] } } }, "status": { "phase": "Available" } }));
    }
    let mut bound = json!({ "metadata": { "name": "bound" }, "spec": { "storageClassName": "made",
        "capacity": { "storage": "5Gi" }, "accessModes": ["ReadWriteOnce"],
        "csi": { "driver": "csi.example.com", "volumeHandle": "h" } }, "status": { "phase": "Bound" } });
    if dice.chance(50) {
        bound["metadata"]["labels"] =
            json!({ ZONE: format!("{}__{}", dice.pick(&ZONES), dice.pick(&ZONES)) });
    }
    volumes.push(bound);
    all["Volumes"] = json!(volumes);
    let mut claims = Vec::new();
    for (name, class) in [("one", "local"), ("two", "made"), ("three", "now")] {
        claims.push(
            json!({ "metadata": { "name": name, "namespace": "default", "uid": name },
            "spec": { "storageClassName": class, "accessModes": ["ReadWriteOnce"],
                "resources": { "requests": { "storage": format!("{}Gi", 1 + dice.up_to(5)) } } },
            "status": { "phase": "Pending" } }),
        );
    }
    let mode = dice.pick(&["ReadWriteOnce", "ReadWriteOncePod"]);
    claims.push(
        json!({ "metadata": { "name": "had", "namespace": "default", "uid": "had",
        "annotations": { "pv.kubernetes.io/bind-completed": "yes" } },
        "spec": { "storageClassName": "made", "accessModes": [mode], "volumeName": "bound" },
        "status": { "phase": "Bound" } }),
    );
    all["Claims"] = json!(claims);
    let count = dice.up_to(2);
    all["CSINodes"] = json!([{ "metadata": { "name": "node-0" },
        "spec": { "drivers": [{ "name": "csi.example.com", "nodeID": "n", "allocatable": { "count": count } }] } }]);
    let wanted = dice.pick(&["one", "two", "three", "had", "had", "missing"]);
    let volume =
        |claim: &str| json!([{ "name": "data", "persistentVolumeClaim": { "claimName": claim } }]);
    all["Pod"]["spec"]["volumes"] = volume(wanted);
    if let Some(first) = all["Pods"].as_array_mut().and_then(|p| p.first_mut()) {
        first["spec"]["volumes"] = volume("had");
    }
}
