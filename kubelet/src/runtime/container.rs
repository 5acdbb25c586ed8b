//! Containers: what is asked for and what is. Names are CRI's.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::sandbox::{IdMapping, NamespaceMode};
use super::signal::Signal;

/// Which container of its pod.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ContainerMetadata {
    pub name: String,
    /// How many containers of this name the pod had before.
    pub attempt: u32,
}

/// A container to be made.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ContainerConfig {
    pub metadata: ContainerMetadata,
    /// The image as the pod names it.
    pub image: String,
    /// The image as the image store names it, for the status (`imageID`).
    pub image_ref: String,
    pub image_config: ImageConfig,
    /// The mounted root file system: a directory of this container alone, removed by its owner after
    /// the container.
    pub rootfs: PathBuf,
    /// Replaces the image's entry point (and drops its command) if not empty.
    pub command: Vec<String>,
    /// Replaces the image's command if not empty.
    pub args: Vec<String>,
    /// Empty: the image's.
    pub working_dir: String,
    /// On top of the image's, in this order; the last of equal names wins.
    pub envs: Vec<(String, String)>,
    /// In the order in which they are mounted. `/proc`, `/sys`, `/dev`, `/dev/shm` and cgroups are
    /// made by the runtime unless one of these takes their place.
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// The log file; `None` discards the output.
    pub log_path: Option<PathBuf>,
    /// Zero means that the log is not rotated.
    pub log_max_size: u64,
    /// How many log files to keep, the current one included; at least 2, if rotated.
    pub log_max_files: u32,
    pub stdin: bool,
    /// Closes the standard input when the first client that attached to it is done.
    pub stdin_once: bool,
    pub tty: bool,
    /// `None`: the image's, else SIGTERM.
    pub stop_signal: Option<Signal>,
    pub resources: Resources,
    pub security: SecurityContext,
}

/// What an image says about running it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    pub working_dir: String,
    /// `user`, `uid`, `user:group`, or any mixture; empty is root.
    pub user: String,
    pub stop_signal: Option<Signal>,
}

/// A bind mount.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Mount {
    pub container_path: PathBuf,
    pub host_path: PathBuf,
    pub readonly: bool,
    /// Read-only for everything mounted below, too.
    pub recursive_read_only: bool,
    pub propagation: MountPropagation,
    /// The file system of an image, with the owners that the container's users see.
    #[serde(default)]
    pub image: bool,
    /// Id-mapped, if not empty.
    pub uid_mappings: Vec<IdMapping>,
    pub gid_mappings: Vec<IdMapping>,
}

/// How mounts made later spread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum MountPropagation {
    /// `rprivate`
    #[default]
    Private,
    /// `rslave`
    HostToContainer,
    /// `rshared`
    Bidirectional,
}

/// A device of the node in the container.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Device {
    pub container_path: PathBuf,
    pub host_path: PathBuf,
    /// Of `rwm`.
    pub permissions: String,
}

/// Limits of a cgroup; CRI's `LinuxContainerResources` and the pod's pid limit. Unset means
/// unlimited when made, unchanged when updated.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds per period; -1 is no limit.
    pub cpu_quota: Option<i64>,
    /// As cgroup v1 counts them (2 to 262,144); converted for v2.
    pub cpu_shares: Option<u64>,
    /// Bytes; -1 is no limit.
    pub memory_limit: Option<i64>,
    /// Memory and swap together, bytes; -1 is no limit.
    pub memory_swap_limit: Option<i64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// -1 is no limit.
    pub pids_limit: Option<i64>,
    /// Page size as the kernel names it (`2MB`) and bytes.
    pub hugepage_limits: BTreeMap<String, u64>,
    /// File name and content, written as they are on cgroup v2 (`memory.high`, `memory.min`).
    pub unified: BTreeMap<String, String>,
    /// -1000 to 1000. Containers only. Scores that the kernel refuses are best effort.
    pub oom_score_adj: Option<i32>,
}

/// Who the container's processes are and what they may do.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SecurityContext {
    pub privileged: bool,
    /// Names without `CAP_`; `ALL` is all.
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    pub run_as_user: Option<u32>,
    pub run_as_group: Option<u32>,
    pub supplemental_groups: Vec<u32>,
    pub supplemental_groups_policy: SupplementalGroupsPolicy,
    pub readonly_rootfs: bool,
    pub no_new_privs: bool,
    /// `Pod`: what the sandbox has. `Target` for ephemeral containers.
    pub pid: NamespaceMode,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub seccomp: SecurityProfile,
    pub apparmor: SecurityProfile,
}

/// What becomes of the groups that the image's `/etc/group` gives the user.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum SupplementalGroupsPolicy {
    /// They are added to those of the pod.
    #[default]
    Merge,
    /// They are left out.
    Strict,
}

/// A seccomp or AppArmor profile.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum SecurityProfile {
    #[default]
    Unconfined,
    RuntimeDefault,
    /// Seccomp: the path of a file on the node. AppArmor: the name of a loaded profile.
    Localhost(String),
}

/// Where a container is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ContainerState {
    Created,
    Running,
    Exited,
    Unknown,
}

impl fmt::Display for ContainerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Unknown => "unknown",
        })
    }
}

/// Why an exited container ended: the value of `reason` in its status, read by people and controllers.
pub mod reason {
    pub const COMPLETED: &str = "Completed";
    pub const ERROR: &str = "Error";
    pub const OOM_KILLED: &str = "OOMKilled";
    pub const START_ERROR: &str = "StartError";
    /// Nobody saw the exit.
    pub const UNKNOWN: &str = "Unknown";
}

/// A container as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContainerStatus {
    pub id: String,
    pub sandbox: String,
    pub state: ContainerState,
    pub created_at: SystemTime,
    pub started_at: Option<SystemTime>,
    pub finished_at: Option<SystemTime>,
    /// 128 + signal for killed ones.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// One of [`reason`], once exited.
    pub reason: &'static str,
    pub message: String,
    pub metadata: ContainerMetadata,
    pub image: String,
    pub image_ref: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    pub log_path: Option<PathBuf>,
    /// Limits as last asked for.
    pub resources: Resources,
    pub user: ContainerUser,
    pub stop_signal: Signal,
    pub tty: bool,
    pub stdin: bool,
    /// The process in the node's PID namespace, while running.
    pub pid: Option<u32>,
}

/// The identity that a container's first process was given.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ContainerUser {
    pub uid: u32,
    pub gid: u32,
    pub supplemental_groups: Vec<u32>,
}

/// Which containers to list; what is unset matches all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ContainerFilter {
    pub id: Option<String>,
    pub state: Option<ContainerState>,
    pub sandbox: Option<String>,
    pub labels: BTreeMap<String, String>,
}

impl ContainerFilter {
    #[must_use]
    pub fn matches(&self, status: &ContainerStatus) -> bool {
        self.id.as_ref().is_none_or(|id| *id == status.id)
            && self.state.is_none_or(|state| state == status.state)
            && self
                .sandbox
                .as_ref()
                .is_none_or(|sandbox| *sandbox == status.sandbox)
            && self
                .labels
                .iter()
                .all(|(key, value)| status.labels.get(key) == Some(value))
    }
}
