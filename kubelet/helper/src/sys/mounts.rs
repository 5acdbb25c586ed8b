//! Mounts by descriptor.
#![allow(unsafe_code, reason = "the module that speaks to the kernel")]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr;

use super::{c_path, check, owned};

/// A mount namespace of this process' own, into which the node's mounts still come.
pub(crate) fn own_mounts() -> io::Result<()> {
    let flags = libc::MS_REC | libc::MS_SLAVE;
    // SAFETY: the string has an end; everything else is null or a number.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS))?;
        check(libc::mount(
            ptr::null(),
            c"/".as_ptr(),
            ptr::null(),
            flags,
            ptr::null(),
        ))?;
    }
    Ok(())
}

/// A copy of what is mounted at `path`, attached nowhere.
pub(crate) fn clone_tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= libc::AT_RECURSIVE as libc::c_uint;
    }
    // SAFETY: the path has an end and lives through the call.
    owned(
        unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) } as i32,
    )
}

/// Has owners on an unattached mount seen as a user namespace sees them: id 0 of it owns what id 0
/// owns on the disk.
pub(crate) fn map_ids(tree: BorrowedFd<'_>, users: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::from(users.as_raw_fd().cast_unsigned()),
    };
    // SAFETY: the empty string has an end, the attributes live through the call with their size.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(done as i32)?;
    Ok(())
}

/// Covers a directory with an empty one that everybody may search.
pub(crate) fn cover(path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let kind = c"tmpfs".as_ptr();
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let options = c"mode=755".as_ptr().cast();
    // SAFETY: all strings have an end and live through the call.
    check(unsafe { libc::mount(kind, path.as_ptr(), kind, flags, options) })?;
    Ok(())
}

/// Attaches a mount at a place that is made for it.
pub(crate) fn attach_tree(tree: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let what = fs::metadata(format!("/proc/self/fd/{}", tree.as_raw_fd()))?;
    match what.is_dir() {
        true => fs::create_dir(path)?,
        false => drop(File::create(path)?),
    }
    let path = c_path(path)?;
    // SAFETY: both strings have an end and live through the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    check(done as i32)?;
    Ok(())
}
