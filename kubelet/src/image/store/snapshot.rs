//! What one container sees of an image, and where its changes go.
//!
//! ```text
//! snapshots/<id>/snapshot.json     image, layers, id mapping
//! snapshots/<id>/{upper,work}      the changes
//! snapshots/<id>/rootfs            the mount
//! ```
//! A snapshot survives restarts of the kubelet. After a reboot only its mount is gone.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use super::{Error, Image, Index, LayerKey, Result, Store, at, recover};
use crate::image::layer;
use crate::image::reference::Digest;
use crate::sys::file::{self, Durability};
use crate::sys::mount::{self, Attributes, Overlay};
use crate::sys::open::{self, Bounds};
use crate::sys::userns::{self, IdMap};

/// What is kept of a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub id: String,
    pub image: Digest,
    pub(super) layers: Vec<LayerKey>,
    /// Owners as a user namespace sees them; empty without one.
    pub(super) ids: Vec<IdMap>,
    /// Cannot be changed: of an image volume.
    pub read_only: bool,
}

/// Image volumes are data: read-only, and no programs (KEP-4639).
const VIEW: Attributes = Attributes::READ_ONLY.and(Attributes::NO_EXEC);

impl Store {
    /// Mounts a root file system for a container and returns its path. `ids` are the mappings of
    /// the pod's user namespace, empty for `hostUsers: true`. Blocks.
    ///
    /// # Errors
    /// `Exists` if the id is taken.
    pub fn prepare(&self, id: &str, image: &Image, ids: &[IdMap]) -> Result<PathBuf> {
        self.make(id, image, ids, false)
    }

    /// Mounts an image as a read-only file system (an image volume) and returns its path. Blocks.
    pub fn view(&self, id: &str, image: &Image, ids: &[IdMap]) -> Result<PathBuf> {
        self.make(id, image, ids, true)
    }

    fn make(&self, id: &str, image: &Image, ids: &[IdMap], read_only: bool) -> Result<PathBuf> {
        let home = self.home(id)?;
        let record = Arc::new(Record {
            id: id.to_owned(),
            image: image.id.clone(),
            layers: image.layers.clone(),
            ids: ids.to_vec(),
            read_only,
        });
        {
            // From here on the layers stay.
            let mut index = self.index.lock();
            if index.snapshots.contains_key(id) {
                return Err(Error::Exists(id.to_owned()));
            }
            if index.image(&image.id).is_none() {
                return Err(Error::NoImage(image.id.to_string()));
            }
            index.snapshots.insert(id.to_owned(), record.clone());
        }
        self.write(&home, &record)
            .and_then(|()| self.mount(&record))
            .inspect_err(|_| {
                if let Err(error) = self.release(id) {
                    tracing::warn!(snapshot = id, %error, "cannot remove a half-made snapshot");
                }
            })
    }

    /// Mounts a snapshot again if its mount is gone, as after a reboot. Returns its path. Blocks.
    pub fn remount(&self, id: &str) -> Result<PathBuf> {
        let record = self.index.lock().snapshots.get(id).cloned();
        let record = record.ok_or_else(|| Error::NoImage(id.to_owned()))?;
        let rootfs = self.home(id)?.join("rootfs");
        if mount::is_mount_point(&rootfs)? {
            Ok(rootfs)
        } else {
            self.mount(&record)
        }
    }

    /// Unmounts and removes a snapshot, and layers that only it still used. One that is not there
    /// is no error. Blocks.
    pub fn release(&self, id: &str) -> Result<()> {
        let home = self.home(id)?;
        mount::unmount_under(&home)?;
        let grave = self.scratch_path();
        let buried = {
            let mut index = self.index.lock();
            let record = index.snapshots.remove(id);
            if home.exists() {
                fs::rename(&home, &grave).map_err(at("rename", &home))?;
            }
            match record {
                Some(record) => self.bury_unused(&index, &record.layers)?,
                None => Vec::new(),
            }
        };
        file::remove_all(&grave).map_err(at("remove", &grave))?;
        self.delete(buried)
    }

    /// All snapshots, for finding those whose container is gone.
    pub fn snapshots(&self) -> Vec<Arc<Record>> {
        self.index.lock().snapshots.values().cloned().collect()
    }

    /// Bytes and inodes of what a container changed. Blocks.
    pub fn snapshot_usage(&self, id: &str) -> Result<(u64, u64)> {
        let upper = self.home(id)?.join("upper");
        layer::usage(&upper).map_err(at("measure", &upper))
    }

    fn home(&self, id: &str) -> Result<PathBuf> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if id.is_empty() || id.len() > 200 || id.starts_with('.') || !id.bytes().all(allowed) {
            return Err(Error::Name(id.to_owned()));
        }
        Ok(self.path(&["snapshots", id]))
    }

    fn write(&self, home: &Path, record: &Record) -> Result<()> {
        for dir in ["upper", "work", "rootfs"] {
            let dir = home.join(dir);
            fs::create_dir_all(&dir).map_err(at("create", &dir))?;
        }
        fs::set_permissions(home, PermissionsExt::from_mode(0o711)).map_err(at("chmod", home))?;
        let path = home.join("snapshot.json");
        let json = serde_json::to_vec(record).map_err(|err| at("encode", &path)(err.into()))?;
        file::write_atomic(&path, &json, 0o600, Durability::Process).map_err(at("write", &path))
    }

    fn mount(&self, record: &Record) -> Result<PathBuf> {
        let home = self.home(&record.id)?;
        let mut lower: Vec<_> = record
            .layers
            .iter()
            .rev()
            .map(|l| self.layer_path(l))
            .collect();
        if lower.is_empty() {
            lower.push(self.path(&["layers", "empty", "fs"]));
        }
        let mapped = IdMapped::attach(&home, &mut lower, &record.ids)?;
        let (upper, work) = (home.join("upper"), home.join("work"));
        let rootfs = home.join("rootfs");
        match (record.read_only, lower.as_slice()) {
            // An overlay of one directory and nothing to write to is not one.
            (true, [only]) => mount::bind(only, &rootfs, VIEW)?,
            (true, _) => Overlay {
                lower: &lower,
                upper: None,
            }
            .mount(VIEW)?
            .attach(&rootfs)?,
            (false, _) => {
                like(&lower[0], &upper)?;
                Overlay {
                    lower: &lower,
                    upper: Some((&upper, &work)),
                }
                .mount(Attributes::NONE)?
                .attach(&rootfs)?;
            }
        }
        drop(mapped);
        Ok(rootfs)
    }
}

/// The root of an overlay is its upper directory: it has to look as the image's root does.
fn like(model: &Path, dir: &Path) -> Result<()> {
    let copy = || {
        let model = open::root(model)?;
        layer::describe(open::root(dir)?, &nix::sys::stat::fstat(&model)?)
    };
    copy().map_err(at("describe", dir))
}

/// Layers seen through a user namespace. They are attached only until the overlay has them: it
/// keeps mounts of its own. (An overlay cannot be id-mapped as a whole.)
struct IdMapped {
    dir: Option<PathBuf>,
}

impl IdMapped {
    fn attach(home: &Path, lower: &mut [PathBuf], ids: &[IdMap]) -> Result<Self> {
        if ids.is_empty() {
            return Ok(Self { dir: None });
        }
        let dir = home.join("mapped");
        let userns: OwnedFd = userns::create(ids, ids).map_err(at("map ids of", home))?;
        let this = Self {
            dir: Some(dir.clone()),
        };
        for (n, layer) in lower.iter_mut().enumerate() {
            let target = dir.join(n.to_string());
            fs::create_dir_all(&target).map_err(at("create", &target))?;
            mount::id_mapped(layer, userns.as_fd())?.attach(&target)?;
            *layer = target;
        }
        Ok(this)
    }
}

impl Drop for IdMapped {
    fn drop(&mut self) {
        let Some(dir) = &self.dir else { return };
        let gone = mount::unmount_under(dir).map(|()| fs::remove_dir_all(dir));
        if !matches!(gone, Ok(Ok(()))) {
            tracing::warn!(path = %dir.display(), "cannot take down id-mapped layers");
        }
    }
}

/// Reads the snapshots of an earlier process.
pub(super) fn load(store: &Store, index: &mut Index) -> Result<()> {
    for home in recover::list(&store.path(&["snapshots"]))? {
        let record = fs::read(home.join("snapshot.json")).ok();
        let record = record.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
        let whole = |r: &Record| {
            r.layers
                .iter()
                .all(|layer| store.layer_path(layer).is_dir())
        };
        match record.filter(whole) {
            Some(record) => drop(index.snapshots.insert(record.id.clone(), Arc::new(record))),
            None => {
                tracing::warn!(snapshot = %home.display(), "dropping a snapshot that is not whole");
                mount::unmount_under(&home)?;
                file::remove_all(&home).map_err(at("remove", &home))?;
            }
        }
    }
    Ok(())
}

/// Opens a file inside a mounted snapshot, following links inside it only.
pub fn open_inside(rootfs: &Path, path: &Path) -> std::io::Result<fs::File> {
    let root = open::root(rootfs)?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    open::within(root, path, Bounds::Root, flags).map(Into::into)
}
