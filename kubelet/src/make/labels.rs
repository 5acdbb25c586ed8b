//! What the runtime keeps for us: labels and annotations by which a kubelet that was started anew
//! finds its pods and containers again. Names and values are upstream's (`kuberuntime/labels.go`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerPort, LifecycleHandler, Pod};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::spec;

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";

const DELETION_GRACE_PERIOD: &str = "io.kubernetes.pod.deletionGracePeriod";
const TERMINATION_GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
const HASH: &str = "io.kubernetes.container.hash";
const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
const PORTS: &str = "io.kubernetes.container.ports";

type Map = BTreeMap<String, String>;

/// Labels of a sandbox: the pod's own and ours.
pub fn of_sandbox(pod: &Pod) -> Map {
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.extend(of_pod(pod));
    labels
}

fn of_pod(pod: &Pod) -> [(String, String); 3] {
    let meta = &pod.metadata;
    [
        (POD_NAME, &meta.name),
        (POD_NAMESPACE, &meta.namespace),
        (POD_UID, &meta.uid),
    ]
    .map(|(label, value)| (label.to_owned(), value.clone().unwrap_or_default()))
}

/// Labels of a container.
pub fn of_container(pod: &Pod, container: &Container) -> Map {
    let mut labels = Map::from(of_pod(pod));
    labels.insert(CONTAINER_NAME.into(), container.name.clone());
    labels
}

/// Annotations of a container.
pub fn annotations(pod: &Pod, container: &Container, restart_count: u32) -> Map {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut all = Map::from(
        [
            (HASH, format!("{:x}", hash(container))),
            (RESTART_COUNT, restart_count.to_string()),
            (MESSAGE_PATH, text(&container.termination_message_path)),
            (MESSAGE_POLICY, text(&container.termination_message_policy)),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let mut set = |name: &str, value: Option<String>| {
        all.extend(value.map(|value| (name.to_owned(), value)));
    };
    let seconds = |value: Option<i64>| value.map(|seconds| seconds.to_string());
    set(
        DELETION_GRACE_PERIOD,
        seconds(pod.metadata.deletion_grace_period_seconds),
    );
    set(
        TERMINATION_GRACE_PERIOD,
        seconds(spec(pod).termination_grace_period_seconds),
    );
    let hooks = container.lifecycle.as_ref();
    set(
        PRE_STOP,
        hooks.and_then(|h| h.pre_stop.as_ref()).and_then(json),
    );
    let ports = container.ports.as_ref().filter(|ports| !ports.is_empty());
    set(PORTS, ports.and_then(json));
    all
}

fn json(value: &impl Serialize) -> Option<String> {
    serde_json::to_string(value).ok()
}

/// A number that changes when a container has to be restarted because its specification did: with its
/// name or image, as nothing else of a running container can be changed. The number is upstream's.
#[must_use]
pub fn hash(container: &Container) -> u64 {
    let fields = BTreeMap::from([
        ("image", container.image.as_deref().unwrap_or_default()),
        ("name", container.name.as_str()),
    ]);
    let json = serde_json::to_vec(&fields).unwrap_or_default();
    // Upstream hashes a printed list of the bytes.
    let bytes: Vec<String> = json.iter().map(u8::to_string).collect();
    u64::from(fnv1a(&format!("([]uint8)[{}]", bytes.join(" "))))
}

fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash: u32, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// What the labels and annotations of a container say. What is missing or cannot be read is at its
/// default: containers of other makers have none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    pub pod_name: String,
    pub pod_namespace: String,
    pub pod_uid: String,
    pub container: String,
    pub hash: u64,
    pub restart_count: u32,
    pub deletion_grace_period_seconds: Option<i64>,
    pub termination_grace_period_seconds: Option<i64>,
    pub termination_message_path: String,
    pub termination_message_policy: String,
    pub pre_stop: Option<LifecycleHandler>,
    pub ports: Vec<ContainerPort>,
}

/// Reads labels and annotations back.
#[must_use]
pub fn recover(labels: &Map, annotations: &Map) -> Recovered {
    let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
    let text = |name: &str| annotations.get(name).cloned().unwrap_or_default();
    let seconds = |name: &str| annotations.get(name)?.parse().ok();
    Recovered {
        pod_name: label(POD_NAME),
        pod_namespace: label(POD_NAMESPACE),
        pod_uid: label(POD_UID),
        container: label(CONTAINER_NAME),
        hash: u64::from_str_radix(&text(HASH), 16).unwrap_or_default(),
        restart_count: text(RESTART_COUNT).parse().unwrap_or_default(),
        deletion_grace_period_seconds: seconds(DELETION_GRACE_PERIOD),
        termination_grace_period_seconds: seconds(TERMINATION_GRACE_PERIOD),
        termination_message_path: text(MESSAGE_PATH),
        termination_message_policy: text(MESSAGE_POLICY),
        pre_stop: parsed(annotations, PRE_STOP),
        ports: parsed(annotations, PORTS).unwrap_or_default(),
    }
}

fn parsed<T: DeserializeOwned>(annotations: &Map, name: &str) -> Option<T> {
    serde_json::from_str(annotations.get(name)?).ok()
}
