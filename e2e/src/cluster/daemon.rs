//! The daemons of a cluster and the flags that each is started with.
//!
//! Flags are upstream's: ours and upstream's binary of one name take the same command line, which is what makes them
//! exchangeable one by one.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::number::{Number, service_network};
use crate::init::Process;
use crate::pki::Pki;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Daemon {
    Etcd,
    KubeApiserver,
    KubeControllerManager,
    KubeScheduler,
    /// Only beside upstream's kubelet; ours is its own container runtime.
    Containerd,
    Kubelet,
    KubeProxy,
}

use Daemon::{
    Containerd, Etcd, KubeApiserver, KubeControllerManager, KubeProxy, KubeScheduler, Kubelet,
};

/// Those that this project has a replacement for.
pub const OURS: &[Daemon] = &[
    KubeApiserver,
    KubeControllerManager,
    KubeScheduler,
    Kubelet,
    KubeProxy,
];
/// What runs as upstream's where nobody says otherwise: ours are not daemons yet. Empty when the last of them is.
pub const NOT_OURS_YET: &str = "";
pub const CONTROL_PLANE: &[Daemon] = &[KubeApiserver, KubeControllerManager, KubeScheduler];
/// The control plane's first host, which also has what there is one of; the names of the others begin with this.
pub(super) const CONTROL_PLANE_HOST: &str = "control-plane";
/// Below the clone.
const AUDIT_POLICY: &str = "hack/audit.yaml";
/// Below the cluster's directory: the data of etcd's first member.
pub(super) const ETCD_DATA: &str = "etcd";

impl Daemon {
    pub fn name(self) -> &'static str {
        match self {
            Etcd => "etcd",
            KubeApiserver => "kube-apiserver",
            KubeControllerManager => "kube-controller-manager",
            KubeScheduler => "kube-scheduler",
            Containerd => "containerd",
            Kubelet => "kubelet",
            KubeProxy => "kube-proxy",
        }
    }
}

impl Daemon {
    /// Reads `kubelet,kube-proxy`; `control-plane` and `all` stand for several, `none` and nothing for none.
    pub fn parse_list(list: &str) -> Result<Vec<Self>, String> {
        let daemons = list.split(',').map(|word| match word {
            "" | "none" => Ok(Vec::new()),
            "all" => Ok(OURS.to_vec()),
            "control-plane" => Ok(CONTROL_PLANE.to_vec()),
            name => Ok(vec![name.parse()?]),
        });
        Ok(daemons.collect::<Result<Vec<_>, String>>()?.concat())
    }
}

impl FromStr for Daemon {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || {
            OURS.iter()
                .map(|daemon| daemon.name())
                .collect::<Vec<_>>()
                .join(", ")
        };
        OURS.iter()
            .copied()
            .find(|daemon| daemon.name() == name)
            .ok_or_else(|| format!("{name} is none of {}", names()))
    }
}

/// What command lines are made from.
pub(super) struct Site<'a> {
    pub dir: &'a Path,
    pub number: Number,
    pub pki: &'a Pki,
    /// Programs that daemons call: containerd's shim.
    pub tools: &'a Path,
    pub etcd_members: usize,
    pub api_servers: usize,
    pub root: &'a Path,
    pub flags: &'a [(Daemon, String)],
    pub secured: bool,
    pub checked: bool,
}

/// The host that a daemon runs on.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// One of the control plane's, counted from zero.
    ControlPlane(usize),
    Node(&'a NodeSite<'a>),
}

/// A node as its daemons see it.
pub(super) struct NodeSite<'a> {
    pub name: &'a str,
    pub address: Ipv4Addr,
}

/// The name of a host of the control plane, counted from zero.
pub(super) fn control_plane_name(index: usize) -> String {
    match index {
        0 => CONTROL_PLANE_HOST.to_owned(),
        _ => format!("{CONTROL_PLANE_HOST}-{}", index + 1),
    }
}

impl Site<'_> {
    /// The process that runs `program` as `daemon`.
    pub(super) fn process(&self, daemon: Daemon, program: PathBuf, place: Place<'_>) -> Process {
        let mut args = match (daemon, place) {
            (Etcd, Place::ControlPlane(index)) => self.etcd(index),
            (KubeApiserver, Place::ControlPlane(index)) => self.kube_apiserver(index),
            (KubeControllerManager, Place::ControlPlane(_)) => self.kube_controller_manager(),
            (KubeScheduler, Place::ControlPlane(_)) => self.kube_scheduler(),
            (Containerd, Place::Node(node)) => vec![format!(
                "--config={}",
                self.config(node, "containerd.toml").display()
            )],
            (Kubelet, Place::Node(node)) => self.kubelet(node),
            (KubeProxy, Place::Node(node)) => {
                vec![
                    format!(
                        "--config={}",
                        self.config(node, "kube-proxy.yaml").display()
                    ),
                    "--v=2".to_owned(),
                ]
            }
            (Containerd | Kubelet | KubeProxy, Place::ControlPlane(_))
            | (Etcd | KubeApiserver | KubeControllerManager | KubeScheduler, Place::Node(_)) => {
                unreachable!("Spec::hosts_of says where a daemon is started")
            }
        };
        if self.secured {
            args.extend(self.secured(daemon, place));
        }
        let further = self.flags.iter().filter(|(of, _)| *of == daemon);
        args.extend(further.map(|(_, flag)| flag.clone()));
        let log = self.logs(place);
        let path = format!(
            "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            self.tools.display()
        );
        Process {
            name: daemon.name().to_owned(),
            build: build(&program),
            program,
            args,
            env: environment(daemon, self.checked, path),
            log: log.join(format!("{}.log", daemon.name())),
        }
    }

    /// Where a host's logs are.
    fn logs(&self, place: Place<'_>) -> PathBuf {
        let logs = self.dir.join("logs");
        match place {
            Place::Node(node) => logs.join(node.name),
            Place::ControlPlane(0) => logs,
            Place::ControlPlane(index) => logs.join(control_plane_name(index)),
        }
    }

    /// What the CIS Kubernetes Benchmark asks for that is not upstream's default (`e2e/tests/cis`).
    fn secured(&self, daemon: Daemon, place: Place<'_>) -> Vec<String> {
        let mut all = match daemon {
            KubeApiserver | KubeControllerManager | KubeScheduler => {
                flags(&[("profiling", &false)])
            }
            _ => Vec::new(),
        };
        if daemon == KubeApiserver {
            all.extend(flags(&[
                ("audit-log-maxage", &30),
                ("audit-log-maxbackup", &10),
                ("audit-log-maxsize", &100),
                (
                    "audit-log-path",
                    &self.logs(place).join("audit.log").display(),
                ),
                ("audit-policy-file", &self.root.join(AUDIT_POLICY).display()),
                ("service-account-extend-token-expiration", &false),
            ]));
        }
        all
    }

    /// A node's configuration file.
    pub(super) fn config(&self, node: &NodeSite<'_>, file: &str) -> PathBuf {
        self.dir
            .join("nodes")
            .join(node.name)
            .join("config")
            .join(file)
    }

    /// Where the API server of a host of the control plane listens. With one, that is where clients look for it.
    pub(super) fn api_server(&self, index: usize) -> Ipv4Addr {
        match self.api_servers {
            1 => self.number.gateway(),
            _ => self.number.api_server(index),
        }
    }

    fn etcd_url(&self, member: usize, port: u16) -> String {
        format!("https://{}:{port}", self.number.loopback(member))
    }

    /// `each` of all members of etcd.
    fn etcd_members(&self, each: impl Fn(usize) -> String) -> String {
        let all: Vec<String> = (0..self.etcd_members).map(each).collect();
        all.join(",")
    }

    fn etcd(&self, member: usize) -> Vec<String> {
        let [client, peer] = [2379, 2380].map(|port| self.etcd_url(member, port));
        let name = control_plane_name(member);
        let data = match member {
            0 => ETCD_DATA.to_owned(),
            _ => format!("{ETCD_DATA}-{}", member + 1),
        };
        let members = self.etcd_members(|member| {
            let url = self.etcd_url(member, 2380);
            format!("{}={url}", control_plane_name(member))
        });
        let authority = self.pki.cert("etcd/ca");
        flags(&[
            ("name", &name),
            ("data-dir", &self.dir.join(data).display()),
            ("listen-client-urls", &client),
            ("advertise-client-urls", &client),
            ("listen-peer-urls", &peer),
            ("initial-advertise-peer-urls", &peer),
            ("initial-cluster", &members),
            ("cert-file", &self.pki.cert("etcd/server").display()),
            ("key-file", &self.pki.key("etcd/server").display()),
            ("trusted-ca-file", &authority.display()),
            ("client-cert-auth", &true),
            ("peer-cert-file", &self.pki.cert("etcd/peer").display()),
            ("peer-key-file", &self.pki.key("etcd/peer").display()),
            ("peer-trusted-ca-file", &authority.display()),
            ("peer-client-cert-auth", &true),
        ])
    }

    fn kube_apiserver(&self, index: usize) -> Vec<String> {
        let address = self.api_server(index);
        flags(&[
            ("advertise-address", &address),
            ("allow-privileged", &true),
            ("authorization-mode", &"Node,RBAC"),
            ("bind-address", &address),
            ("client-ca-file", &self.pki.cert("ca").display()),
            // Pods are reached through their nodes' routes, without a kube-proxy on this side.
            ("enable-aggregator-routing", &true),
            ("enable-admission-plugins", &"NodeRestriction"),
            ("enable-bootstrap-token-auth", &true),
            ("etcd-cafile", &self.pki.cert("etcd/ca").display()),
            (
                "etcd-certfile",
                &self.pki.cert("apiserver-etcd-client").display(),
            ),
            (
                "etcd-keyfile",
                &self.pki.key("apiserver-etcd-client").display(),
            ),
            (
                "etcd-servers",
                &self.etcd_members(|member| self.etcd_url(member, 2379)),
            ),
            (
                "kubelet-certificate-authority",
                &self.pki.cert("ca").display(),
            ),
            (
                "kubelet-client-certificate",
                &self.pki.cert("apiserver-kubelet-client").display(),
            ),
            (
                "kubelet-client-key",
                &self.pki.key("apiserver-kubelet-client").display(),
            ),
            ("kubelet-preferred-address-types", &"InternalIP"),
            (
                "proxy-client-cert-file",
                &self.pki.cert("front-proxy-client").display(),
            ),
            (
                "proxy-client-key-file",
                &self.pki.key("front-proxy-client").display(),
            ),
            ("requestheader-allowed-names", &"front-proxy-client"),
            (
                "requestheader-client-ca-file",
                &self.pki.cert("front-proxy-ca").display(),
            ),
            ("requestheader-extra-headers-prefix", &"X-Remote-Extra-"),
            ("requestheader-group-headers", &"X-Remote-Group"),
            ("requestheader-username-headers", &"X-Remote-User"),
            ("secure-port", &6443),
            (
                "service-account-issuer",
                &"https://kubernetes.default.svc.cluster.local",
            ),
            (
                "service-account-key-file",
                &self.pki.service_account_public_key().display(),
            ),
            (
                "service-account-signing-key-file",
                &self.pki.key("sa").display(),
            ),
            ("service-cluster-ip-range", &service_network()),
            ("tls-cert-file", &self.pki.cert("apiserver").display()),
            ("tls-private-key-file", &self.pki.key("apiserver").display()),
            ("v", &2),
        ])
    }

    fn kube_controller_manager(&self) -> Vec<String> {
        let mut all = self.delegated("controller-manager", "controller-manager-server");
        all.extend(flags(&[
            ("allocate-node-cidrs", &true),
            ("cluster-cidr", &self.number.pod_network()),
            ("cluster-name", &"navarch"),
            ("cluster-signing-cert-file", &self.pki.cert("ca").display()),
            ("cluster-signing-key-file", &self.pki.key("ca").display()),
            (
                "controllers",
                &"*,bootstrap-signer-controller,token-cleaner-controller",
            ),
            ("root-ca-file", &self.pki.cert("ca").display()),
            (
                "service-account-private-key-file",
                &self.pki.key("sa").display(),
            ),
            ("service-cluster-ip-range", &service_network()),
            ("use-service-account-credentials", &true),
        ]));
        all
    }

    fn kube_scheduler(&self) -> Vec<String> {
        self.delegated("scheduler", "scheduler-server")
    }

    /// What the scheduler and the controller manager have in common: both are clients that serve metrics to those whom
    /// the API server knows.
    fn delegated(&self, identity: &str, server: &str) -> Vec<String> {
        let kubeconfig = self.pki.kubeconfig(identity);
        flags(&[
            ("authentication-kubeconfig", &kubeconfig.display()),
            ("authorization-kubeconfig", &kubeconfig.display()),
            ("bind-address", &self.number.loopback(0)),
            ("client-ca-file", &self.pki.cert("ca").display()),
            ("kubeconfig", &kubeconfig.display()),
            // One instance: an election would only delay its restart.
            ("leader-elect", &false),
            (
                "requestheader-client-ca-file",
                &self.pki.cert("front-proxy-ca").display(),
            ),
            ("tls-cert-file", &self.pki.cert(server).display()),
            ("tls-private-key-file", &self.pki.key(server).display()),
            ("v", &2),
        ])
    }

    fn kubelet(&self, node: &NodeSite<'_>) -> Vec<String> {
        flags(&[
            ("config", &self.config(node, "kubelet.yaml").display()),
            ("hostname-override", &node.name),
            ("kubeconfig", &self.pki.kubeconfig(node.name).display()),
            ("node-ip", &node.address),
            ("v", &2),
        ])
    }
}

fn flags(pairs: &[(&str, &dyn std::fmt::Display)]) -> Vec<String> {
    pairs
        .iter()
        .map(|(name, value)| format!("--{name}={value}"))
        .collect()
}

/// Tells one build of a program from the next.
pub(super) fn build(program: &Path) -> String {
    let Ok(meta) = std::fs::metadata(program) else {
        return String::new();
    };
    let changed = meta
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .unwrap_or_default();
    format!("{} bytes, {} ms", meta.len(), changed.as_millis())
}

/// What a daemon finds in its environment.
fn environment(daemon: Daemon, checked: bool, path: String) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([
        ("HOME".to_owned(), "/root".to_owned()),
        ("PATH".to_owned(), path),
    ]);
    if daemon == KubeApiserver && checked {
        // Ours and upstream's: the caches are compared with etcd.
        let check = "KUBE_WATCHCACHE_CONSISTENCY_CHECKER".to_owned();
        all.insert(check, "true".to_owned());
    }
    all
}
