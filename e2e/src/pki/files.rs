//! Files of the PKI: replaced whole, and private where they hold a key.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use super::Error;
use crate::files::cannot;

/// The file's text, or nothing when it does not exist.
pub(super) fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cannot("read", path)(cause).into()),
    }
}

pub(super) fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    write(path, text, 0o600)
}

pub(super) fn write_public(path: &Path, text: &str) -> Result<(), Error> {
    write(path, text, 0o644)
}

/// Writes beside the target and renames, so that a daemon that watches the file never reads half of it. A file that has
/// the text already is left alone: its time of change is what daemons watch.
///
/// A file that is replaced keeps its owner, group and mode, for daemons that run as other users; but a key is never
/// readable by everybody. A link stays a link.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    if read(path)?.as_deref() == Some(text) {
        return Ok(());
    }
    let failed = cannot("write", path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let before = fs::metadata(&target).ok();
    let mode = match &before {
        Some(before) if mode & 0o007 == 0 => before.mode() & 0o770 | mode,
        Some(before) => before.mode() & 0o777,
        None => mode,
    };
    let beside = target.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .map_err(failed)?;
    if let Some(before) = &before {
        let now = file.metadata().map_err(failed)?;
        if (now.uid(), now.gid()) != (before.uid(), before.gid()) {
            fchown(&file, Some(before.uid()), Some(before.gid())).map_err(failed)?;
        }
    }
    file.set_permissions(fs::Permissions::from_mode(mode))
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    // Before the rename: after a loss of power there is the old file or the new one, and not an empty one.
    file.sync_all().map_err(failed)?;
    Ok(fs::rename(&beside, &target).map_err(failed)?)
}
