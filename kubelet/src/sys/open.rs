//! Opening paths that somebody else may be changing, without ever leaving a root.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::Mode;

/// Opens `path` as if `root` were `/`: `..` and symbolic links, absolute ones too, stay inside.
/// Magic links of procfs are refused. An empty path is the root itself.
pub fn in_root(root: impl AsFd, path: &Path, flags: OFlag, mode: Mode) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(if flags.contains(OFlag::O_CREAT) {
            mode
        } else {
            Mode::empty()
        })
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
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
pub fn name_in(dir: impl AsFd, name: &std::ffi::OsStr, flags: OFlag) -> io::Result<OwnedFd> {
    nix::fcntl::openat(
        dir,
        name,
        flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(Into::into)
}

/// Makes every missing directory of `path` under `root` and opens the last, following links inside
/// the root only. New directories get `mode`, whatever the umask.
pub fn make_dirs(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
    let mut done = PathBuf::new();
    let mut dir = in_root(
        root,
        Path::new(""),
        OFlag::O_PATH | OFlag::O_DIRECTORY,
        Mode::empty(),
    )?;
    for part in path.components() {
        let name = match part {
            Component::Normal(name) => name,
            Component::RootDir | Component::CurDir => continue,
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        };
        done.push(name);
        let opened = in_root(
            root,
            &done,
            OFlag::O_PATH | OFlag::O_DIRECTORY,
            Mode::empty(),
        );
        dir = match opened {
            Ok(next) => next,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                match nix::sys::stat::mkdirat(&dir, name, Mode::S_IRWXU) {
                    Ok(()) | Err(nix::Error::EEXIST) => {}
                    Err(err) => return Err(err.into()),
                }
                // NOFOLLOW: what was just made is a directory, or somebody replaced it and this
                // fails.
                let made = name_in(&dir, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
                nix::sys::stat::fchmod(&made, mode)?;
                made
            }
            Err(err) => return Err(err),
        };
    }
    Ok(dir)
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
            let fd = in_root(&root, Path::new(path), OFlag::O_RDONLY, Mode::empty()).unwrap();
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
        // The link's target does not exist inside the root, so it dangles there.
        assert!(
            make_dirs(
                root.as_fd(),
                Path::new("out/a"),
                Mode::from_bits_truncate(0o755)
            )
            .is_err()
        );
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        make_dirs(
            root.as_fd(),
            Path::new("a/b"),
            Mode::from_bits_truncate(0o2777),
        )
        .unwrap();
        assert!(dir.path().join("a/b").is_dir());
        assert!(make_dirs(root.as_fd(), Path::new("a/../b"), Mode::empty()).is_err());
    }
}
