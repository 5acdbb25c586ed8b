//! Entering a container: joining cgroups and namespaces of its first process, then becoming what the
//! container's processes are.
//!
//! The order is not free: cgroups come before namespaces, because the node's cgroup files are not
//! visible after; limits before a user namespace takes the right to raise them; the terminal is made
//! inside, from the container's own devpts.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use crate::args::Exec;
use crate::create::load;
use crate::error::Error;
use crate::identity::Identity;
use crate::report::{self, Report};
use crate::{cgroup, seccomp, sys, users};

pub(crate) fn exec(ask: &Exec, report: Report) -> Result<(), Error> {
    let spec = load(&ask.spec)?;
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| Error::Spec("no process".into()))?;
    let filter = ask
        .seccomp
        .as_deref()
        .map(seccomp::Filter::read)
        .transpose()?;
    let mut identity = Identity::of(process, filter)?.running(&ask.command);
    if ask.tty.is_some() {
        identity = identity.with_env("TERM", "xterm"); // as CRI's runtimes do
    }

    let target = sys::pidfd(ask.pid).map_err(Error::doing("container's process"))?;
    cgroup::join(ask.pid)?;
    sys::set_oom_score_adj(process.oom_score_adj().unwrap_or(0));
    for limit in process.rlimits().iter().flatten() {
        sys::set_rlimit(limit.typ(), limit.soft(), limit.hard())
            .map_err(Error::doing("resource limit"))?;
    }
    sys::set_undumpable().map_err(Error::doing("dumpable"))?;
    if let Some(owner) = users::on_node(&spec, identity.uid()) {
        // Inside, nobody may give away what belongs to the node's root.
        sys::give_streams_to(owner);
    }
    join_namespaces(&target, ask.pid)?;
    let terminal = ask
        .tty
        .map(|size| Terminal::open(size, identity.uid()))
        .transpose()?;

    let pid = sys::fork().map_err(Error::doing("fork"))?;
    if pid == 0 {
        let error = enter(&identity, terminal.as_ref());
        report::failed(&error);
        sys::exit_now(126);
    }
    report.created(pid, terminal.as_ref().map(|terminal| &terminal.master))
}

/// Namespaces as the kernel names them, and their kinds.
const NAMESPACES: [(&str, i32); 8] = [
    ("user", libc::CLONE_NEWUSER),
    ("mnt", libc::CLONE_NEWNS),
    ("pid", libc::CLONE_NEWPID),
    ("net", libc::CLONE_NEWNET),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("time", 0x80),
];

/// Joins those that differ, at once: a user namespace that one is in already is refused.
fn join_namespaces(target: &OwnedFd, pid: i32) -> Result<(), Error> {
    let differs = |name: &str| {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{name}")).ok();
        of("self") != of(&pid.to_string())
    };
    let wanted = NAMESPACES.iter().filter(|(name, _)| differs(name));
    let kinds = wanted.fold(0, |all, (_, kind)| all | kind);
    if kinds != 0 {
        sys::enter(target.as_fd(), kinds).map_err(Error::doing("joining namespaces"))?;
    }
    if kinds & libc::CLONE_NEWUSER != 0 {
        sys::become_root().map_err(Error::doing("root of the user namespace"))?;
    }
    Ok(())
}

/// In the new process, which is in all namespaces.
fn enter(identity: &Identity, terminal: Option<&Terminal>) -> Error {
    let prepare = || {
        sys::new_session()?;
        if let Some(terminal) = terminal {
            sys::take_terminal(terminal.slave.as_fd())?;
        }
        sys::close_others_on_exec()
    };
    match prepare() {
        Ok(()) => identity.run(),
        Err(cause) => Error::System {
            doing: "session",
            cause,
        },
    }
}

struct Terminal {
    master: OwnedFd,
    slave: OwnedFd,
}

impl Terminal {
    fn open((width, height): (u16, u16), owner: u32) -> Result<Self, Error> {
        let open = || {
            let (master, slave) = sys::open_terminal()?;
            sys::resize(master.as_fd(), width, height)?;
            sys::give_to(slave.as_fd(), owner)?;
            Ok(Self { master, slave })
        };
        open().map_err(Error::doing("terminal"))
    }
}
