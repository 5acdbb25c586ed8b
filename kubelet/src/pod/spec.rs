//! Reading pods: what is asked about a specification in more than one place.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

use crate::make;

/// Set by the source of a static pod; the mirror pod shows them.
pub(crate) const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
pub(crate) const CONFIG_SEEN: &str = "kubernetes.io/config.seen";
pub(crate) const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// On mirror pods alone: the hash of the static pod.
pub(crate) const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

/// Which list of the specification a container is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Kind {
    Init,
    Main,
    Ephemeral,
}

impl Kind {
    /// Its name in metrics.
    pub(crate) const fn metric(self) -> &'static str {
        match self {
            Self::Init => "init_container",
            Self::Main => "container",
            Self::Ephemeral => "ephemeral_container",
        }
    }
}

pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub(crate) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// `name_namespace`: how pods of all sources are told apart by name.
pub(crate) fn full_name(pod: &Pod) -> String {
    format!("{}_{}", name(pod), namespace(pod))
}

/// The specification; an empty one stands for none, which no server hands out.
pub(crate) fn of(pod: &Pod) -> &PodSpec {
    static NONE: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&NONE)
}

pub(crate) fn init_containers(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

pub(crate) fn ephemeral_containers(spec: &PodSpec) -> &[EphemeralContainer] {
    spec.ephemeral_containers.as_deref().unwrap_or_default()
}

/// Whether an init container keeps running next to the main ones.
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

pub(crate) fn is_host_network(spec: &PodSpec) -> bool {
    spec.host_network.unwrap_or_default()
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// Whether it comes from a file or a URL instead of the API server.
pub(crate) fn is_static(pod: &Pod) -> bool {
    annotation(pod, CONFIG_SOURCE).is_some_and(|source| source != "api")
}

/// The hash of the static pod that this object mirrors.
pub(crate) fn mirrored_hash(pod: &Pod) -> Option<&str> {
    annotation(pod, CONFIG_MIRROR)
}

/// The hash that a static pod's source gave it.
pub(crate) fn config_hash(pod: &Pod) -> Option<&str> {
    annotation(pod, CONFIG_HASH)
}

pub(crate) fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status.and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

pub(crate) fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Failed" | "Succeeded")
}

pub(crate) fn is_being_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// The container of this name, in whichever list it is.
pub(crate) fn container(spec: &PodSpec, name: &str) -> Option<(Kind, Container)> {
    let named = |c: &&Container| c.name == name;
    let init = init_containers(spec).iter().find(named);
    let main = spec.containers.iter().find(named);
    let found = init
        .map(|c| (Kind::Init, c))
        .or(main.map(|c| (Kind::Main, c)));
    if let Some((kind, container)) = found {
        return Some((kind, container.clone()));
    }
    let mut ephemeral = ephemeral_containers(spec).iter();
    let found = ephemeral.find(|c| c.name == name)?;
    Some((Kind::Ephemeral, make::ephemeral(found)))
}
