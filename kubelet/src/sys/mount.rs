//! Mounts: made detached, configured, then attached, so that nobody sees them half done.
//!
//! Only the descriptor-based API (Linux 5.2; `lowerdir+` 6.5; `MOUNT_ATTR_IDMAP` 5.12): options of
//! mount(2) end at one page, which ten layers with long names already fill, and its errors mislead.
#![allow(unsafe_code, reason = "the mount system calls have no safe wrapper")]

use std::ffi::CString;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, umount2};

/// A mount operation that the kernel refused.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("{call} {path}: {source}{log}", path = path.display())]
    Call {
        call: &'static str,
        path: PathBuf,
        source: io::Error,
        /// What the file system itself said, if it said something.
        log: String,
    },
    #[error("overlay: an image has {0} layers, the kernel takes at most {MAX_LOWER}")]
    TooManyLayers(usize),
    #[error("path with a zero byte")]
    Nul,
    #[error("read the mount table: {0}")]
    Table(io::Error),
}

impl Error {
    fn call(call: &'static str, path: &Path) -> Self {
        Self::Call {
            call,
            path: path.to_owned(),
            source: io::Error::last_os_error(),
            log: String::new(),
        }
    }

    /// The kernel's error number, if it was the kernel.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Call { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

type Result<T> = std::result::Result<T, Error>;

/// Lower layers that one overlay takes (`OVL_MAX_STACK`); the next one fails with a bare EINVAL.
pub const MAX_LOWER: usize = 500;

/// Attributes of a mount, as the `MOUNT_ATTR_*` of mount_setattr(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(u64);

impl Attributes {
    pub const NONE: Self = Self(0);
    pub const READ_ONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    pub const NO_SUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    pub const NO_DEV: Self = Self(libc::MOUNT_ATTR_NODEV);
    pub const NO_EXEC: Self = Self(libc::MOUNT_ATTR_NOEXEC);

    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What is said about a mount in words, as `mount -o` takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Of the mount.
    pub attributes: Attributes,
    /// For the file system itself: a flag, or a key with its value.
    pub own: Vec<(String, Option<String>)>,
}

impl Options {
    /// Tells the options of every mount from those that only the file system knows.
    #[must_use]
    pub fn parse<'a>(options: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = Self::default();
        for option in options {
            let attribute = match option {
                "" | "defaults" | "rw" | "suid" | "dev" | "exec" | "relatime" | "diratime"
                | "bind" => 0,
                "ro" => libc::MOUNT_ATTR_RDONLY,
                "nosuid" => libc::MOUNT_ATTR_NOSUID,
                "nodev" => libc::MOUNT_ATTR_NODEV,
                "noexec" => libc::MOUNT_ATTR_NOEXEC,
                "noatime" => libc::MOUNT_ATTR_NOATIME,
                "strictatime" => libc::MOUNT_ATTR_STRICTATIME,
                "nodiratime" => libc::MOUNT_ATTR_NODIRATIME,
                "nosymfollow" => libc::MOUNT_ATTR_NOSYMFOLLOW,
                own => {
                    let (key, value) = match own.split_once('=') {
                        Some((key, value)) => (key, Some(value.to_owned())),
                        None => (own, None),
                    };
                    all.own.push((key.to_owned(), value));
                    continue;
                }
            };
            all.attributes = all.attributes.and(Attributes(attribute));
        }
        all
    }

    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.attributes.0 & libc::MOUNT_ATTR_RDONLY != 0
    }
}

/// The file system on a block device, detached.
pub fn device(fs: &str, device: &Path, options: &Options) -> Result<Detached> {
    let context = Context::open(fs)?;
    context.set("source", device.as_os_str().as_bytes())?;
    if options.is_read_only() {
        context.flag("ro")?;
    }
    for (key, value) in &options.own {
        match value {
            Some(value) => context.set(key, value.as_bytes())?,
            None => context.flag(key)?,
        }
    }
    context.mount(options.attributes)
}

/// A file system being configured.
struct Context {
    fd: OwnedFd,
    fs: String,
}

impl Context {
    fn open(fs: &str) -> Result<Self> {
        let name = cstring(fs.as_bytes())?;
        // SAFETY: fsopen(const char *, unsigned int) with a live C string.
        let fd = unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), libc::FSOPEN_CLOEXEC) };
        Ok(Self {
            fd: owned(fd).ok_or_else(|| Error::call("fsopen", Path::new(fs)))?,
            fs: fs.to_owned(),
        })
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let (key, value) = (cstring(key.as_bytes())?, cstring(value)?);
        self.config(libc::FSCONFIG_SET_STRING, Some(&key), Some(&value))
    }

    fn flag(&self, key: &str) -> Result<()> {
        let key = cstring(key.as_bytes())?;
        self.config(libc::FSCONFIG_SET_FLAG, Some(&key), None)
    }

    fn config(
        &self,
        command: libc::c_uint,
        key: Option<&CString>,
        value: Option<&CString>,
    ) -> Result<()> {
        let pointer = |s: Option<&CString>| s.map_or(std::ptr::null(), |s| s.as_ptr());
        // SAFETY: fsconfig(int, unsigned int, const char *, const void *, int); both strings
        // outlive the call.
        let done = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.fd.as_raw_fd(),
                command,
                pointer(key),
                pointer(value),
                0,
            )
        };
        if done == 0 {
            Ok(())
        } else {
            Err(self.explain("fsconfig", key))
        }
    }

    fn mount(self, attributes: Attributes) -> Result<Detached> {
        self.config(libc::FSCONFIG_CMD_CREATE, None, None)?;
        // SAFETY: fsmount(int, unsigned int, unsigned int) on a descriptor that we own.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_fsmount,
                self.fd.as_raw_fd(),
                libc::FSMOUNT_CLOEXEC,
                attributes.0 as libc::c_uint,
            )
        };
        owned(fd)
            .map(Detached)
            .ok_or_else(|| self.explain("fsmount", None))
    }

    /// The error of the last call together with what the file system wrote into its log.
    fn explain(&self, call: &'static str, key: Option<&CString>) -> Error {
        let source = io::Error::last_os_error();
        let mut log = String::new();
        let mut buffer = [0; 512];
        let mut file = fs::File::from(match self.fd.try_clone() {
            Ok(fd) => fd,
            Err(_) => {
                return Error::Call {
                    call,
                    path: self.fs.clone().into(),
                    source,
                    log,
                };
            }
        });
        while let Ok(n @ 1..) = file.read(&mut buffer) {
            log.push_str("; ");
            log.push_str(String::from_utf8_lossy(&buffer[..n]).trim());
        }
        let key = key.map_or(String::new(), |k| format!(" {}", k.to_string_lossy()));
        Error::Call {
            call,
            path: format!("{}{key}", self.fs).into(),
            source,
            log,
        }
    }
}

/// A mount that is in nobody's tree yet. Dropped, it is gone.
pub struct Detached(OwnedFd);

impl Detached {
    /// Makes it visible at `target`.
    pub fn attach(self, target: &Path) -> Result<()> {
        let path = cpath(target)?;
        // SAFETY: move_mount(int, const char *, int, const char *, unsigned int) with live C
        // strings. The descriptor is closed right after: an open one would make a later umount fail
        // with EBUSY.
        let done = unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_FDCWD,
                path.as_ptr(),
                libc::MOVE_MOUNT_F_EMPTY_PATH,
            )
        };
        if done == 0 {
            Ok(())
        } else {
            Err(Error::call("move_mount", target))
        }
    }

    /// The same with these attributes on top.
    pub fn with(self, attributes: Attributes) -> Result<Self> {
        if attributes != Attributes::NONE {
            let atime = attributes.0 & libc::MOUNT_ATTR__ATIME;
            let clear = if atime == 0 {
                0
            } else {
                libc::MOUNT_ATTR__ATIME
            };
            self.change(attributes.0, clear, 0, None, false)
                .map_err(|source| changed("mount_setattr", Path::new(""), source))?;
        }
        Ok(self)
    }

    fn set(
        &self,
        attributes: u64,
        propagation: u64,
        userns: Option<RawFd>,
        recursive: bool,
    ) -> io::Result<()> {
        self.change(attributes, 0, propagation, userns, recursive)
    }

    fn change(
        &self,
        attributes: u64,
        clear: u64,
        propagation: u64,
        userns: Option<RawFd>,
        recursive: bool,
    ) -> io::Result<()> {
        // SAFETY: an all-zero mount_attr is a valid value of this plain struct.
        let mut attr: libc::mount_attr = unsafe { std::mem::zeroed() };
        attr.attr_set = attributes;
        attr.attr_clr = clear;
        attr.propagation = propagation;
        attr.userns_fd = userns.map_or(0, |fd| fd as u64);
        let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
        // SAFETY: mount_setattr(int, const char *, unsigned int, struct mount_attr *, size_t), all
        // alive.
        let done = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                flags,
                &raw const attr,
                size_of::<libc::mount_attr>(),
            )
        };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl AsFd for Detached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An overlay of read-only layers, topmost first, and where changes go.
#[derive(Debug)]
pub struct Overlay<'a> {
    /// Topmost first. At least one.
    pub lower: &'a [PathBuf],
    /// `(upper, work)`; without them the overlay is read-only and needs two layers.
    pub upper: Option<(&'a Path, &'a Path)>,
}

impl Overlay<'_> {
    /// Mounts it, detached.
    pub fn mount(&self, attributes: Attributes) -> Result<Detached> {
        if self.lower.len() > MAX_LOWER {
            return Err(Error::TooManyLayers(self.lower.len()));
        }
        let context = Context::open("overlay")?;
        context.set("source", b"overlay")?;
        for layer in self.lower {
            context.set("lowerdir+", layer.as_os_str().as_bytes())?;
        }
        if let Some((upper, work)) = self.upper {
            context.set("upperdir", upper.as_os_str().as_bytes())?;
            context.set("workdir", work.as_os_str().as_bytes())?;
            // Layers are shared between overlays, which the inode index forbids.
            context.set("index", b"off")?;
        }
        context.mount(attributes)
    }
}

/// A tmpfs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tmpfs {
    /// Bytes it may hold; half of the memory if absent, as the kernel's default.
    pub size: Option<u64>,
    /// Permission bits of its root.
    pub mode: Option<u32>,
    /// Keep its pages out of swap where the kernel can (6.4).
    pub no_swap: bool,
}

impl Tmpfs {
    /// Mounts it, detached.
    pub fn mount(&self, attributes: Attributes) -> Result<Detached> {
        let context = Context::open("tmpfs")?;
        context.set("source", b"tmpfs")?;
        if let Some(size) = self.size {
            context.set("size", size.to_string().as_bytes())?;
        }
        if let Some(mode) = self.mode {
            context.set("mode", format!("{mode:o}").as_bytes())?;
        }
        if self.no_swap {
            match context.flag("noswap") {
                // An older kernel does not know it; its swap is then the operator's decision.
                Err(err) if err.errno() == Some(libc::EINVAL) => {}
                other => other?,
            }
        }
        context.mount(attributes)
    }
}

/// A hugetlbfs with pages of the given size in bytes.
pub fn hugetlbfs(page_size: u64) -> Result<Detached> {
    let context = Context::open("hugetlbfs")?;
    context.set("source", b"nodev")?;
    context.set("pagesize", page_size.to_string().as_bytes())?;
    context.mount(Attributes::NONE)
}

/// A private copy of the tree that is visible at `source`, not yet attached. With `recursive`,
/// everything mounted below it too.
pub fn clone_tree(source: &Path, recursive: bool) -> Result<Detached> {
    open_tree(libc::AT_FDCWD, source, 0, recursive)
}

/// A private copy of exactly the file or directory that `fd` is open on: no path is looked up
/// again.
pub fn clone_of(fd: BorrowedFd<'_>) -> Result<Detached> {
    open_tree(fd.as_raw_fd(), Path::new(""), libc::AT_EMPTY_PATH, true)
}

fn open_tree(at: RawFd, source: &Path, flags: i32, recursive: bool) -> Result<Detached> {
    let path = cpath(source)?;
    let flags = flags as libc::c_uint
        | libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | if recursive {
            libc::AT_RECURSIVE as libc::c_uint
        } else {
            0
        };
    // SAFETY: open_tree(int, const char *, unsigned int) with a live C string.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, at, path.as_ptr(), flags) };
    owned(fd)
        .map(Detached)
        .ok_or_else(|| Error::call("open_tree", source))
}

/// Binds `source` at `target`.
pub fn bind(source: &Path, target: &Path, attributes: Attributes) -> Result<()> {
    let tree = clone_tree(source, true)?;
    if attributes != Attributes::NONE {
        tree.set(attributes.0, 0, None, true)
            .map_err(|source| changed("mount_setattr", target, source))?;
    }
    tree.attach(target)
}

/// A copy of the tree at `source` whose owners are seen through `userns`: id 0 of the namespace
/// owns what id 0 owns on disk.
pub fn id_mapped(source: &Path, userns: BorrowedFd<'_>) -> Result<Detached> {
    let tree = clone_tree(source, false)?;
    tree.set(libc::MOUNT_ATTR_IDMAP, 0, Some(userns.as_raw_fd()), false)
        .map_err(|err| changed("id-map", source, err))?;
    Ok(tree)
}

/// Where mounts made inside a directory are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Private,
    Slave,
    Shared,
}

/// Sets the propagation of the mount at `target`, which has to be a mount point.
pub fn set_propagation(target: &Path, propagation: Propagation, recursive: bool) -> Result<()> {
    let mut flags = match propagation {
        Propagation::Private => MsFlags::MS_PRIVATE,
        Propagation::Slave => MsFlags::MS_SLAVE,
        Propagation::Shared => MsFlags::MS_SHARED,
    };
    if recursive {
        flags |= MsFlags::MS_REC;
    }
    nix::mount::mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
        .map_err(|err| changed("mount", target, err.into()))
}

fn changed(call: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Call {
        call,
        path: path.to_owned(),
        source,
        log: String::new(),
    }
}

/// Whether something is mounted exactly there. A path that does not exist is not a mount point.
pub fn is_mount_point(path: &Path) -> Result<bool> {
    let name = cpath(path)?;
    // SAFETY: an all-zero statx is a valid value of this plain struct.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
    // SAFETY: statx(int, const char *, int, unsigned int, struct statx *), all alive.
    let done = unsafe {
        libc::statx(
            libc::AT_FDCWD,
            name.as_ptr(),
            flags,
            libc::STATX_TYPE,
            &raw mut stat,
        )
    };
    if done == 0 {
        return Ok(stat.stx_attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0);
    }
    match Error::call("statx", path) {
        err if matches!(err.errno(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(false),
        err => Err(err),
    }
}

/// Takes away what is mounted at `path`, at once, whoever still uses it. Nothing mounted is not an
/// error.
pub fn unmount(path: &Path) -> Result<()> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT | nix::Error::ENOTDIR) => Ok(()),
        Err(err) => Err(changed("umount", path, err.into())),
    }
}

/// The mount points at or below `path`, the one to unmount first first.
pub fn mounts_under(path: &Path) -> Result<Vec<PathBuf>> {
    // The table knows no symbolic links; /var/lib/kubelet often is one.
    let real = fs::canonicalize(path);
    let path = real.as_deref().unwrap_or(path);
    let table = fs::read("/proc/self/mountinfo").map_err(Error::Table)?;
    let mut found: Vec<_> = mount_points(&table)
        .filter(|at| at.starts_with(path))
        .collect();
    found.reverse();
    Ok(found)
}

/// Unmounts everything at and below `path`, the last mounted first.
pub fn unmount_under(path: &Path) -> Result<()> {
    mounts_under(path)?.iter().try_for_each(|at| unmount(at))
}

/// The mount points of a mountinfo table, in the order of mounting.
pub(crate) fn mount_points(table: &[u8]) -> impl Iterator<Item = PathBuf> + '_ {
    table.split(|&b| b == b'\n').filter_map(|line| {
        let field = line.split(|&b| b == b' ').nth(4)?;
        Some(PathBuf::from(std::ffi::OsStr::from_bytes(&unescape(field))))
    })
}

/// Undoes the octal escapes (`\040`) of the kernel's tables.
pub(crate) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|d| first == b'\\' && d.iter().all(|b| (b'0'..=b'7').contains(b)));
        match octal {
            Some(digits) => {
                out.push(digits.iter().fold(0u32, |n, d| n * 8 + u32::from(d - b'0')) as u8);
                rest = &tail[3..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

fn owned(fd: libc::c_long) -> Option<OwnedFd> {
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn cstring(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::Nul)
}

fn cpath(path: &Path) -> Result<CString> {
    cstring(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks_are_read_back() {
        let table = b"22 1 8:1 / / rw - ext4 /dev/vda rw\n\
            30 22 0:5 / /mnt/a\\040b\\134c rw - tmpfs tmpfs rw\n\
            31 22 0:6 / /x\\+12\\04 rw - tmpfs tmpfs rw\n";
        let points: Vec<_> = mount_points(table).collect();
        assert_eq!(
            points,
            ["/", "/mnt/a b\\c", "/x\\+12\\04"].map(PathBuf::from)
        );
    }

    #[test]
    fn a_refused_option_is_told_in_the_file_systems_words() {
        let context = Context::open("tmpfs").unwrap();
        let err = context.set("size", b"much").unwrap_err();
        assert!(err.to_string().contains("tmpfs"), "{err}");
    }
}
