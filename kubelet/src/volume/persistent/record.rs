//! Which persistent volumes a pod has, written down before they are mounted: a kubelet that starts anew
//! knows from it what is in use and what has to be given back.
//!
//! ```text
//! pods/<uid>/plugins/<plugin>/<persistent volume>/volume.json
//! ```

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::sys::file::{self, Durability};
use crate::volume::Volume;

const FILE: &str = "volume.json";

/// A persistent volume that a pod has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::volume) struct Record {
    /// Upstream's name of the plugin.
    pub(in crate::volume) plugin: String,
    /// The persistent volume.
    pub(in crate::volume) name: String,
    /// The pod's name for it.
    pub(in crate::volume) volume: String,
    /// What the pod has of it, once it is there.
    pub(in crate::volume) published: Option<Volume>,
}

impl Record {
    /// Below the directory of its pod.
    fn path(&self, pod_dir: &Path) -> PathBuf {
        let plugin = super::escaped(&self.plugin);
        let dir = pod_dir.join("plugins").join(plugin).join(&self.name);
        dir.join(FILE)
    }

    pub(super) fn write(&self, pod_dir: &Path) -> io::Result<()> {
        let path = self.path(pod_dir);
        if let Some(dir) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
        }
        let text = serde_json::to_vec(self)?;
        file::write_atomic(&path, &text, 0o600, Durability::Process)
    }

    /// All of a pod. What cannot be read is left out: it was not written to its end, so nothing was
    /// mounted.
    pub(in crate::volume) fn all(pod_dir: &Path) -> Vec<Self> {
        let mut found = Vec::new();
        for plugin in below(&pod_dir.join("plugins")) {
            for volume in below(&plugin) {
                let Ok(text) = fs::read(volume.join(FILE)) else {
                    continue;
                };
                match serde_json::from_slice(&text) {
                    Ok(record) => found.push(record),
                    Err(error) => {
                        let path = volume.display();
                        tracing::warn!(%path, %error, "Cannot read what is known of a volume");
                    }
                }
            }
        }
        found
    }
}

/// The pod's own names of its persistent volumes, by the names of those.
pub(in crate::volume) fn names(pod_dir: &Path) -> BTreeMap<String, String> {
    let all = Record::all(pod_dir).into_iter();
    all.map(|record| (record.name, record.volume)).collect()
}

fn below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_again_and_half_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let record = |name: &str| Record {
            plugin: "kubernetes.io/local-volume".into(),
            name: name.into(),
            volume: format!("of-{name}"),
            published: None,
        };
        record("pv.1").write(dir.path()).unwrap();
        let later = Record {
            published: Some(Volume::default()),
            ..record("pv.2")
        };
        later.write(dir.path()).unwrap();
        let other = dir.path().join("plugins/kubernetes.io~empty-dir/e");
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("ready"), "").unwrap();
        let half = dir.path().join("plugins/kubernetes.io~local-volume/half");
        fs::create_dir_all(&half).unwrap();
        fs::write(half.join(FILE), "{\"plugin\":").unwrap();
        let mut all = Record::all(dir.path());
        all.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(all, [record("pv.1"), later]);
        assert_eq!(names(dir.path())["pv.2"], "of-pv.2");
        assert!(Record::all(&dir.path().join("none")).is_empty());
    }
}
