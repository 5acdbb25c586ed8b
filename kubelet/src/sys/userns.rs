//! User namespaces as descriptors, for id-mapped mounts and for pods.
#![allow(
    unsafe_code,
    reason = "a user namespace can only be made by clone(2) in a threaded process"
)]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Ids `inside..inside+length` of a namespace are `host..host+length` of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct IdMap {
    pub inside: u32,
    pub host: u32,
    pub length: u32,
}

/// Makes a user namespace with these mappings that lives as long as the descriptor.
pub fn create(uids: &[IdMap], gids: &[IdMap]) -> io::Result<OwnedFd> {
    make(0, "user", uids, gids)
}

/// Makes a network namespace that belongs to a new user namespace with these mappings: who is root
/// there may configure it. It keeps that user namespace, which [`owner`] finds.
pub fn create_network(uids: &[IdMap], gids: &[IdMap]) -> io::Result<OwnedFd> {
    make(libc::CLONE_NEWNET, "net", uids, gids)
}

/// The user namespace that a namespace belongs to.
pub fn owner(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// `_IO(0xb7, 1)` of `linux/nsfs.h`.
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: no memory is passed; a descriptor that is answered is nobody else's.
    unsafe {
        match libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// The namespace of kind `name` of a process that is in a new user namespace and in new ones of these
/// kinds, which belong to it.
fn make(kinds: libc::c_int, name: &str, uids: &[IdMap], gids: &[IdMap]) -> io::Result<OwnedFd> {
    let (go, hold) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // SAFETY: the child of this clone has its own copy of memory with one thread. It does nothing
    // but read(2) and _exit(2), which are safe after a fork of a threaded process.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::CLONE_NEWUSER | kinds | libc::SIGCHLD,
            0usize,
            0usize,
            0usize,
            0usize,
        )
    };
    match pid {
        0 => child(go, hold),
        -1 => Err(io::Error::last_os_error()),
        pid => {
            let result = configure(pid, name, uids, gids);
            // The child reads end of file, or died already; either way it is reaped here.
            drop(hold);
            reap(pid as libc::pid_t);
            result
        }
    }
}

fn child(go: OwnedFd, hold: OwnedFd) -> ! {
    let mut byte = 0u8;
    // SAFETY: close, read and _exit are async-signal-safe; the descriptors are this process' own
    // copies.
    unsafe {
        libc::close(hold.as_raw_fd());
        libc::read(go.as_raw_fd(), (&raw mut byte).cast(), 1);
        libc::_exit(0)
    }
}

fn configure(pid: libc::c_long, name: &str, uids: &[IdMap], gids: &[IdMap]) -> io::Result<OwnedFd> {
    for (file, maps) in [("uid_map", uids), ("gid_map", gids)] {
        let lines: String = maps
            .iter()
            .map(|m| format!("{} {} {}\n", m.inside, m.host, m.length))
            .collect();
        fs::write(format!("/proc/{pid}/{file}"), lines)?;
    }
    Ok(File::open(format!("/proc/{pid}/ns/{name}"))?.into())
}

fn reap(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: waitpid on our own child with a live status word.
    while unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_network_belongs_to_the_user_namespace_that_it_was_made_in() {
        let maps = [IdMap {
            inside: 0,
            host: 200_000,
            length: 65_536,
        }];
        let network = create_network(&maps, &maps).unwrap();
        let owner = File::from(owner(network.as_fd()).unwrap());
        let own = fs::metadata("/proc/self/ns/user").unwrap();
        assert_ne!(owner.metadata().unwrap().ino(), own.ino());
        let node = File::open("/proc/self/ns/net").unwrap();
        let of_node = File::from(super::owner(node.as_fd()).unwrap());
        assert_eq!(of_node.metadata().unwrap().ino(), own.ino());
    }
}
