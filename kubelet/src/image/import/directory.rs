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

/// How far the archives are read that were there at the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// So many are.
    Archives(usize),
    /// All that could be.
    Done,
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
    /// Imports what is there, the small first, and then whatever comes, until the future is dropped.
    /// `reading` tells how far what was there at the start is read.
    ///
    /// # Errors
    /// If the directory cannot be watched. Archives that cannot be read are logged and left alone.
    pub async fn run(
        self,
        reading: watch::Sender<Reading>,
    ) -> io::Result<std::convert::Infallible> {
        fs::create_dir_all(&self.path)?;
        let watch = Watch::new()?;
        watch.add(&self.path)?;
        let this = Arc::new(self);
        loop {
            let (scan, told) = (this.clone(), reading.clone());
            let tell = move |archives| {
                told.send_replace(Reading::Archives(archives));
            };
            let scanned = tokio::task::spawn_blocking(move || scan.scan(tell)).await;
            if let Err(error) = scanned.map_err(io::Error::other).and_then(|result| result) {
                tracing::warn!(path = %this.path.display(), %error, "cannot read image archives");
            }
            reading.send_replace(Reading::Done);
            watch.changed().await?;
        }
    }

    /// Imports what is new, and tells after each how many there were. Blocks.
    pub fn scan(&self, tell: impl Fn(usize)) -> io::Result<()> {
        let state = self.path.join(".imported.json");
        let known: BTreeMap<String, Seen> = fs::read(&state)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let mut seen = BTreeMap::new();
        let mut found: Vec<_> = self.candidates()?;
        found.sort_by_key(|(_, _, meta)| meta.size());
        for (number, (name, path, meta)) in found.into_iter().enumerate() {
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
            tell(number + 1);
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

    fn candidates(&self) -> io::Result<Vec<(String, PathBuf, fs::Metadata)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = entry.path();
            let archive = SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) && path.is_file();
            if !name.starts_with('.') && (archive || path.join("oci-layout").is_file()) {
                // One that is gone again is no candidate.
                if let Ok(meta) = fs::metadata(&path) {
                    found.push((name, path, meta));
                }
            }
        }
        Ok(found)
    }
}
