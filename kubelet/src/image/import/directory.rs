//! A directory whose archives become images as soon as they are dropped there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::import;
use crate::image::manifest::Platform;
use crate::image::reference::Digest;
use crate::image::store::Store;
use crate::sys::file::{self, Durability};
use crate::sys::watch::Watch;

/// Watches a directory for archives (`*.tar`, `*.tar.gz`, `*.tgz`, `*.tar.zst`) and OCI layouts in
/// directories. Their images are pinned: a node that needs archives cannot pull again what it
/// deletes.
///
/// A file is read again only if it changed or an image of it is gone.
pub struct Directory {
    pub store: Arc<Store>,
    pub path: PathBuf,
    pub platform: Platform,
}

/// What was read, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    size: u64,
    mtime: i128,
    inode: u64,
    images: Vec<Digest>,
}

const SUFFIXES: [&str; 5] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.zstd"];

impl Directory {
    /// Imports what is there and then whatever comes, until the future is dropped. `read` becomes
    /// true when what was there at the start is read.
    ///
    /// # Errors
    /// If the directory cannot be watched. Archives that cannot be read are logged and left alone.
    pub async fn run(self, read: watch::Sender<bool>) -> io::Result<std::convert::Infallible> {
        fs::create_dir_all(&self.path)?;
        let watch = Watch::new()?;
        watch.add(&self.path)?;
        let this = Arc::new(self);
        loop {
            let scan = this.clone();
            let scanned = tokio::task::spawn_blocking(move || scan.scan()).await;
            if let Err(error) = scanned.map_err(io::Error::other).and_then(|result| result) {
                tracing::warn!(path = %this.path.display(), %error, "cannot read image archives");
            }
            let _ = read.send(true);
            watch.changed().await?;
        }
    }

    /// Imports what is new. Blocks.
    pub fn scan(&self) -> io::Result<()> {
        let state = self.path.join(".imported.json");
        let known: BTreeMap<String, Seen> = fs::read(&state)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let mut seen = BTreeMap::new();
        for (name, path) in self.candidates()? {
            let Ok(meta) = fs::metadata(&path) else {
                continue;
            };
            let mtime = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
            let now = Seen {
                size: meta.size(),
                mtime,
                inode: meta.ino(),
                images: Vec::new(),
            };
            let outcome = match known.get(&name) {
                Some(before) if self.is_done(before, &now) => before.clone(),
                _ => Seen {
                    images: self.import(&path),
                    ..now
                },
            };
            seen.insert(name, outcome);
        }
        if seen != known {
            let json = serde_json::to_vec(&seen).map_err(io::Error::other)?;
            file::write_atomic(&state, &json, 0o600, Durability::Process)?;
        }
        Ok(())
    }

    fn is_done(&self, before: &Seen, now: &Seen) -> bool {
        let same = Seen {
            images: Vec::new(),
            ..before.clone()
        } == *now;
        let here = |id: &Digest| self.store.image(&id.to_string()).is_some();
        same && before.images.iter().all(here)
    }

    fn import(&self, path: &Path) -> Vec<Digest> {
        match import(&self.store, path, &self.platform, true) {
            Ok(images) => {
                tracing::info!(path = %path.display(), images = images.len(), "imported images");
                images.iter().map(|image| image.id.clone()).collect()
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot import images");
                Vec::new()
            }
        }
    }

    fn candidates(&self) -> io::Result<BTreeMap<String, PathBuf>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = entry.path();
            let archive = SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) && path.is_file();
            if !name.starts_with('.') && (archive || path.join("oci-layout").is_file()) {
                found.insert(name, path);
            }
        }
        Ok(found)
    }
}
