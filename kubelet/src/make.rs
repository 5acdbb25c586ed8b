//! From a pod's specification to what the runtime is asked for: upstream's `pkg/kubelet/kuberuntime`,
//! and the deciding parts of `kubelet_pods.go`, `cm` and `qos`.
//!
//! Owns: quality of service, limits, security contexts, environments, command lines, and the labels
//! by which everything is found again.
//!
//! Invariants: all but [`environment`] are pure functions of the pod and of [`NodeFacts`], so that equal
//! specifications make equal containers. Fields of the API whose feature is off are dropped by the API
//! server, so a gate is asked only where it decides about something else.

pub(crate) mod env;
pub mod expand;
pub mod labels;
mod qos;
mod resources;
mod security;
pub mod sums;
mod wiring;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use component::features::Features;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, ObjectReference, Pod, PodSpec};

use crate::network::hosts;
use crate::network::resolv::NodeDns;
use crate::runtime::cgroup;
use crate::runtime::container::ContainerMetadata;
use crate::runtime::sandbox::{PodSandboxMetadata, UserNamespace};
use crate::runtime::{
    ContainerConfig, Device, ImageConfig, Mount, NamespaceMode, Network, PodSandboxConfig, Signal,
};
use crate::volume::Allocatable;

pub use env::{Environment, Error as EnvError, environment};
pub use labels::{Recovered, hash, recover};
pub use qos::{name as qos_name, oom_score_adj, qos};
pub use resources::{
    container_resources, milli_cpu_of_quota, milli_cpu_of_shares, pod_resources, quota, shares,
};
pub use security::{thermal_paths, verify_non_root};
pub use wiring::network;

pub use crate::runtime::cgroup::Qos;

/// What of the node the specification of a pod is read against.
#[derive(Clone)]
pub struct NodeFacts {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// For `status.hostIPs`, the primary first.
    pub host_ips: Vec<IpAddr>,
    pub allocatable: Allocatable,
    /// Bytes.
    pub memory_capacity: u64,
    /// Bytes.
    pub swap_capacity: u64,
    /// As the kernel names them (`2MB`); none where the `hugetlb` controller is missing.
    pub hugepage_sizes: Vec<String>,
    /// Hidden from containers on top of the usual: see [`thermal_paths`].
    pub masked_paths: Vec<String>,
    pub cgroups_v2: bool,
    /// Whether swap is counted per cgroup.
    pub swap_controller: bool,
    /// `--cgroup-root`
    pub cgroup_root: String,
    /// `podPidsLimit`; no limit unless positive.
    pub pods_pids_limit: i64,
    /// `cpuCFSQuota`
    pub cpu_cfs_quota: bool,
    /// `cpuCFSQuotaPeriod` in microseconds.
    pub cpu_cfs_quota_period_us: u64,
    /// `memorySwap.swapBehavior`
    pub swap_behavior: SwapBehavior,
    /// `memoryThrottlingFactor`
    pub memory_throttling_factor: Option<f64>,
    /// `memoryReservationPolicy`
    pub memory_reservation: MemoryReservation,
    /// `singleProcessOOMKill`, which is true by default with cgroups of version 1 only.
    pub single_process_oom_kill: bool,
    /// `seccompDefault`
    pub seccomp_default: bool,
    /// `<root>/seccomp`
    pub seccomp_root: PathBuf,
    pub dns: NodeDns,
    /// `podLogsDir`
    pub log_dir: PathBuf,
    /// `containerLogMaxSize` in bytes.
    pub log_max_size: u64,
    /// `containerLogMaxFiles`
    pub log_max_files: u32,
    pub features: Features,
}

/// `memorySwap.swapBehavior`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SwapBehavior {
    #[default]
    No,
    Limited,
}

/// `memoryReservationPolicy`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MemoryReservation {
    #[default]
    None,
    Tiered,
}

impl Default for NodeFacts {
    /// Upstream's defaults of what is configured; nothing known of the machine.
    fn default() -> Self {
        Self {
            name: String::new(),
            labels: BTreeMap::new(),
            host_ips: Vec::new(),
            allocatable: Allocatable::new(),
            memory_capacity: 0,
            swap_capacity: 0,
            hugepage_sizes: Vec::new(),
            masked_paths: Vec::new(),
            cgroups_v2: true,
            swap_controller: false,
            cgroup_root: "/".into(),
            pods_pids_limit: -1,
            cpu_cfs_quota: true,
            cpu_cfs_quota_period_us: 100_000,
            swap_behavior: SwapBehavior::No,
            memory_throttling_factor: None,
            memory_reservation: MemoryReservation::None,
            single_process_oom_kill: false,
            seccomp_default: false,
            seccomp_root: "/var/lib/kubelet/seccomp".into(),
            dns: NodeDns::default(),
            log_dir: "/var/log/pods".into(),
            log_max_size: 10 << 20,
            log_max_files: 5,
            features: Features::defaults(),
        }
    }
}

/// The specification cannot be run on this node. The text goes into the pod's status and events.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum Error {
    #[error("{why} (pod: {pod:?}, container: {container})")]
    NonRoot {
        why: String,
        pod: String,
        container: String,
    },
    #[error("{0} is no id of a user or group")]
    Id(i64),
    #[error("unsupported supplementalGroupsPolicy: {0}")]
    SupplementalGroupsPolicy(String),
    #[error("localhostProfile must be set if seccompProfile type is Localhost.")]
    SeccompLocalhost,
    #[error("missing localhost apparmor profile name")]
    AppArmorLocalhost,
    #[error("unknown apparmor profile type: {0:?}")]
    AppArmorType(String),
    #[error(transparent)]
    Hostname(#[from] hosts::Error),
    #[error(
        "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long \
         (64 characters is the max, {} characters requested)",
        fqdn.len()
    )]
    LongFqdn { fqdn: String },
    #[error("the pod has no user namespace")]
    NoUserNamespace,
    #[error("pod {annotation} is invalid: {value:?}")]
    Bandwidth {
        annotation: &'static str,
        value: String,
    },
    #[error("port {0} is not valid")]
    Port(i32),
}

/// The limit of the kernel's node name.
const FQDN_MAX: usize = 64;

/// The cgroup of a pod.
#[must_use]
pub fn pod_cgroup(pod: &Pod, facts: &NodeFacts) -> String {
    cgroup::pod_path(&facts.cgroup_root, qos(pod), uid(pod))
}

/// The sandbox of a pod. `user` holds the maps of pods with `hostUsers: false`.
///
/// # Errors
/// If the pod cannot have one.
pub fn sandbox(
    pod: &Pod,
    facts: &NodeFacts,
    network: Network,
    user: Option<UserNamespace>,
    ips: Vec<IpAddr>,
    attempt: u32,
) -> Result<PodSandboxConfig, Error> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (meta, spec) = (&pod.metadata, spec(pod));
    if spec.host_users == Some(false) && user.is_none() {
        return Err(Error::NoUserNamespace);
    }
    Ok(PodSandboxConfig {
        metadata: PodSandboxMetadata {
            name: text(&meta.name),
            uid: text(&meta.uid),
            namespace: text(&meta.namespace),
            attempt,
        },
        hostname: hostname(pod, facts)?,
        labels: labels::of_sandbox(pod),
        annotations: meta.annotations.clone().unwrap_or_default(),
        cgroup_parent: pod_cgroup(pod, facts),
        resources: pod_resources(pod, facts),
        network,
        ipc: if spec.host_ipc == Some(true) {
            NamespaceMode::Node
        } else {
            NamespaceMode::Pod
        },
        pid: security::sandbox_pid(pod),
        user,
        sysctls: wiring::sysctls(pod),
        ips,
    })
}

/// The name that the kernel tells a pod's programs; empty where it is the node's.
fn hostname(pod: &Pod, facts: &NodeFacts) -> Result<String, Error> {
    if is_host_network(pod) {
        return Ok(String::new());
    }
    let (hostname, domain) = hosts::hostname_and_domain(pod, &facts.dns.cluster_domain)?;
    if domain.is_empty() || spec(pod).set_hostname_as_fqdn != Some(true) {
        return Ok(hostname);
    }
    let fqdn = format!("{hostname}.{domain}");
    if fqdn.len() > FQDN_MAX {
        return Err(Error::LongFqdn { fqdn });
    }
    Ok(fqdn)
}

/// What a container is made from.
pub struct Ingredients<'a> {
    pub pod: &'a Pod,
    /// One of the pod's, or what [`ephemeral`] makes of one.
    pub container: &'a Container,
    pub facts: &'a NodeFacts,
    /// As [`environment`] made it.
    pub env: Vec<(String, String)>,
    /// In order, with the files that the kubelet adds: hosts, hostname, termination message.
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    /// Groups that the pod's volumes ask for.
    pub volume_groups: BTreeSet<u32>,
    /// Mappings of the pod's user namespace; for the mounts.
    pub user: Option<&'a UserNamespace>,
    /// As the image store names the image.
    pub image_ref: String,
    pub image_config: ImageConfig,
    pub rootfs: PathBuf,
    /// How many containers of this name the pod had before.
    pub attempt: u32,
    pub log_path: PathBuf,
    /// The id of the container whose processes an ephemeral one is to see.
    pub target: Option<String>,
}

/// A container.
///
/// # Errors
/// If the pod's specification cannot be followed: `CreateContainerConfigError`.
pub fn container(of: Ingredients<'_>) -> Result<ContainerConfig, Error> {
    let Ingredients {
        pod,
        container,
        facts,
        ..
    } = of;
    verify_non_root(pod, container, &of.image_config.user)?;
    let mut mounts = of.mounts;
    if let Some(user) = of.user {
        for mount in mounts.iter_mut().filter(|mount| !mount.image) {
            mount.uid_mappings.clone_from(&user.uids);
            mount.gid_mappings.clone_from(&user.gids);
        }
    }
    let mut security = security::context(pod, container, facts, of.target)?;
    let groups = &mut security.supplemental_groups;
    let more = of.volume_groups.into_iter();
    let more: Vec<u32> = more.filter(|group| !groups.contains(group)).collect();
    groups.extend(more);
    Ok(ContainerConfig {
        metadata: ContainerMetadata {
            name: container.name.clone(),
            attempt: of.attempt,
        },
        image: container.image.clone().unwrap_or_default(),
        image_ref: of.image_ref,
        image_config: of.image_config,
        rootfs: of.rootfs,
        command: expand::all(container.command.as_ref(), &of.env),
        args: expand::all(container.args.as_ref(), &of.env),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: of.env,
        mounts,
        devices: of.devices,
        labels: labels::of_container(pod, container),
        annotations: labels::annotations(pod, container, of.attempt),
        log_path: Some(of.log_path),
        log_max_size: facts.log_max_size,
        log_max_files: facts.log_max_files,
        stdin: container.stdin.unwrap_or_default(),
        stdin_once: container.stdin_once.unwrap_or_default(),
        tty: container.tty.unwrap_or_default(),
        stop_signal: stop_signal(container, facts),
        resources: container_resources(pod, container, facts),
        security,
    })
}

/// `lifecycle.stopSignal`
fn stop_signal(container: &Container, facts: &NodeFacts) -> Option<Signal> {
    if !facts.features.enabled("ContainerStopSignals") {
        return None;
    }
    let hooks = container.lifecycle.as_ref()?;
    hooks.stop_signal.as_ref()?.parse().ok()
}

/// The container in an ephemeral one.
#[must_use]
pub fn ephemeral(of: &EphemeralContainer) -> Container {
    Container {
        args: of.args.clone(),
        command: of.command.clone(),
        env: of.env.clone(),
        env_from: of.env_from.clone(),
        image: of.image.clone(),
        image_pull_policy: of.image_pull_policy.clone(),
        lifecycle: of.lifecycle.clone(),
        liveness_probe: of.liveness_probe.clone(),
        name: of.name.clone(),
        ports: of.ports.clone(),
        readiness_probe: of.readiness_probe.clone(),
        resize_policy: of.resize_policy.clone(),
        resources: of.resources.clone(),
        restart_policy: of.restart_policy.clone(),
        restart_policy_rules: of.restart_policy_rules.clone(),
        security_context: of.security_context.clone(),
        startup_probe: of.startup_probe.clone(),
        stdin: of.stdin,
        stdin_once: of.stdin_once,
        termination_message_path: of.termination_message_path.clone(),
        termination_message_policy: of.termination_message_policy.clone(),
        tty: of.tty,
        volume_devices: of.volume_devices.clone(),
        volume_mounts: of.volume_mounts.clone(),
        working_dir: of.working_dir.clone(),
    }
}

/// Where the logs of a pod are.
#[must_use]
pub fn log_dir(pod: &Pod, facts: &NodeFacts) -> PathBuf {
    let text = |value: &'_ Option<String>| value.clone().unwrap_or_default();
    let (name, namespace) = (text(&pod.metadata.name), text(&pod.metadata.namespace));
    facts
        .log_dir
        .join(format!("{namespace}_{name}_{}", uid(pod)))
}

/// The log file of a container that was restarted this often.
#[must_use]
pub fn log_path(pod: &Pod, container: &str, attempt: u32, facts: &NodeFacts) -> PathBuf {
    let dir = log_dir(pod, facts).join(container);
    dir.join(format!("{attempt}.log"))
}

/// The link by which log collectors find a container's file: `<dir>/<pod>_<ns>_<container>-<id>.log`.
/// `dir` is `/var/log/containers`.
#[must_use]
pub fn log_link(dir: &Path, pod: &Pod, container: &str, id: &str) -> PathBuf {
    /// Characters of a file name, less the suffix.
    const MAX: usize = 251;
    let text = |value: &'_ Option<String>| value.clone().unwrap_or_default();
    let (name, namespace) = (text(&pod.metadata.name), text(&pod.metadata.namespace));
    let mut link = format!("{name}_{namespace}_{container}-{id}");
    while link.len() > MAX {
        link.pop();
    }
    dir.join(format!("{link}.log"))
}

/// `name_namespace(uid)`, by which upstream's messages call a pod.
#[must_use]
pub fn describe(pod: &Pod) -> String {
    let text = |value: &'_ Option<String>| value.clone().unwrap_or_default();
    let (name, namespace) = (text(&pod.metadata.name), text(&pod.metadata.namespace));
    format!("{name}_{namespace}({})", uid(pod))
}

/// A reference to a container of a pod, for events about it.
#[must_use]
pub fn reference(pod: &Pod, container: &str) -> ObjectReference {
    let named = |all: &[Container]| all.iter().any(|c| c.name == container);
    let spec = spec(pod);
    let mut ephemeral = spec.ephemeral_containers.iter().flatten();
    let field = if named(&spec.containers) {
        format!("spec.containers{{{container}}}")
    } else if named(spec.init_containers.as_deref().unwrap_or_default()) {
        format!("spec.initContainers{{{container}}}")
    } else if ephemeral.any(|c| c.name == container) {
        format!("spec.ephemeralContainers{{{container}}}")
    } else {
        format!("implicitly required container {container}")
    };
    ObjectReference {
        field_path: Some(field),
        ..component::events::reference(pod)
    }
}

/// A pod's specification; an empty one if there is none.
pub(crate) fn spec(pod: &Pod) -> &PodSpec {
    static NONE: LazyLock<PodSpec> = LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&NONE)
}

pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// The pod's regular containers.
pub(crate) fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    spec(pod).containers.iter()
}

/// The pod's init containers, sidecars among them.
pub(crate) fn init_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    spec(pod).init_containers.iter().flatten()
}

/// Whether an init container stays while the others run.
#[must_use]
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

#[must_use]
pub fn is_host_network(pod: &Pod) -> bool {
    spec(pod).host_network == Some(true)
}

/// Where a pod came from (`file`, `http`, `api`).
const SOURCE: &str = "kubernetes.io/config.source";
/// What a mirror pod shows.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Pods of at least this priority are critical.
const SYSTEM_CRITICAL: i32 = 2_000_000_000;

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let all = pod.metadata.annotations.as_ref()?;
    all.get(name).map(String::as_str)
}

/// Whether a pod comes from this node itself.
#[must_use]
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, SOURCE).is_some_and(|source| source != "api")
}

/// Whether a pod must not be evicted or swapped.
#[must_use]
pub fn is_critical(pod: &Pod) -> bool {
    is_static(pod)
        || annotation(pod, MIRROR).is_some()
        || spec(pod).priority.is_some_and(|p| p >= SYSTEM_CRITICAL)
}

#[cfg(test)]
mod tests;
