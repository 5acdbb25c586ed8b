use serde_json::{Value, json};

use super::*;
use crate::make::sums::parsed;

fn pod(spec: Value) -> Arc<Pod> {
    let pod = json!({ "metadata": { "name": "p" }, "spec": spec });
    Arc::new(proto::typed::from_json_value(pod).unwrap())
}

fn asks(cpu: &str) -> Value {
    json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] })
}

/// Reason and message, if the pod is refused.
fn refused(pod: &Pod, others: &[Arc<Pod>], taints: &[Taint]) -> Option<(String, String)> {
    let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
    let allocatable = json!({ "cpu": "1", "memory": "1Gi", "pods": "3" });
    let allocatable = proto::typed::from_json_value(allocatable).unwrap();
    let node = Node {
        name: "node-1",
        labels: &labels,
        taints,
        allocatable: parsed(Some(&allocatable)),
        sysctls: &Allowlist::new(&["net.core.*".into()]),
    };
    let refused = admit(pod, others, &node).err()?;
    Some((refused.reason, refused.message))
}

fn reason(spec: Value) -> Option<String> {
    refused(&pod(spec), &[], &[]).map(|(reason, _)| reason)
}

#[test]
fn resources_have_to_suffice_beside_the_others() {
    let others = [pod(asks("700m"))];
    assert_eq!(refused(&pod(asks("300m")), &others, &[]), None);
    let (reason, message) = refused(&pod(asks("301m")), &others, &[]).unwrap();
    assert_eq!(reason, "OutOfcpu");
    assert_eq!(
        message,
        "Node didn't have enough resource: cpu, requested: 301, used: 700, capacity: 1000"
    );
    let many = [(); 3].map(|()| pod(asks("0")));
    let (reason, _) = refused(&pod(asks("0")), &many, &[]).unwrap();
    assert_eq!(reason, "OutOfpods");
}

#[test]
fn resources_that_the_node_does_not_know_are_others_affair() {
    let spec = json!({ "containers": [{
        "name": "c", "resources": { "requests": { "example.com/x": "1" } },
    }] });
    assert_eq!(reason(spec), None);
}

#[test]
fn the_node_has_to_match() {
    let with = |key: &str, value: Value| {
        let mut spec = asks("0");
        spec[key] = value;
        reason(spec)
    };
    let affinity = |operator: &str, values: &[&str]| {
        let term = json!({ "matchExpressions": [
            { "key": "zone", "operator": operator, "values": values },
        ] });
        let required = json!({ "nodeSelectorTerms": [term] });
        let node = json!({ "requiredDuringSchedulingIgnoredDuringExecution": required });
        with("affinity", json!({ "nodeAffinity": node }))
    };
    assert_eq!(with("nodeSelector", json!({ "zone": "a" })), None);
    let no = Some("NodeAffinity".to_owned());
    assert_eq!(with("nodeSelector", json!({ "zone": "b" })), no);
    assert_eq!(affinity("In", &["a", "b"]), None);
    assert_eq!(affinity("NotIn", &["a"]), no);
    assert_eq!(affinity("Exists", &[]), None);
    assert_eq!(with("nodeName", "node-1".into()), None);
    assert_eq!(with("nodeName", "other".into()), Some("NodeName".into()));
}

#[test]
fn host_ports_are_given_once() {
    let ports = |ip: &str, port: i32, protocol: &str| {
        pod(json!({ "containers": [{
            "name": "c",
            "ports": [{
                "containerPort": 80, "hostPort": port, "hostIP": ip, "protocol": protocol,
            }],
        }] }))
    };
    let taken = [ports("10.0.0.1", 80, "TCP")];
    let clash = |wanted: Arc<Pod>| refused(&wanted, &taken, &[]).map(|(reason, _)| reason);
    let no = Some("NodePorts".to_owned());
    assert_eq!(clash(ports("10.0.0.1", 80, "TCP")), no);
    assert_eq!(clash(ports("", 80, "TCP")), no);
    assert_eq!(clash(ports("10.0.0.2", 80, "TCP")), None);
    assert_eq!(clash(ports("", 80, "UDP")), None);
    assert_eq!(clash(ports("", 81, "TCP")), None);
}

#[test]
fn taints_that_drive_pods_out_keep_them_out_but_for_static_ones() {
    let taints: Vec<Taint> = proto::typed::from_json_value(json!([
        { "key": "k", "effect": "NoExecute" },
        { "key": "other", "effect": "NoSchedule" },
    ]))
    .unwrap();
    let plain = pod(asks("0"));
    let found = refused(&plain, &[], &taints);
    assert_eq!(found.unwrap().0, "TaintToleration");
    let mut spec = asks("0");
    spec["tolerations"] = json!([{ "key": "k", "operator": "Exists" }]);
    assert_eq!(refused(&pod(spec), &[], &taints), None);
    let mut fixed = Pod::clone(&plain);
    let annotation = (spec::CONFIG_SOURCE.to_owned(), "file".to_owned());
    fixed.metadata.annotations = Some([annotation].into());
    assert_eq!(refused(&fixed, &[], &taints), None);
}

#[test]
fn sysctls_are_those_that_are_safe_or_allowed() {
    let with = |name: &str, host: bool| {
        let mut spec = asks("0");
        spec["hostNetwork"] = host.into();
        spec["securityContext"] = json!({ "sysctls": [{ "name": name, "value": "1" }] });
        refused(&pod(spec), &[], &[])
    };
    assert_eq!(with("net.ipv4.tcp_syncookies", false), None);
    assert_eq!(with("net/ipv4/tcp_syncookies", false), None);
    assert_eq!(with("net.core.somaxconn", false), None);
    let (reason, message) = with("kernel.msgmax", false).unwrap();
    assert_eq!(reason, "SysctlForbidden");
    assert_eq!(
        message,
        r#"forbidden sysctl: "kernel.msgmax" not allowlisted"#
    );
    let (_, message) = with("net.ipv4.tcp_syncookies", true).unwrap();
    assert_eq!(
        message,
        r#"forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host Net enabled"#
    );
}
