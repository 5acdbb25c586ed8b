//! The node's status out of what was observed. Pure: `pkg/kubelet/nodestatus/setters.go`.
//!
//! Invariants: fields that others own (conditions of other types, resources of other names, attached
//! volumes) stay; `Ready` is the last of the conditions that the kubelet adds.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
    NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeStatus, NodeSwapStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::machine::Machine;
use crate::container_manager::capacity::{CPU, MEMORY, PODS, Resources, STORAGE};
use crate::container_manager::threshold::Pressure;
use crate::image::store::Image;

/// Everything that the status is made from.
#[derive(Clone, Debug)]
pub struct Observed {
    pub now: Time,
    pub machine: Arc<Machine>,
    /// None if none was found: those that are there stay.
    pub addresses: Option<Vec<NodeAddress>>,
    pub capacity: Resources,
    pub allocatable: Resources,
    /// `navarch://0.1.0`
    pub runtime_version: String,
    pub port: i32,
    pub images: Vec<ContainerImage>,
    pub in_user_namespace: bool,
    pub declared_features: Vec<String>,
    pub pressure: BTreeSet<Pressure>,
    /// Why pods cannot be run: runtime, network, storage, shutdown, in this order.
    pub problems: Vec<String>,
    pub volumes_in_use: Vec<String>,
    pub storage_isolation: bool,
}

/// Something that became different, for the node's events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The reason of a Normal event.
    Condition(&'static str),
    Rebooted,
}

/// Writes what was observed over `status`; tells what is worth an event.
pub fn update(status: &mut NodeStatus, seen: &Observed) -> Vec<Change> {
    let mut changes = Vec::new();
    if let Some(addresses) = &seen.addresses {
        status.addresses = Some(addresses.clone());
    }
    resources(status, seen);
    if info(status, seen) {
        changes.push(Change::Rebooted);
    }
    status.daemon_endpoints = Some(NodeDaemonEndpoints {
        kubelet_endpoint: Some(DaemonEndpoint { port: seen.port }),
    });
    status.images = some(seen.images.clone());
    status.runtime_handlers = Some(handlers());
    status.features = Some(NodeFeatures {
        supplemental_groups_policy: Some(true),
    });
    status.declared_features = some(seen.declared_features.clone());
    let conditions = status.conditions.get_or_insert_default();
    for row in PRESSURES {
        changes.extend(pressure(conditions, row, seen).map(Change::Condition));
    }
    let missing = missing(&seen.capacity, seen.storage_isolation);
    let problems = seen.problems.iter().cloned().chain(missing).collect();
    changes.extend(ready(conditions, problems, &seen.now).map(Change::Condition));
    status.volumes_in_use = some(seen.volumes_in_use.clone());
    changes
}

/// Lists that are empty are not there.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn quantities(all: &Resources) -> BTreeMap<String, Quantity> {
    all.iter()
        .map(|(name, amount)| (name.clone(), Quantity(amount.to_string())))
        .collect()
}

/// Whether others put the resource there: it has a domain, which is not Kubernetes' own.
pub(super) fn is_extended(name: &str) -> bool {
    let Some((domain, _)) = name.split_once('/') else {
        return false;
    };
    domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io")
}

fn resources(status: &mut NodeStatus, seen: &Observed) {
    let capacity = status.capacity.get_or_insert_default();
    capacity.extend(quantities(&seen.capacity));
    let capacity = capacity.clone();
    let allocatable = status.allocatable.get_or_insert_default();
    allocatable.retain(|name, _| capacity.contains_key(name) || !is_extended(name));
    // What is not ours is given away as it is.
    let others = capacity
        .into_iter()
        .filter(|(name, _)| !seen.capacity.contains_key(name));
    allocatable.extend(others);
    allocatable.extend(quantities(&seen.allocatable));
}

/// Returns whether the machine was started anew.
fn info(status: &mut NodeStatus, seen: &Observed) -> bool {
    let machine = &seen.machine;
    let before = status
        .node_info
        .as_ref()
        .map_or("", |info| info.boot_id.as_str());
    let rebooted = !before.is_empty() && before != machine.boot_id;
    let swap = i64::try_from(machine.swap).ok().filter(|bytes| *bytes > 0);
    status.node_info = Some(NodeSystemInfo {
        architecture: machine.architecture.to_owned(),
        boot_id: machine.boot_id.clone(),
        container_runtime_version: seen.runtime_version.clone(),
        kernel_version: machine.kernel.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: component::version::KUBERNETES.to_owned(),
        machine_id: machine.machine_id.clone(),
        operating_system: "linux".to_owned(),
        os_image: machine.os_image.clone(),
        running_in_user_namespace: Some(seen.in_user_namespace),
        swap: swap.map(|bytes| NodeSwapStatus {
            capacity: Some(bytes),
        }),
        system_uuid: machine.system_uuid.clone(),
    });
    rebooted
}

/// Our one runtime, under the empty name that is the default.
fn handlers() -> Vec<NodeRuntimeHandler> {
    vec![NodeRuntimeHandler {
        // The empty name is left out, as upstream's encoding does.
        name: None,
        features: Some(NodeRuntimeHandlerFeatures {
            recursive_read_only_mounts: Some(true),
            user_namespaces: Some(true),
        }),
    }]
}

/// A condition of pressure: reason, message and event, under it and not.
struct Row {
    pressure: Pressure,
    under: (&'static str, &'static str, &'static str),
    fine: (&'static str, &'static str, &'static str),
}

const PRESSURES: &[Row] = &[
    Row {
        pressure: Pressure::Memory,
        under: (
            "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available",
            "NodeHasInsufficientMemory",
        ),
        fine: (
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
            "NodeHasSufficientMemory",
        ),
    },
    Row {
        pressure: Pressure::Disk,
        under: (
            "KubeletHasDiskPressure",
            "kubelet has disk pressure",
            "NodeHasDiskPressure",
        ),
        fine: (
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
            "NodeHasNoDiskPressure",
        ),
    },
    Row {
        pressure: Pressure::Pid,
        under: (
            "KubeletHasInsufficientPID",
            "kubelet has insufficient PID available",
            "NodeHasInsufficientPID",
        ),
        fine: (
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
            "NodeHasSufficientPID",
        ),
    },
];

fn pressure(
    conditions: &mut Vec<NodeCondition>,
    row: &Row,
    seen: &Observed,
) -> Option<&'static str> {
    let (status, (reason, message, event)) = if seen.pressure.contains(&row.pressure) {
        ("True", row.under)
    } else {
        ("False", row.fine)
    };
    let type_ = row.pressure.condition();
    let at = match conditions.iter().position(|c| c.type_ == type_) {
        Some(at) => at,
        None => {
            conditions.push(NodeCondition {
                type_: type_.to_owned(),
                status: "Unknown".to_owned(),
                ..NodeCondition::default()
            });
            conditions.len() - 1
        }
    };
    let condition = &mut conditions[at];
    condition.last_heartbeat_time = Some(seen.now.clone());
    if condition.status == status {
        return None;
    }
    status.clone_into(&mut condition.status);
    condition.reason = Some(reason.to_owned());
    condition.message = Some(message.to_owned());
    condition.last_transition_time = Some(seen.now.clone());
    Some(event)
}

fn missing(capacity: &Resources, storage: bool) -> Option<String> {
    let needed = [CPU, MEMORY, PODS]
        .into_iter()
        .chain(storage.then_some(STORAGE));
    let missing: Vec<&str> = needed
        .filter(|name| !capacity.contains_key(*name))
        .collect();
    (!missing.is_empty()).then(|| {
        format!(
            "missing node capacity for resources: {}",
            missing.join(", ")
        )
    })
}

fn ready(
    conditions: &mut Vec<NodeCondition>,
    problems: Vec<String>,
    now: &Time,
) -> Option<&'static str> {
    let (status, reason, message, event) = if problems.is_empty() {
        let message = "kubelet is posting ready status".to_owned();
        ("True", "KubeletReady", message, "NodeReady")
    } else {
        let message = proto::path::aggregate(problems);
        ("False", "KubeletNotReady", message, "NodeNotReady")
    };
    let mut condition = NodeCondition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: Some(now.clone()),
    };
    let Some(old) = conditions.iter_mut().find(|c| c.type_ == "Ready") else {
        conditions.push(condition);
        return None;
    };
    let changed = old.status != status;
    if !changed {
        condition.last_transition_time = old.last_transition_time.clone();
    }
    *old = condition;
    changed.then_some(event)
}

/// Whether the two differ in more than the times of heartbeats and the order of conditions.
#[must_use]
pub fn differs(before: &NodeStatus, after: &NodeStatus) -> bool {
    let comparable = |status: &NodeStatus| {
        let mut status = status.clone();
        let conditions = status.conditions.get_or_insert_default();
        for condition in conditions.iter_mut() {
            condition.last_heartbeat_time = None;
        }
        conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        status
    };
    comparable(before) != comparable(after)
}

/// Names that an image may have in a node's status; upstream's figure.
const NAMES: usize = 5;

/// The images of a node, the largest first; at most `max` unless it is negative.
#[must_use]
pub fn images(all: &[Arc<Image>], max: i32) -> Vec<ContainerImage> {
    let mut all: Vec<&Arc<Image>> = all.iter().collect();
    // Of equal size by id: the order must not change by itself.
    all.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    all.into_iter()
        .take(max)
        .map(|image| ContainerImage {
            names: some(
                image
                    .digests
                    .iter()
                    .chain(&image.tags)
                    .take(NAMES)
                    .cloned()
                    .collect(),
            ),
            size_bytes: i64::try_from(image.size).ok(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn at(seconds: i64) -> Time {
        Time(Timestamp::from_second(seconds).unwrap())
    }

    pub(super) fn seen() -> Observed {
        let amount = |text: &str| text.parse().unwrap();
        Observed {
            now: at(100),
            machine: Arc::new(Machine {
                boot_id: "one".to_owned(),
                ..Machine::default()
            }),
            addresses: None,
            capacity: [
                (CPU.to_owned(), amount("4")),
                (MEMORY.to_owned(), amount("8Gi")),
                (PODS.to_owned(), amount("110")),
                (STORAGE.to_owned(), amount("10Gi")),
            ]
            .into(),
            allocatable: [(CPU.to_owned(), amount("3"))].into(),
            runtime_version: "navarch://0".to_owned(),
            port: 10250,
            images: Vec::new(),
            in_user_namespace: false,
            declared_features: Vec::new(),
            pressure: BTreeSet::new(),
            problems: Vec::new(),
            volumes_in_use: Vec::new(),
            storage_isolation: true,
        }
    }

    fn types(status: &NodeStatus) -> Vec<(&str, &str)> {
        let conditions = status.conditions.iter().flatten();
        conditions
            .map(|c| (c.type_.as_str(), c.status.as_str()))
            .collect()
    }

    #[test]
    fn ready_is_the_last_condition_and_a_new_one_is_no_event() {
        let mut status = NodeStatus::default();
        let changes = update(&mut status, &seen());
        assert_eq!(
            types(&status),
            [
                ("MemoryPressure", "False"),
                ("DiskPressure", "False"),
                ("PIDPressure", "False"),
                ("Ready", "True")
            ]
        );
        assert_eq!(
            changes,
            [
                Change::Condition("NodeHasSufficientMemory"),
                Change::Condition("NodeHasNoDiskPressure"),
                Change::Condition("NodeHasSufficientPID")
            ]
        );
    }

    #[test]
    fn transitions_keep_their_time_and_heartbeats_are_no_change() {
        let mut status = NodeStatus::default();
        update(&mut status, &seen());
        let first = status.clone();
        let later = Observed {
            now: at(200),
            ..seen()
        };
        assert_eq!(update(&mut status, &later), []);
        assert!(!differs(&first, &status));
        assert_ne!(first, status, "heartbeats moved");
        let not_ready = Observed {
            now: at(300),
            problems: vec!["one".to_owned(), "two".to_owned(), "one".to_owned()],
            ..seen()
        };
        assert_eq!(
            update(&mut status, &not_ready),
            [Change::Condition("NodeNotReady")]
        );
        assert!(differs(&first, &status));
        let ready = status.conditions.unwrap().pop().unwrap();
        assert_eq!(ready.message.as_deref(), Some("[one, two]"));
        assert_eq!(ready.last_transition_time, Some(at(300)));
    }

    #[test]
    fn what_others_own_stays() {
        let mut status = NodeStatus {
            capacity: Some([("example.com/gpu".to_owned(), Quantity("2".to_owned()))].into()),
            allocatable: Some(
                [
                    ("example.com/gpu".to_owned(), Quantity("1".to_owned())),
                    ("example.com/gone".to_owned(), Quantity("1".to_owned())),
                ]
                .into(),
            ),
            conditions: Some(vec![NodeCondition {
                type_: "NetworkUnavailable".to_owned(),
                status: "False".to_owned(),
                ..NodeCondition::default()
            }]),
            ..NodeStatus::default()
        };
        update(&mut status, &seen());
        assert_eq!(types(&status)[0], ("NetworkUnavailable", "False"));
        let allocatable = status.allocatable.unwrap();
        assert_eq!(allocatable["example.com/gpu"].0, "2");
        assert_eq!(allocatable["cpu"].0, "3");
        assert!(!allocatable.contains_key("example.com/gone"));
    }

    #[test]
    fn pressure_and_reboots_are_told_once() {
        let mut status = NodeStatus::default();
        update(&mut status, &seen());
        let machine = Machine {
            boot_id: "two".to_owned(),
            ..Machine::default()
        };
        let under = Observed {
            pressure: [Pressure::Disk].into(),
            machine: Arc::new(machine),
            ..seen()
        };
        assert_eq!(
            update(&mut status, &under),
            [Change::Rebooted, Change::Condition("NodeHasDiskPressure")]
        );
        assert_eq!(update(&mut status, &under), []);
    }

    #[test]
    fn a_node_without_capacity_is_not_ready() {
        let mut status = NodeStatus::default();
        let mut seen = seen();
        seen.capacity.remove(MEMORY);
        seen.capacity.remove(STORAGE);
        update(&mut status, &seen);
        let ready = status.conditions.unwrap().pop().unwrap();
        assert_eq!(
            ready.message.as_deref(),
            Some("missing node capacity for resources: memory, ephemeral-storage")
        );
    }
}
