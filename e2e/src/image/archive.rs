//! The OCI image layout as one tar archive (image-spec 1.1, "image-layout.md").

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::Header;

use super::Error;
use super::layout::{Layout, Place};
use super::recipe::Recipe;
use super::tree::{TIME, Tree};
use crate::files;

const CREATED: &str = "2026-01-01T00:00:00Z";
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Go's names of architectures, which OCI uses.
const ARCHITECTURE: &str = match std::env::consts::ARCH.as_bytes() {
    b"x86_64" => "amd64",
    b"aarch64" => "arm64",
    _ => std::env::consts::ARCH,
};

/// A blob of the layout: its digest and where its bytes are.
struct Blob {
    digest: String,
    size: u64,
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
    File(PathBuf),
    /// Part of another archive.
    Part(PathBuf, Place),
}

/// Writes the archive of `recipe` into the directory `work` and returns its path. The layers are those of the archive
/// `base` and then `layer`.
pub(super) fn write(
    work: &Path,
    recipe: &Recipe,
    base: Option<&Path>,
    layer: Option<&Tree>,
) -> Result<PathBuf, Error> {
    let mut blobs = match base {
        Some(base) => base_layers(base)?,
        None => Vec::new(),
    };
    if let Some(layer) = layer {
        blobs.push(layer_blob(layer, work.join("layer.tar"))?);
    }
    let diff_ids: Vec<String> = blobs
        .iter()
        .map(|layer| format!("sha256:{}", layer.digest))
        .collect();
    let config = json_blob(&config(recipe, &diff_ids));
    let layer_descriptors: Vec<Value> = blobs
        .iter()
        .map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer))
        .collect();
    let manifest = json_blob(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": layer_descriptors,
    }));
    let index = index(&recipe.name, &manifest);
    blobs.extend([config, manifest]);
    blobs.sort_by(|one, other| one.digest.cmp(&other.digest));
    blobs.dedup_by(|one, other| one.digest == other.digest);

    let whole = work.join("image.tar");
    write_tar(&whole, &index, &blobs).map_err(files::cannot("write", &whole))?;
    Ok(whole)
}

fn config(recipe: &Recipe, diff_ids: &[String]) -> Value {
    let given = &recipe.config;
    let mut env = given.env.clone();
    if !env.iter().any(|variable| variable.starts_with("PATH=")) {
        env.insert(0, DEFAULT_PATH.to_owned());
    }
    let mut labels = given.labels.clone();
    // Two tags with equal configurations would be one image, and a runtime may show either name for both.
    labels.insert(
        "org.opencontainers.image.ref.name".to_owned(),
        recipe.name.clone(),
    );
    let mut config = json!({ "Env": env, "Labels": labels });
    let optional = [
        (
            "Entrypoint",
            json!(given.entrypoint),
            given.entrypoint.is_empty(),
        ),
        ("Cmd", json!(given.cmd), given.cmd.is_empty()),
        ("User", json!(given.user), given.user.is_empty()),
        ("WorkingDir", json!(given.workdir), given.workdir.is_empty()),
    ];
    for (name, value, absent) in optional {
        if !absent {
            config[name] = value;
        }
    }
    let history: Vec<Value> = diff_ids
        .iter()
        .map(|_| json!({ "created": CREATED, "created_by": "navarch image builder" }))
        .collect();
    json!({
        "architecture": ARCHITECTURE,
        "os": "linux",
        "created": CREATED,
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": history,
    })
}

fn index(name: &str, manifest: &Blob) -> Value {
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", manifest);
    entry["platform"] = json!({ "architecture": ARCHITECTURE, "os": "linux" });
    // The second is the specification's; containerd reads the first.
    entry["annotations"] = json!({
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name,
    });
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    })
}

fn descriptor(media_type: &str, blob: &Blob) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{}", blob.digest), "size": blob.size })
}

fn json_blob(value: &Value) -> Blob {
    let bytes = value.to_string().into_bytes();
    Blob {
        digest: hex(&Sha256::digest(&bytes)),
        size: bytes.len() as u64,
        content: Content::Bytes(bytes),
    }
}

fn base_layers(archive: &Path) -> Result<Vec<Blob>, Error> {
    let layers = Layout::open(archive)?.layers()?;
    let blob = |(digest, place): (String, Place)| Blob {
        digest,
        size: place.size,
        content: Content::Part(archive.to_owned(), place),
    };
    Ok(layers.into_iter().map(blob).collect())
}

fn layer_blob(layer: &Tree, path: PathBuf) -> Result<Blob, Error> {
    let file = File::create(&path).map_err(files::cannot("make", &path))?;
    let mut out = Hashing {
        out: BufWriter::new(file),
        hash: Sha256::new(),
        size: 0,
    };
    layer
        .write(&mut out)
        .map_err(files::cannot("write", &path))?;
    Ok(Blob {
        digest: hex(&out.hash.finalize()),
        size: out.size,
        content: Content::File(path),
    })
}

fn write_tar(path: &Path, index: &Value, blobs: &[Blob]) -> io::Result<()> {
    let mut tar = tar::Builder::new(BufWriter::new(File::create(path)?));
    let layout = json!({ "imageLayoutVersion": "1.0.0" }).to_string();
    append(
        &mut tar,
        "oci-layout",
        layout.len() as u64,
        layout.as_bytes(),
    )?;
    let index = index.to_string();
    append(&mut tar, "index.json", index.len() as u64, index.as_bytes())?;
    for blob in blobs {
        let name = format!("blobs/sha256/{}", blob.digest);
        match &blob.content {
            Content::Bytes(bytes) => append(&mut tar, &name, blob.size, &bytes[..])?,
            Content::File(path) => append(&mut tar, &name, blob.size, File::open(path)?)?,
            Content::Part(path, place) => append(&mut tar, &name, blob.size, place.open(path)?)?,
        }
    }
    tar.into_inner()?.flush()
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    name: &str,
    size: u64,
    content: impl io::Read,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_mtime(TIME);
    header.set_size(size);
    tar.append_data(&mut header, name, content)
}

/// Hashes and counts what passes.
struct Hashing<W> {
    out: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.out.write(bytes)?;
        self.hash.update(&bytes[..length]);
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
