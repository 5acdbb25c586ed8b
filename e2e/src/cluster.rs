//! Local clusters: real daemons, nodes as network namespaces with mounts, processes and cgroups of their own.
//!
//! ```text
//! this machine        etcd, kube-apiserver, kube-controller-manager, kube-scheduler   (host "control-plane")
//!   |  172.31.x.1
//! [switch] -- node-1  kubelet, kube-proxy, pods of 10.y.0.0/24                        (host "node-1")
//!          -- node-2  ...
//! ```
//!
//! All state is in one directory, all names and addresses follow from a [`Number`], so several clusters stand at once.
//! [`Cluster::up`] may be called on a cluster in any state and brings it to what [`Spec`] says; [`down`] leaves nothing,
//! whatever was running or had crashed. Waiting is for something seen (a health answer, an object), with a deadline.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

use ipnet::Ipv4Net;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::progress::Progress;
use crate::{command, https, init, pki};

pub(crate) mod cgroup;
mod config;
mod daemon;
mod host;
mod network;
mod number;
mod ready;

pub use daemon::{CONTROL_PLANE, Daemon, OURS};
use daemon::{NodeSite, Site};
use host::Host;
pub use number::{MAX_NODES, Number};

/// The sandbox of pods under containerd.
pub const PAUSE_IMAGE: &str = "registry.k8s.io/pause:3.10.2";
const CONTROL_PLANE_HOST: &str = "control-plane";
const STATE: &str = "cluster.json";

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("a cluster needs root: it makes network namespaces, mounts and cgroups")]
    NotRoot,
    #[error("{0} nodes are asked for; 1 to {MAX_NODES} can be had")]
    NodeCount(usize),
    #[error("{path} holds no cluster")]
    NoCluster { path: PathBuf },
    #[error("{daemon}: there is no program {program}")]
    NoProgram { daemon: &'static str, program: PathBuf },
    #[error("cannot {verb} {path}")]
    Io {
        verb: &'static str,
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("{what} is not ready after {after:.1?}: {why}\nits log is {log}{tail}")]
    NotReady { what: String, after: Duration, why: String, log: PathBuf, tail: String },
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
    Https(#[from] https::Error),
}

impl Error {
    fn io(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |cause| Self::Io { verb, path: path.to_owned(), cause }
    }
}

/// What a cluster shall be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Holds all state.
    pub dir: PathBuf,
    pub nodes: usize,
    /// Daemons that are upstream's instead of ours.
    pub upstream: Vec<Daemon>,
    /// Our daemons.
    pub programs: PathBuf,
    /// etcd, kubectl, upstream's daemons: what `hack/tools` builds.
    pub tools: PathBuf,
    /// The program that runs [`crate::init`] (`navarch-cluster`).
    pub launcher: PathBuf,
    /// OCI archives that every node gets.
    pub images: Vec<PathBuf>,
}

impl Spec {
    fn node_names(&self) -> Vec<String> {
        (1..=self.nodes).map(|number| format!("node-{number}")).collect()
    }

    fn program(&self, daemon: Daemon) -> Result<PathBuf, Error> {
        let ours = OURS.contains(&daemon) && !self.upstream.contains(&daemon);
        let program = if ours { &self.programs } else { &self.tools }.join(daemon.name());
        if program.is_file() {
            Ok(program)
        } else {
            Err(Error::NoProgram { daemon: daemon.name(), program })
        }
    }

    fn upstream_kubelet(&self) -> bool {
        self.upstream.contains(&Daemon::Kubelet)
    }
}

/// A cluster that stands.
#[derive(Clone)]
pub struct Cluster {
    pub spec: Spec,
    number: Number,
    pki: pki::Pki,
    client: https::Client,
}

/// A node's cgroup, relative to each hierarchy's root.
fn node_cgroup(number: Number, host: &str) -> PathBuf {
    Path::new(&number.name()).join(host)
}

impl Cluster {
    /// Brings the cluster to what `spec` says. On failure everything stays as it is, for people to look at.
    pub fn up(spec: Spec, progress: Progress) -> Result<Self, Error> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        if spec.nodes == 0 || spec.nodes > MAX_NODES {
            return Err(Error::NodeCount(spec.nodes));
        }
        let cluster = Self::prepare(spec, progress)?;
        cluster.start_control_plane(progress)?;
        cluster.start_nodes(progress)?;
        Ok(cluster)
    }

    /// The cluster that was brought up in `dir`.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let missing = || Error::NoCluster { path: dir.to_owned() };
        let dir = dir.canonicalize().map_err(|_| missing())?;
        let spec: Spec = init::read_json(&dir.join(STATE)).map_err(|_| missing())?;
        let number = Number::find(&dir)?.ok_or_else(missing)?;
        Self::with(spec, number)
    }

    fn prepare(mut spec: Spec, progress: Progress) -> Result<Self, Error> {
        fs::create_dir_all(&spec.dir).map_err(Error::io("make", &spec.dir))?;
        spec.dir = spec.dir.canonicalize().map_err(Error::io("find", &spec.dir))?;
        for daemon in [Daemon::Etcd].iter().chain(OURS) {
            spec.program(*daemon)?;
        }
        let number = Number::claim(&spec.dir, &network::routed()?)?;
        progress.say(&format!("cluster {} in {}", number.name(), spec.dir.display()));
        init::write_json(&spec.dir.join(STATE), &spec).map_err(host::Error::Init)?;
        let cluster = progress.step("certificates and kubeconfigs", || Self::with(spec, number))?;
        progress.step("network", || {
            network::ensure_switch(number)?;
            let nodes = cluster.nodes();
            nodes.iter().try_for_each(|node| network::ensure_node(number, &node.name, node.address))
        })?;
        Ok(cluster)
    }

    fn with(spec: Spec, number: Number) -> Result<Self, Error> {
        let names = pki::Names {
            api_server: number.gateway(),
            kubernetes_service: number::KUBERNETES_SERVICE,
            loopback: number.loopback(),
            nodes: spec.node_names().into_iter().enumerate().map(|(i, name)| (name, number.node(i))).collect(),
        };
        let pki = pki::Pki::ensure(&spec.dir, &names, SystemTime::now())?;
        let client = https::Client::new(&pki.cert("ca"), &pki.cert("admin"), &pki.key("admin"))?;
        Ok(Self { spec, number, pki, client })
    }

    fn start_control_plane(&self, progress: Progress) -> Result<(), Error> {
        self.ensure_host(&self.control_plane(), None)?;
        let start = |daemon: Daemon| -> Result<(), Error> {
            let process = self.site().process(daemon, self.spec.program(daemon)?, None);
            Ok(self.control_plane().start(process)?)
        };
        for step in [&[Daemon::Etcd][..], &CONTROL_PLANE[..1], &CONTROL_PLANE[1..]] {
            let label = step.iter().map(|daemon| daemon.name()).collect::<Vec<_>>().join(", ");
            progress.step(&label, || {
                step.iter().try_for_each(|daemon| start(*daemon))?;
                step.iter().try_for_each(|daemon| self.wait_for_daemon(*daemon))
            })?;
        }
        Ok(())
    }

    fn start_nodes(&self, progress: Progress) -> Result<(), Error> {
        let nodes = self.nodes();
        let label = format!("{} {}", nodes.len(), if nodes.len() == 1 { "node" } else { "nodes" });
        progress.step(&label, || {
            thread::scope(|scope| {
                let starts: Vec<_> = nodes.iter().map(|node| scope.spawn(|| self.start_node(node))).collect();
                starts.into_iter().try_for_each(|start| start.join().expect("start_node does not panic"))
            })
        })
    }

    fn start_node(&self, node: &Node) -> Result<(), Error> {
        let site = self.site();
        let seen = NodeSite { name: &node.name, address: node.address };
        let config = self.spec.dir.join("nodes").join(&node.name);
        config::write(&site, &seen, self.spec.upstream_kubelet()).map_err(Error::io("write", &config))?;
        self.ensure_host(&node.host, Some(self.node_inside(node)))?;
        let start = |daemon: Daemon| -> Result<(), Error> {
            Ok(node.host.start(site.process(daemon, self.spec.program(daemon)?, Some(&seen)))?)
        };
        if self.spec.upstream_kubelet() {
            start(Daemon::Containerd)?;
            self.import_images(node)?;
        } else {
            node.host.stop(Daemon::Containerd.name())?;
        }
        start(Daemon::Kubelet)?;
        start(Daemon::KubeProxy)?;
        let pods = self.wait_for_pod_network(node)?;
        config::write_cni(&site, &seen, pods).map_err(Error::io("write", &config))?;
        self.route_pods(node, pods)?;
        self.wait_for_node(node)?;
        self.wait_for_kube_proxy(node)
    }

    /// Leads pod packets to their node, from this machine and from the other nodes.
    fn route_pods(&self, node: &Node, pods: Ipv4Net) -> Result<(), Error> {
        network::route(None, pods, node.address)?;
        for other in self.nodes().iter().filter(|other| other.name != node.name) {
            let namespace = network::node_namespace(self.number, &other.name);
            network::route(Some(&namespace), pods, node.address)?;
        }
        Ok(())
    }

    fn import_images(&self, node: &Node) -> Result<(), Error> {
        let socket = self.wait_for_containerd(node)?;
        let ctr = self.spec.tools.join("ctr");
        for archive in &self.spec.images {
            let (ctr, archive) = (ctr.to_string_lossy(), archive.to_string_lossy());
            command::run(&ctr, &["--address", &socket.to_string_lossy(), "-n", "k8s.io", "images", "import", &archive])?;
        }
        Ok(())
    }

    fn ensure_host(&self, host: &Host, node: Option<init::Node>) -> Result<(), Error> {
        let cgroup = node_cgroup(self.number, &host.name);
        let system = cgroup.join("system");
        cgroup::create(&system)?;
        if host.first().is_none() {
            // What a host that crashed or was killed left behind.
            cgroup::kill(&cgroup)?;
        }
        Ok(host.ensure(&self.spec.launcher, system, node)?)
    }

    fn node_inside(&self, node: &Node) -> init::Node {
        let names = self.nodes().iter().map(|node| format!("{} {}\n", node.address, node.name)).collect::<String>();
        init::Node {
            name: node.name.clone(),
            network: network::namespace_path(&network::node_namespace(self.number, &node.name)),
            disk: self.spec.dir.join("nodes").join(&node.name).join("disk"),
            keep: vec![self.spec.dir.clone(), self.spec.programs.clone(), self.spec.tools.clone()],
            resolv_conf: format!("nameserver {}\n", self.number.gateway()),
            hosts: format!("127.0.0.1 localhost\n::1 localhost\n{names}"),
        }
    }

    fn site(&self) -> Site<'_> {
        Site { dir: &self.spec.dir, number: self.number, pki: &self.pki, tools: &self.spec.tools }
    }

    fn control_plane(&self) -> Host {
        Host::new(&self.spec.dir, CONTROL_PLANE_HOST)
    }

    pub fn nodes(&self) -> Vec<Node> {
        let node = |(index, name): (usize, String)| Node {
            address: self.number.node(index),
            host: Host::new(&self.spec.dir, &name),
            name,
        };
        self.spec.node_names().into_iter().enumerate().map(node).collect()
    }

    /// GETs a path of the API server as an administrator, over a new connection and without retries.
    pub fn get(&self, path: &str) -> Result<https::Answer, https::Error> {
        self.client.get(self.api_server(), path)
    }

    pub fn api_server(&self) -> SocketAddr {
        (self.number.gateway(), 6443).into()
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.pki.kubeconfig("admin")
    }

    /// Runs kubectl as an administrator and returns what it printed.
    pub fn kubectl(&self, args: &[&str]) -> Result<String, command::Error> {
        self.kubectl_with_input(args, "")
    }

    pub fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<String, command::Error> {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig().display());
        let args: Vec<&str> = std::iter::once(kubeconfig.as_str()).chain(args.iter().copied()).collect();
        command::run_with_input(&self.spec.tools.join("kubectl").to_string_lossy(), &args, input)
    }

    /// Where a daemon runs: its host is a node's name, or nothing for the control plane.
    fn host(&self, node: Option<&str>) -> Host {
        Host::new(&self.spec.dir, node.unwrap_or(CONTROL_PLANE_HOST))
    }

    /// The daemon's process id on this machine.
    pub fn pid(&self, node: Option<&str>, daemon: Daemon) -> Result<Pid, Error> {
        Ok(self.host(node).pid(daemon.name())?)
    }

    /// Sends a signal to a daemon. If that ends it, it is started again, as systemd would.
    pub fn signal(&self, node: Option<&str>, daemon: Daemon, signal: Signal) -> Result<(), Error> {
        Ok(self.host(node).signal(daemon.name(), signal)?)
    }

    /// Ends a daemon orderly; it stays away until [`Cluster::up`] or [`Cluster::start`].
    pub fn stop(&self, node: Option<&str>, daemon: Daemon) -> Result<(), Error> {
        Ok(self.host(node).stop(daemon.name())?)
    }

    /// Starts a daemon again as `spec` says, and waits for it where it can be asked.
    pub fn start(&self, node: Option<&str>, daemon: Daemon) -> Result<(), Error> {
        let program = self.spec.program(daemon)?;
        let Some(name) = node else {
            self.control_plane().start(self.site().process(daemon, program, None))?;
            return self.wait_for_daemon(daemon);
        };
        let known = self.nodes().into_iter().find(|node| node.name == name);
        let node = known.ok_or_else(|| host::Error::Down(name.to_owned()))?;
        let seen = NodeSite { name: &node.name, address: node.address };
        Ok(node.host.start(self.site().process(daemon, program, Some(&seen)))?)
    }

    /// A node loses its power: every process on it is gone at once, its disk stays.
    pub fn kill_node(&self, node: &str) {
        self.host(Some(node)).kill();
    }

    /// A node loses its network (`true`) or gets it back.
    pub fn unplug_node(&self, node: &str, unplugged: bool) -> Result<(), Error> {
        Ok(network::unplug(self.number, node, unplugged)?)
    }

    /// A command line that runs inside of a node; the caller appends the program.
    pub fn inside(&self, node: &str) -> Result<Command, Error> {
        let host = self.host(Some(node));
        let first = host.first().ok_or(host::Error::Down(host.name))?;
        let mut command = Command::new("nsenter");
        command.args(["--target", &first.to_string(), "--mount", "--uts", "--net", "--pid", "--"]);
        Ok(command)
    }

    pub fn logs(&self) -> PathBuf {
        self.spec.dir.join("logs")
    }
}

#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    pub address: std::net::Ipv4Addr,
    host: Host,
}

/// Ends the cluster of `dir`, whatever state it is in, and removes all that belongs to it; `keep` leaves the directory.
/// A directory that never held a cluster is an error, and is not touched.
pub fn down(dir: &Path, keep: bool) -> Result<(), Error> {
    let missing = || Error::NoCluster { path: dir.to_owned() };
    let full = std::path::absolute(dir).map_err(|_| missing())?;
    let full = full.canonicalize().unwrap_or(full);
    let number = Number::find(&full)?;
    let known = full.join(STATE).is_file();
    if number.is_none() && !known {
        return Err(missing());
    }
    if let Some(number) = number {
        let cgroup = PathBuf::from(number.name());
        cgroup::kill(&cgroup)?;
        network::remove(number);
        cgroup::remove(&cgroup)?;
        if !network::namespaces(number).is_empty() {
            let left = network::namespaces(number).join(", ");
            return Err(Error::Io {
                verb: "remove",
                path: left.into(),
                cause: std::io::Error::other("the network namespace is in use"),
            });
        }
        number.release()?;
    }
    if !keep && known {
        fs::remove_dir_all(&full).map_err(Error::io("remove", &full))?;
    }
    Ok(())
}
