//! Makes the planned volumes and takes them away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, VolumeMount};

use super::atomic::{self, Payload};
use super::claim::{self, Bound, Claimed};
use super::collect::Collector;
use super::persistent::{Got, PodSite};
use super::plan::{Files, Medium, Planned, Source, plan};
use super::{
    CleanupError, Failure, ObjectError, PodVolumes, Volume, Volumes, host_path, is_uid, ownership,
};
use crate::sys::file;
use crate::sys::mount::{self, Attributes, Tmpfs};

const EMPTY_DIR: &str = "kubernetes.io~empty-dir";

/// Why one volume is not there.
#[derive(thiserror::Error, Debug)]
enum Error {
    #[error("{doing} {path}: {source}", path = path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    Mount(#[from] mount::Error),
    #[error(transparent)]
    HostPath(#[from] host_path::Error),
    #[error(transparent)]
    Write(#[from] atomic::Error),
    #[error("invalid container mount point {0}")]
    MountPoint(String),
    #[error("{0}")]
    Text(String),
}

fn at<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// A planned volume with everything that was read for it.
struct Ready {
    name: String,
    what: Result<What, String>,
}

enum What {
    EmptyDir(Medium),
    HostPath {
        path: String,
        kind: String,
    },
    Files {
        files: Files,
        payload: Payload,
        nested: Vec<PathBuf>,
    },
    /// Made by others: images, persistent volumes.
    Elsewhere,
}

pub(super) async fn set_up(volumes: &Volumes, pod: &Pod) -> Result<PodVolumes, Vec<Failure>> {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    if !is_uid(&uid) {
        let cause = format!("{uid:?} cannot name a pod's directory");
        return Err(vec![Failure::set_up("", cause)]);
    }
    let fs_group = ownership::fs_group(pod);
    let collector = Collector {
        pod,
        objects: volumes.objects.as_ref(),
        allocatable: &volumes.allocatable,
        fs_user: ownership::fs_user(pod),
        fs_group,
    };
    let (mut claims, mut others) = (Vec::new(), Vec::new());
    for (name, planned) in plan(pod, &volumes.allocatable) {
        match planned {
            Ok(Planned {
                source: Source::Claim(claimed),
                ..
            }) => claims.push((name, claimed)),
            planned => others.push((name, planned)),
        }
    }
    let ready = join_all(others.into_iter().map(|(name, planned)| {
        let collector = &collector;
        async move {
            let what = match planned {
                Ok(planned) => read(collector, pod, planned).await,
                Err(err) => Err(err.to_string()),
            };
            Ready { name, what }
        }
    }));
    let dir = volumes.pod_dir(&uid);
    let labels = (volumes.labels)();
    let site = PodSite {
        uid: &uid,
        dir: &dir,
        group: ownership::group(pod),
        labels: &labels,
    };
    let persistent = claims.iter().map(|(name, claimed)| {
        let site = &site;
        async move { (name, persistent(volumes, pod, site, name, claimed).await) }
    });
    let (ready, persistent) = futures::future::join(ready, join_all(persistent)).await;
    let own = dir.clone();
    let done = tokio::task::spawn_blocking(move || make_all(&own, ready, fs_group));
    let (mut made, mut failures) = done.await.unwrap_or_else(|_| {
        let interrupted = Failure::set_up("", "volumes were interrupted");
        (PodVolumes::default(), vec![interrupted])
    });
    for (name, got) in persistent {
        match got {
            Ok(Got { volume, warning }) => {
                made.warnings.extend(warning);
                made.volumes.insert(name.clone(), volume);
            }
            Err(failure) => failures.push(failure),
        }
    }
    if failures.is_empty() {
        Ok(made)
    } else {
        Err(failures)
    }
}

/// The volume that a claim is bound to, for this pod.
async fn persistent(
    volumes: &Volumes,
    pod: &Pod,
    site: &PodSite<'_>,
    name: &str,
    claimed: &Claimed,
) -> Result<Got, Failure> {
    match bound(volumes, pod, name, claimed).await {
        Ok(bound) => volumes.persistent.set_up(site, name, &bound).await,
        Err(unbound) => {
            // What the pod has is good while nobody can be asked.
            let known = unbound.is_unknown.then(|| {
                let known = volumes.persistent.known(site.dir, name)?;
                Some(Got {
                    volume: known,
                    warning: None,
                })
            });
            known.flatten().ok_or_else(|| Failure::Unprocessed {
                volume: name.to_owned(),
                cause: unbound.cause,
            })
        }
    }
}

/// Why it cannot be said which volume a claim is bound to.
struct Unbound {
    /// The API server could not be asked.
    is_unknown: bool,
    cause: String,
}

async fn bound(
    volumes: &Volumes,
    pod: &Pod,
    name: &str,
    claimed: &Claimed,
) -> Result<Bound, Unbound> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let in_words = |cause: &dyn std::fmt::Display| {
        format!(
            "error processing PVC {namespace}/{}: {cause}",
            claimed.claim
        )
    };
    let processing = |cause: &dyn std::fmt::Display| Unbound {
        is_unknown: false,
        cause: in_words(cause),
    };
    let unread = |what: &str, err: &ObjectError| Unbound {
        is_unknown: matches!(err, ObjectError::Failed(_)),
        cause: in_words(&format!("failed to fetch {what} from API server: {err}")),
    };
    let claim = volumes.objects.claim(namespace, &claimed.claim).await;
    let claim = claim.map_err(|err| unread("PVC", &err))?;
    let volume_name = claim::volume_of(&claim).map_err(|err| processing(&err))?;
    if claimed.ephemeral && !claim::is_of(pod, &claim) {
        let pod = pod.metadata.name.as_deref().unwrap_or_default();
        return Err(Unbound {
            is_unknown: false,
            cause: format!(
                "PVC {namespace}/{} was not created for pod {namespace}/{pod} (pod is not owner)",
                claimed.claim
            ),
        });
    }
    let volume = volumes.objects.persistent_volume(volume_name).await;
    let volume = volume.map_err(|err| unread(&format!("PV {volume_name}"), &err))?;
    claim::check(&volume, &claim).map_err(|err| processing(&err))?;
    Bound::new(&volume, claimed, name).map_err(|cause| Unbound {
        is_unknown: false,
        cause,
    })
}

async fn read(collector: &Collector<'_>, pod: &Pod, planned: Planned) -> Result<What, String> {
    Ok(match planned.source {
        Source::EmptyDir(medium) => What::EmptyDir(medium),
        Source::HostPath { path, kind } => What::HostPath { path, kind },
        Source::Image { .. } | Source::Claim(_) => What::Elsewhere,
        Source::Files(files) => {
            let payload = collector.collect(&planned.name, &files).await?;
            let nested = nested_mount_points(pod, &planned.name).map_err(|err| err.to_string())?;
            What::Files {
                files,
                payload,
                nested,
            }
        }
    })
}

fn make_all(dir: &Path, ready: Vec<Ready>, fs_group: Option<u32>) -> (PodVolumes, Vec<Failure>) {
    let mut made = PodVolumes::default();
    let mut failures = Vec::new();
    for Ready { name, what } in ready {
        let maker = Maker {
            dir,
            name: &name,
            fs_group,
        };
        let volume = what.map_err(Error::Text).and_then(|what| maker.make(what));
        match volume {
            Ok(None) => {}
            Ok(Some((volume, changed))) => {
                made.changed |= changed;
                made.volumes.insert(name, volume);
            }
            Err(err) => failures.push(Failure::set_up(&name, err.to_string())),
        }
    }
    (made, failures)
}

/// Makes one volume.
struct Maker<'a> {
    /// The pod's directory.
    dir: &'a Path,
    name: &'a str,
    fs_group: Option<u32>,
}

impl Maker<'_> {
    fn make(&self, what: What) -> Result<Option<(Volume, bool)>, Error> {
        // Names of volumes are DNS labels, which the API server checked; files of static pods did
        // not pass there.
        if !is_uid(self.name) {
            return Err(Error::Text(format!("invalid volume name {:?}", self.name)));
        }
        match what {
            What::EmptyDir(medium) => {
                let path = self.empty_dir(medium)?;
                Ok(Some((
                    Volume {
                        path,
                        ..Volume::default()
                    },
                    false,
                )))
            }
            What::HostPath { path, kind } => {
                host_path::check(&path, &kind)?;
                Ok(Some((
                    Volume {
                        path: path.into(),
                        ..Volume::default()
                    },
                    false,
                )))
            }
            What::Files {
                files,
                payload,
                nested,
            } => {
                let (path, changed) = self.files(&files, &payload, &nested)?;
                Ok(Some((
                    Volume {
                        path,
                        read_only: true,
                        ..Volume::default()
                    },
                    changed,
                )))
            }
            What::Elsewhere => Ok(None),
        }
    }

    fn empty_dir(&self, medium: Medium) -> Result<PathBuf, Error> {
        let path = self.directory(EMPTY_DIR)?;
        let mark = self
            .dir
            .join("plugins")
            .join(EMPTY_DIR)
            .join(self.name)
            .join("ready");
        match medium {
            // Set up before, it belongs to the pod: its modes are not ours any more.
            Medium::Disk if mark.exists() => return Ok(path),
            Medium::Disk => {}
            Medium::Memory { .. } | Medium::HugePages { .. } if mount::is_mount_point(&path)? => {
                return Ok(path);
            }
            Medium::Memory { size } => {
                let tmpfs = Tmpfs {
                    size,
                    mode: None,
                    no_swap: true,
                };
                tmpfs.mount(Attributes::NONE)?.attach(&path)?;
            }
            Medium::HugePages { page_size } => mount::hugetlbfs(page_size)?.attach(&path)?,
        }
        self.give_to_group(&path, false)
            .map_err(at("give to fsGroup", &path))?;
        if let Some(parent) = mark.parent() {
            fs::create_dir_all(parent).map_err(at("create", parent))?;
        }
        fs::write(&mark, "").map_err(at("write", &mark))?;
        Ok(path)
    }

    fn files(
        &self,
        files: &Files,
        payload: &Payload,
        nested: &[PathBuf],
    ) -> Result<(PathBuf, bool), Error> {
        let path = self.directory(files.plugin)?;
        if files.in_memory && !mount::is_mount_point(&path)? {
            let tmpfs = Tmpfs {
                size: None,
                mode: None,
                no_swap: true,
            };
            tmpfs.mount(Attributes::NONE)?.attach(&path)?;
        }
        for dir in nested {
            let dir = path.join(dir);
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&dir)
                .map_err(at("create", &dir))?;
        }
        let changed = atomic::write(&path, payload, |dir| self.give_to_group(dir, true))?;
        Ok((path, changed))
    }

    /// The volume's directory, open to everybody: who may use it is decided by who gets it mounted.
    fn directory(&self, plugin: &str) -> Result<PathBuf, Error> {
        let parent = self.dir.join("volumes").join(plugin);
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(&parent)
            .map_err(at("create", &parent))?;
        let path = parent.join(self.name);
        match fs::create_dir(&path) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => return Ok(path),
            other => other.map_err(at("create", &path))?,
        }
        fs::set_permissions(&path, Permissions::from_mode(0o777)).map_err(at("chmod", &path))?;
        Ok(path)
    }

    fn give_to_group(&self, path: &Path, read_only: bool) -> io::Result<()> {
        match self.fs_group {
            Some(group) => ownership::give_to_group(path, group, read_only),
            None => Ok(()),
        }
    }
}

/// Directories that other mounts of the same containers need inside this volume, which the runtime
/// could not make in a read-only one. Relative to the volume.
fn nested_mount_points(pod: &Pod, volume: &str) -> Result<Vec<PathBuf>, Error> {
    let Some(spec) = &pod.spec else {
        return Ok(Vec::new());
    };
    let containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let mut lists: Vec<&[VolumeMount]> = containers
        .filter_map(|container| container.volume_mounts.as_deref())
        .collect();
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    lists.extend(ephemeral.filter_map(|container| container.volume_mounts.as_deref()));
    let mut found = BTreeSet::new();
    for mounts in lists {
        let paths: BTreeMap<PathBuf, bool> = mounts
            .iter()
            .map(|mount| Ok((normal(&mount.mount_path)?, mount.name == volume)))
            .collect::<Result<_, Error>>()?;
        for (own, _) in paths.iter().filter(|(_, is_own)| **is_own) {
            let below = paths
                .keys()
                .filter(|path| *path != own && path.starts_with(own));
            let below: Vec<_> = below.collect();
            // What is nested in something nested is that one's concern.
            let direct = |path: &&&PathBuf| {
                !below
                    .iter()
                    .any(|other| *other != **path && path.starts_with(other))
            };
            found.extend(
                below
                    .iter()
                    .filter(direct)
                    .filter_map(|path| path.strip_prefix(own).ok().map(Path::to_owned)),
            );
        }
    }
    Ok(found.into_iter().collect())
}

fn normal(path: &str) -> Result<PathBuf, Error> {
    let mut normal = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => return Err(Error::MountPoint(path.to_owned())),
            _ => {}
        }
    }
    Ok(normal)
}

/// Subpaths first: they are views into the volumes.
const PARTS: [&str; 3] = ["volume-subpaths", "volumes", "volumeDevices"];

/// Unmounts and removes the volumes. What is known of them stays.
pub(super) fn tear_down(dir: &Path) -> Result<(), CleanupError> {
    for part in PARTS {
        let path = dir.join(part);
        mount::unmount_under(&path)?;
        remove(&path)?;
    }
    Ok(())
}

/// Removes what is known of a pod's volumes.
pub(super) fn forget(dir: &Path) -> Result<(), CleanupError> {
    let path = dir.join("plugins");
    mount::unmount_under(&path)?;
    remove(&path)
}

/// Removes the directory of a pod whose volumes are gone.
pub(super) fn remove_pod_dir(dir: &Path) -> Result<(), CleanupError> {
    mount::unmount_under(dir)?;
    remove(dir)
}

fn remove(path: &Path) -> Result<(), CleanupError> {
    file::remove_all(path).map_err(|source| CleanupError::Io {
        doing: "remove",
        path: path.to_owned(),
        source,
    })
}
