//! The mounts of a container.

use serde_json::{Value, json};

use super::{Error, Input, text};
use crate::runtime::container::{Mount, MountPropagation};

/// Destination, type, source, options: what every container has.
type System = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

const SYSTEM: [System; 6] = [
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    (
        "/dev",
        "tmpfs",
        "tmpfs",
        &["nosuid", "strictatime", "mode=755", "size=65536k"],
    ),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &[
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            "gid=5",
        ],
    ),
    (
        "/dev/mqueue",
        "mqueue",
        "mqueue",
        &["nosuid", "noexec", "nodev"],
    ),
    (
        "/sys",
        "sysfs",
        "sysfs",
        &["nosuid", "noexec", "nodev", "ro"],
    ),
    (
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "relatime", "ro"],
    ),
];

/// All mounts in their order: parents before what is mounted on them. What the pod mounts takes the
/// place of what the runtime would.
pub(super) fn all(input: &Input<'_>) -> Result<Vec<Value>, Error> {
    let own = &input.container.mounts;
    let privileged = input.container.security.privileged;
    let mut all: Vec<(usize, Value)> = Vec::new();
    for (at, kind, source, options) in SYSTEM {
        if at == "/sys/fs/cgroup" && input.sandbox.user.is_some() && !input.unified {
            // Hierarchies of version 1 have no namespace that the pod's root could mount them in.
            continue;
        }
        let writable = privileged && at.starts_with("/sys");
        let options: Vec<_> = options
            .iter()
            .filter(|o| !(writable && **o == "ro"))
            .collect();
        all.push((
            depth(at),
            json!({ "destination": at, "type": kind, "source": source, "options": options }),
        ));
    }
    let shm = text(input.shm)?;
    let options = ["rbind", "rprivate", "nosuid", "noexec", "nodev", "rw"];
    all.push((
        depth("/dev/shm"),
        json!({ "destination": "/dev/shm", "type": "bind", "source": shm, "options": options }),
    ));
    all.retain(|(_, mount)| {
        let at = mount["destination"].as_str();
        !own.iter().any(|own| own.container_path.to_str() == at)
    });
    for device in input.devices.iter().filter(|device| !device.is_in_dev()) {
        let (source, at) = device.bind();
        let (source, at) = (text(source)?, text(at)?);
        let options = ["bind", "rprivate"];
        all.push((
            depth(at),
            json!({ "destination": at, "type": "bind", "source": source, "options": options }),
        ));
    }
    for mount in own {
        let mount_json = bind(mount, input.sandbox.user.is_some())?;
        all.push((depth(text(&mount.container_path)?), mount_json));
    }
    all.sort_by_key(|(depth, _)| *depth);
    Ok(all.into_iter().map(|(_, mount)| mount).collect())
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

/// With mappings it is seen as the pod's user namespace sees owners; the helper does that.
fn bind(mount: &Mount, own_users: bool) -> Result<Value, Error> {
    let mapped = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    if mapped && !own_users {
        return Err(Error::IdMapped);
    }
    let propagation = match mount.propagation {
        MountPropagation::Private => "rprivate",
        MountPropagation::HostToContainer => "rslave",
        MountPropagation::Bidirectional => "rshared",
    };
    let access = match (mount.readonly, mount.recursive_read_only) {
        (true, true) => "rro",
        (true, false) => "ro",
        (false, _) => "rw",
    };
    let mut made = json!({
        "destination": text(&mount.container_path)?,
        "type": "bind",
        "source": text(&mount.host_path)?,
        "options": ["rbind", propagation, access],
    });
    if mapped {
        made["uidMappings"] = super::mappings(&mount.uid_mappings);
        made["gidMappings"] = super::mappings(&mount.gid_mappings);
    }
    Ok(made)
}

/// How the root has to propagate, so that what is mounted below can.
pub(super) fn root_propagation(mounts: &[Mount]) -> Option<&'static str> {
    let any = |propagation| mounts.iter().any(|mount| mount.propagation == propagation);
    if any(MountPropagation::Bidirectional) {
        Some("shared")
    } else if any(MountPropagation::HostToContainer) {
        Some("slave")
    } else {
        None
    }
}
