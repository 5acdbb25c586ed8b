//! User namespaces as descriptors, for id-mapped mounts.
#![allow(
    unsafe_code,
    reason = "a user namespace can only be made by clone(2) in a threaded process"
)]

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;

/// Ids `inside..inside+length` of a namespace are `host..host+length` of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct IdMap {
    pub inside: u32,
    pub host: u32,
    pub length: u32,
}

/// Makes a user namespace with these mappings that lives as long as the descriptor.
pub fn create(uids: &[IdMap], gids: &[IdMap]) -> io::Result<OwnedFd> {
    let (go, hold) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // SAFETY: the child of this clone has its own copy of memory with one thread. It does nothing
    // but read(2) and _exit(2), which are safe after a fork of a threaded process.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::CLONE_NEWUSER | libc::SIGCHLD,
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
            let result = configure(pid, uids, gids);
            // The child reads end of file, or died already; either way it is reaped here.
            drop(hold);
            reap(pid as libc::pid_t);
            result
        }
    }
}

fn child(go: OwnedFd, hold: OwnedFd) -> ! {
    use std::os::fd::AsRawFd;
    let mut byte = 0u8;
    // SAFETY: close, read and _exit are async-signal-safe; the descriptors are this process' own
    // copies.
    unsafe {
        libc::close(hold.as_raw_fd());
        libc::read(go.as_raw_fd(), (&raw mut byte).cast(), 1);
        libc::_exit(0)
    }
}

fn configure(pid: libc::c_long, uids: &[IdMap], gids: &[IdMap]) -> io::Result<OwnedFd> {
    for (file, maps) in [("uid_map", uids), ("gid_map", gids)] {
        let lines: String = maps
            .iter()
            .map(|m| format!("{} {} {}\n", m.inside, m.host, m.length))
            .collect();
        fs::write(format!("/proc/{pid}/{file}"), lines)?;
    }
    Ok(File::open(format!("/proc/{pid}/ns/user"))?.into())
}

fn reap(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: waitpid on our own child with a live status word.
    while unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}
