//! Local clusters: real daemons, nodes as network namespaces with mounts, processes and cgroups of their own.
//!
//! ```text
//! this machine        etcd, kube-apiserver, kube-controller-manager, kube-scheduler,  (host "control-plane")
//!   |                 an image registry
//!   |                 further members of etcd and API servers,                        (hosts "control-plane-2", "-3")
//!   |                 then a load balancer before those on the first host
//!   |  172.31.x.1
//! [switch] -- node-1  kubelet, kube-proxy, pods of 10.y.0.0/24                        (host "node-1")
//!          -- node-2  ...
//! ```
//!
//! All state is in one directory, all names and addresses follow from a [`Number`], so several clusters stand at once.
//! [`Cluster::up`] may be called on a cluster in any state and brings it to what [`Spec`] says; [`down`] leaves nothing,
//! whatever was running or had crashed. Waiting is for something seen (a health answer, an object), with a deadline.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::files;
use crate::progress::Progress;
use crate::{chart, command, https, init, pki};

mod addons;
pub(crate) mod cgroup;
mod checks;
mod config;
mod control;
mod daemon;
mod host;
mod network;
mod number;
mod ready;
mod registry;
mod start;
mod upstream;

pub use checks::Checks;
pub use daemon::{CONTROL_PLANE, Daemon, NOT_OURS_YET, OURS};
use daemon::{CONTROL_PLANE_HOST, NodeSite, Site, control_plane_name};
use host::Host;
pub use number::{ETCD_MEMBERS, MAX_API_SERVERS, MAX_NODES, Number};
pub use upstream::Upstream;

/// The sandbox of pods under containerd.
pub const PAUSE_IMAGE: &str = "registry.k8s.io/pause:3.10.2";
const STATE: &str = "cluster.json";

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("a cluster needs root: it makes network namespaces, mounts and cgroups")]
    NotRoot,
    #[error("{0} nodes are asked for; 1 to {MAX_NODES} can be had")]
    NodeCount(usize),
    #[error("{0} API servers are asked for; 1 to {MAX_API_SERVERS} can be had")]
    ApiServerCount(usize),
    #[error("{0} members of etcd are asked for; 1 or 3 can be had")]
    EtcdCount(usize),
    #[error("etcd has {was} members here; to have {wanted}, bring the cluster down first")]
    EtcdMembers { was: usize, wanted: usize },
    #[error("no {} runs on a host {host}", .daemon.name())]
    NoSuchPlace { daemon: Daemon, host: String },
    #[error("{path} is not empty and holds no cluster; a cluster's directory is removed with it")]
    Foreign { path: PathBuf },
    #[error("{path} holds no cluster")]
    NoCluster { path: PathBuf },
    #[error("{daemon}: there is no program {program}")]
    NoProgram {
        daemon: &'static str,
        program: PathBuf,
    },
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("{what} is not ready after {after:.1?}: {why}\nits log is {log}{tail}")]
    NotReady {
        what: String,
        after: Duration,
        why: String,
        log: PathBuf,
        tail: String,
    },
    #[error(transparent)]
    Number(#[from] number::Error),
    #[error(transparent)]
    Pki(#[from] pki::Error),
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    #[error(transparent)]
    Command(#[from] command::Error),
    #[error(transparent)]
    Host(#[from] host::Error),
    #[error(transparent)]
    Chart(#[from] chart::Error),
    #[error(transparent)]
    Https(#[from] https::Error),
}

/// What a cluster shall be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Holds all state.
    pub dir: PathBuf,
    pub nodes: usize,
    /// Members of etcd, one of [`ETCD_MEMBERS`]. They stay as many as they were at first.
    #[serde(default = "one")]
    pub etcd_members: usize,
    /// Up to [`MAX_API_SERVERS`]; a load balancer stands before several.
    #[serde(default = "one")]
    pub api_servers: usize,
    /// Daemons that are upstream's instead of ours.
    pub upstream: Upstream,
    /// Further flags of daemons, after those that this library gives them.
    #[serde(default)]
    pub flags: Vec<(Daemon, String)>,
    /// Daemons have the flags that the CIS benchmark asks for beyond those of every cluster: no profiling, an audit log.
    #[serde(default)]
    pub secured: bool,
    /// The caches of API servers are compared with etcd all the time; see [`Checks`]. Where costs are
    /// measured, they are not.
    #[serde(default)]
    pub checked: bool,
    /// Our daemons.
    pub programs: PathBuf,
    /// etcd, kubectl, upstream's daemons: what `hack/tools` builds.
    pub tools: PathBuf,
    /// The program that runs [`crate::init`] (`navarch-cluster`).
    pub launcher: PathBuf,
    /// Holds the Helm charts of what is installed in the cluster: the clone.
    pub root: PathBuf,
    /// OCI archives that every node gets.
    pub images: Vec<PathBuf>,
    /// OCI archives that nodes get only by pulling; the cluster's registry has these and those of `images`.
    #[serde(default)]
    pub pulled: Vec<PathBuf>,
}

/// What clusters had that were brought up before there could be more.
fn one() -> usize {
    1
}

impl Spec {
    fn check(&self) -> Result<(), Error> {
        if !(1..=MAX_NODES).contains(&self.nodes) {
            return Err(Error::NodeCount(self.nodes));
        }
        if !(1..=MAX_API_SERVERS).contains(&self.api_servers) {
            return Err(Error::ApiServerCount(self.api_servers));
        }
        if !ETCD_MEMBERS.contains(&self.etcd_members) {
            return Err(Error::EtcdCount(self.etcd_members));
        }
        for (daemon, host) in self.upstream.on_hosts() {
            if !self.hosts_of(daemon).iter().any(|known| known == host) {
                let host = host.to_owned();
                return Err(Error::NoSuchPlace { daemon, host });
            }
        }
        for daemon in [Daemon::Etcd].iter().chain(OURS) {
            for host in self.hosts_of(*daemon) {
                self.program(*daemon, &host)?;
            }
        }
        Ok(())
    }

    fn node_names(&self) -> Vec<String> {
        (1..=self.nodes)
            .map(|number| format!("node-{number}"))
            .collect()
    }

    fn control_planes(&self) -> usize {
        self.etcd_members.max(self.api_servers)
    }

    /// The hosts that run a daemon.
    fn hosts_of(&self, daemon: Daemon) -> Vec<String> {
        let control_planes = match daemon {
            Daemon::Etcd => self.etcd_members,
            Daemon::KubeApiserver => self.api_servers,
            Daemon::KubeControllerManager | Daemon::KubeScheduler => 1,
            Daemon::Containerd | Daemon::Kubelet | Daemon::KubeProxy => return self.node_names(),
        };
        (0..control_planes).map(control_plane_name).collect()
    }

    fn program(&self, daemon: Daemon, host: &str) -> Result<PathBuf, Error> {
        let ours = OURS.contains(&daemon) && !self.upstream.runs(daemon, host);
        let program = if ours { &self.programs } else { &self.tools }.join(daemon.name());
        if program.is_file() {
            Ok(program)
        } else {
            Err(Error::NoProgram {
                daemon: daemon.name(),
                program,
            })
        }
    }
}

/// What [`STATE`] holds.
#[derive(Serialize, Deserialize)]
struct State {
    spec: Spec,
    /// Wished for again after a reboot: etcd's data and objects carry addresses that follow from it.
    number: Number,
}

/// A cluster that stands.
#[derive(Clone)]
pub struct Cluster {
    pub spec: Spec,
    number: Number,
    pki: pki::Pki,
    client: https::Client,
}

/// A host's cgroup, relative to each hierarchy's root.
fn host_cgroup(number: Number, host: &str) -> PathBuf {
    Path::new(&number.name()).join(host)
}

impl Cluster {
    /// Brings the cluster to what `spec` says. On failure everything stays as it is, for people to look at.
    pub fn up(spec: Spec, progress: Progress) -> Result<Self, Error> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let (cluster, _held) = Self::prepare(spec, progress)?;
        cluster.start_control_plane(progress)?;
        cluster.start_registry(progress)?;
        cluster.retire_nodes()?;
        let root = cluster.spec.root.clone();
        thread::scope(|scope| {
            let dns = scope.spawn(|| cluster.install_dns(&root));
            cluster.start_nodes(progress)?;
            progress.step("cluster DNS", || {
                dns.join().expect("install_dns does not panic")?;
                cluster.wait_for_dns()
            })
        })?;
        Ok(cluster)
    }

    /// Brings up etcd and the API server alone: what is measured then is nobody else's load.
    pub fn up_api_server(spec: Spec, progress: Progress) -> Result<Self, Error> {
        let (cluster, _held) = Self::prepare(spec, progress)?;
        cluster.start_storage_and_api(progress)?;
        Ok(cluster)
    }

    /// The cluster that was brought up in `dir`.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let missing = || Error::NoCluster {
            path: dir.to_owned(),
        };
        let dir = dir.canonicalize().map_err(|_| missing())?;
        let State { spec, .. } = init::read_json(&dir.join(STATE)).map_err(|_| missing())?;
        let number = Number::find(&dir)?.ok_or_else(missing)?;
        Self::with(spec, number)
    }

    fn prepare(mut spec: Spec, progress: Progress) -> Result<(Self, number::Held), Error> {
        spec.check()?;
        fs::create_dir_all(&spec.dir).map_err(files::cannot("make", &spec.dir))?;
        spec.dir = spec
            .dir
            .canonicalize()
            .map_err(files::cannot("find", &spec.dir))?;
        let state = spec.dir.join(STATE);
        let mut entries = fs::read_dir(&spec.dir).map_err(files::cannot("read", &spec.dir))?;
        if !state.is_file() && entries.next().is_some() {
            return Err(Error::Foreign { path: spec.dir });
        }
        let before: Option<State> = init::read_json(&state).ok();
        if let Some(State { spec: was, .. }) = &before
            && was.etcd_members != spec.etcd_members
            && spec.dir.join(daemon::ETCD_DATA).exists()
        {
            return Err(Error::EtcdMembers {
                was: was.etcd_members,
                wanted: spec.etcd_members,
            });
        }
        let wish = before.map(|state| state.number);
        let (number, held) = loop {
            let number = Number::claim(&spec.dir, wish, &network::routed()?)?;
            let held = number.lock()?;
            if Number::find(&spec.dir)? == Some(number) {
                break (number, held);
            }
        };
        progress.say(&format!(
            "cluster {} in {}",
            number.name(),
            spec.dir.display()
        ));
        let wanted = State { spec, number };
        init::write_json(&state, &wanted)?;
        let State { spec, .. } = wanted;
        let cluster = progress.step("certificates and kubeconfigs", || Self::with(spec, number))?;
        // The nodes' packet rules see what their bridges pass on only with this module; where it is built in or missing,
        // asking for it fails without harm.
        let _ = command::run("modprobe", &["--quiet", "br_netfilter"]);
        progress.step("network", || {
            network::ensure_switch(number)?;
            let nodes = cluster.nodes();
            nodes
                .iter()
                .try_for_each(|node| network::ensure_node(number, &node.name, node.address))
        })?;
        Ok((cluster, held))
    }

    fn with(spec: Spec, number: Number) -> Result<Self, Error> {
        let host = |address: Ipv4Addr| pki::Host::from(IpAddr::from(address));
        let gateway = number.gateway();
        let names = pki::Names {
            server: format!("https://{gateway}:6443"),
            // All that there can be: a certificate stays the same when their number changes.
            api_servers: [gateway]
                .into_iter()
                .chain((0..MAX_API_SERVERS).map(|index| number.api_server(index)))
                .map(host)
                .collect(),
            kubernetes_service: vec![number::KUBERNETES_SERVICE.into()],
            control_plane: (0..number::MAX_CONTROL_PLANES)
                .map(|index| host(number.loopback(index)))
                .collect(),
            nodes: spec
                .node_names()
                .into_iter()
                .enumerate()
                .map(|(i, name)| (name, vec![host(number.node(i))]))
                .collect(),
            domain: "cluster.local".to_owned(),
            registry: Some(host(gateway)),
        };
        let pki = pki::Pki::ensure(&spec.dir, &names, SystemTime::now())?;
        let client = https::Client::new(&pki.cert("ca"), &pki.cert("admin"), &pki.key("admin"))?;
        Ok(Self {
            spec,
            number,
            pki,
            client,
        })
    }

    fn site(&self) -> Site<'_> {
        Site {
            dir: &self.spec.dir,
            number: self.number,
            pki: &self.pki,
            tools: &self.spec.tools,
            etcd_members: self.spec.etcd_members,
            api_servers: self.spec.api_servers,
            root: &self.spec.root,
            flags: &self.spec.flags,
            secured: self.spec.secured,
            checked: self.spec.checked,
        }
    }

    /// The first host of the control plane.
    fn control_plane(&self) -> Host {
        Host::new(&self.spec.dir, CONTROL_PLANE_HOST)
    }

    /// The hosts of the control plane, in order.
    fn control_planes(&self) -> Vec<Host> {
        (0..self.spec.control_planes())
            .map(|index| Host::new(&self.spec.dir, &control_plane_name(index)))
            .collect()
    }

    pub fn nodes(&self) -> Vec<Node> {
        let node = |(index, name): (usize, String)| Node {
            address: self.number.node(index),
            host: Host::new(&self.spec.dir, &name),
            name,
        };
        self.spec
            .node_names()
            .into_iter()
            .enumerate()
            .map(node)
            .collect()
    }

    pub fn logs(&self) -> PathBuf {
        self.spec.dir.join("logs")
    }
}

#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    pub address: Ipv4Addr,
    host: Host,
}

impl Node {
    fn site(&self) -> NodeSite<'_> {
        NodeSite {
            name: &self.name,
            address: self.address,
        }
    }
}

/// Ends the cluster of `dir`, whatever state it is in, and removes all that belongs to it; `keep` leaves the directory.
/// A directory that never held a cluster is an error, and is not touched.
pub fn down(dir: &Path, keep: bool) -> Result<(), Error> {
    let missing = || Error::NoCluster {
        path: dir.to_owned(),
    };
    let full = std::path::absolute(dir).map_err(|_| missing())?;
    let full = full.canonicalize().unwrap_or(full);
    let Some(number) = Number::find(&full)? else {
        return match full.join(STATE).is_file() {
            true if keep => Ok(()),
            true => Ok(fs::remove_dir_all(&full).map_err(files::cannot("remove", &full))?),
            false => Err(missing()),
        };
    };
    let held = number.lock()?;
    if Number::find(&full)? != Some(number) {
        // Somebody else was faster, and may have kept the directory.
        drop(held);
        return if full.exists() {
            down(dir, keep)
        } else {
            Ok(())
        };
    }
    dismantle(number)?;
    if !keep && full.join(STATE).is_file() {
        fs::remove_dir_all(&full).map_err(files::cannot("remove", &full))?;
    }
    Ok(number.release()?)
}

/// Ends and removes everything that carries the number's names on this machine.
fn dismantle(number: Number) -> Result<(), Error> {
    let cgroup = PathBuf::from(number.name());
    cgroup::kill(&cgroup)?;
    network::remove(number);
    cgroup::remove(&cgroup)?;
    match network::namespaces(number).pop() {
        None => Ok(()),
        Some(left) => {
            let path = network::namespace_path(&left);
            let busy = std::io::ErrorKind::ResourceBusy.into();
            Err(files::cannot("remove", &path)(busy).into())
        }
    }
}
