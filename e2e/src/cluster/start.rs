//! Starts what a cluster consists of, in the order in which one needs the other.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::thread;

use ipnet::Ipv4Net;

use super::daemon::{Place, build};
use super::host::Host;
use super::{
    CONTROL_PLANE, CONTROL_PLANE_HOST, Cluster, Daemon, Error, Node, cgroup, config, host_cgroup,
    network,
};
use crate::files;
use crate::init::Process;
use crate::progress::Progress;
use crate::{command, init};

/// Where our kubelet looks for images to import, below the node's `/var`.
const ARCHIVES: &str = "lib/kubelet/archives";
/// The bridge of our kubelet's own pod network.
const OUR_BRIDGE: &str = "nvbr0";
/// The bridge of the network that containerd's plugins make.
pub(super) const CNI_BRIDGE: &str = "cni0";
pub(super) const BALANCER: &str = "load-balancer";

impl Cluster {
    pub(super) fn start_control_plane(&self, progress: Progress) -> Result<(), Error> {
        self.start_storage_and_api(progress)?;
        progress.step(&names(&CONTROL_PLANE[1..]), || {
            for daemon in &CONTROL_PLANE[1..] {
                self.start_on_control_plane(0, *daemon)?;
            }
            CONTROL_PLANE[1..]
                .iter()
                .try_for_each(|daemon| self.wait_for_daemon(0, *daemon))
        })
    }

    pub(super) fn start_storage_and_api(&self, progress: Progress) -> Result<(), Error> {
        for host in self.control_planes() {
            self.ensure_host(&host, None)?;
        }
        self.retire_control_planes()?;
        // No member is healthy before most are there.
        progress.step(Daemon::Etcd.name(), || {
            let members = 0..self.spec.etcd_members;
            for member in members.clone() {
                self.start_on_control_plane(member, Daemon::Etcd)?;
            }
            members
                .into_iter()
                .try_for_each(|member| self.wait_for_daemon(member, Daemon::Etcd))
        })?;
        // One after the other, so that one of several serves while another is exchanged.
        progress.step(Daemon::KubeApiserver.name(), || {
            (0..self.spec.api_servers).try_for_each(|index| {
                self.start_on_control_plane(index, Daemon::KubeApiserver)?;
                self.wait_for_daemon(index, Daemon::KubeApiserver)
            })
        })?;
        if self.spec.api_servers == 1 {
            return Ok(());
        }
        progress.step("load balancer", || {
            self.control_plane().start(self.balancer())?;
            self.wait_for_balancer()
        })
    }

    pub(super) fn start_on_control_plane(&self, index: usize, daemon: Daemon) -> Result<(), Error> {
        let host = &self.control_planes()[index];
        let program = self.spec.program(daemon, &host.name)?;
        let process = self
            .site()
            .process(daemon, program, Place::ControlPlane(index));
        Ok(host.start(process)?)
    }

    pub(super) fn start_on_node(&self, node: &Node, daemon: Daemon) -> Result<(), Error> {
        let program = self.spec.program(daemon, &node.name)?;
        let seen = node.site();
        let process = self.site().process(daemon, program, Place::Node(&seen));
        Ok(node.host.start(process)?)
    }

    /// What stands before several API servers.
    fn balancer(&self) -> Process {
        let mut args = vec![
            "balance".to_owned(),
            format!("--listen={}", self.api_server()),
            format!("--authority={}", self.pki.cert("ca").display()),
        ];
        let servers = self.api_servers();
        args.extend(servers.iter().map(|(_, address)| address.to_string()));
        self.own_process(BALANCER, args)
    }

    /// A process of this library's own program.
    pub(super) fn own_process(&self, name: &str, args: Vec<String>) -> Process {
        Process {
            name: name.to_owned(),
            build: build(&self.spec.launcher),
            program: self.spec.launcher.clone(),
            args,
            env: BTreeMap::new(),
            log: self.logs().join(format!("{name}.log")),
        }
    }

    /// Ends what an earlier, larger control plane had, so that its addresses are free.
    fn retire_control_planes(&self) -> Result<(), Error> {
        if self.spec.api_servers == 1 {
            self.control_plane().stop(BALANCER)?;
        }
        let hosts = self.control_planes();
        for host in &hosts[self.spec.api_servers..] {
            host.stop(Daemon::KubeApiserver.name())?;
        }
        for name in self.host_names()? {
            let kept = hosts.iter().any(|host| host.name == name);
            if name.starts_with(CONTROL_PLANE_HOST) && !kept {
                self.remove_host(&name)?;
            }
        }
        Ok(())
    }

    /// Removes the nodes of an earlier, larger cluster: the machines, then the objects.
    pub(super) fn retire_nodes(&self) -> Result<(), Error> {
        let wanted = self.spec.node_names();
        for name in self.host_names()? {
            if name.starts_with(CONTROL_PLANE_HOST) || wanted.contains(&name) {
                continue;
            }
            self.remove_host(&name)?;
            network::remove_node(self.number, &name);
            self.kubectl(&["delete", "node", &name, "--ignore-not-found"])?;
        }
        Ok(())
    }

    /// The hosts that there are, wanted or not.
    fn host_names(&self) -> Result<Vec<String>, Error> {
        let hosts = self.spec.dir.join("hosts");
        let entries = fs::read_dir(&hosts).map_err(files::cannot("read", &hosts))?;
        Ok(entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect())
    }

    /// Ends everything on a host and forgets what it kept.
    fn remove_host(&self, name: &str) -> Result<(), Error> {
        let cgroup = host_cgroup(self.number, name);
        cgroup::kill(&cgroup)?;
        cgroup::remove(&cgroup)?;
        let dirs = ["nodes", "hosts"].map(|of| self.spec.dir.join(of).join(name));
        for dir in dirs.iter().filter(|dir| dir.exists()) {
            fs::remove_dir_all(dir).map_err(files::cannot("remove", dir))?;
        }
        Ok(())
    }

    pub(super) fn start_nodes(&self, progress: Progress) -> Result<(), Error> {
        let nodes = self.nodes();
        let label = format!(
            "{} {}",
            nodes.len(),
            if nodes.len() == 1 { "node" } else { "nodes" }
        );
        progress.step(&label, || {
            thread::scope(|scope| {
                let starts: Vec<_> = nodes
                    .iter()
                    .map(|node| scope.spawn(|| self.start_node(node)))
                    .collect();
                starts
                    .into_iter()
                    .try_for_each(|start| start.join().expect("start_node does not panic"))
            })
        })
    }

    fn start_node(&self, node: &Node) -> Result<(), Error> {
        let (site, seen) = (self.site(), node.site());
        let upstream = self.spec.upstream.runs(Daemon::Kubelet, &node.name);
        let config = self.spec.dir.join("nodes").join(&node.name);
        config::write(&site, &seen, upstream).map_err(files::cannot("write", &config))?;
        self.ensure_host(&node.host, Some(self.node_inside(node)))?;
        if upstream {
            self.leave_network(node, &self.spec.programs, OUR_BRIDGE)?;
            self.start_on_node(node, Daemon::Containerd)?;
            self.import_images(node)?;
        } else {
            self.leave_network(node, &self.spec.tools, CNI_BRIDGE)?;
            node.host.stop(Daemon::Containerd.name())?;
            self.place_images(node)?;
        }
        self.start_on_node(node, Daemon::Kubelet)?;
        self.start_on_node(node, Daemon::KubeProxy)?;
        let pods = self.wait_for_pod_network(node)?;
        config::write_cni(&site, &seen, pods).map_err(files::cannot("write", &config))?;
        self.route_pods(node, pods)?;
        self.wait_for_node(node)?;
        self.wait_for_kube_proxy(node)
    }

    /// Ends a kubelet that comes from `programs` if there is one, and takes its pod network away: the other kind of
    /// kubelet gives the same addresses.
    fn leave_network(&self, node: &Node, programs: &Path, bridge: &str) -> Result<(), Error> {
        let kubelet = Daemon::Kubelet.name();
        let wanted = node.host.wanted().processes;
        let runs = wanted
            .iter()
            .any(|process| process.name == kubelet && process.program.starts_with(programs));
        if runs {
            node.host.stop(kubelet)?;
        }
        network::remove_link(self.number, &node.name, bridge);
        Ok(())
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

    /// Puts the archives where the node's kubelet finds them.
    fn place_images(&self, node: &Node) -> Result<(), Error> {
        let dir = self
            .spec
            .dir
            .join("nodes")
            .join(&node.name)
            .join("disk")
            .join(ARCHIVES);
        fs::create_dir_all(&dir).map_err(files::cannot("make", &dir))?;
        for archive in &self.spec.images {
            let name = archive.file_name().unwrap_or(archive.as_os_str());
            place(archive, &dir.join(name)).map_err(files::cannot("place", archive))?;
        }
        Ok(())
    }

    fn import_images(&self, node: &Node) -> Result<(), Error> {
        let socket = self.wait_for_containerd(node)?;
        let ctr = self.spec.tools.join("ctr");
        for archive in &self.spec.images {
            let (ctr, archive) = (ctr.to_string_lossy(), archive.to_string_lossy());
            command::run(
                &ctr,
                &[
                    "--address",
                    &socket.to_string_lossy(),
                    "-n",
                    "k8s.io",
                    "images",
                    "import",
                    &archive,
                ],
            )?;
        }
        Ok(())
    }

    fn ensure_host(&self, host: &Host, node: Option<init::Node>) -> Result<(), Error> {
        let cgroup = host_cgroup(self.number, &host.name);
        let system = cgroup.join("system");
        cgroup::create(&system)?;
        if host.first().is_none() {
            // What a host that crashed or was killed left behind.
            cgroup::kill(&cgroup)?;
        }
        Ok(host.ensure(&self.spec.launcher, system, node)?)
    }

    fn node_inside(&self, node: &Node) -> init::Node {
        let names = self
            .nodes()
            .iter()
            .map(|node| format!("{} {}\n", node.address, node.name))
            .collect::<String>();
        init::Node {
            network: network::namespace_path(&network::node_namespace(self.number, &node.name)),
            disk: self.spec.dir.join("nodes").join(&node.name).join("disk"),
            keep: vec![
                self.spec.dir.clone(),
                self.spec.programs.clone(),
                self.spec.tools.clone(),
            ],
            resolv_conf: format!("nameserver {}\n", self.number.gateway()),
            hosts: format!("127.0.0.1 localhost\n::1 localhost\n{names}"),
            etc: self.registry_files(),
        }
    }
}

fn names(daemons: &[Daemon]) -> String {
    let names: Vec<_> = daemons.iter().map(|daemon| daemon.name()).collect();
    names.join(", ")
}

/// Gives the file a second name, or copies it where that is impossible. It appears whole.
pub(super) fn place(from: &Path, to: &Path) -> io::Result<()> {
    if to.exists() || fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let beside = to.with_extension("part");
    fs::copy(from, &beside)?;
    fs::rename(&beside, to)
}
