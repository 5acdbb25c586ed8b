//! The OCI specification of a container: what the pod asks for and what the machine is, in; the document
//! for the helper, out.
//!
//! Invariants: [`build`] is pure. Namespaces that the pod shares are given as descriptors that the helper
//! finds open ([`helper_fd`]), so nothing in the document is bound to a process. Limits are not in it:
//! the kubelet writes them itself. The seccomp profile is not in it either: the helper is given the
//! compiled filter.

pub mod devices;
mod mounts;
pub mod propagation;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shim::protocol::helper_fd;

use super::container::{ContainerConfig, ContainerUser, SecurityProfile};
use super::sandbox::{IdMapping, NamespaceMode, Network, PodSandboxConfig};
use super::signal::Signal;
use devices::HostDevice;

/// Capabilities that containers have unless the pod drops them: those of every CRI runtime.
pub const DEFAULT_CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// What upstream masks with `procMount: Default`; the thermal files of each CPU come on top.
pub const DEFAULT_MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// What upstream makes read-only with `procMount: Default`.
pub const DEFAULT_READONLY_PATHS: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Where programs are looked for, if nobody says.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration makes no container.
#[derive(thiserror::Error, Debug, PartialEq, Eq)]
pub enum Error {
    #[error("no command specified")]
    NoCommand,
    #[error("unknown capability {0:?}")]
    Capability(String),
    #[error("path {0:?} is not text")]
    Path(PathBuf),
    #[error("id-mapped mounts need a user namespace of the pod")]
    IdMapped,
}

/// What a document is made of.
pub struct Input<'a> {
    pub container: &'a ContainerConfig,
    pub sandbox: &'a PodSandboxConfig,
    pub user: &'a ContainerUser,
    /// The container's cgroup.
    pub cgroup: &'a str,
    /// The pod's `/dev/shm`.
    pub shm: &'a Path,
    /// Of the pod, or of the node for pods in its network.
    pub hostname: &'a str,
    /// Devices that the pod asks for, or all of the node's.
    pub devices: &'a [HostDevice],
    /// Whether cgroups are version 2.
    pub unified: bool,
    /// What the kubelet itself has, one bit per capability: more than that nobody can be given.
    pub capabilities: u64,
}

/// Makes the document.
///
/// # Errors
/// If the configuration is contradictory.
pub fn build(input: &Input<'_>) -> Result<Value, Error> {
    let Input {
        container, user, ..
    } = input;
    let security = &container.security;
    let capabilities = capability_names(container, input.capabilities)?;
    let capabilities: Vec<String> = capabilities.iter().map(|c| format!("CAP_{c}")).collect();
    let mut process = json!({
        "terminal": container.tty,
        "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.supplemental_groups },
        "args": args(container)?,
        "env": env(input),
        "cwd": working_dir(container),
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities,
            "permitted": capabilities,
            "inheritable": [],
            "ambient": [],
        },
        "oomScoreAdj": container.resources.oom_score_adj.unwrap_or(0).clamp(-1000, 1000),
    });
    if security.no_new_privs {
        process["noNewPrivileges"] = true.into(); // never false: see the helper
    }
    if let SecurityProfile::Localhost(profile) = &security.apparmor {
        process["apparmorProfile"] = profile.as_str().into();
    }
    let (masked, readonly): (&[String], &[String]) = if security.privileged {
        (&[], &[])
    } else {
        (&security.masked_paths, &security.readonly_paths)
    };
    let devices = input.devices.iter().filter(|device| device.is_in_dev());
    let mut linux = json!({
        "cgroupsPath": input.cgroup,
        "namespaces": namespaces(input),
        "devices": devices.map(HostDevice::node).collect::<Vec<_>>(),
        "resources": { "devices": device_rules(input) },
        "maskedPaths": masked,
        "readonlyPaths": readonly,
    });
    if let Some(user) = &input.sandbox.user {
        linux["uidMappings"] = mappings(&user.uids);
        linux["gidMappings"] = mappings(&user.gids);
    }
    if let Some(propagation) = mounts::root_propagation(&container.mounts) {
        linux["rootfsPropagation"] = propagation.into();
    }
    Ok(json!({
        "ociVersion": "1.2.0",
        "process": process,
        "root": { "path": text(&container.rootfs)?, "readonly": security.readonly_rootfs },
        "mounts": mounts::all(input)?,
        "linux": linux,
    }))
}

/// Ranges of ids as a document has them.
fn mappings(all: &[IdMapping]) -> Value {
    let one = |ids: &IdMapping| json!({ "containerID": ids.container_id, "hostID": ids.host_id, "size": ids.length });
    all.iter().map(one).collect()
}

fn text(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| Error::Path(path.to_owned()))
}

/// The command line: the pod's command drops the image's arguments, too.
///
/// # Errors
/// If neither pod nor image has one.
fn args(container: &ContainerConfig) -> Result<Vec<String>, Error> {
    let image = &container.image_config;
    let (program, default_args): (&[String], &[String]) = if container.command.is_empty() {
        (&image.entrypoint, &image.cmd)
    } else {
        (&container.command, &[])
    };
    let args = if container.args.is_empty() {
        default_args
    } else {
        &container.args
    };
    let all: Vec<String> = program.iter().chain(args).cloned().collect();
    if all.is_empty() {
        Err(Error::NoCommand)
    } else {
        Ok(all)
    }
}

fn working_dir(container: &ContainerConfig) -> &str {
    let asked = [&container.working_dir, &container.image_config.working_dir];
    asked
        .into_iter()
        .find(|dir| !dir.is_empty())
        .map_or("/", String::as_str)
}

/// The image's, the runtime's and the pod's variables; a later one of the same name takes the place of
/// the earlier.
fn env(input: &Input<'_>) -> Vec<String> {
    let container = input.container;
    let mut all: Vec<String> = vec![DEFAULT_PATH.into()];
    let mut set = |entry: String| {
        let name = entry.split_inclusive('=').next().unwrap_or("").to_owned();
        match all.iter_mut().find(|known| known.starts_with(&name)) {
            Some(known) => *known = entry,
            None => all.push(entry),
        }
    };
    set(format!("HOSTNAME={}", input.hostname));
    if container.tty {
        set("TERM=xterm".into());
    }
    container
        .image_config
        .env
        .iter()
        .filter(|e| e.contains('='))
        .cloned()
        .for_each(&mut set);
    container
        .envs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .for_each(&mut set);
    all
}

/// The bounding set of a container, names without `CAP_`. All are those that `available` has.
///
/// # Errors
/// If the pod names one that does not exist.
pub fn capability_names(
    container: &ContainerConfig,
    available: u64,
) -> Result<Vec<&'static str>, Error> {
    let security = &container.security;
    let all = shim::capability::NAMES;
    let every = || {
        let numbered = all.iter().enumerate();
        numbered
            .filter(|(number, _)| available >> number & 1 == 1)
            .map(|(_, name)| *name)
            .collect()
    };
    if security.privileged {
        return Ok(every());
    }
    let known = |names: &[String]| -> Result<Vec<&'static str>, Error> {
        let named = names
            .iter()
            .filter(|name| !name.eq_ignore_ascii_case("ALL"));
        let find = |name: &String| {
            let upper = name.to_ascii_uppercase();
            let number = shim::capability::number(&upper);
            number
                .map(|n| all[n as usize])
                .ok_or_else(|| Error::Capability(name.clone()))
        };
        named.map(find).collect()
    };
    let has_all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let (add, drop) = (
        known(&security.add_capabilities)?,
        known(&security.drop_capabilities)?,
    );
    let mut set: Vec<&str> = DEFAULT_CAPABILITIES.to_vec();
    if has_all(&security.add_capabilities) {
        set = every();
    }
    if has_all(&security.drop_capabilities) {
        set.clear();
    }
    for name in add {
        if !set.contains(&name) {
            set.push(name);
        }
    }
    set.retain(|name| !drop.contains(name));
    Ok(set)
}

/// Which PID namespace a container joins.
fn pid_mode<'a>(input: &'a Input<'_>) -> &'a NamespaceMode {
    match &input.container.security.pid {
        NamespaceMode::Pod => &input.sandbox.pid,
        own => own,
    }
}

fn namespaces(input: &Input<'_>) -> Vec<Value> {
    let joined =
        |kind: &str, fd: i32| json!({ "type": kind, "path": format!("/proc/self/fd/{fd}") });
    let mut all = vec![json!({ "type": "mount" })];
    if input.sandbox.user.is_some() {
        all.push(joined("user", helper_fd::USER));
    }
    if input.sandbox.network != Network::Node {
        all.push(joined("network", helper_fd::NET));
        all.push(joined("uts", helper_fd::UTS));
    }
    if input.sandbox.ipc != NamespaceMode::Node {
        all.push(joined("ipc", helper_fd::IPC));
    }
    match pid_mode(input) {
        NamespaceMode::Node => {}
        NamespaceMode::Container => all.push(json!({ "type": "pid" })),
        NamespaceMode::Pod | NamespaceMode::Target(_) => all.push(joined("pid", helper_fd::PID)),
    }
    if input.unified && !input.container.security.privileged {
        all.push(json!({ "type": "cgroup" }));
    }
    all
}

fn device_rules(input: &Input<'_>) -> Vec<Value> {
    if input.container.security.privileged {
        return vec![json!({ "allow": true, "access": "rwm" })];
    }
    let none = json!({ "allow": false, "access": "rwm" });
    [none]
        .into_iter()
        .chain(input.devices.iter().map(HostDevice::rule))
        .collect()
}

/// The signal that asks a container to end.
#[must_use]
pub fn stop_signal(container: &ContainerConfig) -> Signal {
    container
        .stop_signal
        .or(container.image_config.stop_signal)
        .unwrap_or(Signal::TERM)
}

#[cfg(test)]
mod tests;
