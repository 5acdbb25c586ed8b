//! Opening a store that may have been left in any state.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use super::{Error, Image, Index, LEFTOVERS, LayerKey, LayerRecord, Result, Store, age, at};
use crate::sys::{file, mount};

/// Directories of a store. `empty` is the lower layer of an image that has none.
const DIRECTORIES: &[&str] = &[
    "content/ingest",
    "layers/empty/fs",
    "images",
    "snapshots",
    "trash",
];

pub(super) fn open(root: &Path) -> Result<Arc<Store>> {
    for dir in DIRECTORIES {
        let dir = root.join(dir);
        fs::create_dir_all(&dir).map_err(at("create", &dir))?;
    }
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    fs::set_permissions(root, private).map_err(at("chmod", root))?;
    let store = Store {
        // Overlay and mount table want one spelling of every path.
        root: root.canonicalize().map_err(at("resolve", root))?,
        boot: file::boot_id().map_err(at("read", Path::new("boot_id")))?,
        serial: AtomicU64::new(0),
        index: Mutex::new(Index::default()),
    };
    for path in list(&store.path(&["trash"]))? {
        mount::unmount_under(&path)?;
        file::remove_all(&path).map_err(at("remove", &path))?;
    }
    drop_damaged_layers(&store)?;
    let mut index = store.index.lock();
    load_images(&store, &mut index)?;
    super::snapshot::load(&store, &mut index)?;
    drop_leftovers(&store, &index)?;
    drop(index);
    Ok(Arc::new(store))
}

/// A layer that was not synced in an earlier boot may lack what had not reached the disk.
fn drop_damaged_layers(store: &Store) -> Result<()> {
    for dir in list(&store.path(&["layers"]))? {
        if dir.ends_with("empty") || dir.join("synced").exists() {
            continue;
        }
        let record = fs::read(dir.join("layer.json")).ok();
        let record = record.and_then(|b| serde_json::from_slice::<LayerRecord>(&b).ok());
        if record.is_none_or(|record| record.boot != store.boot) {
            tracing::info!(layer = %dir.display(), "dropping a layer that was not synced");
            bury(store, &dir)?;
        }
    }
    Ok(())
}

fn load_images(store: &Store, index: &mut Index) -> Result<()> {
    for path in list(&store.path(&["images"]))? {
        let image = fs::read(&path).ok();
        let image = image.and_then(|bytes| serde_json::from_slice::<Image>(&bytes).ok());
        let whole = |i: &Image| {
            i.layers
                .iter()
                .all(|layer| store.layer_path(layer).is_dir())
        };
        match image.filter(whole) {
            Some(image) => index.insert(Arc::new(image)),
            None => {
                tracing::warn!(record = %path.display(), "dropping an image that is not whole");
                file::remove_all(&path).map_err(at("remove", &path))?;
            }
        }
    }
    Ok(())
}

fn drop_leftovers(store: &Store, index: &Index) -> Result<()> {
    let old = |path: &Path| age(path).is_none_or(|age| age > LEFTOVERS);
    for dir in list(&store.path(&["layers"]))? {
        let key = dir
            .file_name()
            .map(|name| LayerKey(name.to_string_lossy().into_owned()));
        if !dir.ends_with("empty") && key.is_some_and(|key| !index.uses(&key)) && old(&dir) {
            bury(store, &dir)?;
        }
    }
    for part in list(&store.path(&["content", "ingest"]))? {
        if old(&part) {
            file::remove_all(&part).map_err(at("remove", &part))?;
        }
    }
    Ok(())
}

fn bury(store: &Store, dir: &Path) -> Result<()> {
    let grave = store.scratch_path();
    fs::rename(dir, &grave).map_err(at("rename", dir))?;
    file::remove_all(&grave).map_err(at("remove", &grave))
}

pub(super) fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(at("list", dir))?;
    entries
        .map(|entry| {
            entry.map(|e| e.path()).map_err(|source| Error::Io {
                doing: "list",
                path: dir.to_owned(),
                source,
            })
        })
        .collect()
}
