//! Files that a crash leaves either old or new, never half.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::open::{self, Bounds};

/// How far a write has to have got when the call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Survives the death of this process. For state that is void after a reboot anyway.
    Process,
    /// Survives the loss of power.
    Disk,
}

/// Replaces `path` by `bytes` in one step: written beside it, then renamed over it.
pub fn write_atomic(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    durability: Durability,
) -> io::Result<()> {
    let mut name = OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    name.push(".tmp");
    let tmp = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&tmp)?;
    file.write_all(bytes)?;
    if durability == Durability::Disk {
        file.sync_all()?;
    }
    fs::rename(&tmp, path)?;
    if durability == Durability::Disk {
        sync_parent(path)?;
    }
    Ok(())
}

/// Makes a rename or an unlink of `path` durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Removes a file or a whole directory; one that is not there is not an error. A directory on which
/// something is mounted is one: nothing is deleted through a mount.
pub fn remove_all(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    match open::root(parent) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        parent => remove_in(&parent?, name),
    }
}

/// Directories below each other that are open at once.
const DEPTH_MAX: usize = 128;

fn remove_in(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    if !unlink(parent, name)? {
        return Ok(());
    }
    while !remove_dir(parent, name)? {
        let top = open_dir(parent, name)?;
        empty(&top, &top, 0)?;
    }
    Ok(())
}

/// Removes what is in `dir`. A tree may be as deep as a container made it: what is too deep is
/// moved up into `top`, for the next round.
fn empty(dir: &OwnedFd, top: &OwnedFd, depth: usize) -> io::Result<()> {
    for entry in fs::read_dir(open::proc_path(dir))? {
        let name = entry?.file_name();
        if !unlink(dir, &name)? || remove_dir(dir, &name)? {
            continue;
        }
        if depth == DEPTH_MAX {
            let up = format!(".deep-{:016x}", rand::random::<u64>());
            nix::fcntl::renameat(dir, name.as_os_str(), top, up.as_str())?;
            continue;
        }
        empty(&open_dir(dir, &name)?, top, depth + 1)?;
        remove_dir(dir, &name)?;
    }
    Ok(())
}

/// Removes what is not a directory; true if it is one.
fn unlink(dir: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(false),
        Err(Errno::EISDIR) => Ok(true),
        Err(err) => Err(err.into()),
    }
}

/// Removes an empty directory; false if it is not empty.
fn remove_dir(dir: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    match unlinkat(dir, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
        Err(err) => Err(err.into()),
    }
}

fn open_dir(dir: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    open::within(dir, Path::new(name), Bounds::SameMount, flags)
}

/// The number of this boot, for telling whether what was not synced may have been lost since.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_keeps_no_temporary_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        write_atomic(&path, b"one", 0o600, Durability::Disk).unwrap();
        write_atomic(&path, b"two", 0o600, Durability::Process).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn removing_what_is_gone_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        remove_all(&dir.path().join("never")).unwrap();
        remove_all(&dir.path().join("never/here")).unwrap();
    }

    #[test]
    fn a_tree_goes_however_deep_it_is_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("kept");
        fs::write(&kept, "").unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        std::os::unix::fs::symlink("../kept", tree.join("link")).unwrap();
        let mut at = open::root(&tree).unwrap();
        for _ in 0..1000 {
            nix::sys::stat::mkdirat(&at, "deeper", nix::sys::stat::Mode::S_IRWXU).unwrap();
            at = open_dir(&at, OsStr::new("deeper")).unwrap();
        }
        drop(at);
        remove_all(&tree).unwrap();
        assert!(!tree.exists() && kept.exists());
    }

    #[test]
    fn nothing_is_deleted_through_a_mount() {
        let dir = tempfile::tempdir().unwrap();
        let (data, tree) = (dir.path().join("data"), dir.path().join("tree"));
        fs::create_dir_all(tree.join("a/bound")).unwrap();
        fs::create_dir(&data).unwrap();
        fs::write(data.join("precious"), "x").unwrap();
        // On the same file system: comparing devices would not tell.
        let attributes = super::super::mount::Attributes::NONE;
        super::super::mount::bind(&data, &tree.join("a/bound"), attributes).unwrap();
        assert!(remove_all(&tree).is_err());
        assert!(data.join("precious").exists());
        super::super::mount::unmount_under(&tree).unwrap();
        remove_all(&tree).unwrap();
        assert!(data.join("precious").exists());
    }
}
