//! Directories and devices of one node: upstream's `kubernetes.io/local-volume`.
//!
//! ```text
//! plugins/kubernetes.io/local-volume/mounts/<persistent volume>        the file system on a device
//! pods/<uid>/volumes/kubernetes.io~local-volume/<persistent volume>        what the pod sees of it
//! pods/<uid>/volumeDevices/kubernetes.io~local-volume/<persistent volume>  a link to a device
//! ```

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, symlink};
use std::path::{Component, Path, PathBuf};

use futures::FutureExt;
use k8s_openapi::api::core::v1::PersistentVolumeSpec;

use super::format;
use super::{Answer, Group, Plugin, Record, Site, blocking};
use crate::sys::mount::{self, Options};
use crate::volume::claim::Bound;
use crate::volume::{Volume, ownership};

pub(super) struct Local;

const NAME: &str = "kubernetes.io/local-volume";
const ESCAPED: &str = "kubernetes.io~local-volume";

/// The file system of devices for which nobody says another.
const FILE_SYSTEM: &str = "ext4";

impl Plugin for Local {
    fn name(&self) -> &'static str {
        NAME
    }

    fn supports(&self, spec: &PersistentVolumeSpec) -> bool {
        spec.local.is_some()
    }

    fn takes_mount_options(&self) -> bool {
        true
    }

    fn has_devices(&self) -> bool {
        true
    }

    fn look<'a>(&'a self, of: &'a Bound) -> Answer<'a, ()> {
        let local = Source::of(of);
        blocking(move || match local.block {
            true => Ok(()),
            false => kind(&local.path).map(drop),
        })
        .boxed()
    }

    fn stage<'a>(&'a self, of: &'a Bound, site: &'a Site<'_>) -> Answer<'a, ()> {
        let local = Source::of(of);
        let target = staged(site.root, &of.name);
        blocking(move || {
            if local.block {
                return Ok(());
            }
            match kind(&local.path)? {
                Kind::Directory => Ok(()),
                Kind::Device => mount_device(&local, &target),
            }
        })
        .boxed()
    }

    fn publish<'a>(&'a self, of: &'a Bound, site: &'a Site<'_>) -> Answer<'a, Volume> {
        let local = Source::of(of);
        let (name, group) = (of.name.clone(), site.group);
        let staged = staged(site.root, &name);
        let (pod_dir, shared) = (site.pod_dir.to_owned(), site.shared);
        blocking(move || {
            if local.block {
                return link(&local, &pod_dir.join("volumeDevices").join(ESCAPED), &name);
            }
            let source = match kind(&local.path)? {
                Kind::Directory => local.path.clone(),
                Kind::Device => staged,
            };
            let target = pod_dir.join("volumes").join(ESCAPED).join(&name);
            bind(&local, &source, &target, group.filter(|_| !shared))
        })
        .boxed()
    }

    fn warning(&self, of: &Bound, site: &Site<'_>) -> Option<(&'static str, String)> {
        let group = site.group.filter(|_| site.shared && !of.block)?.id;
        let path = Source::of(of).path;
        let owner = fs::metadata(path).ok()?.gid();
        let message = format!(
            "The requested fsGroup is {group}, but the volume {} has GID {owner}. The volume may \
             not be shareable.",
            of.name
        );
        (owner != group).then_some(("AlreadyMountedVolume", message))
    }

    fn unstage<'a>(&'a self, record: &'a Record, root: &'a Path) -> Answer<'a, ()> {
        let target = staged(root, &record.name);
        blocking(move || {
            let text = |err: io::Error| format!("remove {}: {err}", target.display());
            mount::unmount_under(&target).map_err(|err| err.to_string())?;
            match fs::remove_dir(&target) {
                Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other.map_err(text),
            }
        })
        .boxed()
    }

    fn staged(&self, root: &Path) -> Vec<String> {
        let entries = fs::read_dir(mounts(root)).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().into_string());
        names.filter_map(Result::ok).collect()
    }
}

fn mounts(root: &Path) -> PathBuf {
    root.join("plugins").join(NAME).join("mounts")
}

fn staged(root: &Path, name: &str) -> PathBuf {
    mounts(root).join(name)
}

/// What of a persistent volume counts here.
struct Source {
    path: PathBuf,
    file_system: String,
    block: bool,
    read_only: bool,
    options: Vec<String>,
}

impl Source {
    fn of(bound: &Bound) -> Self {
        let spec = bound.volume.spec.as_ref();
        let local = spec.and_then(|spec| spec.local.clone());
        let local = local.unwrap_or_default();
        Self {
            path: Path::new("/").join(local.path),
            file_system: local
                .fs_type
                .filter(|file_system| !file_system.is_empty())
                .unwrap_or_else(|| FILE_SYSTEM.to_owned()),
            block: bound.block,
            read_only: bound.read_only,
            options: bound.options.clone(),
        }
    }

    fn options(&self) -> Options {
        let read_only = self.read_only.then_some("ro");
        Options::parse(self.options.iter().map(String::as_str).chain(read_only))
    }
}

enum Kind {
    Directory,
    Device,
}

fn kind(path: &Path) -> Result<Kind, String> {
    if path.components().any(|part| part == Component::ParentDir) {
        let path = path.display();
        return Err(format!("invalid path: {path} must not contain '..'"));
    }
    let found = match fs::metadata(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            return Err(format!(
                "path {:?} does not exist",
                path.display().to_string()
            ));
        }
        other => other.map_err(|err| format!("{}: {err}", path.display()))?,
    };
    let kind = found.file_type();
    match () {
        () if kind.is_dir() => Ok(Kind::Directory),
        () if kind.is_block_device() => Ok(Kind::Device),
        () => Err("only directory and block device are supported".to_owned()),
    }
}

fn make_dir(path: &Path) -> Result<(), String> {
    let made = DirBuilder::new().recursive(true).mode(0o750).create(path);
    made.map_err(|err| format!("create {}: {err}", path.display()))
}

/// Mounts the file system of a device, making one if it has none.
fn mount_device(local: &Source, target: &Path) -> Result<(), String> {
    if mount::is_mount_point(target).map_err(|err| err.to_string())? {
        return Ok(());
    }
    make_dir(target)?;
    let mounted = format::mount(&local.path, target, &local.file_system, &local.options());
    mounted.map_err(|err| {
        let _ = fs::remove_dir(target);
        format!(
            "local: failed to mount device {} at {} (fstype: {}), error {err}",
            local.path.display(),
            target.display(),
            local.file_system
        )
    })
}

/// Shows a directory to a pod. The first pod's group owns it.
fn bind(
    local: &Source,
    source: &Path,
    target: &Path,
    group: Option<Group>,
) -> Result<Volume, String> {
    let volume = Volume {
        path: target.to_owned(),
        read_only: local.read_only,
        ..Volume::default()
    };
    if mount::is_mount_point(target).map_err(|err| err.to_string())? {
        return Ok(volume);
    }
    make_dir(target)?;
    let options = local.options();
    if let Some((key, _)) = options.own.first() {
        return Err(format!(
            "mount option {key:?} means nothing to a bind mount"
        ));
    }
    let tree = mount::clone_tree(source, false).and_then(|tree| tree.with(options.attributes));
    let attached = tree.and_then(|tree| tree.attach(target));
    attached.map_err(|err| err.to_string())?;
    if let Some(group) = group.filter(|_| !local.read_only) {
        let given = ownership::give_as_asked(target, group.id, false, group.on_root_mismatch);
        given.map_err(|err| format!("give {} to fsGroup: {err}", target.display()))?;
    }
    Ok(volume)
}

/// Where a pod's containers find a device.
fn link(local: &Source, dir: &Path, name: &str) -> Result<Volume, String> {
    let device = fs::canonicalize(&local.path);
    let device = device.map_err(|err| format!("{}: {err}", local.path.display()))?;
    if !matches!(kind(&device)?, Kind::Device) {
        return Err(format!("{} is no block device", device.display()));
    }
    make_dir(dir)?;
    let link = dir.join(name);
    if fs::read_link(&link).ok().as_ref() != Some(&device) {
        let made = match fs::remove_file(&link) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
            _ => symlink(&device, &link),
        };
        made.map_err(|err| format!("link {}: {err}", link.display()))?;
    }
    Ok(Volume {
        path: link,
        read_only: local.read_only,
        device: true,
        ..Volume::default()
    })
}
