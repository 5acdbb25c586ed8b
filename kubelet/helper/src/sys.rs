//! The system calls of the helper that the standard library has no word for.
#![allow(unsafe_code, reason = "the module that speaks to the kernel")]

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use oci_spec::runtime::PosixRlimitType;

mod mounts;
mod privilege;

pub(crate) use mounts::{attach_tree, clone_tree, cover, map_ids, own_mounts};
pub(crate) use privilege::{
    CapabilitySets, attach_device_filter, install_filter, limit_bounding, set_apparmor,
    set_capabilities, set_no_new_privileges, set_user,
};

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn owned(result: libc::c_int) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: the call just made the descriptor, nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor that stays open as long as the process lives.
pub(crate) fn borrow_for_life(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: callers pass numbers at which the parent put something; nobody closes them.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

pub(crate) fn close_on_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok(())
}

/// Everything but the standard streams is closed when the program is executed.
pub(crate) fn close_others_on_exec() -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: nothing is closed now.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    check(result as i32)?;
    Ok(())
}

/// A copy of the process. Only for single-threaded programs, where the child may do anything.
pub(crate) fn fork() -> io::Result<i32> {
    // SAFETY: the helper has one thread.
    check(unsafe { libc::fork() })
}

/// Ends the process at once, without running anything of the parent's that was copied.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: never returns.
    unsafe { libc::_exit(code) }
}

/// A process by descriptor.
pub(crate) fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32)
}

/// Enters namespaces of these kinds of a process.
pub(crate) fn enter(process: BorrowedFd<'_>, kinds: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::setns(process.as_raw_fd(), kinds) })?;
    Ok(())
}

/// Root of the user namespace just entered.
pub(crate) fn become_root() -> io::Result<()> {
    // SAFETY: no memory is passed.
    unsafe {
        check(libc::setresgid(0, 0, 0))?;
        check(libc::setresuid(0, 0, 0))?;
    }
    Ok(())
}

pub(crate) fn new_session() -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::setsid() })?;
    Ok(())
}

/// Others may not trace this process or look into it while it changes sides.
pub(crate) fn set_undumpable() -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) })?;
    Ok(())
}

pub(crate) fn set_umask(umask: u32) {
    // SAFETY: no memory is passed.
    unsafe { libc::umask(umask) };
}

/// How much sooner the kernel takes this process for memory. Best effort: lowering it needs a
/// capability that a kubelet in a container may lack; then it stays what the shim has.
pub(crate) fn set_oom_score_adj(score: i32) {
    let _ = fs::write("/proc/self/oom_score_adj", score.to_string());
}

pub(crate) fn set_rlimit(kind: PosixRlimitType, soft: u64, hard: u64) -> io::Result<()> {
    use PosixRlimitType as T;
    let resource = match kind {
        T::RlimitAs => libc::RLIMIT_AS,
        T::RlimitCore => libc::RLIMIT_CORE,
        T::RlimitCpu => libc::RLIMIT_CPU,
        T::RlimitData => libc::RLIMIT_DATA,
        T::RlimitFsize => libc::RLIMIT_FSIZE,
        T::RlimitLocks => libc::RLIMIT_LOCKS,
        T::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        T::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        T::RlimitNice => libc::RLIMIT_NICE,
        T::RlimitNofile => libc::RLIMIT_NOFILE,
        T::RlimitNproc => libc::RLIMIT_NPROC,
        T::RlimitRss => libc::RLIMIT_RSS,
        T::RlimitRtprio => libc::RLIMIT_RTPRIO,
        T::RlimitRttime => libc::RLIMIT_RTTIME,
        T::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        T::RlimitStack => libc::RLIMIT_STACK,
    };
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the limit lives through the call.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })?;
    Ok(())
}

/// A terminal of the devpts at `/dev/pts`: master and slave. The slave is opened through the master,
/// not by a path that the container could have changed.
pub(crate) fn open_terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    const FLAGS: i32 = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    const DEVPTS_MAGIC: libc::c_long = 0x1cd1;
    // SAFETY: strings have an end, everything passed lives through the calls.
    unsafe {
        let master = owned(libc::open(c"/dev/pts/ptmx".as_ptr(), FLAGS))?;
        let mut system: libc::statfs = std::mem::zeroed();
        check(libc::fstatfs(master.as_raw_fd(), &raw mut system))?;
        if system.f_type != DEVPTS_MAGIC {
            return Err(io::Error::other("/dev/pts is not a devpts"));
        }
        let unlocked: libc::c_int = 0;
        check(libc::ioctl(
            master.as_raw_fd(),
            libc::TIOCSPTLCK,
            &raw const unlocked,
        ))?;
        let slave = owned(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, FLAGS))?;
        Ok((master, slave))
    }
}

pub(crate) fn resize(terminal: BorrowedFd<'_>, width: u16, height: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: height,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the size lives through the call.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })?;
    Ok(())
}

/// Makes it the controlling terminal and the standard streams.
pub(crate) fn take_terminal(slave: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is passed.
    unsafe {
        check(libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0))?;
        for at in 0..3 {
            check(libc::dup2(slave.as_raw_fd(), at))?;
        }
    }
    Ok(())
}

pub(crate) fn give_to(fd: BorrowedFd<'_>, owner: u32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::fchown(fd.as_raw_fd(), owner, u32::MAX) })?;
    Ok(())
}

/// A directory to start from.
pub(crate) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    const FLAGS: i32 = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the path has an end and lives through the call.
    owned(unsafe { libc::open(path.as_ptr(), FLAGS) })
}

/// A directory below `root`, as somebody whose root that is would find it: links stay inside, and those
/// of `/proc`, which lead to what this process has open, are not followed (CVE-2024-21626). What is
/// missing is made, if asked for.
pub(crate) fn open_dir(root: &OwnedFd, path: &Path, make: bool) -> io::Result<OwnedFd> {
    const MODE: libc::mode_t = 0o755;
    let open = |path: &Path| -> io::Result<OwnedFd> {
        let path = c_path(path)?;
        // SAFETY: open_how is plain data for which all zeros is valid; the path lives through the call.
        unsafe {
            let mut how: libc::open_how = std::mem::zeroed();
            how.flags = (libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) as u64;
            how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
            let size = size_of::<libc::open_how>();
            let root = root.as_raw_fd();
            owned(
                libc::syscall(libc::SYS_openat2, root, path.as_ptr(), &raw const how, size) as i32,
            )
        }
    };
    match open(path) {
        Err(error) if make && error.kind() == io::ErrorKind::NotFound => {}
        done => return done,
    }
    // A link to nowhere is not followed by mkdir, so it fails here, too.
    if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
        let parent = open_dir(root, parent, true)?;
        let name = c_path(Path::new(name))?;
        // SAFETY: the name is one component, has an end, and lives through the call.
        let made = check(unsafe { libc::mkdirat(parent.as_raw_fd(), name.as_ptr(), MODE) });
        if let Err(error) = made
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error);
        }
    }
    open(path)
}

pub(crate) fn enter_dir(dir: &OwnedFd) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::fchdir(dir.as_raw_fd()) })?;
    Ok(())
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Lets the user open its own standard streams again through `/proc/self/fd` or `/dev/stdout`. What
/// belongs to somebody else's device (`/dev/null`) stays.
pub(crate) fn give_streams_to(owner: u32) {
    for fd in 0..3 {
        // SAFETY: stat is plain data, filled by the call.
        unsafe {
            let mut stat: libc::stat = std::mem::zeroed();
            let null = libc::makedev(1, 3);
            if libc::fstat(fd, &raw mut stat) == 0 && stat.st_rdev != null && stat.st_uid != owner {
                libc::fchown(fd, owner, u32::MAX);
            }
        }
    }
}

/// No signal blocked or ignored.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: no handler is installed; what cannot be changed fails without effect.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: the set is initialised by sigemptyset before it is used.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
    }
}

/// Becomes another program; returns only why it could not.
pub(crate) fn exec(path: &Path, args: &[CString], env: &[CString]) -> io::Error {
    let path = match c_path(path) {
        Ok(path) => path,
        Err(error) => return error,
    };
    let list = |all: &[CString]| -> Vec<*const libc::c_char> {
        all.iter()
            .map(|s| s.as_ptr())
            .chain([ptr::null()])
            .collect()
    };
    let (argv, envp) = (list(args), list(env));
    // SAFETY: both lists end with a null and point to strings that live through the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_working_directory_stays_below_its_root() {
        let dir = std::env::temp_dir().join(format!("navarch-cwd-{}", std::process::id()));
        fs::create_dir_all(dir.join("root/sub")).unwrap();
        fs::create_dir_all(dir.join("outside")).unwrap();
        symlink("/sub", dir.join("root/inside")).unwrap();
        symlink("../../outside", dir.join("root/out")).unwrap();
        symlink("/proc/self/fd/2", dir.join("root/magic")).unwrap();
        let root = open_root(&dir.join("root")).unwrap();
        let open = |path: &str, make| {
            let fd = open_dir(&root, Path::new(path), make)?;
            fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        };
        assert_eq!(open("/inside/a/b", true).unwrap(), dir.join("root/sub/a/b"));
        assert_eq!(open("/../../sub", false).unwrap(), dir.join("root/sub"));
        assert!(open("/nowhere", false).is_err());
        assert!(
            open("/out/x", true).is_err(),
            "a link that leads to nothing inside"
        );
        assert!(open("/magic", true).is_err());
        assert!(!dir.join("outside/x").exists());
        fs::remove_dir_all(dir).unwrap();
    }
}
