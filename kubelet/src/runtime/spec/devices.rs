//! Devices of the node that containers are given.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::runtime::container::Device;

/// A device as it is on the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostDevice {
    /// In the container.
    path: PathBuf,
    /// On the node.
    source: PathBuf,
    block: bool,
    major: u64,
    minor: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    permissions: String,
}

impl HostDevice {
    /// Whether it is wanted among the container's other devices. Elsewhere, libcontainer makes none.
    pub(super) fn is_in_dev(&self) -> bool {
        self.path.starts_with("/dev")
    }

    /// The node's, for one that is wanted elsewhere: where it is and where to.
    pub(super) fn bind(&self) -> (&Path, &Path) {
        (&self.source, &self.path)
    }

    pub(super) fn node(&self) -> Value {
        json!({
            "path": self.path,
            "type": self.kind(),
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode & 0o777,
            "uid": self.uid,
            "gid": self.gid,
        })
    }

    pub(super) fn rule(&self) -> Value {
        json!({
            "allow": true,
            "type": self.kind(),
            "major": self.major,
            "minor": self.minor,
            "access": self.permissions,
        })
    }

    const fn kind(&self) -> &'static str {
        if self.block { "b" } else { "c" }
    }
}

/// What the runtime makes itself, and what is no single device.
const SKIPPED: [&str; 8] = [
    "pts",
    "shm",
    "fd",
    "mqueue",
    "console",
    ".lxc",
    ".lxd-mounts",
    ".udev",
];

/// Looks the devices up that a pod asks for. A directory stands for all in it.
///
/// # Errors
/// If one is not there or is no device.
pub fn find(asked: &[Device]) -> io::Result<Vec<HostDevice>> {
    let mut found = Vec::new();
    for device in asked {
        let path = fs::canonicalize(&device.host_path)?;
        if fs::metadata(&path)?.is_dir() {
            for below in tree(&path)? {
                let relative = below.strip_prefix(&path).unwrap_or(&below);
                let at = device.container_path.join(relative);
                found.extend(look(&below, &at, &device.permissions)?);
            }
        } else {
            let seen = look(&path, &device.container_path, &device.permissions)?;
            let no_device = || io::Error::other(format!("{} is not a device", path.display()));
            found.push(seen.ok_or_else(no_device)?);
        }
    }
    Ok(found)
}

fn all() -> io::Result<Vec<HostDevice>> {
    let found = tree(Path::new("/dev"))?;
    // What disappears while we look was never there.
    Ok(found
        .iter()
        .filter_map(|path| look(path, path, "rwm").ok().flatten())
        .collect())
}

/// All devices of the node, and those that a pod asks for.
///
/// # Errors
/// As of both.
pub fn all_and(asked: &[Device]) -> io::Result<Vec<HostDevice>> {
    let asked = find(asked)?;
    let mut all = all()?;
    all.retain(|device| !asked.iter().any(|other| other.path == device.path));
    all.extend(asked);
    Ok(all)
}

fn look(path: &Path, at: &Path, permissions: &str) -> io::Result<Option<HostDevice>> {
    let meta = fs::symlink_metadata(path)?;
    let kind = meta.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        return Ok(None);
    }
    let permissions = if permissions.is_empty() {
        "rwm"
    } else {
        permissions
    };
    Ok(Some(HostDevice {
        path: at.to_owned(),
        source: path.to_owned(),
        block: kind.is_block_device(),
        major: libc::major(meta.rdev()).into(),
        minor: libc::minor(meta.rdev()).into(),
        mode: meta.mode(),
        uid: meta.uid(),
        gid: meta.gid(),
        permissions: permissions.to_owned(),
    }))
}

fn tree(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if SKIPPED.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            found.extend(tree(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_with_its_numbers_and_a_file_is_none() {
        let ask = |path: &str| {
            find(&[Device {
                container_path: "/dev/mine".into(),
                host_path: path.into(),
                permissions: "r".into(),
            }])
        };
        let null = ask("/dev/null").unwrap();
        assert_eq!((null[0].major, null[0].minor, null[0].kind()), (1, 3, "c"));
        assert_eq!(null[0].rule()["access"], "r");
        assert!(ask("/etc/passwd").is_err());
        assert!(ask("/dev/does-not-exist").is_err());
    }
}
