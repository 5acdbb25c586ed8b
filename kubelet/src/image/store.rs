//! Images on disk.
//!
//! ```text
//! <root>/content/ingest/<hex>          layers being downloaded
//! <root>/layers/<key>/fs               a layer, unpacked once, shared by all images that have it
//! <root>/layers/<key>/{layer.json,synced}
//! <root>/images/<hex>.json             one image: names, layers, configuration
//! <root>/snapshots/<id>/               what one container sees and changes, see `snapshot`
//! <root>/trash/                        what is being deleted
//! ```
//!
//! Invariants:
//! - A name appears by rename, complete, and disappears by rename.
//! - A layer goes only if no image, no snapshot and no pull in progress uses it.
//! - Layers are not synced before they are used: a layer without `synced` is trusted only in the
//!   boot in which it was written, so that a power failure costs a download and never a damaged
//!   file.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::access::Accesses;
use super::layer::{self, Unpacked};
use super::manifest::ImageConfig;
use super::reference::{Digest, Reference};
use crate::sys::file::{self, Durability};
use crate::sys::mount;

mod index;
mod recover;
pub mod snapshot;

use index::Index;

/// What went wrong with the store's files.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("image store: {doing} {path}: {source}", path = path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("image {0} is not here")]
    NoImage(String),
    #[error("image {0} is in use")]
    InUse(Digest),
    #[error("content is {found}, expected {expected}")]
    Digest { expected: Digest, found: Digest },
    #[error("{0:?} cannot name a snapshot")]
    Name(String),
    #[error("snapshot {0} is there already")]
    Exists(String),
    #[error(transparent)]
    Mount(#[from] mount::Error),
    #[error(transparent)]
    Layer(#[from] layer::Error),
}

type Result<T> = std::result::Result<T, Error>;

fn at<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// What is left of an interrupted pull is kept this long for the next try.
const LEFTOVERS: Duration = Duration::from_secs(24 * 60 * 60);

/// The directory of a layer. Content alone decides it, unless the layer has files in directories
/// that it does not describe: those look as in the layers below, so then the whole stack decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LayerKey(String);

impl LayerKey {
    fn of_content(diff_id: &Digest) -> Self {
        Self(diff_id.hex().to_owned())
    }

    fn of_stack(diff_ids: &[Digest]) -> Option<Self> {
        Some(Self(format!("stack-{}", layer::chain_id(diff_ids)?.hex())))
    }
}

/// An image that this node has.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// The digest of its configuration.
    pub id: Digest,
    /// `docker.io/library/busybox:latest`, ...
    pub tags: BTreeSet<String>,
    /// `docker.io/library/busybox@sha256:...`, as they were pulled: of an index, if it was one.
    pub digests: BTreeSet<String>,
    /// The lowest first.
    pub layers: Vec<LayerKey>,
    /// Disk space of the layers in bytes; shared ones count in each image.
    pub size: u64,
    /// Never collected as garbage.
    pub pinned: bool,
    /// As whom it was pulled; empty if it was not.
    #[serde(default)]
    pub access: Accesses,
    pub config: ImageConfig,
}

impl Image {
    /// What `status.containerStatuses[].imageID` shows: a name by digest that any node could pull,
    /// else the id.
    pub fn status_id(&self) -> String {
        self.digests
            .first()
            .cloned()
            .unwrap_or_else(|| self.id.to_string())
    }
}

/// Disk space of the file system that the store is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    pub capacity: u64,
    pub available: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct LayerRecord {
    bytes: u64,
    inodes: u64,
    /// The boot in which it was written.
    boot: String,
}

/// The images, layers and snapshots below one directory. One process at a time.
pub struct Store {
    root: PathBuf,
    boot: String,
    /// Makes names of temporary directories unique in this process.
    serial: AtomicU64,
    index: Mutex<Index>,
}

impl Store {
    /// Opens the store, removes what a crash left half done and drops what it may have damaged.
    /// Blocks.
    pub fn open(root: &Path) -> Result<Arc<Self>> {
        recover::open(root)
    }

    /// The image of this name: a reference, an id, or the hexadecimal part of an id.
    pub fn image(&self, name: &str) -> Option<Arc<Image>> {
        let index = self.index.lock();
        if let Ok(reference) = name.parse::<Reference>() {
            let key = match (reference.digest(), reference.tagged()) {
                (Some(digest), _) => reference.at(digest),
                (None, Some(tagged)) => tagged,
                (None, None) => return None,
            };
            if let Some(image) = index.named(&key) {
                return Some(image);
            }
        }
        let id = name
            .parse()
            .or_else(|_| format!("sha256:{name}").parse())
            .ok()?;
        index.image(&id)
    }

    /// All images, in the order of their ids.
    pub fn images(&self) -> Vec<Arc<Image>> {
        self.index.lock().images()
    }

    /// Removes the image and the layers that only it used. Blocks.
    ///
    /// # Errors
    /// `InUse` while a snapshot of it exists.
    pub fn remove(&self, id: &Digest) -> Result<()> {
        let doomed = {
            let mut index = self.index.lock();
            let image = index
                .image(id)
                .ok_or_else(|| Error::NoImage(id.to_string()))?;
            if index.is_snapshot_of(id) {
                return Err(Error::InUse(id.clone()));
            }
            let record = self.record_path(id);
            fs::remove_file(&record).map_err(at("remove", &record))?;
            index.remove(id);
            self.bury_unused(&index, &image.layers)?
        };
        self.delete(doomed)
    }

    /// Protects an image from garbage collection, or no longer.
    pub fn set_pinned(&self, id: &Digest, pinned: bool) -> Result<()> {
        let mut index = self.index.lock();
        let mut image = Image::clone(
            &*index
                .image(id)
                .ok_or_else(|| Error::NoImage(id.to_string()))?,
        );
        image.pinned = pinned;
        self.write_record(&image)?;
        index.insert(Arc::new(image));
        Ok(())
    }

    /// Disk space where the layers are.
    pub fn disk(&self) -> Result<Disk> {
        let stat = nix::sys::statvfs::statvfs(&self.root)
            .map_err(|err| at("statvfs", &self.root)(err.into()))?;
        Ok(Disk {
            capacity: stat.blocks() * stat.fragment_size(),
            available: stat.blocks_available() * stat.fragment_size(),
            inodes: stat.files(),
            inodes_free: stat.files_available(),
        })
    }

    /// Makes everything written so far survive a power failure. Blocks; nobody waits for it.
    pub fn sync(&self) -> Result<()> {
        let layers = self.root.join("layers");
        let unsynced: Vec<_> = fs::read_dir(&layers)
            .map_err(at("list", &layers))?
            .flatten()
            .map(|entry| entry.path())
            .filter(|dir| dir.join("layer.json").exists() && !dir.join("synced").exists())
            .collect();
        if unsynced.is_empty() {
            return Ok(());
        }
        let dir = fs::File::open(&layers).map_err(at("open", &layers))?;
        nix::unistd::syncfs(&dir).map_err(|err| at("sync", &layers)(err.into()))?;
        for layer in unsynced {
            // Gone meanwhile: then it needs no mark.
            let _ = fs::write(layer.join("synced"), "");
        }
        Ok(())
    }

    fn path(&self, parts: &[&str]) -> PathBuf {
        self.root.join(parts.iter().collect::<PathBuf>())
    }

    fn record_path(&self, id: &Digest) -> PathBuf {
        self.path(&["images", &format!("{}.json", id.hex())])
    }

    /// Where a layer's files are.
    pub(crate) fn layer_path(&self, key: &LayerKey) -> PathBuf {
        self.path(&["layers", &key.0, "fs"])
    }

    /// Where a download of this content is collected.
    pub(super) fn ingest_path(&self, digest: &Digest) -> PathBuf {
        self.path(&["content", "ingest", digest.hex()])
    }

    /// A path that nobody else uses, on the same file system.
    pub(super) fn scratch_path(&self) -> PathBuf {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        self.path(&["trash", &format!("{}-{serial}", std::process::id())])
    }

    fn write_record(&self, image: &Image) -> Result<()> {
        let path = self.record_path(&image.id);
        let json = serde_json::to_vec(image).map_err(|err| at("encode", &path)(err.into()))?;
        file::write_atomic(&path, &json, 0o600, Durability::Disk).map_err(at("write", &path))
    }

    /// The layer that lies on top of `diff_ids`' others, if it is here. Held until the pin is
    /// dropped.
    pub(super) fn find_layer(self: &Arc<Self>, diff_ids: &[Digest]) -> Option<LayerPin> {
        let top = diff_ids.last()?;
        let mut index = self.index.lock();
        [
            Some(LayerKey::of_content(top)),
            LayerKey::of_stack(diff_ids),
        ]
        .into_iter()
        .flatten()
        .find(|key| self.path(&["layers", &key.0, "layer.json"]).exists())
        .map(|key| index.pin(self, key))
    }

    /// An empty directory to unpack a layer into. Blocks.
    pub(super) fn stage(&self) -> Result<Staged> {
        let dir = self.scratch_path();
        let fs = dir.join("fs");
        fs::create_dir_all(&fs).map_err(at("create", &fs))?;
        // A layer without an entry for its root gets the usual mode, whatever the umask.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&fs, mode).map_err(at("chmod", &fs))?;
        Ok(Staged { dir })
    }

    /// Makes a staged layer one of the store's, on top of `below` (the lowest first). Blocks.
    pub(super) fn adopt(
        self: &Arc<Self>,
        staged: Staged,
        unpacked: &Unpacked,
        diff_ids: &[Digest],
        below: &[LayerPin],
    ) -> Result<LayerPin> {
        let key = if unpacked.implicit.is_empty() {
            diff_ids.last().map(LayerKey::of_content)
        } else {
            let below: Vec<_> = below
                .iter()
                .rev()
                .map(|p| self.layer_path(&p.key))
                .collect();
            layer::inherit(&staged.fs(), &unpacked.implicit, &below)?;
            LayerKey::of_stack(diff_ids)
        };
        let key = key.ok_or_else(|| Error::NoImage("a stack of no layers".into()))?;
        let record = LayerRecord {
            bytes: unpacked.bytes,
            inodes: unpacked.inodes,
            boot: self.boot.clone(),
        };
        let path = staged.dir.join("layer.json");
        let json = serde_json::to_vec(&record).map_err(|err| at("encode", &path)(err.into()))?;
        fs::write(&path, json).map_err(at("write", &path))?;
        let home = self.path(&["layers", &key.0]);
        let mut index = self.index.lock();
        match fs::rename(&staged.dir, &home) {
            Ok(()) => {}
            // Another pull was first; what is staged goes with its guard.
            Err(_) if home.join("layer.json").exists() => {}
            Err(err) => return Err(at("rename", &home)(err)),
        }
        Ok(index.pin(self, key))
    }

    /// Makes an image of layers that are here. An image of the same id gets the names and accesses
    /// too; another one that had a tag loses it. Blocks.
    pub(super) fn commit(&self, new: NewImage, layers: &[LayerPin]) -> Result<Arc<Image>> {
        let NewImage {
            id,
            config,
            tags,
            digests,
            pinned,
            access,
        } = new;
        let layers: Vec<_> = layers.iter().map(|pin| pin.key.clone()).collect();
        let size = layers.iter().map(|key| self.layer_bytes(key)).sum();
        let mut index = self.index.lock();
        let mut image = match index.image(&id) {
            Some(known) => Image::clone(&known),
            None => Image {
                id: id.clone(),
                tags: BTreeSet::new(),
                digests: BTreeSet::new(),
                layers: Vec::new(),
                size,
                pinned: false,
                access: Accesses::new(),
                config,
            },
        };
        image.layers = layers;
        image.pinned |= pinned;
        image.tags.extend(tags.iter().cloned());
        image.digests.extend(digests);
        for (repository, access) in access {
            image.access.entry(repository).or_default().merge(access);
        }
        self.write_record(&image)?;
        for loser in index.holders_of(&tags, &id) {
            let mut loser = Image::clone(&loser);
            loser.tags.retain(|tag| !tags.contains(tag));
            self.write_record(&loser)?;
            index.insert(Arc::new(loser));
        }
        let image = Arc::new(image);
        index.insert(image.clone());
        Ok(image)
    }

    fn layer_bytes(&self, key: &LayerKey) -> u64 {
        let path = self.path(&["layers", &key.0, "layer.json"]);
        let record = fs::read(path).ok();
        let record = record.and_then(|b| serde_json::from_slice::<LayerRecord>(&b).ok());
        record.map_or(0, |record| record.bytes)
    }

    /// Moves those of `layers` that nothing uses out of the way; to be deleted without the lock.
    fn bury_unused(&self, index: &Index, layers: &[LayerKey]) -> Result<Vec<PathBuf>> {
        let unused = layers.iter().collect::<BTreeSet<_>>().into_iter();
        let mut buried = Vec::new();
        for key in unused.filter(|key| !index.uses(key)) {
            let (from, to) = (self.path(&["layers", &key.0]), self.scratch_path());
            match fs::rename(&from, &to) {
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                other => {
                    other.map_err(at("rename", &from))?;
                    buried.push(to);
                }
            }
        }
        Ok(buried)
    }

    fn delete(&self, doomed: Vec<PathBuf>) -> Result<()> {
        doomed
            .iter()
            .try_for_each(|path| file::remove_all(path).map_err(at("remove", path)))
    }

    fn unpin(&self, key: &LayerKey) {
        self.index.lock().unpin(key);
    }
}

/// An image whose layers are here.
#[derive(Debug)]
pub(super) struct NewImage {
    pub(super) id: Digest,
    pub(super) config: ImageConfig,
    pub(super) tags: BTreeSet<String>,
    pub(super) digests: BTreeSet<String>,
    pub(super) pinned: bool,
    /// As whom it was pulled from which repository.
    pub(super) access: Accesses,
}

/// A directory being filled. Dropped before it was adopted, it is removed.
pub(super) struct Staged {
    dir: PathBuf,
}

impl Staged {
    pub(super) fn fs(&self) -> PathBuf {
        self.dir.join("fs")
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(error) = file::remove_all(&self.dir) {
            tracing::warn!(path = %self.dir.display(), %error, "cannot remove a half-made layer");
        }
    }
}

/// Keeps a layer from being deleted before an image uses it.
pub(super) struct LayerPin {
    store: Arc<Store>,
    key: LayerKey,
}

impl Drop for LayerPin {
    fn drop(&mut self) {
        self.store.unpin(&self.key);
    }
}

fn age(path: &Path) -> Option<Duration> {
    let modified = fs::symlink_metadata(path).ok()?.modified().ok()?;
    SystemTime::now().duration_since(modified).ok()
}

#[cfg(test)]
mod tests;
