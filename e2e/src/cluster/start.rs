//! Starts what a cluster consists of, in the order in which one needs the other.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;

use ipnet::Ipv4Net;

use super::daemon::NodeSite;
use super::host::Host;
use super::{CONTROL_PLANE, Cluster, Daemon, Error, Node, cgroup, config, host_cgroup, network};
use crate::files;
use crate::progress::Progress;
use crate::{command, init};

/// Where our kubelet looks for images to import, below the node's `/var`.
const ARCHIVES: &str = "lib/kubelet/archives";

impl Cluster {
    pub(super) fn start_control_plane(&self, progress: Progress) -> Result<(), Error> {
        self.start_storage_and_api(progress)?;
        self.start_together(&CONTROL_PLANE[1..], progress)
    }

    pub(super) fn start_storage_and_api(&self, progress: Progress) -> Result<(), Error> {
        self.ensure_host(&self.control_plane(), None)?;
        self.start_together(&[Daemon::Etcd], progress)?;
        self.start_together(&CONTROL_PLANE[..1], progress)
    }

    /// Starts daemons of the control plane that do not need each other, and waits for all of them.
    fn start_together(&self, daemons: &[Daemon], progress: Progress) -> Result<(), Error> {
        let names: Vec<_> = daemons.iter().map(|daemon| daemon.name()).collect();
        progress.step(&names.join(", "), || {
            for daemon in daemons {
                let program = self.spec.program(*daemon)?;
                let process = self.site().process(*daemon, program, None);
                self.control_plane().start(process)?;
            }
            daemons
                .iter()
                .try_for_each(|daemon| self.wait_for_daemon(*daemon))
        })
    }

    /// Removes the nodes of an earlier, larger cluster: the machines, then the objects.
    pub(super) fn retire_nodes(&self) -> Result<(), Error> {
        let hosts = self.spec.dir.join("hosts");
        let entries = fs::read_dir(&hosts).map_err(files::cannot("read", &hosts))?;
        let wanted = self.spec.node_names();
        for name in entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
        {
            if name == self.control_plane().name || wanted.contains(&name) {
                continue;
            }
            let cgroup = host_cgroup(self.number, &name);
            cgroup::kill(&cgroup)?;
            cgroup::remove(&cgroup)?;
            network::remove_node(self.number, &name);
            self.kubectl(&["delete", "node", &name, "--ignore-not-found"])?;
            let dirs = [self.spec.dir.join("nodes").join(&name), hosts.join(&name)];
            for dir in dirs.iter().filter(|dir| dir.exists()) {
                fs::remove_dir_all(dir).map_err(files::cannot("remove", dir))?;
            }
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
        let site = self.site();
        let seen = NodeSite {
            name: &node.name,
            address: node.address,
        };
        let config = self.spec.dir.join("nodes").join(&node.name);
        config::write(&site, &seen, self.spec.upstream_kubelet())
            .map_err(files::cannot("write", &config))?;
        self.ensure_host(&node.host, Some(self.node_inside(node)))?;
        let start = |daemon: Daemon| -> Result<(), Error> {
            Ok(node
                .host
                .start(site.process(daemon, self.spec.program(daemon)?, Some(&seen)))?)
        };
        if self.spec.upstream_kubelet() {
            start(Daemon::Containerd)?;
            self.import_images(node)?;
        } else {
            node.host.stop(Daemon::Containerd.name())?;
            self.place_images(node)?;
        }
        start(Daemon::Kubelet)?;
        start(Daemon::KubeProxy)?;
        let pods = self.wait_for_pod_network(node)?;
        config::write_cni(&site, &seen, pods).map_err(files::cannot("write", &config))?;
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
            name: node.name.clone(),
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

/// Gives the file a second name, or copies it where that is impossible. It appears whole.
pub(super) fn place(from: &Path, to: &Path) -> io::Result<()> {
    if to.exists() || fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let beside = to.with_extension("part");
    fs::copy(from, &beside)?;
    fs::rename(&beside, to)
}
