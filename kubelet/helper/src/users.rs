//! Containers whose pod has users of its own (`hostUsers: false`).
//!
//! libcontainer enters the pod's user namespace before it mounts anything, and root of that namespace
//! may neither search directories of the node's root nor change how owners are seen. So all that the
//! specification binds, the root file system too, is opened here and put aside, where everybody may
//! search, in a mount namespace of the helper; what is to be id-mapped is.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxIdMapping, Mount, Spec};
use shim::protocol::helper_fd;

use crate::error::Error;
use crate::sys;

/// Directories that every system has and everybody may search, one of which is covered by what is put
/// aside. Nobody else sees that.
const COVERED: [&str; 5] = ["/mnt", "/srv", "/opt", "/media", "/run"];

/// The user of the node that a user of the container is, if the container has users of its own.
pub(crate) fn on_node(spec: &Spec, user: u32) -> Option<u32> {
    let linux = spec.linux().as_ref()?;
    mapped(linux.uid_mappings().as_deref()?, user)
}

fn mapped(mappings: &[LinuxIdMapping], id: u32) -> Option<u32> {
    mappings.iter().find_map(|range| {
        let offset = id.checked_sub(range.container_id())?;
        (offset < range.size()).then(|| range.host_id() + offset)
    })
}

/// Whether the container has users of its own.
pub(crate) fn are_own(spec: &Spec) -> bool {
    let linux = spec.linux().as_ref();
    linux.is_some_and(|linux| linux.uid_mappings().as_ref().is_some_and(|m| !m.is_empty()))
}

/// Puts all that the specification binds aside, and has it point there. `dir` stays as it is.
pub(crate) fn put_aside(spec: &mut Spec, dir: &Path) -> Result<(), Error> {
    let mut covered = COVERED.iter().map(Path::new);
    let at = covered.find(|covered| covered.is_dir() && !dir.starts_with(covered));
    let at = at.ok_or_else(|| Error::Spec("no directory to put mounts aside in".into()))?;
    // What the node mounts later still comes in, nothing goes out.
    sys::own_mounts().map_err(Error::doing("mount namespace"))?;
    let users = sys::borrow_for_life(helper_fd::USER);
    let mut trees: Vec<(OwnedFd, PathBuf)> = Vec::new();
    if let Some(root) = spec.root() {
        let tree = sys::clone_tree(root.path(), false).map_err(Error::at(root.path()))?;
        trees.push((tree, at.join("root")));
    }
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for (n, mount) in mounts.iter_mut().enumerate() {
        let Some(source) = mount.source().clone().filter(|_| is_bind(mount)) else {
            continue;
        };
        let recursive = has_option(mount, "rbind");
        let tree = sys::clone_tree(&source, recursive).map_err(Error::at(&source))?;
        if mount.uid_mappings().is_some() {
            sys::map_ids(tree.as_fd(), users).map_err(Error::at(&source))?;
        }
        let aside = at.join(n.to_string());
        mount.set_source(Some(aside.clone()));
        mount.set_uid_mappings(None).set_gid_mappings(None);
        trees.push((tree, aside));
    }
    spec.set_mounts(Some(mounts));
    if let Some(root) = spec.root_mut() {
        root.set_path(at.join("root"));
    }
    // Only now: what is covered may be a source.
    sys::cover(at).map_err(Error::at(at))?;
    for (tree, aside) in trees {
        sys::attach_tree(tree.as_fd(), &aside).map_err(Error::at(&aside))?;
    }
    Ok(())
}

fn is_bind(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("bind")
        || has_option(mount, "bind")
        || has_option(mount, "rbind")
}

fn has_option(mount: &Mount, name: &str) -> bool {
    mount
        .options()
        .iter()
        .flatten()
        .any(|option| option == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_on_the_node() {
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.2.0",
            "linux": { "uidMappings": [{ "containerID": 0, "hostID": 65536, "size": 65536 }] },
        }))
        .unwrap();
        assert!(are_own(&spec));
        assert_eq!(on_node(&spec, 0), Some(65_536));
        assert_eq!(on_node(&spec, 65_535), Some(131_071));
        assert_eq!(on_node(&spec, 65_536), None);
        let node: Spec =
            serde_json::from_value(serde_json::json!({ "ociVersion": "1.2.0" })).unwrap();
        assert!(!are_own(&node) && on_node(&node, 0).is_none());
    }
}
