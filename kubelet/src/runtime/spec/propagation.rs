//! Whether mounts of the node can do what pods ask of them.
//!
//! What is mounted later spreads only between mounts that are shared. The kernel takes the request on any
//! mount and does nothing, so it is checked before.

use std::fs;
use std::path::{Path, PathBuf};

use crate::runtime::container::{Mount, MountPropagation};

/// The words are those of other runtimes.
#[derive(thiserror::Error, Debug, PartialEq, Eq)]
pub enum Error {
    #[error("path {path:?} is mounted on {mount:?} but it is not a shared mount")]
    NotShared { path: PathBuf, mount: PathBuf },
    #[error("path {path:?} is mounted on {mount:?} but it is not a shared or slave mount")]
    NotSlave { path: PathBuf, mount: PathBuf },
}

/// Checks the mounts of a container against those of the node.
///
/// # Errors
/// If one asks for a propagation that its source does not have.
pub fn check(mounts: &[Mount]) -> Result<(), Error> {
    if mounts
        .iter()
        .all(|mount| mount.propagation == MountPropagation::Private)
    {
        return Ok(());
    }
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts
        .iter()
        .try_for_each(|mount| check_one(&mountinfo, mount))
}

fn check_one(mountinfo: &str, mount: &Mount) -> Result<(), Error> {
    let real = fs::canonicalize(&mount.host_path);
    let path = real.as_deref().unwrap_or(&mount.host_path);
    let Some((point, fields)) = mount_of(mountinfo, path) else {
        return Ok(());
    };
    let has = |name: &str| fields.split(' ').any(|field| field.starts_with(name));
    let (path, mount_point) = (mount.host_path.clone(), point.to_owned());
    match mount.propagation {
        MountPropagation::Bidirectional if !has("shared:") => Err(Error::NotShared {
            path,
            mount: mount_point,
        }),
        MountPropagation::HostToContainer if !has("shared:") && !has("master:") => {
            Err(Error::NotSlave {
                path,
                mount: mount_point,
            })
        }
        _ => Ok(()),
    }
}

/// The mount that a path is on, with its optional fields: the deepest, and of equals the last.
fn mount_of<'a>(mountinfo: &'a str, path: &Path) -> Option<(&'a Path, &'a str)> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (line, _) = line.split_once(" - ")?;
        let mut fields = line.splitn(7, ' ');
        let point = Path::new(fields.nth(4)?);
        Some((point, fields.nth(1).unwrap_or("")))
    });
    let above = mounts.filter(|(point, _)| path.starts_with(point));
    above.max_by_key(|(point, _)| point.components().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 8:1 / / rw,relatime - ext4 /dev/sda rw
30 22 0:3 / /shared rw shared:5 - tmpfs tmpfs rw
31 22 0:4 / /slave rw master:5 - tmpfs tmpfs rw
32 30 0:5 / /shared/private rw - tmpfs tmpfs rw
";

    #[test]
    fn the_deepest_mount_decides() {
        let check = |path: &str, propagation| {
            let host_path = path.into();
            check_one(
                MOUNTS,
                &Mount {
                    host_path,
                    propagation,
                    ..Mount::default()
                },
            )
            .is_ok()
        };
        use MountPropagation::{Bidirectional, HostToContainer, Private};
        assert!(
            check("/x", Private) && !check("/x", HostToContainer) && !check("/x", Bidirectional)
        );
        assert!(check("/shared/a", Bidirectional) && check("/shared/a", HostToContainer));
        assert!(!check("/slave/a", Bidirectional) && check("/slave/a", HostToContainer));
        assert!(!check("/shared/private/a", HostToContainer));
        assert!(
            !check("/sharedx", HostToContainer),
            "a name is no prefix of another"
        );
    }
}
