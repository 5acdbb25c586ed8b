//! Pods' network namespaces: made ahead, pinned by files.
//!
//! A bind mount `<dir>/<pod uid>` keeps a namespace when the kubelet and the pod's shim are gone,
//! and is a path that CNI plugins and the runtime open. One made ahead is a descriptor only: after
//! a crash nothing of it is left.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};
use parking_lot::Mutex;

use super::rtnl::{self, Rtnl};
use super::{Error, Result};
use crate::sys::mount;
use crate::sys::userns::{self, IdMap};

/// An unused namespace with loopback up, and a socket to configure it.
pub(super) struct Fresh {
    pub(super) fd: OwnedFd,
    pub(super) rtnl: Rtnl,
}

/// Sysctls of every new namespace. Redirects would teach a pod ways around its gateway; addresses
/// and routes come from us, not from router advertisements.
const SYSCTLS: &[(&str, &str)] = &[
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv6/conf/all/accept_redirects", "0"),
    ("ipv6/conf/default/accept_redirects", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
];

/// The namespaces below one directory.
pub(super) struct Namespaces {
    dir: PathBuf,
    spare: Mutex<Vec<Fresh>>,
    /// How many to keep ready: making one takes longer than everything else of a pod's network.
    target: usize,
}

impl Namespaces {
    pub(super) fn open(dir: &Path, target: usize) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::at("create", dir))?;
        Ok(Self {
            dir: dir.to_owned(),
            spare: Mutex::default(),
            target,
        })
    }

    pub(super) fn path(&self, uid: &str) -> PathBuf {
        self.dir.join(uid)
    }

    /// A namespace nobody uses yet. One for a pod with a user namespace of its own, whose mappings
    /// these are, belongs to that.
    pub(super) fn fresh(&self, ids: &[IdMap]) -> Result<Fresh> {
        if !ids.is_empty() {
            return create_for(ids);
        }
        let spare = self.spare.lock().pop();
        spare.map_or_else(create, Ok)
    }

    /// Makes namespaces until enough are ready. Blocks; called when no pod waits.
    pub(super) fn refill(&self) -> Result<()> {
        while self.spare.lock().len() < self.target {
            let fresh = create()?;
            self.spare.lock().push(fresh);
        }
        Ok(())
    }

    /// Pins a namespace as the pod's.
    pub(super) fn pin(&self, uid: &str, netns: BorrowedFd<'_>) -> Result<PathBuf> {
        let path = self.path(uid);
        File::create(&path).map_err(Error::at("create", &path))?;
        mount::clone_of(netns)?.attach(&path)?;
        Ok(path)
    }

    /// Whether the pod's namespace is there.
    pub(super) fn is_pinned(&self, uid: &str) -> Result<bool> {
        Ok(mount::is_mount_point(&self.path(uid))?)
    }

    /// Lets the pod's namespace go. It ends, with its links, when the last process in it has.
    pub(super) fn unpin(&self, uid: &str) -> Result<()> {
        let path = self.path(uid);
        mount::unmount(&path)?;
        match fs::remove_file(&path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(Error::at("remove", &path)),
        }
    }

    /// The pods that have a file here, whether or not a namespace is mounted on it.
    pub(super) fn pinned(&self) -> Result<BTreeSet<String>> {
        let entries = fs::read_dir(&self.dir).map_err(Error::at("list", &self.dir))?;
        let names = entries.flatten().map(|entry| entry.file_name());
        Ok(names.filter_map(|name| name.into_string().ok()).collect())
    }
}

/// Makes a namespace. It is made on a thread of its own, which ends: the caller's namespace must
/// not change.
fn create() -> Result<Fresh> {
    on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|err| Error::Netns(err.into()))?;
        let fd = File::open("/proc/thread-self/ns/net").map_err(Error::Netns)?;
        prepare(fd.into())
    })
}

/// Makes a namespace that belongs to a new user namespace.
fn create_for(ids: &[IdMap]) -> Result<Fresh> {
    let fd = userns::create_network(ids, ids).map_err(Error::Netns)?;
    on_thread(|| {
        setns(&fd, CloneFlags::CLONE_NEWNET).map_err(|err| Error::Netns(err.into()))?;
        prepare(fd)
    })
}

/// Prepares the namespace that this thread is in.
fn prepare(fd: OwnedFd) -> Result<Fresh> {
    for (key, value) in SYSCTLS {
        // Each may be missing: IPv6 can be off.
        let _ = fs::write(Path::new("/proc/sys/net").join(key), value);
    }
    let mut rtnl = Rtnl::open()?;
    const LOOPBACK: u32 = 1;
    rtnl.run(vec![rtnl::set_up(LOOPBACK)])?;
    Ok(Fresh { fd, rtnl })
}

fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

#[cfg(test)]
pub(super) fn create_for_test() -> OwnedFd {
    create().unwrap().fd
}
