//! Builds OCI images from recipes that are data, without a container engine.
//!
//! A recipe (`e2e/images/*.toml`) names files and where they come from; the result is an archive in the OCI image layout
//! that a kubelet or containerd imports. The same inputs give the same bytes: entries are sorted, times and owners are
//! the recipe's, nothing of the machine gets in. An archive is kept under a key made of all its inputs, so that asking
//! again costs reading the recipe. The layers of a base are those of the base's own archive, so that nodes which have both
//! images hold them once.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::command;
use crate::files;
use crate::workshop::Workshop;

mod archive;
pub(crate) mod layout;
mod recipe;
mod source;
mod tree;

use recipe::Recipe;

/// Part of every key: raised when the builder makes other bytes of the same recipe.
const BUILDER: u32 = 2;

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("{path}: {reason}")]
    Recipe { path: PathBuf, reason: String },
    #[error(transparent)]
    Command(#[from] command::Error),
}

/// The archive of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The reference that pods name it by.
    pub name: String,
    pub archive: PathBuf,
}

/// Recipes and what their images are called.
pub fn recipes(workshop: &Workshop) -> Result<Vec<(String, String)>, Error> {
    Recipe::all(&directory(workshop))
}

fn directory(workshop: &Workshop) -> PathBuf {
    workshop.root().join("e2e/images")
}

/// Builds the image of the recipe `name` if its inputs changed.
pub fn build(workshop: &Workshop, name: &str) -> Result<Image, Error> {
    let recipes = Recipe::with_bases(&directory(workshop), name)?;
    let tools: Vec<&str> = recipes.iter().flat_map(Recipe::tools).collect();
    workshop.ensure_tools(&tools)?;

    let key = key(workshop, &recipes)?;
    let dir = workshop.images();
    fs::create_dir_all(&dir).map_err(files::cannot("make", &dir))?;
    let archive = dir.join(format!("{name}-{key}.tar"));
    let image = &recipes[0];
    if !archive.exists() {
        let work = dir.join(format!(".{name}-{}", std::process::id()));
        fs::create_dir_all(&work).map_err(files::cannot("make", &work))?;
        let made = make(workshop, image, &work).and_then(|whole| {
            Ok(fs::rename(&whole, &archive).map_err(files::cannot("write", &archive))?)
        });
        fs::remove_dir_all(&work).map_err(files::cannot("remove", &work))?;
        made?;
        remove_older(&dir, name, &archive);
    }
    Ok(Image {
        name: image.name.clone(),
        archive,
    })
}

/// Makes the archive in `work` and returns where it is.
fn make(workshop: &Workshop, recipe: &Recipe, work: &Path) -> Result<PathBuf, Error> {
    let base = match &recipe.base {
        Some(base) => Some(build(workshop, base)?.archive),
        None => None,
    };
    let layer = match recipe.has_layer() {
        true => Some(source::tree(workshop, recipe, work)?),
        false => None,
    };
    archive::write(work, recipe, base.as_deref(), layer.as_ref())
}

/// A hash over everything that the archive is made of.
fn key(workshop: &Workshop, recipes: &[Recipe]) -> Result<String, Error> {
    let mut hash = Sha256::new();
    hash.update(BUILDER.to_le_bytes());
    for recipe in recipes {
        for input in source::inputs(workshop, recipe)? {
            // Not its whole path: a clone elsewhere makes the same image.
            hash.update(input.file_name().unwrap_or_default().as_encoded_bytes());
            hash_file(&mut hash, &input)?;
        }
    }
    let digest = hash.finalize();
    Ok(digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn hash_file(hash: &mut Sha256, path: &Path) -> Result<(), Error> {
    let mut file = File::open(path).map_err(files::cannot("read", path))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file
            .read(&mut buffer)
            .map_err(files::cannot("read", path))?
        {
            0 => return Ok(()),
            length => hash.update(&buffer[..length]),
        }
    }
}

/// Archives of the same recipe with another key. Losing the race against somebody who reads one is harmless: the file
/// stays until it is closed.
fn remove_older(dir: &Path, name: &str, current: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let file = path
            .file_name()
            .and_then(|file| file.to_str())
            .unwrap_or_default();
        let key = file
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".tar"));
        if path != current
            && key.is_some_and(|key| key.len() == 16 && key.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
pub(crate) use tests::archive_of;

#[cfg(test)]
mod tests;
