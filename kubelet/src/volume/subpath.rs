//! Parts of volumes, bound where no container can move them.
//!
//! A container that runs may swap a directory for a link at any moment (CVE-2017-1002101,
//! CVE-2021-25741). So the part is opened by the kernel within the bounds of the volume, once, and
//! what was opened is bound; no path is looked up a second time.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, fstat};

use crate::sys::open::{self, Bounds};
use crate::sys::{file, mount};

#[derive(thiserror::Error, Debug)]
pub(super) enum Error {
    #[error("error SubPath `{0}` must not be an absolute path")]
    Absolute(String),
    #[error("unable to provision SubPath `{0}`: must not contain '..'")]
    Dots(String),
    #[error("open subPath: {0}")]
    Open(io::Error),
    #[error("bind subPath: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Mount(#[from] mount::Error),
}

/// Refuses paths that upstream refuses before looking at any file.
pub(super) fn check(path: &str) -> Result<(), Error> {
    if path.starts_with('/') {
        return Err(Error::Absolute(path.to_owned()));
    }
    if Path::new(path)
        .components()
        .any(|part| part == Component::ParentDir)
    {
        return Err(Error::Dots(path.to_owned()));
    }
    Ok(())
}

/// Opens `path` in `volume`, making it a directory with the volume's mode if it is not there.
pub(super) fn open_part(volume: &Path, path: &str, read_only: bool) -> Result<OwnedFd, Error> {
    let volume = open::root(volume).map_err(Error::Open)?;
    let path = Path::new(path);
    match open::within(&volume, path, Bounds::Beneath, OFlag::O_PATH) {
        Err(err) if err.kind() == io::ErrorKind::NotFound && !read_only => {
            let mode = fstat(&volume).map_err(io::Error::from)?.st_mode;
            let mode = Mode::from_bits_truncate(mode & 0o7777);
            open::make_dirs(&volume, path, Bounds::Beneath, mode).map_err(Error::Open)
        }
        other => other.map_err(Error::Open),
    }
}

/// Makes what `part` is open on visible at `target`. If it is already, nothing happens; something
/// else there goes.
pub(super) fn bind(part: &OwnedFd, target: &Path) -> Result<(), Error> {
    let stat = fstat(part).map_err(io::Error::from)?;
    if mount::is_mount_point(target)? {
        let there = nix::sys::stat::lstat(target).map_err(io::Error::from)?;
        if (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino) {
            return Ok(());
        }
        mount::unmount(target)?;
    }
    prepare(target, &stat)?;
    mount::clone_of(part.as_fd())?.attach(target)?;
    Ok(())
}

/// A directory can be bound on directories only, everything else on files.
fn prepare(target: &Path, stat: &FileStat) -> io::Result<()> {
    let is_dir = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::symlink_metadata(target) {
        Ok(meta) if meta.is_dir() == is_dir => return Ok(()),
        Ok(_) => file::remove_all(target)?,
        Err(err) if err.kind() == io::ErrorKind::NotFound => {}
        Err(err) => return Err(err),
    }
    if is_dir {
        fs::create_dir(target)
    } else {
        File::create(target).map(drop)
    }
}

/// Where a container's part of a volume is bound. The names are DNS labels, so safe in a path.
pub(super) fn target(pod_dir: &Path, volume: &str, container: &str, index: usize) -> PathBuf {
    pod_dir
        .join("volume-subpaths")
        .join(volume)
        .join(container)
        .join(index.to_string())
}
