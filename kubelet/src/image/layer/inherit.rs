//! Gives directories that a layer does not describe the looks that they have in the layers below.
//!
//! Builders leave out the parents of the files they add. Made with a default mode they would hide,
//! for example, the sticky bit of a lower `/tmp`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, Mode, UtimensatFlags};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid};

use super::Error;
use crate::sys::mount::{Attributes, Overlay};
use crate::sys::open::{self, Bounds};

/// Copies owner, mode and time of each of `directories` in `layer` from the merged layers below,
/// topmost first. What is not there, or is no directory there, stays as it is.
pub fn inherit(layer: &Path, directories: &[PathBuf], below: &[PathBuf]) -> Result<(), Error> {
    let merged;
    let single;
    let seen: BorrowedFd<'_> = match below {
        [] => return Ok(()),
        [only] => {
            single = open::root(only).map_err(|source| Error::Apply {
                path: only.clone(),
                source,
            })?;
            single.as_fd()
        }
        many => {
            // Never attached anywhere: it goes with the descriptor.
            merged = Overlay {
                lower: many,
                upper: None,
            }
            .mount(Attributes::READ_ONLY)?;
            merged.as_fd()
        }
    };
    let root = open::root(layer).map_err(|source| Error::Apply {
        path: layer.to_owned(),
        source,
    })?;
    for path in directories {
        copy(seen, root.as_fd(), path).map_err(|source| Error::Apply {
            path: layer.join(path),
            source,
        })?;
    }
    Ok(())
}

fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let Ok(model) = open::dir_within(from, path, Bounds::Root) else {
        return Ok(());
    };
    let stat = nix::sys::stat::fstat(&model)?;
    let dir = open::dir_within(to, path, Bounds::Root)?;
    describe(&dir, &stat)
}

/// Gives `dir` the owner, mode and time of `stat`.
pub(in crate::image) fn describe(dir: impl AsFd, stat: &FileStat) -> io::Result<()> {
    let dir = dir.as_fd();
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    nix::unistd::fchownat(dir, ".", Some(uid), Some(gid), AtFlags::empty())?;
    let mode = Mode::from_bits_truncate(stat.st_mode);
    let follow = nix::sys::stat::FchmodatFlags::FollowSymlink;
    nix::sys::stat::fchmodat(dir, ".", mode, follow)?;
    let time = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    nix::sys::stat::utimensat(dir, ".", &time, &time, UtimensatFlags::NoFollowSymlink)?;
    Ok(())
}
