//! Images from files: tar archives in the OCI layout or as `docker save` writes them, plain or
//! compressed, and OCI layout directories. For nodes that reach no registry.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::access::Accesses;
use super::layer;
use super::manifest::{self, Descriptor, Document, ImageConfig, Manifest, Platform, choose};
use super::reference::{Digest, Reference};
use super::store::{self, Image, LayerPin, NewImage, Store};
use super::tar;

pub(crate) mod contents;
mod directory;

use contents::Contents;
pub use directory::{Directory, Reading};

/// Why a file gave no images.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("{doing} {path}: {source}", path = path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    Archive(#[from] tar::Error),
    #[error(
        "neither an OCI layout nor a docker archive: it has no index.json and no manifest.json"
    )]
    Unknown,
    #[error("{0} is missing")]
    Missing(String),
    #[error("{0} is larger than {DOCUMENT_MAX} bytes")]
    TooLarge(String),
    #[error("{name} is {found}, expected {expected}")]
    Digest {
        name: String,
        expected: Digest,
        found: Digest,
    },
    #[error("read {name}: {source}")]
    Json {
        name: String,
        source: serde_json::Error,
    },
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    #[error("indexes are nested too deeply")]
    TooDeep,
    #[error(transparent)]
    Store(#[from] store::Error),
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

/// Bytes that a manifest, an index or a configuration may have.
pub(super) const DOCUMENT_MAX: u64 = 8 << 20;

/// An index of indexes of indexes is enough for everybody.
const DEPTH_MAX: usize = 4;

/// The annotations that name an image in an index, the most trusted first.
const NAME_ANNOTATIONS: [&str; 2] = [
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
];

/// Takes over every image of `path` that runs on `platform`. What was taken over before an error
/// stays. Blocks.
pub fn import(
    store: &Arc<Store>,
    path: &Path,
    platform: &Platform,
    pinned: bool,
) -> Result<Vec<Arc<Image>>> {
    let contents = Contents::open(store, path)?;
    let import = Import {
        store,
        contents,
        platform,
        pinned,
    };
    match import.contents.document("index.json") {
        Ok(index) => import.layout(&index),
        Err(Error::Missing(_)) => match import.contents.document("manifest.json") {
            Ok(list) => import.docker(&list),
            Err(Error::Missing(_)) => Err(Error::Unknown),
            Err(err) => Err(err),
        },
        Err(err) => Err(err),
    }
}

struct Import<'a> {
    store: &'a Arc<Store>,
    contents: Contents,
    platform: &'a Platform,
    pinned: bool,
}

/// One image of a `docker save` archive.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Import<'_> {
    fn layout(&self, index: &[u8]) -> Result<Vec<Arc<Image>>> {
        let Document::Index(entries) = Document::parse(index)? else {
            return Err(Error::Unknown);
        };
        let mut images: Vec<Arc<Image>> = Vec::new();
        for entry in &entries {
            // One archive may hold an image for several platforms side by side.
            let foreign = entry
                .platform
                .as_ref()
                .is_some_and(|_| choose(std::slice::from_ref(entry), self.platform).is_err());
            if !foreign {
                images.push(self.entry(entry)?);
            }
        }
        Ok(images)
    }

    /// One named entry: a manifest, or an index of which one entry suits.
    fn entry(&self, entry: &Descriptor) -> Result<Arc<Image>> {
        let mut target = entry.clone();
        for _ in 0..DEPTH_MAX {
            let bytes = self.blob(&target.digest)?;
            match Document::parse(&bytes)? {
                Document::Index(inner) => target = choose(&inner, self.platform)?.clone(),
                Document::Manifest(manifest) => return self.image(&manifest, names(entry)),
            }
        }
        Err(Error::TooDeep)
    }

    fn image(&self, manifest: &Manifest, names: Names) -> Result<Arc<Image>> {
        let bytes = self.blob(&manifest.config.digest)?;
        let config = ImageConfig::parse(&bytes, manifest)?;
        let layers = manifest
            .layers
            .iter()
            .map(|layer| blob_name(&layer.digest))
            .collect();
        self.commit(&manifest.config.digest, config, layers, names)
    }

    fn docker(&self, list: &[u8]) -> Result<Vec<Arc<Image>>> {
        let saved: Vec<Saved> = parse("manifest.json", list)?;
        saved.into_iter().map(|saved| self.saved(saved)).collect()
    }

    fn saved(&self, saved: Saved) -> Result<Arc<Image>> {
        let bytes = self.contents.document(&saved.config)?;
        let config: ImageConfig = parse(&saved.config, &bytes)?;
        let layers = saved.layers.unwrap_or_default();
        let (listed, diff_ids) = (layers.len(), config.rootfs.diff_ids.len());
        if listed != diff_ids {
            return Err(manifest::Error::LayerCount {
                layers: listed,
                diff_ids,
            }
            .into());
        }
        let tags = saved.repo_tags.unwrap_or_default();
        let tags = tags
            .iter()
            .filter_map(|tag| tag.parse::<Reference>().ok()?.tagged())
            .collect();
        let names = Names {
            tags,
            ..Names::default()
        };
        self.commit(&Digest::of(&bytes), config, layers, names)
    }

    fn commit(
        &self,
        id: &Digest,
        config: ImageConfig,
        layers: Vec<String>,
        names: Names,
    ) -> Result<Arc<Image>> {
        let diff_ids = &config.rootfs.diff_ids;
        let mut pins: Vec<LayerPin> = Vec::with_capacity(layers.len());
        for (n, layer) in layers.iter().enumerate() {
            let stack = &diff_ids[..=n];
            let pin = match self.store.find_layer(stack) {
                Some(pin) => pin,
                None => {
                    let staged = self.store.stage()?;
                    let blob = self.contents.open_file(layer)?;
                    let unpacked = layer::unpack(blob, &diff_ids[n], &staged.fs())?;
                    self.store.adopt(staged, &unpacked, stack, &pins)?
                }
            };
            pins.push(pin);
        }
        let image = NewImage {
            id: id.clone(),
            config,
            tags: names.tags,
            digests: names.digests,
            pinned: self.pinned,
            access: Accesses::new(),
        };
        Ok(self.store.commit(image, &pins)?)
    }

    fn blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let name = blob_name(digest);
        let bytes = self.contents.document(&name)?;
        let mut hash = layer::Hasher::new(digest.algorithm());
        hash.update(&bytes);
        match hash.finish() {
            found if found == *digest => Ok(bytes),
            found => Err(Error::Digest {
                name,
                expected: digest.clone(),
                found,
            }),
        }
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

fn parse<'a, T: Deserialize<'a>>(name: &str, bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| Error::Json {
        name: name.to_owned(),
        source,
    })
}

/// What an image is called.
#[derive(Default)]
struct Names {
    tags: BTreeSet<String>,
    digests: BTreeSet<String>,
}

/// What an index entry calls its image. A bare tag names nothing.
fn names(entry: &Descriptor) -> Names {
    let given = NAME_ANNOTATIONS
        .iter()
        .filter_map(|key| entry.annotations.get(*key));
    let whole = |name: &&String| name.contains(['/', ':']);
    let reference = given
        .filter(whole)
        .find_map(|name| name.parse::<Reference>().ok());
    match reference {
        Some(reference) => Names {
            tags: reference.tagged().into_iter().collect(),
            digests: [reference.at(&entry.digest)].into(),
        },
        None => Names::default(),
    }
}

fn read_all(mut from: impl Read, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = DOCUMENT_MAX + 1;
    let n = (&mut from).take(limit).read_to_end(&mut bytes);
    match n.map_err(at("read", Path::new(name)))? as u64 {
        n if n == limit => Err(Error::TooLarge(name.to_owned())),
        _ => Ok(bytes),
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(at("open", path))
}

fn is_directory(path: &Path) -> Result<bool> {
    Ok(fs::metadata(path).map_err(at("stat", path))?.is_dir())
}

#[cfg(test)]
mod tests;
