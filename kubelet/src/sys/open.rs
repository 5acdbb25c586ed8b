//! Opening paths that somebody else may be changing, without ever leaving a root.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::Mode;

/// What becomes of a path that would lead out of its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// The root is `/`: `..` and absolute links start there again, as after chroot(2).
    Root,
    /// It is refused (`EXDEV`).
    Beneath,
    /// It is refused, and so are symbolic links (`ELOOP`) and other mounts (`EXDEV`).
    SameMount,
}

/// Opens `path` under `root`, within these bounds. Magic links of procfs are always refused. An
/// empty path is the root itself.
pub fn within(root: impl AsFd, path: &Path, bounds: Bounds, flags: OFlag) -> io::Result<OwnedFd> {
    let resolve = match bounds {
        Bounds::Root => ResolveFlag::RESOLVE_IN_ROOT,
        Bounds::Beneath => ResolveFlag::RESOLVE_BENEATH,
        Bounds::SameMount => {
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_XDEV
        }
    };
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(resolve | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    loop {
        match nix::fcntl::openat2(root.as_fd(), path, how) {
            // A rename elsewhere raced with a `..`: the kernel asks to try again.
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
            other => return other.map_err(Into::into),
        }
    }
}

/// Opens a directory, for looking things up in it.
pub fn dir_within(root: impl AsFd, path: &Path, bounds: Bounds) -> io::Result<OwnedFd> {
    within(root, path, bounds, OFlag::O_PATH | OFlag::O_DIRECTORY)
}

/// A directory as a root for the functions of this module.
pub fn root(path: &Path) -> io::Result<OwnedFd> {
    nix::fcntl::open(
        path,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(Into::into)
}

/// Opens one name in a directory without following it if it is a symbolic link.
pub fn name_in(dir: impl AsFd, name: &OsStr, flags: OFlag) -> io::Result<OwnedFd> {
    nix::fcntl::openat(
        dir,
        name,
        flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(Into::into)
}

/// Makes every missing directory of `path` under `root` and opens the last. New directories get
/// `mode`, whatever the umask.
pub fn make_dirs(root: impl AsFd, path: &Path, bounds: Bounds, mode: Mode) -> io::Result<OwnedFd> {
    let mut done = PathBuf::new();
    let mut dir = dir_within(&root, Path::new(""), bounds)?;
    for part in path.components() {
        let name = match part {
            Component::Normal(name) => name,
            Component::RootDir | Component::CurDir => continue,
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        };
        done.push(name);
        dir = match dir_within(&root, &done, bounds) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => make_dir(&dir, name, mode)?,
            other => other?,
        };
    }
    Ok(dir)
}

fn make_dir(dir: &OwnedFd, name: &OsStr, mode: Mode) -> io::Result<OwnedFd> {
    match nix::sys::stat::mkdirat(dir, name, Mode::S_IRWXU) {
        Ok(()) | Err(nix::Error::EEXIST) => {}
        Err(err) => return Err(err.into()),
    }
    // NOFOLLOW: what was just made is a directory, or somebody replaced it and this fails.
    let made = name_in(dir, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    nix::sys::stat::fchmod(&made, mode)?;
    Ok(made)
}

/// A path by which other system calls and processes reach an open descriptor of this process.
pub fn proc_path(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_resolve_inside_the_root_only() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/passwd"), "inside").unwrap();
        symlink("/etc", dir.path().join("abs")).unwrap();
        symlink("../../../../etc", dir.path().join("up")).unwrap();
        let root = root(dir.path()).unwrap();
        for path in ["abs/passwd", "up/passwd", "../../etc/passwd", "/etc/passwd"] {
            let fd = within(&root, Path::new(path), Bounds::Root, OFlag::O_RDONLY).unwrap();
            assert_eq!(
                fs::read_to_string(proc_path(&fd)).unwrap(),
                "inside",
                "{path}"
            );
        }
    }

    #[test]
    fn directories_are_made_through_links_but_never_outside() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        let root = root(dir.path()).unwrap();
        let mode = Mode::from_bits_truncate(0o2777);
        // Inside the root the link dangles.
        assert!(make_dirs(&root, Path::new("out/a"), Bounds::Root, mode).is_err());
        assert!(make_dirs(&root, Path::new("out/a"), Bounds::Beneath, mode).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        make_dirs(&root, Path::new("a/b"), Bounds::Beneath, mode).unwrap();
        assert!(dir.path().join("a/b").is_dir());
        assert!(make_dirs(&root, Path::new("a/../b"), Bounds::Root, mode).is_err());
    }

    #[test]
    fn leaving_is_refused_beneath() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        symlink("/etc", dir.path().join("abs")).unwrap();
        symlink("in", dir.path().join("rel")).unwrap();
        let root = root(dir.path()).unwrap();
        let open = |path: &str, bounds| dir_within(&root, Path::new(path), bounds);
        assert!(open("rel", Bounds::Beneath).is_ok());
        for path in ["abs", "..", "in/../.."] {
            let err = open(path, Bounds::Beneath).unwrap_err();
            assert_eq!(err.raw_os_error(), Some(libc::EXDEV), "{path}");
        }
        assert!(open("rel", Bounds::SameMount).is_err());
    }
}
