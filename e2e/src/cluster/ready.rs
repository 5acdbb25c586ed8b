//! Waiting for what was started, by asking it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use serde::Deserialize;

use super::daemon::Daemon;
use super::host::Host;
use super::{Cluster, Error, Node, registry, start};
use crate::https;

/// A machine with two busy cores and unoptimised daemons needs this long at worst.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A daemon that ended this often without becoming ready will not.
const HOPELESS: u32 = 5;
/// Lines of its log that a failed daemon's error shows.
const TAIL: usize = 12;

/// What is asked, or why it does not answer yet.
type Probe<T> = Result<T, String>;

impl Cluster {
    /// Waits for a daemon of one host of the control plane.
    pub(super) fn wait_for_daemon(&self, index: usize, daemon: Daemon) -> Result<(), Error> {
        let loopback = |port| SocketAddr::from((self.number.loopback(index), port));
        let probe = || match daemon {
            Daemon::Etcd => {
                let client = self.etcd_client().map_err(text)?;
                healthy(client.get(self.etcd()[index], "/health"))
            }
            Daemon::KubeApiserver => {
                healthy(self.client.get(self.own_api_server(index), "/readyz"))
            }
            Daemon::KubeControllerManager => healthy(self.client.get(loopback(10257), "/healthz")),
            Daemon::KubeScheduler => healthy(self.client.get(loopback(10259), "/readyz")),
            // A node's daemons are seen in their node.
            Daemon::Containerd | Daemon::Kubelet | Daemon::KubeProxy => Ok(()),
        };
        let host = &self.control_planes()[index];
        let what = match index {
            0 => daemon.name().to_owned(),
            _ => format!("{} on {}", daemon.name(), host.name),
        };
        self.wait_for(host, daemon, &what, probe)
    }

    pub(super) fn wait_for_balancer(&self) -> Result<(), Error> {
        let host = self.control_plane();
        self.wait_until(&host, start::BALANCER, "the load balancer", || {
            healthy(self.get("/readyz"))
        })
    }

    pub(super) fn wait_for_registry(&self, address: SocketAddr) -> Result<(), Error> {
        let host = self.control_plane();
        self.wait_until(&host, registry::NAME, "the image registry", || {
            healthy(self.client.get(address, "/v2/"))
        })
    }

    /// The range that the controller manager gave to the node.
    pub(super) fn wait_for_pod_network(&self, node: &Node) -> Result<Ipv4Net, Error> {
        let what = format!("{} (a range of pod addresses)", node.name);
        self.wait_for(&node.host, Daemon::Kubelet, &what, || {
            let pods = self
                .node_object(&node.name)?
                .spec
                .pod_cidr
                .ok_or("it has no spec.podCIDR")?;
            pods.parse().map_err(|error| format!("{pods}: {error}"))
        })
    }

    pub(super) fn wait_for_node(&self, node: &Node) -> Result<(), Error> {
        self.wait_for(&node.host, Daemon::Kubelet, &node.name, || {
            let status = self.node_object(&node.name)?.status;
            match status
                .conditions
                .into_iter()
                .find(|condition| condition.kind == "Ready")
            {
                Some(ready) if ready.status == "True" => Ok(()),
                Some(ready) => Err(format!(
                    "it is not Ready: {}",
                    ready.message.unwrap_or_default()
                )),
                None => Err("it has no Ready condition".to_owned()),
            }
        })
    }

    pub(super) fn wait_for_kube_proxy(&self, node: &Node) -> Result<(), Error> {
        let address = SocketAddr::from((node.address, 10256));
        let what = format!("kube-proxy on {}", node.name);
        self.wait_for(&node.host, Daemon::KubeProxy, &what, || {
            healthy(https::get_plain(address, "/healthz"))
        })
    }

    /// containerd's socket, seen from this machine.
    pub(super) fn wait_for_containerd(&self, node: &Node) -> Result<PathBuf, Error> {
        let what = format!("containerd on {}", node.name);
        self.wait_for(&node.host, Daemon::Containerd, &what, || {
            let first = node.host.first().ok_or("the node is down")?;
            let socket = Path::new("/proc")
                .join(first.to_string())
                .join("root/run/containerd/containerd.sock");
            match std::os::unix::net::UnixStream::connect(&socket) {
                Ok(_) => Ok(socket),
                Err(cause) => Err(cause.to_string()),
            }
        })
    }

    fn node_object(&self, name: &str) -> Probe<NodeObject> {
        let answer = self.get(&format!("/api/v1/nodes/{name}")).map_err(text)?;
        match answer.status {
            200 => serde_json::from_slice(&answer.body).map_err(|error| error.to_string()),
            404 => Err("it has not registered".to_owned()),
            status => Err(format!("the API server answers {status}")),
        }
    }

    fn wait_for<T>(
        &self,
        host: &Host,
        daemon: Daemon,
        what: &str,
        probe: impl Fn() -> Probe<T>,
    ) -> Result<T, Error> {
        self.wait_until(host, daemon.name(), what, probe)
    }

    /// Asks until the answer is good. Fails at the deadline, or sooner when the process keeps dying.
    fn wait_until<T>(
        &self,
        host: &Host,
        name: &str,
        what: &str,
        probe: impl Fn() -> Probe<T>,
    ) -> Result<T, Error> {
        let start = Instant::now();
        loop {
            let why = match probe() {
                Ok(found) => return Ok(found),
                Err(why) => why,
            };
            let process = host.status().processes.remove(name).unwrap_or_default();
            let died = process
                .ended
                .map(|how| format!("it ended with {how}, {} times", process.starts));
            if start.elapsed() > PATIENCE || process.starts >= HOPELESS {
                let log = self.log(host, name);
                return Err(Error::NotReady {
                    what: what.to_owned(),
                    after: start.elapsed(),
                    why: died.unwrap_or(why),
                    tail: tail(&log),
                    log,
                });
            }
            sleep(LOOK_AGAIN);
        }
    }

    fn log(&self, host: &Host, name: &str) -> PathBuf {
        let wanted = host
            .wanted()
            .processes
            .into_iter()
            .find(|process| process.name == name);
        wanted.map_or_else(|| self.logs(), |process| process.log)
    }
}

fn healthy(answer: Result<https::Answer, https::Error>) -> Probe<()> {
    match answer.map_err(text)? {
        https::Answer { status: 200, .. } => Ok(()),
        answer => {
            let body = String::from_utf8_lossy(&answer.body);
            let failed: Vec<&str> = body
                .lines()
                .filter(|line| line.starts_with("[-]"))
                .collect();
            Err(format!(
                "its health answer is {} {}",
                answer.status,
                failed.join(", ")
            ))
        }
    }
}

fn text(error: https::Error) -> String {
    crate::init::chain(&error)
}

/// The last lines of a log, each on a line of its own and indented.
fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..]
        .iter()
        .map(|line| format!("\n    {line:.200}"))
        .collect()
}

#[derive(Deserialize)]
struct NodeObject {
    spec: NodeSpec,
    status: NodeStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
}

#[derive(Deserialize)]
struct NodeStatus {
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    message: Option<String>,
}
