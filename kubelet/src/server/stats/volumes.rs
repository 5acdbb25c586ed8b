//! Volumes of a pod, and the writable layer of a container, found where they are on disk.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, Volume};

use super::disk::{self, Disks};
use super::summary::{PodReference, PvcReference, VolumeStats};
use crate::sys::mount;
use crate::volume;

/// A volume, and whether it counts as the pod's ephemeral storage.
pub(super) struct Found {
    pub(super) stats: VolumeStats,
    pub(super) ephemeral: bool,
}

/// Plugins whose volumes are directories on the node's disk.
const LOCAL: &[&str] = &[
    "kubernetes.io~empty-dir",
    "kubernetes.io~configmap",
    "kubernetes.io~secret",
    "kubernetes.io~projected",
    "kubernetes.io~downward-api",
];
/// Directories that pods share: what they take is their file system's.
const OF_NODE: &str = "kubernetes.io~local-volume";
const EMPTY_DIR: &str = "kubernetes.io~empty-dir";

/// The volumes below `ROOT/pods/UID/volumes/PLUGIN/NAME`. Those with a file system of their own are
/// measured by it, the others are counted.
pub(super) fn of_pod(
    disks: &Disks,
    root: &Path,
    pod: &PodReference,
    spec: Option<&Pod>,
) -> Vec<Found> {
    let dir = root.join("pods").join(&pod.uid);
    // Persistent volumes have a name of their own; people know them by the pod's.
    let own_names = volume::Volumes::persistent_names(&dir);
    let base = dir.join("volumes");
    let base_device = fs::metadata(&base).map(|meta| meta.dev());
    let volumes: &[Volume] = spec
        .and_then(|pod| pod.spec.as_ref()?.volumes.as_deref())
        .unwrap_or_default();
    let mut found = Vec::new();
    for plugin in names(&base) {
        for name in names(&base.join(&plugin)) {
            let mut path = base.join(&plugin).join(&name);
            if plugin == "kubernetes.io~csi" {
                path = path.join("mount");
            }
            let Ok(meta) = fs::metadata(&path) else {
                continue;
            };
            let own = plugin == OF_NODE || base_device.as_ref().is_ok_and(|dev| *dev != meta.dev());
            if !own && !LOCAL.contains(&plugin.as_str()) {
                continue;
            }
            let usage = (!own).then(|| disks.usage(&path));
            let Ok(fs) = disk::file_system(&path, usage) else {
                continue;
            };
            let name = own_names.get(&name).cloned().unwrap_or(name);
            let stats = VolumeStats {
                fs,
                pvc_ref: claim(volumes, &name, pod),
                name,
            };
            let ephemeral = plugin == EMPTY_DIR && !own;
            found.push(Found { stats, ephemeral });
        }
    }
    found
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// The claim behind a volume: its own, or the one that was made for it.
fn claim(volumes: &[Volume], name: &str, pod: &PodReference) -> Option<PvcReference> {
    let volume = volumes.iter().find(|volume| volume.name == name)?;
    let claim = match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => claim.claim_name.clone(),
        (None, Some(_)) => format!("{}-{name}", pod.name),
        (None, None) => return None,
    };
    Some(PvcReference {
        name: claim,
        namespace: pod.namespace.clone(),
    })
}

/// The upper directory of the overlay that a process has as its root.
pub(super) fn writable_layer(pid: u32) -> Option<PathBuf> {
    upper_dir(&fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?)
}

pub(crate) fn upper_dir(mountinfo: &str) -> Option<PathBuf> {
    // The last mount on a path is the one that is seen.
    let root = mountinfo
        .lines()
        .rev()
        .find(|line| line.split(' ').nth(4) == Some("/"))?;
    let (_, rest) = root.split_once(" - ")?;
    let mut fields = rest.split(' ');
    if fields.next() != Some("overlay") {
        return None;
    }
    let options = fields.nth(1)?;
    let upper = options
        .split(',')
        .find_map(|option| option.strip_prefix("upperdir="))?;
    Some(OsString::from_vec(mount::unescape(upper.as_bytes())).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writable_layer_is_in_the_options_of_the_root() {
        let mountinfo = "100 50 0:30 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/a\\040b/upper,workdir=/w\n\
            101 100 0:31 / /proc rw - proc proc rw\n";
        assert_eq!(upper_dir(mountinfo), Some("/a b/upper".into()));
        assert_eq!(upper_dir("1 1 8:1 / / rw - ext4 /dev/a rw\n"), None);
        assert_eq!(upper_dir(""), None);
    }

    #[test]
    fn volumes_on_the_nodes_disk_are_counted() {
        let root = tempfile::tempdir().unwrap();
        let dir = root
            .path()
            .join("pods/uid/volumes/kubernetes.io~empty-dir/data");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("file"), vec![1; 50_000]).unwrap();
        for other in ["kubernetes.io~local-volume/pv", "kubernetes.io~other/x"] {
            let dir = root.path().join("pods/uid/volumes").join(other);
            fs::create_dir_all(dir).unwrap();
        }
        let pod = PodReference {
            name: "pod".into(),
            namespace: "ns".into(),
            uid: "uid".into(),
        };
        let found = of_pod(&Disks::default(), root.path(), &pod, None);
        assert_eq!(found.len(), 2);
        assert!(found[0].ephemeral && found[0].stats.name == "data");
        // What is shared with other pods is measured by its file system.
        let system = &found[1].stats;
        assert!(!found[1].ephemeral && system.name == "pv");
        assert_eq!(system.fs.capacity_bytes, found[0].stats.fs.capacity_bytes);
        assert!((50_000..100_000).contains(&found[0].stats.fs.used_bytes));
    }
}
