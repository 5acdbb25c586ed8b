//! What tests and people do to a running cluster: ask it, break it, mend it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::checks::Checks;
use super::host::{self, Host};
use super::{CONTROL_PLANE_HOST, Cluster, Daemon, Error, cgroup, host_cgroup, network};
use crate::{command, https};

const API_PORT: u16 = 6443;
const ETCD_PORT: u16 = 2379;

impl Cluster {
    /// GETs a path of the API server as an administrator, over a new connection and without retries.
    pub fn get(&self, path: &str) -> Result<https::Answer, https::Error> {
        self.client.get(self.api_server(), path)
    }

    /// The administrator's certificate and the cluster's authority, for clients of other kinds.
    pub fn tls(&self) -> std::sync::Arc<rustls::ClientConfig> {
        self.client.config()
    }

    /// What every name that the cluster has on this machine begins with.
    pub fn name(&self) -> String {
        self.number.name()
    }

    /// Where clients find the API.
    pub fn api_server(&self) -> SocketAddr {
        (self.number.gateway(), API_PORT).into()
    }

    /// Each API server by itself, with the name of its host.
    pub fn api_servers(&self) -> Vec<(String, SocketAddr)> {
        let hosts = self.spec.hosts_of(Daemon::KubeApiserver).into_iter();
        hosts
            .enumerate()
            .map(|(index, host)| (host, self.own_api_server(index)))
            .collect()
    }

    pub(super) fn own_api_server(&self, control_plane: usize) -> SocketAddr {
        (self.site().api_server(control_plane), API_PORT).into()
    }

    /// Where the members of etcd are asked.
    pub fn etcd(&self) -> Vec<SocketAddr> {
        (0..self.spec.etcd_members)
            .map(|member| (self.number.loopback(member), ETCD_PORT).into())
            .collect()
    }

    /// A client of etcd with the API servers' rights.
    pub fn etcd_client(&self) -> Result<https::Client, https::Error> {
        let name = "apiserver-etcd-client";
        let [cert, key] = [self.pki.cert(name), self.pki.key(name)];
        https::Client::new(&self.pki.cert("etcd/ca"), &cert, &key)
    }

    /// A client with an administrator's rights.
    pub fn client(&self) -> &https::Client {
        &self.client
    }

    /// A client that does not say who it is.
    pub fn anonymous(&self) -> Result<https::Client, https::Error> {
        https::Client::anonymous(&self.pki.cert("ca"))
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
        let args: Vec<&str> = std::iter::once(kubeconfig.as_str())
            .chain(args.iter().copied())
            .collect();
        command::run_with_input(
            &self.spec.tools.join("kubectl").to_string_lossy(),
            &args,
            input,
        )
    }

    /// Where a daemon runs: its host is a node's or a control plane's name, or nothing for the first of the control plane.
    fn host(&self, name: Option<&str>) -> Host {
        Host::new(&self.spec.dir, name.unwrap_or(CONTROL_PLANE_HOST))
    }

    /// The daemon's process id on this machine.
    pub fn pid(&self, node: Option<&str>, daemon: Daemon) -> Result<Pid, Error> {
        Ok(self.host(node).pid(daemon.name())?)
    }

    /// All daemons of a host, of the first of the control plane if none is named, may have this many bytes
    /// of memory together.
    pub fn limit_memory(&self, host: Option<&str>, bytes: u64) -> Result<(), Error> {
        let cgroup = host_cgroup(self.number, host.unwrap_or(CONTROL_PLANE_HOST));
        Ok(cgroup::limit_memory(&cgroup, bytes)?)
    }

    /// What the API server of a host counts, `/metrics`.
    pub fn metrics(&self, host: &str) -> Result<String, https::Error> {
        let server = self
            .api_servers()
            .into_iter()
            .find(|(name, _)| name == host);
        let address = server.map_or_else(|| self.api_server(), |(_, address)| address);
        let text = self.client.get(address, "/metrics")?.body;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// How comparisons of the API servers' caches with etcd ended so far.
    pub fn cache_checks(&self) -> Result<Checks, https::Error> {
        let mut all = Checks::default();
        for (host, _) in self.api_servers() {
            all.add(&self.metrics(&host)?);
        }
        Ok(all)
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
    pub fn start(&self, host: Option<&str>, daemon: Daemon) -> Result<(), Error> {
        let name = host.unwrap_or(CONTROL_PLANE_HOST);
        let control_plane = self
            .control_planes()
            .iter()
            .position(|host| host.name == name);
        if let Some(index) = control_plane {
            self.start_on_control_plane(index, daemon)?;
            return self.wait_for_daemon(index, daemon);
        }
        let known = self.nodes().into_iter().find(|node| node.name == name);
        let node = known.ok_or_else(|| host::Error::Down(name.to_owned()))?;
        self.start_on_node(&node, daemon)
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
        command.args([
            "--target",
            &first.to_string(),
            "--mount",
            "--uts",
            "--net",
            "--pid",
            "--",
        ]);
        Ok(command)
    }
}
