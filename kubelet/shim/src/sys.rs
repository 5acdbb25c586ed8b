//! The system calls of the shim that the standard library has no word for.
#![allow(unsafe_code, reason = "the module that speaks to the kernel")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The result of a call that says -1 when it failed.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Takes a descriptor that a call returned.
fn owned(result: libc::c_int) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: the call just made the descriptor, nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Where the first line ends.
pub(crate) fn find_line_end(text: &[u8]) -> Option<usize> {
    // SAFETY: pointer and length are of one live slice; what is found lies in it.
    unsafe {
        let found = libc::memchr(text.as_ptr().cast(), b'\n'.into(), text.len());
        (!found.is_null()).then(|| {
            found
                .cast::<u8>()
                .cast_const()
                .offset_from_unsigned(text.as_ptr())
        })
    }
}

/// Gives memory back once it is free: a shim that was loud for a moment is small again after.
pub(crate) fn keep_no_memory() {
    const SPARE: libc::c_int = 64 << 10;
    // SAFETY: called before anything else uses the allocator from another thread: there is none.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, SPARE);
        libc::mallopt(libc::M_MMAP_THRESHOLD, SPARE);
    }
}

/// Which events of a descriptor are wanted. Errors and hang-ups are always told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interest {
    Nothing,
    Read,
    Write,
    ReadWrite,
}

impl Interest {
    const fn bits(self) -> u32 {
        (match self {
            Self::Nothing => 0,
            Self::Read => libc::EPOLLIN,
            Self::Write => libc::EPOLLOUT,
            Self::ReadWrite => libc::EPOLLIN | libc::EPOLLOUT,
        }) as u32
    }
}

/// One readiness.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) token: u64,
    /// The other side is gone.
    pub(crate) broken: bool,
    pub(crate) writable: bool,
    pub(crate) readable: bool,
}

pub(crate) struct Epoll(OwnedFd);

/// How many readinesses are taken at once.
const BATCH: usize = 32;

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed.
        owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map(Self)
    }

    fn control(&self, what: i32, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: interest.bits(),
            u64: token,
        };
        // SAFETY: the event lives through the call.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd, &raw mut event) })?;
        Ok(())
    }

    pub(crate) fn add(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    pub(crate) fn modify(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    pub(crate) fn delete(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, Interest::Nothing)
    }

    /// Waits for readiness; an interruption is an empty answer.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<Ready>> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; BATCH];
        // Rounded up, so that a deadline has passed when the wait ends.
        let millis = timeout.map_or(-1, |t| i32::try_from(t.as_millis() + 1).unwrap_or(i32::MAX));
        // SAFETY: the buffer holds BATCH events.
        let count = check(unsafe {
            libc::epoll_wait(
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                BATCH as i32,
                millis,
            )
        });
        let count = match count {
            Ok(count) => count as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        let has = |event: &libc::epoll_event, bits: i32| event.events & bits as u32 != 0;
        Ok(events[..count]
            .iter()
            .map(|event| Ready {
                token: event.u64,
                broken: has(event, libc::EPOLLERR | libc::EPOLLHUP),
                writable: has(event, libc::EPOLLOUT),
                readable: has(event, libc::EPOLLIN),
            })
            .collect())
    }
}

/// A pipe: what is read, what is written.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: the array holds the two descriptors; both are new.
    unsafe {
        check(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// Makes calls on it return `WouldBlock`.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is passed.
    unsafe {
        let flags = check(libc::fcntl(fd.as_raw_fd(), libc::F_GETFL))?;
        check(libc::fcntl(
            fd.as_raw_fd(),
            libc::F_SETFL,
            flags | libc::O_NONBLOCK,
        ))?;
    }
    Ok(())
}

/// A descriptor that becomes readable when children end; blocks SIGCHLD.
pub(crate) fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before it is used.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::sigprocmask(
            libc::SIG_BLOCK,
            &raw const set,
            ptr::null_mut(),
        ))?;
        owned(libc::signalfd(
            -1,
            &raw const set,
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        ))
    }
}

/// Lets signals that people and service managers send to everything pass by.
pub(crate) fn ignore_termination() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: no handler is installed.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// For a child before it becomes another program: no signal blocked or ignored.
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

/// How a process ended, in the numbers that containers report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ended {
    /// 128 + signal for killed ones.
    pub(crate) code: i32,
    pub(crate) signal: i32,
}

/// Reaps one child, if one has ended.
pub(crate) fn reap() -> Option<(i32, Ended)> {
    let mut status = 0;
    // SAFETY: the status lives through the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then(|| (pid, ended(status)))
}

/// Waits for one child.
pub(crate) fn wait_for(pid: i32) -> io::Result<Ended> {
    let mut status = 0;
    // SAFETY: the status lives through the call.
    check(unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
    Ok(ended(status))
}

fn ended(status: i32) -> Ended {
    if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        Ended {
            code: 128 + signal,
            signal,
        }
    } else {
        Ended {
            code: libc::WEXITSTATUS(status),
            signal: 0,
        }
    }
}

/// Whether a process has this number, ended but not reaped ones included.
pub(crate) fn exists(pid: i32) -> bool {
    // SAFETY: no memory is passed; signal 0 is none.
    unsafe { libc::kill(pid, 0) == 0 }
}

/// Sends a signal; a process that is gone is no error. Negative numbers are process groups.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    match check(unsafe { libc::kill(pid, signal) }) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
        _ => Ok(()),
    }
}

/// A copy of the process. Only for single-threaded programs, where the child may do anything.
pub(crate) fn fork() -> io::Result<i32> {
    // SAFETY: the shim has one thread.
    check(unsafe { libc::fork() })
}

/// Ends the process at once, without running anything of the parent's that was copied.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: never returns.
    unsafe { libc::_exit(code) }
}

/// Closes all descriptors from `first` on.
pub(crate) fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: the caller owns the process; nothing it still uses is in the range.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first as u32, u32::MAX, 0_u32) };
    check(result as i32)?;
    Ok(())
}

/// A session of its own, the parent of orphans below, and a name in process lists.
pub(crate) fn become_reaper() -> io::Result<()> {
    // SAFETY: the name is a string with an end; nothing else is passed.
    unsafe {
        check(libc::setsid())?;
        check(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1))?;
        check(libc::prctl(libc::PR_SET_NAME, c"navarch-shim".as_ptr()))?;
    }
    Ok(())
}

/// The same open file under a number from `from` on, closed on exec.
pub(crate) fn duplicate_from(fd: BorrowedFd<'_>, from: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    owned(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, from) })
}

/// Puts an open file at a number, open across exec.
pub(crate) fn place(fd: BorrowedFd<'_>, at: RawFd) -> io::Result<()> {
    // SAFETY: only in a child before exec; what was at that number is not used any more.
    check(unsafe { libc::dup2(fd.as_raw_fd(), at) })?;
    Ok(())
}

/// Becomes the program in an open file; returns only why it could not.
pub(crate) fn exec_file(image: BorrowedFd<'_>, args: &[CString]) -> io::Error {
    let mut argv: Vec<_> = args.iter().map(|arg| arg.as_ptr()).collect();
    argv.push(ptr::null());
    let environment = [ptr::null()];
    // SAFETY: both lists end with a null and point to strings that live through the call.
    unsafe { libc::fexecve(image.as_raw_fd(), argv.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Size of a terminal.
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

/// A counter that the kernel adds to.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
}

/// Tells when a file is modified.
pub(crate) fn watch_file(path: &CString) -> io::Result<OwnedFd> {
    // SAFETY: the path is a string with an end.
    unsafe {
        let fd = owned(libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK))?;
        check(libc::inotify_add_watch(
            fd.as_raw_fd(),
            path.as_ptr(),
            libc::IN_MODIFY,
        ))?;
        Ok(fd)
    }
}

/// Leaves the namespaces of these kinds for new ones.
pub(crate) fn unshare(kinds: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::unshare(kinds) })?;
    Ok(())
}

/// Enters a namespace.
pub(crate) fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::setns(namespace.as_raw_fd(), 0) })?;
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

pub(crate) fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length are of one live string.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) })?;
    Ok(())
}

/// Brings the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    // SAFETY: ifreq is plain data; the name fits and ends with zero.
    unsafe {
        let socket = owned(libc::socket(
            libc::AF_INET,
            libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
            0,
        ))?;
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        check(libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS,
            &raw const request,
        ))?;
    }
    Ok(())
}

/// An empty, read-only root of this process's own, from which nothing can be reached.
pub(crate) fn empty_root() -> io::Result<()> {
    const LOCKED: libc::c_ulong =
        libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_RDONLY;
    // SAFETY: all strings have an end and live through the calls.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS))?;
        let private = libc::MS_REC | libc::MS_PRIVATE;
        check(libc::mount(
            ptr::null(),
            c"/".as_ptr(),
            ptr::null(),
            private,
            ptr::null(),
        ))?;
        let (kind, at) = (c"tmpfs".as_ptr(), c"/tmp".as_ptr());
        check(libc::mount(
            kind,
            at,
            kind,
            LOCKED,
            c"size=0".as_ptr().cast(),
        ))?;
        check(libc::chdir(at))?;
        // The old root is stacked on the new one and taken off: no directory is needed for it.
        let here = c".".as_ptr();
        check(libc::syscall(libc::SYS_pivot_root, here, here) as i32)?;
        check(libc::umount2(here, libc::MNT_DETACH))?;
        check(libc::chdir(c"/".as_ptr()))?;
    }
    Ok(())
}

/// Gives up everything that a process which only waits does not need: identity, capabilities.
pub(crate) fn drop_privileges(id: libc::uid_t) -> io::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3` with its two words of three sets.
    const HEADER: [u32; 2] = [0x2008_0522, 0];
    const NONE: [u32; 6] = [0; 6];
    // SAFETY: the arrays have the layout that the kernel reads; nothing else is passed.
    unsafe {
        let mut capability = 0;
        while libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) == 0 {
            capability += 1;
        }
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::setgroups(0, ptr::null()))?;
        check(libc::setresgid(id, id, id))?;
        check(libc::setresuid(id, id, id))?;
        check(libc::syscall(libc::SYS_capset, HEADER.as_ptr(), NONE.as_ptr()) as i32)?;
    }
    Ok(())
}

/// Waits for signals and reaps, forever; SIGTERM and SIGINT end the process.
pub(crate) fn wait_and_reap() -> ! {
    // SAFETY: the set is initialised by sigemptyset before it is used; nothing else is passed.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT] {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
        loop {
            let mut signal = 0;
            if libc::sigwait(&raw const set, &raw mut signal) == 0 && signal != libc::SIGCHLD {
                exit_now(0);
            }
            while libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) > 0 {}
        }
    }
}
