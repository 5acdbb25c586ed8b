//! Persistent volumes: made usable on the node, then for each pod, and given back in reverse.
//!
//! Owns: which pods of this node use which persistent volume. It is written down per pod
//! ([`record`]) before anything is mounted, so a kubelet that starts anew knows it too.
//!
//! What a source of volumes needs is a [`Plugin`]; [`PLUGINS`] lists them. Mounts and links below a
//! pod's directory are taken away by whoever takes the directory away; a plugin has to undo only what
//! it did elsewhere.
//!
//! Sources: `pkg/volume/util/operationexecutor`, `pkg/kubelet/volumemanager`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::PersistentVolumeSpec;
use parking_lot::Mutex;

mod format;
mod host_path;
mod local;
mod record;

use super::claim::Bound;
use super::failure::{SET_UP, Step};
use super::{Failure, Volume};
use crate::node::selector;
use crate::sys::mount;
pub(super) use record::{Record, names};

/// The answer of a plugin; an error is what the pod's event tells.
type Answer<'a, T> = BoxFuture<'a, Result<T, String>>;

/// Where a volume is wanted.
struct Site<'a> {
    /// `/var/lib/kubelet`
    root: &'a Path,
    pod_dir: &'a Path,
    /// Another pod of this node has the volume already.
    shared: bool,
    group: Option<Group>,
}

/// A pod's `fsGroup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) id: u32,
    /// `fsGroupChangePolicy: OnRootMismatch`
    pub(super) on_root_mismatch: bool,
}

/// A source of persistent volumes. For one volume nothing is called twice at once; what succeeded is
/// called again, and then finds it done.
trait Plugin: Send + Sync {
    /// Upstream's name.
    fn name(&self) -> &'static str;

    fn supports(&self, spec: &PersistentVolumeSpec) -> bool;

    fn takes_mount_options(&self) -> bool {
        false
    }

    /// Whether a volume can be a device (`volumeMode: Block`).
    fn has_devices(&self) -> bool {
        false
    }

    /// Looks whether there is something that can be a volume.
    fn look<'a>(&'a self, of: &'a Bound) -> Answer<'a, ()> {
        let _ = of;
        async { Ok(()) }.boxed()
    }

    /// Makes the volume usable on this node, once for all of its pods.
    fn stage<'a>(&'a self, of: &'a Bound, site: &'a Site<'_>) -> Answer<'a, ()> {
        let _ = (of, site);
        async { Ok(()) }.boxed()
    }

    /// Makes it usable for one pod.
    fn publish<'a>(&'a self, of: &'a Bound, site: &'a Site<'_>) -> Answer<'a, Volume>;

    /// Something to tell people when a pod gets the volume: a reason and a message.
    fn warning(&self, of: &Bound, site: &Site<'_>) -> Option<(&'static str, String)> {
        let _ = (of, site);
        None
    }

    /// Whether what was published is there still.
    fn is_published(&self, volume: &Volume) -> bool {
        !volume.device && mount::is_mount_point(&volume.path).unwrap_or(false)
    }

    /// Undoes [`publish`](Self::publish), as far as it is not below the pod's directory. The pod's
    /// containers have ended.
    fn unpublish<'a>(&'a self, record: &'a Record, pod_dir: &'a Path) -> Answer<'a, ()> {
        let _ = (record, pod_dir);
        async { Ok(()) }.boxed()
    }

    /// Undoes [`stage`](Self::stage), after the last pod.
    fn unstage<'a>(&'a self, record: &'a Record, root: &'a Path) -> Answer<'a, ()> {
        let _ = (record, root);
        async { Ok(()) }.boxed()
    }

    /// Volumes that are staged, as far as it can be seen.
    fn staged(&self, root: &Path) -> Vec<String> {
        let _ = root;
        Vec::new()
    }
}

/// All that this kubelet has.
const PLUGINS: &[&dyn Plugin] = &[&host_path::HostPath, &local::Local];

fn named(name: &str) -> Option<&'static dyn Plugin> {
    let mut all = PLUGINS.iter().copied();
    all.find(|plugin| plugin.name() == name)
}

/// A plugin's name as a directory: `kubernetes.io~local-volume`.
fn escaped(plugin: &str) -> String {
    plugin.replace('/', "~")
}

/// A pod and what of it counts for its volumes.
pub(super) struct PodSite<'a> {
    pub(super) uid: &'a str,
    pub(super) dir: &'a Path,
    pub(super) group: Option<Group>,
    /// Of the node.
    pub(super) labels: &'a BTreeMap<String, String>,
}

/// What a pod got.
pub(super) struct Got {
    pub(super) volume: Volume,
    /// A reason and a message for the pod's events.
    pub(super) warning: Option<(&'static str, String)>,
}

/// The steps' names in upstream's events, for file systems and for devices.
struct Steps {
    affinity: Step,
    look: Step,
    device: Step,
    set_up: Step,
}

const MOUNT: Steps = Steps {
    affinity: Step::mount("MountVolume.NodeAffinity check failed"),
    look: Step::mount("MountVolume.NewMounter initialization failed"),
    device: Step::mount("MountVolume.MountDevice failed"),
    set_up: SET_UP,
};
const MAP: Steps = Steps {
    // Upstream tells this one as if it were mounted.
    affinity: Step::mount("MapVolume.NodeAffinity check failed"),
    look: Step::map("MapVolume.NewBlockVolumeMapper initialization failed"),
    device: Step::map("MapVolume.SetUpDevice failed"),
    set_up: Step::map("MapVolume.MapPodDevice failed"),
};
const OPTIONS: Step = Step::mount("MountVolume.MountOptionSupport check failed");
const NO_MAPPER: Step = Step::map("MapVolume.FindMapperPluginBySpec failed");

/// The persistent volumes of a node.
pub(super) struct Persistent {
    root: PathBuf,
    /// Uids of pods, by persistent volume.
    uses: Mutex<BTreeMap<String, BTreeSet<String>>>,
    /// Held while something is done with a persistent volume.
    locks: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Persistent {
    /// Reads what the pods of a kubelet before have.
    pub(super) fn open(root: &Path) -> Self {
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let pods = std::fs::read_dir(root.join("pods"));
        for pod in pods.into_iter().flatten().flatten() {
            let Ok(uid) = pod.file_name().into_string() else {
                continue;
            };
            for record in Record::all(&pod.path()) {
                uses.entry(record.name).or_default().insert(uid.clone());
            }
        }
        Self {
            root: root.to_owned(),
            uses: Mutex::new(uses),
            locks: Mutex::default(),
        }
    }

    async fn lock(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock();
            // Those that nobody holds or waits for are no more than names.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(name.to_owned()).or_default())
        };
        lock.lock_owned().await
    }

    /// What a pod has of a volume already, for when nobody can say what it should have.
    pub(super) fn known(&self, pod_dir: &Path, in_pod: &str) -> Option<Volume> {
        let mut records = Record::all(pod_dir).into_iter();
        let record = records.find(|record| record.volume == in_pod)?;
        let volume = record.published?;
        named(&record.plugin)?
            .is_published(&volume)
            .then_some(volume)
    }

    /// Makes a volume usable for a pod, which calls it `in_pod`.
    pub(super) async fn set_up(
        &self,
        pod: &PodSite<'_>,
        in_pod: &str,
        of: &Bound,
    ) -> Result<Got, Failure> {
        let name = &of.name;
        let step = |step, cause: String| Failure::Step {
            volume: in_pod.to_owned(),
            name: name.clone(),
            step,
            cause,
        };
        let steps = if of.block { &MAP } else { &MOUNT };
        let plugin = plugin(of).ok_or_else(|| Failure::Unprocessed {
            volume: in_pod.to_owned(),
            cause: format!(
                "failed to get Plugin from volumeSpec for volume {name:?} err=no volume plugin \
                 matched"
            ),
        })?;
        if of.block && !plugin.has_devices() {
            let cause = "no block volume plugin matched".to_owned();
            return Err(step(NO_MAPPER, cause));
        }
        if !matches_node(of, pod.labels) {
            let cause = "no matching NodeSelectorTerms".to_owned();
            return Err(step(steps.affinity, cause));
        }
        let found = plugin.look(of).await;
        found.map_err(|cause| step(steps.look, cause))?;
        if !of.block && !of.options.is_empty() && !plugin.takes_mount_options() {
            let cause = "mount options are not supported for this volume type".to_owned();
            return Err(step(OPTIONS, cause));
        }
        let _lock = self.lock(name).await;
        let shared = self.is_used_but(name, pod.uid);
        if shared && of.one_pod {
            let cause = "volume uses the ReadWriteOncePod access mode and is already in use by \
                         another pod";
            let step_of = if of.block { steps.device } else { steps.set_up };
            return Err(step(step_of, cause.to_owned()));
        }
        let site = Site {
            root: &self.root,
            pod_dir: pod.dir,
            shared,
            group: pod.group,
        };
        let mut record = Record {
            plugin: plugin.name().to_owned(),
            name: name.clone(),
            volume: in_pod.to_owned(),
            published: None,
        };
        let is_new = self.known(pod.dir, in_pod).is_none();
        if is_new {
            self.note(pod, &record)
                .await
                .map_err(|cause| step(steps.set_up, cause))?;
        }
        let staged = plugin.stage(of, &site).await;
        staged.map_err(|cause| step(steps.device, cause))?;
        let warning = plugin.warning(of, &site).filter(|_| is_new);
        let published = plugin.publish(of, &site).await;
        let mut volume = published.map_err(|cause| step(steps.set_up, cause))?;
        volume.group = of.group;
        record.published = Some(volume.clone());
        self.note(pod, &record)
            .await
            .map_err(|cause| step(steps.set_up, cause))?;
        Ok(Got { volume, warning })
    }

    /// Writes down that a pod has a volume.
    async fn note(&self, pod: &PodSite<'_>, record: &Record) -> Result<(), String> {
        {
            let mut uses = self.uses.lock();
            let pods = uses.entry(record.name.clone()).or_default();
            pods.insert(pod.uid.to_owned());
        }
        let (record, dir) = (record.clone(), pod.dir.to_owned());
        blocking(move || {
            let written = record.write(&dir);
            written.map_err(|err| format!("write down volume {:?}: {err}", record.name))
        })
        .await
    }

    fn is_used_but(&self, name: &str, uid: &str) -> bool {
        let uses = self.uses.lock();
        let mut pods = uses.get(name).into_iter().flatten();
        pods.any(|pod| pod != uid)
    }

    /// Before a pod's directory goes: undoes what plugins did elsewhere for the pod. Returns what has
    /// to be given back after it.
    pub(super) async fn unpublish(&self, pod_dir: &Path) -> Result<Vec<Record>, String> {
        let dir = pod_dir.to_owned();
        let records = blocking(move || Ok(Record::all(&dir))).await?;
        for record in &records {
            let _lock = self.lock(&record.name).await;
            if let Some(plugin) = named(&record.plugin) {
                let undone = plugin.unpublish(record, pod_dir).await;
                undone.map_err(|cause| told("UnmountVolume.TearDown failed", record, &cause))?;
            }
        }
        Ok(records)
    }

    /// The pod has these no longer: those that no other pod has are given back by the node.
    pub(super) async fn give_back(&self, uid: &str, records: &[Record]) -> Result<(), String> {
        for record in records {
            let _lock = self.lock(&record.name).await;
            if !self.is_used_but(&record.name, uid)
                && let Some(plugin) = named(&record.plugin)
            {
                let undone = plugin.unstage(record, &self.root).await;
                undone.map_err(|cause| told("UnmountDevice failed", record, &cause))?;
            }
            self.forget(&record.name, uid);
        }
        Ok(())
    }

    fn forget(&self, name: &str, uid: &str) {
        let mut uses = self.uses.lock();
        if let Some(pods) = uses.get_mut(name) {
            pods.remove(uid);
            if pods.is_empty() {
                uses.remove(name);
            }
        }
    }

    /// Gives back what a kubelet before left staged for no pod.
    pub(super) async fn sweep(&self) {
        for plugin in PLUGINS {
            for name in plugin.staged(&self.root) {
                let _lock = self.lock(&name).await;
                if self.is_used_but(&name, "") {
                    continue;
                }
                let record = Record {
                    plugin: plugin.name().to_owned(),
                    name,
                    volume: String::new(),
                    published: None,
                };
                if let Err(error) = plugin.unstage(&record, &self.root).await {
                    tracing::warn!(volume = record.name, error, "Cannot unmount a device");
                }
            }
        }
    }
}

fn told(step: &str, record: &Record, cause: &str) -> String {
    format!("{step} for volume {:?} : {cause}", record.name)
}

fn plugin(of: &Bound) -> Option<&'static dyn Plugin> {
    let spec = of.volume.spec.as_ref()?;
    PLUGINS.iter().copied().find(|plugin| plugin.supports(spec))
}

fn matches_node(of: &Bound, labels: &BTreeMap<String, String>) -> bool {
    let spec = of.volume.spec.as_ref();
    let affinity = spec.and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    // Nodes have labels only here: upstream compares with nothing else either.
    required.is_none_or(|required| selector::matches(&required.node_selector_terms, "", labels))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err("volumes were interrupted".to_owned()))
}
