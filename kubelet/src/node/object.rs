//! The node's object: how it is first made, and what of an old one is brought up to date.
//!
//! Source: `pkg/kubelet/kubelet_node_status.go` (`initialNode`, `tryRegisterWithAPIServer`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSpec, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::address::Wanted;
use super::machine;
use super::status::is_extended;
use crate::config::Config;
use crate::container_manager::capacity::HUGE_PAGES;

/// Tells the controller manager that it attaches this node's volumes.
const ATTACH: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
/// Tells a cloud controller which address was asked for.
const PROVIDED_IP: &str = "alpha.kubernetes.io/provided-node-ip";
/// Kept off by the cloud controller manager until it has looked at the node.
const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";

/// The node as it is registered, without its status.
#[must_use]
pub fn initial(name: &str, hostname: &str, config: &Config, ip: &Wanted) -> Node {
    let kubelet = &config.kubelet;
    let mut labels = default_labels(hostname);
    labels.extend(config.node.labels.clone());
    let mut taints = kubelet.register_with_taints.clone();
    if config.node.external_cloud {
        taints.push(Taint {
            key: UNINITIALIZED.to_owned(),
            value: Some("true".to_owned()),
            effect: "NoSchedule".to_owned(),
            time_added: None,
        });
    }
    let mut annotations = BTreeMap::new();
    if kubelet.enable_controller_attach_detach {
        annotations.insert(ATTACH.to_owned(), "true".to_owned());
    }
    let mut node = Node {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            annotations: Some(annotations).filter(|a| !a.is_empty()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            provider_id: Some(kubelet.provider_id.clone()).filter(|id| !id.is_empty()),
            taints: Some(taints).filter(|t| !t.is_empty()),
            ..NodeSpec::default()
        }),
        status: None,
    };
    annotate_ip(&mut node, config, ip);
    node
}

fn default_labels(hostname: &str) -> BTreeMap<String, String> {
    let architecture = machine::architecture();
    [
        ("kubernetes.io/hostname", hostname),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// Says which address was asked for, or no longer.
pub fn annotate_ip(node: &mut Node, config: &Config, ip: &Wanted) {
    let annotations = &mut node.metadata.annotations;
    match ip.annotation().filter(|_| config.node.external_cloud) {
        Some(value) => {
            annotations
                .get_or_insert_default()
                .insert(PROVIDED_IP.to_owned(), value);
        }
        None => {
            if let Some(annotations) = annotations {
                annotations.remove(PROVIDED_IP);
            }
        }
    }
}

/// Labels that the kubelet keeps right on a node that is already there.
const KEPT_LABELS: &[&str] = &[
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

/// Brings a node that is already registered up to date with the one that would be.
pub fn reconcile(existing: &mut Node, initial: &Node) {
    let wanted = |node: &Node| node.metadata.annotations.as_ref()?.get(ATTACH).cloned();
    match wanted(initial) {
        Some(value) => {
            let annotations = existing.metadata.annotations.get_or_insert_default();
            annotations.insert(ATTACH.to_owned(), value);
        }
        None => {
            if let Some(annotations) = &mut existing.metadata.annotations {
                annotations.remove(ATTACH);
            }
        }
    }
    let labels = existing.metadata.labels.get_or_insert_default();
    for key in KEPT_LABELS {
        match initial.metadata.labels.as_ref().and_then(|l| l.get(*key)) {
            Some(value) if value.is_empty() => drop(labels.remove(*key)),
            Some(value) => drop(labels.insert((*key).to_owned(), value.clone())),
            None => {}
        }
    }
    reconcile_resources(existing, initial);
}

/// Huge pages as the machine has them; extended resources are nothing until a device plugin says so.
fn reconcile_resources(existing: &mut Node, initial: &Node) {
    let status = existing.status.get_or_insert_default();
    let fresh = initial.status.clone().unwrap_or_default();
    let lists = [
        (&mut status.capacity, fresh.capacity),
        (&mut status.allocatable, fresh.allocatable),
    ];
    for (list, fresh) in lists {
        let fresh = fresh.unwrap_or_default();
        let list = list.get_or_insert_with(|| fresh.clone());
        list.retain(|name, _| !name.starts_with(HUGE_PAGES) || fresh.contains_key(name));
        for (name, amount) in fresh.into_iter().filter(|(n, _)| n.starts_with(HUGE_PAGES)) {
            list.insert(name, amount);
        }
        for (name, amount) in list.iter_mut() {
            if is_extended(name) {
                *amount = Quantity("0".to_owned());
            }
        }
    }
}

/// Puts the two labels right that pods are placed by, should somebody have changed them.
pub fn require_labels(node: &mut Node) {
    let labels = node.metadata.labels.get_or_insert_default();
    for (key, value) in [
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", machine::architecture()),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::NodeStatus;

    use super::*;
    use crate::config::tests::config;

    #[test]
    fn a_new_node_has_labels_taints_and_the_attach_annotation() {
        let config = config(
            "providerID: there\nregisterWithTaints: [{key: a, value: b, effect: NoExecute}]\n",
            &[
                "--node-labels=kubernetes.io/os=other,x=y",
                "--cloud-provider=external",
                "--node-ip=10.0.0.1",
            ],
        );
        let ip = Wanted::parse(&config.node.ip).unwrap();
        let node = initial("n", "h", &config, &ip);
        let labels = node.metadata.labels.unwrap();
        assert_eq!(labels["kubernetes.io/hostname"], "h");
        assert_eq!(labels["kubernetes.io/os"], "other", "flags win");
        assert_eq!(labels["x"], "y");
        let annotations = node.metadata.annotations.unwrap();
        assert_eq!(annotations[ATTACH], "true");
        assert_eq!(annotations[PROVIDED_IP], "10.0.0.1");
        let spec = node.spec.unwrap();
        assert_eq!(spec.provider_id.as_deref(), Some("there"));
        let taints: Vec<_> = spec.taints.unwrap().into_iter().map(|t| t.key).collect();
        assert_eq!(taints, ["a", UNINITIALIZED]);
    }

    #[test]
    fn an_old_node_keeps_what_is_not_the_kubelets() {
        let amounts = |all: &[(&str, &str)]| {
            all.iter()
                .map(|(k, v)| ((*k).to_owned(), Quantity((*v).to_owned())))
                .collect::<BTreeMap<_, _>>()
        };
        let config = config("", &["--node-labels=mine=new"]);
        let mut new = initial("n", "h", &config, &Wanted::default());
        new.status = Some(NodeStatus {
            capacity: Some(amounts(&[("hugepages-2Mi", "4Mi"), ("cpu", "4")])),
            allocatable: Some(amounts(&[("hugepages-2Mi", "4Mi")])),
            ..NodeStatus::default()
        });
        let labels = [
            ("kubernetes.io/hostname", "old"),
            ("topology.kubernetes.io/zone", "z"),
        ];
        let mut old = Node {
            metadata: ObjectMeta {
                labels: Some(labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
                ..ObjectMeta::default()
            },
            status: Some(NodeStatus {
                capacity: Some(amounts(&[
                    ("cpu", "2"),
                    ("hugepages-1Gi", "0"),
                    ("e.com/x", "3"),
                ])),
                ..NodeStatus::default()
            }),
            ..Node::default()
        };
        reconcile(&mut old, &new);
        let labels = old.metadata.labels.unwrap();
        assert_eq!(labels["kubernetes.io/hostname"], "h");
        assert_eq!(labels["topology.kubernetes.io/zone"], "z");
        assert!(
            !labels.contains_key("mine"),
            "labels are given at registration only"
        );
        assert_eq!(old.metadata.annotations.unwrap()[ATTACH], "true");
        let status = old.status.unwrap();
        assert_eq!(
            status.capacity.unwrap(),
            amounts(&[("cpu", "2"), ("hugepages-2Mi", "4Mi"), ("e.com/x", "0")])
        );
        assert_eq!(
            status.allocatable.unwrap(),
            amounts(&[("hugepages-2Mi", "4Mi")])
        );
    }
}
