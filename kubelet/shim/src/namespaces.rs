//! The pod's namespaces, held by open descriptors, and the process that holds a shared PID namespace.
//!
//! Everything here happens in short-lived copies of the shim, which itself stays where it is.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use shim::protocol::{self, MakeSandbox, Pair, helper_fd};

use crate::sys;

/// What containers of the pod join; `None` is the node's or their own.
#[derive(Default)]
pub(crate) struct Namespaces {
    pub(crate) net: Option<OwnedFd>,
    pub(crate) ipc: Option<OwnedFd>,
    pub(crate) uts: Option<OwnedFd>,
    pub(crate) pid: Option<OwnedFd>,
    /// Owns the others, if the pod has users of its own.
    pub(crate) user: Option<OwnedFd>,
    /// The process that holds `pid`.
    pause: Option<i32>,
}

/// Who the holder of a PID namespace is: the id that upstream's pause image runs as.
const PAUSE_ID: u32 = 65_535;

impl Namespaces {
    /// Makes what is asked for. `network` and `user` are the namespaces that were handed over.
    pub(crate) fn make(
        ask: &MakeSandbox,
        network: Option<OwnedFd>,
        user: Option<OwnedFd>,
    ) -> io::Result<Self> {
        let mut made = Self {
            net: network,
            user,
            ..Self::default()
        };
        made.make_plain(ask)?;
        if ask.share_pid {
            made.start_pause(&ask.pause_cgroups)?;
        }
        Ok(made)
    }

    /// The descriptors that a helper is given, with their places.
    pub(crate) fn for_helper(&self) -> Vec<(&OwnedFd, i32)> {
        let all = [
            (&self.net, helper_fd::NET),
            (&self.ipc, helper_fd::IPC),
            (&self.uts, helper_fd::UTS),
            (&self.pid, helper_fd::PID),
            (&self.user, helper_fd::USER),
        ];
        all.into_iter()
            .filter_map(|(fd, place)| fd.as_ref().map(|fd| (fd, place)))
            .collect()
    }

    /// Ends what holds a namespace by living in it.
    pub(crate) fn release(&self) {
        if let Some(pid) = self.pause {
            let _ = sys::kill(pid, libc::SIGKILL);
        }
    }

    /// Network, IPC and UTS namespaces with the pod's host name and sysctls.
    fn make_plain(&mut self, ask: &MakeSandbox) -> io::Result<()> {
        let kinds = [
            (ask.network == protocol::NETWORK_NEW, libc::CLONE_NEWNET),
            (ask.new_ipc, libc::CLONE_NEWIPC),
            (ask.new_uts, libc::CLONE_NEWUTS),
        ];
        let kinds = kinds
            .iter()
            .filter(|(wanted, _)| *wanted)
            .fold(0, |all, (_, kind)| all | kind);
        if kinds == 0 && ask.sysctls.is_empty() {
            return Ok(());
        }
        let (given, user) = (self.net.as_ref(), self.user.as_ref());
        let mut maker = Copy::start(|| {
            // First: what is made now belongs to it.
            user.map_or(Ok(()), become_root_of)?;
            if let Some(network) = given {
                sys::enter(network.as_fd())?;
            }
            sys::unshare(kinds)?;
            if ask.network == protocol::NETWORK_NEW {
                sys::loopback_up()?;
            }
            if ask.new_uts {
                sys::set_hostname(&ask.hostname)?;
            }
            ask.sysctls.iter().try_for_each(set_sysctl)
        })?;
        maker.ready()?;
        let pid = maker.pid;
        let open = |kind: &str, wanted: bool| -> io::Result<Option<OwnedFd>> {
            if !wanted {
                return Ok(None);
            }
            File::open(format!("/proc/{pid}/ns/{kind}")).map(|file| Some(file.into()))
        };
        if ask.network == protocol::NETWORK_NEW {
            self.net = open("net", true)?;
        }
        self.ipc = open("ipc", ask.new_ipc)?;
        self.uts = open("uts", ask.new_uts)?;
        Ok(())
    }

    /// Starts the first process of a PID namespace; it reaps orphans, has nothing and sees nothing.
    fn start_pause(&mut self, cgroups: &[String]) -> io::Result<()> {
        let joined: Vec<&OwnedFd> = [&self.net, &self.ipc, &self.uts]
            .into_iter()
            .flatten()
            .collect();
        let user = self.user.as_ref();
        let (said, says) = sys::pipe()?;
        let maker = Copy::start(|| {
            cgroups
                .iter()
                .try_for_each(|file| std::fs::write(file, "0"))?;
            user.map_or(Ok(()), become_root_of)?;
            joined
                .iter()
                .try_for_each(|namespace| sys::enter(namespace.as_fd()))?;
            sys::unshare(libc::CLONE_NEWPID)?;
            let pid = sys::fork()?;
            if pid > 0 {
                // The number is one of the shim's namespace: only children were moved.
                return io::Write::write_all(
                    &mut &File::from(says.try_clone()?),
                    &pid.to_le_bytes(),
                );
            }
            let become_pause = || {
                sys::empty_root()?;
                sys::reset_signals();
                sys::drop_privileges(PAUSE_ID)?;
                sys::close_from(0)
            };
            if become_pause().is_err() {
                sys::exit_now(1);
            }
            sys::wait_and_reap();
        });
        let mut maker = maker?;
        maker.ready()?;
        drop(says);
        let mut pid = [0; 4];
        File::from(said).read_exact(&mut pid)?;
        let pid = i32::from_le_bytes(pid);
        self.pause = Some(pid);
        self.pid = Some(File::open(format!("/proc/{pid}/ns/pid"))?.into());
        Ok(())
    }
}

fn become_root_of(user: &OwnedFd) -> io::Result<()> {
    sys::enter(user.as_fd())?;
    sys::become_root()
}

fn set_sysctl(sysctl: &Pair) -> io::Result<()> {
    // A dot separates, a slash is part of a name (an interface with a dot in it).
    let file: String = sysctl
        .name
        .chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect();
    if file.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(io::Error::other(format!(
            "bad sysctl name {:?}",
            sysctl.name
        )));
    }
    std::fs::write(format!("/proc/sys/{file}"), &sysctl.value)
        .map_err(|error| io::Error::other(format!("sysctl {}: {error}", sysctl.name)))
}

/// A copy of the shim that does something and then waits until it is not needed any more.
struct Copy {
    pid: i32,
    says: File,
    /// The copy ends when this is closed.
    keeps: Option<OwnedFd>,
}

impl Copy {
    fn start(work: impl FnOnce() -> io::Result<()>) -> io::Result<Self> {
        let (says, said) = sys::pipe()?;
        let (kept, keeps) = sys::pipe()?;
        let pid = sys::fork()?;
        if pid == 0 {
            drop((says, keeps));
            let mut said = File::from(said);
            let text = work()
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default();
            let _ = io::Write::write_all(&mut said, text.as_bytes());
            drop(said);
            let _ = File::from(kept).read(&mut [0]);
            sys::exit_now(0);
        }
        drop((said, kept));
        Ok(Self {
            pid,
            says: says.into(),
            keeps: Some(keeps),
        })
    }

    /// Waits until the work is done; its error, if it failed.
    fn ready(&mut self) -> io::Result<()> {
        let mut error = String::new();
        self.says.read_to_string(&mut error)?;
        if error.is_empty() {
            Ok(())
        } else {
            Err(io::Error::other(error))
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.keeps = None;
        let _ = sys::wait_for(self.pid);
    }
}
