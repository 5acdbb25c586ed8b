//! Reads archives: what is in them and where. Nothing is held in memory but names, digests and places.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Error;
use crate::files;

/// An image in the archive that holds it.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The reference that pods name it by.
    pub(crate) name: String,
    pub(crate) manifest: Descriptor,
    archive: PathBuf,
    /// By hexadecimal SHA-256.
    blobs: BTreeMap<String, Place>,
}

/// Bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Descriptor>,
}

impl Descriptor {
    fn hex(&self) -> &str {
        self.digest.strip_prefix("sha256:").unwrap_or(&self.digest)
    }
}

impl Layout {
    pub(crate) fn open(archive: &Path) -> Result<Self, Error> {
        let failed = files::cannot("read", archive);
        let (index, blobs) = places(archive).map_err(failed)?;
        let malformed = |reason: &str| Error::Recipe {
            path: archive.to_owned(),
            reason: reason.to_owned(),
        };
        let index: Index =
            serde_json::from_slice(&index).map_err(|error| malformed(&error.to_string()))?;
        let manifest = index.manifests.into_iter().next();
        let manifest = manifest.ok_or_else(|| malformed("it holds no image"))?;
        let name = manifest.annotations.get("io.containerd.image.name");
        Ok(Self {
            name: name
                .ok_or_else(|| malformed("its image has no name"))?
                .clone(),
            manifest,
            archive: archive.to_owned(),
            blobs,
        })
    }

    pub(crate) fn archive(&self) -> &Path {
        &self.archive
    }

    /// Where a blob is, by its digest (`sha256:...`).
    pub(crate) fn place(&self, digest: &str) -> Option<Place> {
        self.blobs.get(digest.strip_prefix("sha256:")?).copied()
    }

    /// The bytes of the manifest.
    pub(crate) fn manifest(&self) -> Result<Vec<u8>, Error> {
        let read = || -> io::Result<Vec<u8>> {
            let place = self.place(&self.manifest.digest);
            let place = place.ok_or_else(|| io::Error::other("the manifest is not there"))?;
            let mut bytes = Vec::new();
            place.open(&self.archive)?.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        Ok(read().map_err(files::cannot("read", &self.archive))?)
    }

    /// Digests (hexadecimal) and places of the layers, lowest first.
    pub(super) fn layers(&self) -> Result<Vec<(String, Place)>, Error> {
        let malformed = |reason: String| Error::Recipe {
            path: self.archive.clone(),
            reason,
        };
        let manifest: Manifest = serde_json::from_slice(&self.manifest()?)
            .map_err(|error| malformed(error.to_string()))?;
        let layers = manifest.layers.iter().map(|layer| {
            let place = self.place(&layer.digest);
            let place = place.ok_or_else(|| malformed(format!("{} is missing", layer.digest)))?;
            Ok((layer.hex().to_owned(), place))
        });
        layers.collect()
    }
}

impl Place {
    pub(crate) fn open(self, file: &Path) -> io::Result<impl Read + Send + Sync + 'static> {
        let mut file = File::open(file)?;
        file.seek(SeekFrom::Start(self.offset))?;
        Ok(file.take(self.size))
    }
}

/// `index.json`, and where the blobs are.
fn places(archive: &Path) -> io::Result<(Vec<u8>, BTreeMap<String, Place>)> {
    let mut index = Vec::new();
    let mut blobs = BTreeMap::new();
    let mut tar = tar::Archive::new(File::open(archive)?);
    for entry in tar.entries_with_seek()? {
        let mut entry = entry?;
        let place = Place {
            offset: entry.raw_file_position(),
            size: entry.size(),
        };
        let path = entry.path()?.to_string_lossy().into_owned();
        if path == "index.json" {
            entry.read_to_end(&mut index)?;
        } else if let Some(digest) = path.strip_prefix("blobs/sha256/") {
            blobs.insert(digest.to_owned(), place);
        }
    }
    Ok((index, blobs))
}
