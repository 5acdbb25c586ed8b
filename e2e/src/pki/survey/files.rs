//! Which files are looked at, and where the key of a certificate is.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::super::{Error, Unreadable, keys, renew};
use super::{Key, PRIVATE_KEY};
use crate::files::cannot;

/// Larger files are no certificates.
const LARGEST: u64 = 1 << 20;

/// Files and directories in a directory, in order.
pub(super) fn list(dir: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Error> {
    let failed = cannot("read", dir);
    let (mut files, mut dirs) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Ok(meta) = fs::metadata(&path) else {
            continue;
        };
        if meta.is_dir() && !path.is_symlink() {
            dirs.push(path);
        } else if meta.is_file() && meta.len() <= LARGEST && !is_old(&path) {
            files.push(path);
        }
    }
    files.sort();
    dirs.sort();
    Ok((files, dirs))
}

pub(super) fn walk(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    let (files, dirs) = list(dir)?;
    found.extend(files);
    if depth > 0 {
        for dir in dirs {
            walk(&dir, depth - 1, found)?;
        }
    }
    Ok(())
}

/// What is kept beside the file that counts: half-written files, former keys, former pairs of a kubelet.
fn is_old(path: &Path) -> bool {
    path.extension()
        .is_some_and(|end| end == "new" || end == "old")
        || (is_kubelets(path) && !path.is_symlink())
}

pub(super) fn is_kubelets(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    (name.starts_with("kubelet-client-") || name.starts_with("kubelet-server-"))
        && name.ends_with(".pem")
}

/// The key of a certificate's file: where it is said to be, in the file itself, or beside it.
pub(super) fn key_of(path: &Path, text: &str, said: Option<&Path>) -> Key {
    let beside = path.with_extension("key");
    let mut places = vec![beside.clone()];
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    // As cfssl names them; and an authority that is being rolled has a second file, without those trusted beside it.
    places.push(path.with_file_name(format!("{stem}-key.pem")));
    places.extend(
        stem.strip_suffix(renew::SIGNING)
            .map(|stem| path.with_file_name(format!("{stem}.key"))),
    );
    let place = match said {
        Some(said) => said.to_owned(),
        None if text.contains(PRIVATE_KEY) => path.to_owned(),
        None => match places.into_iter().find(|place| place.exists()) {
            Some(place) => place,
            None => beside,
        },
    };
    let read = match fs::read_to_string(&place) {
        Ok(pem) => Some(keys::parse(&pem)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => None,
        Err(_) => Some(Err(Unreadable::File)),
    };
    Key {
        read,
        mode: mode(&place),
        path: place,
    }
}

pub(super) fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0, |meta| meta.permissions().mode() & 0o777)
}
