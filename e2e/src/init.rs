//! The first process of a host: the control plane's or a node's.
//!
//! A host is a process tree in a pid namespace and a cgroup of its own, with a host name of its own; killing its first
//! process ends all of it. A node has its own network and mounts as well ([`mounts`]). `init` goes through two stages of the same program:
//!
//! 1. [`launch`], on this machine: join the cgroup, enter the network namespace, make a pid namespace, start stage 2 and wait until it
//!    says that it stands. What goes wrong until then is this process's error, not a line in a log.
//! 2. [`run`], as pid 1: mount, name the host, then [`supervise`] the daemons until killed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};
use serde::{Deserialize, Serialize};

use crate::cluster::cgroup;
use crate::files;

mod mounts;
mod supervise;

pub use supervise::{Process, ProcessStatus, Status, Wanted};

/// Printed by stage 2 once the host stands.
const READY: &str = "ready";

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("{path}")]
    Malformed {
        path: PathBuf,
        #[source]
        cause: serde_json::Error,
    },
    #[error("cannot {what}")]
    Kernel {
        what: &'static str,
        #[source]
        cause: nix::Error,
    },
    #[error("cannot mount {what}")]
    Mount {
        what: String,
        #[source]
        cause: nix::Error,
    },
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    #[error("the host did not come up: {0}")]
    Refused(String),
}

impl Error {
    fn kernel(what: &'static str) -> impl FnOnce(nix::Error) -> Self {
        move |cause| Self::Kernel { what, cause }
    }
}

/// What a host is. Written once by the cluster library; its processes are in a file of their own, because they change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Host {
    /// The host name that its processes see.
    pub name: String,
    /// Holds [`PROCESSES`] and [`STATUS`]; has to exist.
    pub dir: PathBuf,
    /// Relative to each hierarchy's root; has to exist.
    pub cgroup: PathBuf,
    /// What the first process itself has to say.
    pub log: PathBuf,
    /// A node of its own, apart from this machine.
    pub node: Option<Node>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    /// The network namespace, pinned by a file.
    pub network: PathBuf,
    /// What the node keeps on disk (`/var`).
    pub disk: PathBuf,
    /// Directories that the node sees under their own paths, even where its private mounts would cover them.
    pub keep: Vec<PathBuf>,
    pub resolv_conf: String,
    pub hosts: String,
    /// Further files below `/etc`: paths and texts.
    pub etc: Vec<(String, String)>,
}

/// The processes that a host shall run. SIGHUP to the first process makes it read the file again.
pub const PROCESSES: &str = "processes.json";
/// What they do, written by the first process at every change.
pub const STATUS: &str = "status.json";
/// The [`Host`] itself.
pub const HOST: &str = "host.json";

/// Says which process of this machine is the host's first.
pub const FIRST: &str = "first.json";

/// A process, told apart from a later one with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct First {
    pub pid: i32,
    /// In clock ticks since boot (proc_pid_stat(5), field 22).
    pub started: u64,
}

/// Stage 1. Returns once the host stands.
pub fn launch(spec: &Path) -> Result<(), Error> {
    close_inherited()?;
    let host: Host = read_json(spec)?;
    // Own session: nobody's terminal reaches the host. Fails where the process leads one already, which is as good.
    let _ = nix::unistd::setsid();
    cgroup::join(&host.cgroup)?;
    if let Some(node) = &host.node {
        let namespace = File::open(&node.network).map_err(files::cannot("open", &node.network))?;
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)
            .map_err(Error::kernel("enter the network namespace"))?;
    }
    unshare(CloneFlags::CLONE_NEWPID).map_err(Error::kernel("make a pid namespace"))?;

    let log = File::options()
        .append(true)
        .create(true)
        .open(&host.log)
        .map_err(files::cannot("open", &host.log))?;
    let this = Path::new("/proc/self/exe");
    let mut first = Command::new(this)
        .arg0("navarch-init")
        .args(["init", "first"])
        .arg(spec)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(files::cannot("run", this))?;
    let mut said = String::new();
    let stdout = first
        .stdout
        .take()
        .expect("standard output was asked for as a pipe");
    BufReader::new(stdout)
        .read_line(&mut said)
        .map_err(files::cannot("read from", this))?;
    match said.trim_end() {
        READY => {
            let pid = first.id().cast_signed();
            let started =
                start_time(pid).ok_or_else(|| Error::Refused("it ended at once".to_owned()))?;
            Ok(write_json(&host.dir.join(FIRST), &First { pid, started })?)
        }
        "" => Err(Error::Refused(format!(
            "it ended; its log is {}",
            host.log.display()
        ))),
        error => Err(Error::Refused(error.to_owned())),
    }
}

/// Closes what whoever launched the host had open: a lock among it would be held for as long as the host runs.
fn close_inherited() -> Result<(), Error> {
    let dir = Path::new("/proc/self/fd");
    let entries = fs::read_dir(dir).map_err(files::cannot("read", dir))?;
    let open: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for inherited in open.into_iter().filter(|fd| *fd > 2) {
        // The directory's own is closed already.
        let _ = nix::unistd::close(inherited);
    }
    Ok(())
}

/// When a process of this machine was started; nothing if it does not run (any more).
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the fields after it count from 3.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let started = fields.nth(22 - 4)?;
    (state != "Z" && state != "X").then(|| started.parse().ok())?
}

/// Stage 2: runs as the first process of the host until it is told to end.
pub fn run(spec: &Path) -> Result<(), Error> {
    let host: Host = read_json(spec)?;
    let supervisor = match prepare(&host) {
        Ok(supervisor) => supervisor,
        Err(error) => {
            println!("{}", chain(&error));
            return Err(error);
        }
    };
    println!("{READY}");
    supervisor.run()
}

fn prepare(host: &Host) -> Result<supervise::Supervisor, Error> {
    // API servers tell themselves apart by it.
    unshare(CloneFlags::CLONE_NEWUTS).map_err(Error::kernel("make a host name namespace"))?;
    nix::unistd::sethostname(&host.name).map_err(Error::kernel("set the host name"))?;
    if let Some(node) = &host.node {
        unshare(CloneFlags::CLONE_NEWNS).map_err(Error::kernel("make a mount namespace"))?;
        mounts::prepare(&host.name, node)?;
        enable_forwarding()?;
    }
    supervise::Supervisor::new(&host.dir)
}

/// A node routes between its pods and the network, and its packet rules see what a bridge passes on.
fn enable_forwarding() -> Result<(), Error> {
    let net = Path::new("/proc/sys/net");
    for (key, must) in [
        ("ipv4/ip_forward", true),
        ("bridge/bridge-nf-call-iptables", false),
    ] {
        let path = net.join(key);
        // Kernels without br_netfilter have no such key.
        if must || path.exists() {
            fs::write(&path, "1").map_err(files::cannot("write", &path))?;
        }
    }
    Ok(())
}

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read(path).map_err(files::cannot("read", path))?;
    serde_json::from_slice(&text).map_err(|cause| Error::Malformed {
        path: path.to_owned(),
        cause,
    })
}

/// Writes beside and renames: a reader sees the old text or the new.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), files::Error> {
    let beside = path.with_extension("new");
    let text = serde_json::to_vec_pretty(value)
        .expect("these types have string keys and no failing serializer");
    fs::write(&beside, text).map_err(files::cannot("write", &beside))?;
    // What daemons are started with is nobody else's business.
    let private = fs::Permissions::from_mode(0o600);
    fs::set_permissions(&beside, private).map_err(files::cannot("write", &beside))?;
    fs::rename(&beside, path).map_err(files::cannot("rename", path))
}

/// An error with its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
