//! Writes the entries of a layer into a directory.
//!
//! Every path is resolved by the kernel with that directory as its root, so no entry, link or `..`
//! reaches a file outside it. Deletions of files of lower layers become overlayfs' whiteouts: a
//! character device 0:0 for a name, an attribute for a directory whose lower contents are hidden.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknodat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags};

use super::{Error, Unpacked};
use crate::image::tar::{Archive, Entry, Kind};
use crate::sys::open::Bounds;
use crate::sys::{file, open, xattr};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names with this prefix are bookkeeping of a file system that nobody uses any more.
const RESERVED: &[u8] = b".wh..wh.";

const BLOCK: u64 = 4096;

/// Reads a tar stream to its end and writes what it describes into `into`.
pub(super) fn apply(stream: impl Read, into: &Path) -> Result<Unpacked, Error> {
    let mut archive = Archive::new(stream);
    let mut layer = Layer::open(into)?;
    while let Some(entry) = archive.next_entry()? {
        let path = clean(&entry.path)?;
        layer
            .write(&entry, &path, &mut archive)
            .map_err(|err| match err {
                Wrong::Archive(err) => Error::Archive(err.into()),
                Wrong::Os(source) => Error::Apply { path, source },
            })?;
    }
    layer.finish()
}

/// What failed: reading the archive or writing the file.
enum Wrong {
    Archive(io::Error),
    Os(io::Error),
}

impl From<io::Error> for Wrong {
    fn from(err: io::Error) -> Self {
        Self::Os(err)
    }
}

impl From<Errno> for Wrong {
    fn from(err: Errno) -> Self {
        Self::Os(err.into())
    }
}

struct Layer {
    root: OwnedFd,
    path: PathBuf,
    /// The directory of the last entry: the next one is mostly in it too.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Directories made because a file was in them. An entry of their own takes them off.
    implicit: BTreeSet<PathBuf>,
    /// Names that this layer deletes below. Only such a name can be replaced by a directory that
    /// has to hide what is under it.
    deleted: HashSet<PathBuf>,
    /// Set at the end: writing into a directory changes its time.
    times: Vec<(PathBuf, TimeSpec)>,
    bytes: u64,
    inodes: u64,
}

impl Layer {
    fn open(path: &Path) -> Result<Self, Error> {
        let root = open::root(path).map_err(|source| Error::Apply {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            root,
            path: path.to_owned(),
            parent: None,
            implicit: BTreeSet::new(),
            deleted: HashSet::new(),
            times: Vec::new(),
            bytes: 0,
            inodes: 0,
        })
    }

    fn write(&mut self, entry: &Entry, path: &Path, data: &mut impl Read) -> Result<(), Wrong> {
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            // The root itself: only a directory can be it.
            return match entry.kind {
                Kind::Directory => self.describe_root(entry),
                _ => Ok(()),
            };
        };
        if matches!(entry.kind, Kind::Other(_)) {
            return Ok(());
        }
        let dir = path.parent().unwrap_or(Path::new("")).to_owned();
        if name.as_bytes() == OPAQUE {
            self.enter(&dir)?;
            return self.hide_below(&dir);
        }
        if name.as_bytes().starts_with(RESERVED) {
            return Ok(());
        }
        if let Some(target) = name.as_bytes().strip_prefix(WHITEOUT) {
            if matches!(target, b"" | b"." | b"..") {
                return Err(io::Error::from(io::ErrorKind::InvalidData).into());
            }
            return self.white_out(&dir, OsStr::from_bytes(target));
        }
        self.implicit.remove(path);
        self.create(entry, &dir, &name, data)
    }

    /// Makes the file, replacing what an earlier entry of this layer put there.
    fn create(
        &mut self,
        entry: &Entry,
        dir: &Path,
        name: &OsStr,
        data: &mut impl Read,
    ) -> Result<(), Wrong> {
        self.enter(dir)?;
        let path = dir.join(name);
        let made = match self.make(entry, name, data) {
            Err(Wrong::Os(err)) if err.raw_os_error() == Some(libc::EEXIST) => {
                if entry.kind == Kind::Directory && self.is_directory(name)? {
                    None
                } else {
                    self.discard(&path, name)?;
                    Some(self.make(entry, name, data)?)
                }
            }
            other => Some(other?),
        };
        if made.is_some() {
            self.inodes += 1;
            self.bytes += entry.size.next_multiple_of(BLOCK).max(BLOCK);
        }
        if entry.kind == Kind::Directory && self.deleted.remove(&path) {
            self.hide_below(&path)?;
            self.enter(dir)?;
        }
        self.describe(entry, &path, name)
    }

    fn make(&self, entry: &Entry, name: &OsStr, data: &mut impl Read) -> Result<(), Wrong> {
        let dir = self.current();
        let private = Mode::S_IRUSR | Mode::S_IWUSR;
        match entry.kind {
            Kind::File => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
                let fd = nix::fcntl::openat(dir, name, flags | OFlag::O_CLOEXEC, private)?;
                copy(data, &mut File::from(fd))
            }
            Kind::Directory => Ok(nix::sys::stat::mkdirat(dir, name, Mode::S_IRWXU)?),
            Kind::Symlink => Ok(nix::unistd::symlinkat(
                OsStr::from_bytes(&entry.link),
                dir,
                name,
            )?),
            Kind::HardLink => self.link(&entry.link, name),
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
                let kind = match entry.kind {
                    Kind::CharDevice => SFlag::S_IFCHR,
                    Kind::BlockDevice => SFlag::S_IFBLK,
                    _ => SFlag::S_IFIFO,
                };
                let device = libc::makedev(entry.major, entry.minor);
                Ok(mknodat(dir, name, kind, private, device)?)
            }
            Kind::Other(_) => Ok(()),
        }
    }

    /// Links to another file of this layer; one of a lower layer cannot be linked to.
    fn link(&self, target: &[u8], name: &OsStr) -> Result<(), Wrong> {
        let target = clean(target).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let target_name = target
            .file_name()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let target_dir = target.parent().unwrap_or(Path::new(""));
        let from = open::dir_within(&self.root, target_dir, Bounds::Root)?;
        Ok(nix::unistd::linkat(
            &from,
            target_name,
            self.current(),
            name,
            AtFlags::empty(),
        )?)
    }

    /// Owner, mode, attributes and time; in an order in which none undoes another.
    fn describe(&mut self, entry: &Entry, path: &Path, name: &OsStr) -> Result<(), Wrong> {
        if entry.kind == Kind::HardLink {
            return Ok(());
        }
        let dir = self.current();
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        let nofollow = AtFlags::AT_SYMLINK_NOFOLLOW;
        nix::unistd::fchownat(dir, name, Some(uid), Some(gid), nofollow)?;
        if entry.kind != Kind::Symlink {
            let mode = Mode::from_bits_truncate(entry.mode);
            let follow = nix::sys::stat::FchmodatFlags::FollowSymlink;
            nix::sys::stat::fchmodat(dir, name, mode, follow)?;
        }
        for (key, value) in entry.xattrs.iter().filter(|(key, _)| is_allowed(key)) {
            match xattr::set(dir, name, key, value) {
                // Links and devices take no user attributes, some file systems none at all.
                Err(err) if matches!(err.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EPERM)) => {}
                other => other?,
            }
        }
        let time = time(entry.mtime);
        if entry.kind == Kind::Directory {
            self.times.push((path.to_owned(), time));
            return Ok(());
        }
        let flags = UtimensatFlags::NoFollowSymlink;
        Ok(nix::sys::stat::utimensat(dir, name, &time, &time, flags)?)
    }

    fn describe_root(&mut self, entry: &Entry) -> Result<(), Wrong> {
        self.parent = None;
        self.enter(Path::new(""))?;
        self.describe(entry, Path::new(""), OsStr::new("."))
    }

    fn white_out(&mut self, dir: &Path, name: &OsStr) -> Result<(), Wrong> {
        self.enter(dir)?;
        let device = SFlag::S_IFCHR;
        match mknodat(
            self.current(),
            name,
            device,
            Mode::empty(),
            libc::makedev(0, 0),
        ) {
            Ok(()) => {
                self.inodes += 1;
                self.deleted.insert(dir.join(name));
                Ok(())
            }
            // The layer has a file of that name as well: only what is below it goes.
            Err(Errno::EEXIST) if self.is_directory(name)? => self.hide_below(&dir.join(name)),
            Err(Errno::EEXIST) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }

    /// Lower layers' contents of the directory are not seen.
    fn hide_below(&mut self, dir: &Path) -> Result<(), Wrong> {
        self.enter(dir)?;
        Ok(xattr::set(
            self.current(),
            OsStr::new("."),
            b"trusted.overlay.opaque",
            b"y",
        )?)
    }

    fn is_directory(&self, name: &OsStr) -> Result<bool, Wrong> {
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        let stat = nix::sys::stat::fstatat(self.current(), name, flags)?;
        Ok(stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
    }

    /// Takes away what an earlier entry of this layer made.
    fn discard(&mut self, path: &Path, name: &OsStr) -> Result<(), Wrong> {
        if self.is_directory(name)? {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
            let dir = open::name_in(self.current(), name, flags)?;
            for entry in std::fs::read_dir(open::proc_path(&dir))? {
                file::remove_all(&entry?.path())?;
            }
            nix::unistd::unlinkat(self.current(), name, UnlinkatFlags::RemoveDir)?;
            self.implicit.retain(|made| !made.starts_with(path));
            self.times.retain(|(made, _)| !made.starts_with(path));
        } else {
            nix::unistd::unlinkat(self.current(), name, UnlinkatFlags::NoRemoveDir)?;
        }
        Ok(())
    }

    /// Makes `dir` the current directory, and the directory itself if no entry did.
    fn enter(&mut self, dir: &Path) -> Result<(), Wrong> {
        if self.parent.as_ref().is_some_and(|(at, _)| at == dir) {
            return Ok(());
        }
        let fd = match open::dir_within(&self.root, dir, Bounds::Root) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => self.make_parents(dir)?,
            other => other?,
        };
        self.parent = Some((dir.to_owned(), fd));
        Ok(())
    }

    fn make_parents(&mut self, dir: &Path) -> Result<OwnedFd, Wrong> {
        let steps: Vec<_> = dir
            .ancestors()
            .filter(|p| !p.as_os_str().is_empty())
            .collect();
        for step in steps.into_iter().rev() {
            match open::dir_within(&self.root, step, Bounds::Root) {
                Err(err) if err.kind() == io::ErrorKind::NotFound => {
                    self.implicit.insert(step.to_owned());
                    self.inodes += 1;
                    self.bytes += BLOCK;
                    open::make_dirs(
                        &self.root,
                        step,
                        Bounds::Root,
                        Mode::from_bits_truncate(0o755),
                    )?;
                    if self.deleted.remove(step) {
                        self.hide_below(step)?;
                    }
                }
                other => drop(other?),
            }
        }
        Ok(open::dir_within(&self.root, dir, Bounds::Root)?)
    }

    fn current(&self) -> &OwnedFd {
        self.parent.as_ref().map_or(&self.root, |(_, fd)| fd)
    }

    fn finish(self) -> Result<Unpacked, Error> {
        for (path, time) in self.times.iter().rev() {
            let set = open::dir_within(&self.root, path, Bounds::Root).and_then(|dir| {
                let flags = UtimensatFlags::NoFollowSymlink;
                Ok(nix::sys::stat::utimensat(dir, ".", time, time, flags)?)
            });
            set.map_err(|source| Error::Apply {
                path: self.path.join(path),
                source,
            })?;
        }
        Ok(Unpacked {
            bytes: self.bytes,
            inodes: self.inodes,
            implicit: self.implicit.into_iter().collect(),
        })
    }
}

/// The path inside the layer, with `.` and `..` taken out as if the layer were the root.
fn clean(path: &[u8]) -> Result<PathBuf, Error> {
    if path.contains(&0) {
        return Err(Error::Path {
            path: OsString::from_vec(path.to_vec()).into(),
        });
    }
    let mut clean = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(path)).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    Ok(clean)
}

/// Attributes that an image may set. `trusted.overlay.*` would let it steer the overlay itself.
fn is_allowed(key: &[u8]) -> bool {
    (key.starts_with(b"user.") && !key.starts_with(b"user.overlay."))
        || key == b"security.capability"
}

fn time((seconds, nanos): (i64, u32)) -> TimeSpec {
    TimeSpec::new(seconds, i64::from(nanos))
}

fn copy(data: &mut impl Read, file: &mut File) -> Result<(), Wrong> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match data.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => io::Write::write_all(file, &buffer[..n])?,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(Wrong::Archive(err)),
        }
    }
}
