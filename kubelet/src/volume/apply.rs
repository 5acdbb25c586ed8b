//! Makes the planned volumes and takes them away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, VolumeMount};

use super::atomic::{self, Payload};
use super::collect::Collector;
use super::plan::{Files, Medium, Planned, Source, plan};
use super::{CleanupError, Failure, PodVolumes, Volume, Volumes, host_path, is_uid, ownership};
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
    Image,
}

pub(super) async fn set_up(volumes: &Volumes, pod: &Pod) -> Result<PodVolumes, Vec<Failure>> {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let fail = |volume: &str, cause: String| Failure {
        volume: volume.to_owned(),
        cause,
    };
    if !is_uid(&uid) {
        return Err(vec![fail(
            "",
            format!("{uid:?} cannot name a pod's directory"),
        )]);
    }
    let fs_group = ownership::fs_group(pod);
    let collector = Collector {
        pod,
        objects: volumes.objects.as_ref(),
        allocatable: &volumes.allocatable,
        fs_user: ownership::fs_user(pod),
        fs_group,
    };
    let planned = plan(pod, &volumes.allocatable).into_iter();
    let ready = join_all(planned.map(|(name, planned)| {
        let collector = &collector;
        async move {
            let what = match planned {
                Ok(planned) => read(collector, pod, planned).await,
                Err(err) => Err(err.to_string()),
            };
            Ready { name, what }
        }
    }));
    let ready = ready.await;
    let dir = volumes.pod_dir(&uid);
    let done = tokio::task::spawn_blocking(move || make_all(&dir, ready, fs_group));
    done.await
        .unwrap_or_else(|_| Err(vec![fail("", "volumes were interrupted".into())]))
}

async fn read(collector: &Collector<'_>, pod: &Pod, planned: Planned) -> Result<What, String> {
    Ok(match planned.source {
        Source::EmptyDir(medium) => What::EmptyDir(medium),
        Source::HostPath { path, kind } => What::HostPath { path, kind },
        Source::Image { .. } => What::Image,
        Source::Files(files) => {
            let payload = collector.collect(&files).await?;
            let nested = nested_mount_points(pod, &planned.name).map_err(|err| err.to_string())?;
            What::Files {
                files,
                payload,
                nested,
            }
        }
    })
}

fn make_all(
    dir: &Path,
    ready: Vec<Ready>,
    fs_group: Option<u32>,
) -> Result<PodVolumes, Vec<Failure>> {
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
            Err(err) => failures.push(Failure {
                volume: name,
                cause: err.to_string(),
            }),
        }
    }
    if failures.is_empty() {
        Ok(made)
    } else {
        Err(failures)
    }
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
                        read_only: false,
                    },
                    false,
                )))
            }
            What::HostPath { path, kind } => {
                host_path::check(&path, &kind)?;
                Ok(Some((
                    Volume {
                        path: path.into(),
                        read_only: false,
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
                    },
                    changed,
                )))
            }
            What::Image => Ok(None),
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
const PARTS: [&str; 3] = ["volume-subpaths", "volumes", "plugins"];

pub(super) fn tear_down(dir: &Path) -> Result<(), CleanupError> {
    for part in PARTS {
        let path = dir.join(part);
        mount::unmount_under(&path)?;
        remove(&path)?;
    }
    Ok(())
}

pub(super) fn remove_pod_dir(dir: &Path) -> Result<(), CleanupError> {
    tear_down(dir)?;
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
