//! What belongs to a cluster: authorities, leaves and kubeconfigs, by their names.
//!
//! Names are paths below `pki/` without extension, as kubeadm has them. Common names and organizations are the identities
//! that upstream's bootstrap roles know.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rcgen::ExtendedKeyUsagePurpose;

/// Name and common name of each authority.
pub(super) const AUTHORITIES: &[(&str, &str)] = &[
    ("ca", "kubernetes-ca"),
    ("etcd/ca", "etcd-ca"),
    ("front-proxy-ca", "front-proxy-ca"),
];

/// An address, or a name of DNS, that a certificate is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host(String);

/// What is neither an address nor a name.
#[derive(thiserror::Error, Debug, PartialEq, Eq)]
#[error("{0:?} is neither an address nor a name of DNS")]
pub struct NoHost(String);

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self(address.to_string())
    }
}

impl FromStr for Host {
    type Err = NoHost;

    fn from_str(text: &str) -> Result<Self, NoHost> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        let label = |label: &str| {
            let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            !label.is_empty()
                && label.len() <= 63
                && label.chars().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // A host whose last label is a number is an address that was mistyped.
        let number = |label: &str| label.chars().all(|c| c.is_ascii_digit());
        let name = text.strip_prefix("*.").unwrap_or(text);
        let last = name.rsplit('.').next().unwrap_or_default();
        if name.len() <= 253 && name.split('.').all(label) && !number(last) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NoHost(text.to_owned()))
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Host {
    /// As it stands in a URL.
    #[must_use]
    pub fn in_url(&self) -> String {
        if self.0.contains(':') {
            format!("[{}]", self.0)
        } else {
            self.0.clone()
        }
    }
}

/// What certificates and kubeconfigs are made for.
#[derive(Clone, Debug)]
pub struct Names {
    /// The URL in kubeconfigs.
    pub server: String,
    /// Where clients reach the API servers: each of them, and what stands before several.
    pub api_servers: Vec<Host>,
    /// The first address of each service range: where pods reach the API server.
    pub kubernetes_service: Vec<IpAddr>,
    /// Where etcd's members, the scheduler and the controller manager listen.
    pub control_plane: Vec<Host>,
    pub nodes: Vec<(String, Vec<Host>)>,
    /// The domain of the cluster's DNS.
    pub domain: String,
    /// Where an image registry listens that belongs to the cluster.
    pub registry: Option<Host>,
}

impl Default for Names {
    /// Of a cluster of which nothing is known yet.
    fn default() -> Self {
        Self {
            server: String::new(),
            api_servers: Vec::new(),
            kubernetes_service: Vec::new(),
            control_plane: Vec::new(),
            nodes: Vec::new(),
            domain: "cluster.local".to_owned(),
            registry: None,
        }
    }
}

/// A certificate that is not an authority.
pub(super) struct Leaf {
    pub(super) name: String,
    pub(super) authority: &'static str,
    pub(super) common_name: String,
    pub(super) organization: Option<&'static str>,
    pub(super) sans: Vec<String>,
    pub(super) usages: &'static [ExtendedKeyUsagePurpose],
}

const CLIENT: &[ExtendedKeyUsagePurpose] = &[ExtendedKeyUsagePurpose::ClientAuth];
const SERVER: &[ExtendedKeyUsagePurpose] = &[ExtendedKeyUsagePurpose::ServerAuth];
/// etcd's members serve and dial each other with one certificate.
const PEER: &[ExtendedKeyUsagePurpose] = &[
    ExtendedKeyUsagePurpose::ServerAuth,
    ExtendedKeyUsagePurpose::ClientAuth,
];
const MASTERS: Option<&str> = Some("system:masters");

impl Leaf {
    /// Its usages in words.
    pub(super) fn words(&self) -> Vec<&'static str> {
        let word = |usage: &ExtendedKeyUsagePurpose| match usage {
            ExtendedKeyUsagePurpose::ServerAuth => "server auth",
            _ => "client auth",
        };
        self.usages.iter().map(word).collect()
    }

    /// Whether it says who a client is: then its subject matters, and not only its names.
    pub(super) fn is_identity(&self) -> bool {
        self.usages == CLIENT
    }
}

/// Name, authority, common name and organization of clients.
const CLIENTS: &[(&str, &str, &str, Option<&str>)] = &[
    (
        "apiserver-kubelet-client",
        "ca",
        "kube-apiserver-kubelet-client",
        MASTERS,
    ),
    ("admin", "ca", "kubernetes-admin", MASTERS),
    (
        "controller-manager",
        "ca",
        "system:kube-controller-manager",
        None,
    ),
    ("scheduler", "ca", "system:kube-scheduler", None),
    (
        "kube-proxy",
        "ca",
        "system:kube-proxy",
        Some("system:node-proxier"),
    ),
    (
        "front-proxy-client",
        "front-proxy-ca",
        "front-proxy-client",
        None,
    ),
    (
        "apiserver-etcd-client",
        "etcd/ca",
        "kube-apiserver-etcd-client",
        None,
    ),
];

/// Every leaf of a cluster.
pub(super) fn leaves(names: &Names) -> Vec<Leaf> {
    let mut all: Vec<Leaf> = CLIENTS
        .iter()
        .map(|(name, authority, common_name, organization)| {
            client(name, authority, common_name, *organization)
        })
        .collect();
    all.extend(servers(names));
    for (node, hosts) in &names.nodes {
        let identity = format!("system:node:{node}");
        all.push(client(node, "ca", &identity, Some("system:nodes")));
        let mut sans = vec![node.clone()];
        sans.extend(hosts.iter().map(Host::to_string));
        let name = format!("{node}-server");
        all.push(server(&name, "ca", &identity, sans, SERVER));
    }
    all
}

/// The leaf that has a name in some cluster, though nodes are not known.
pub(super) fn known(name: &str) -> Option<Leaf> {
    // kubeadm's etcd asks for its own health as this client.
    let healthcheck = client(
        "etcd/healthcheck-client",
        "etcd/ca",
        "kube-etcd-healthcheck-client",
        None,
    );
    leaves(&Names::default())
        .into_iter()
        .chain([healthcheck])
        .find(|leaf| leaf.name == name)
}

fn servers(names: &Names) -> Vec<Leaf> {
    let hosts = |hosts: &[Host]| -> Vec<String> { hosts.iter().map(Host::to_string).collect() };
    let mut local = hosts(&names.control_plane);
    // Members of etcd are also known by the address that this machine calls its own loopback addresses from.
    local.extend(["127.0.0.1", "::1", "localhost"].map(str::to_owned));
    let mut api_server = local.clone();
    api_server
        .extend(["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned));
    api_server.push(format!("kubernetes.default.svc.{}", names.domain));
    api_server.extend(names.kubernetes_service.iter().map(IpAddr::to_string));
    api_server.extend(hosts(&names.api_servers));
    let mut all = vec![
        server("apiserver", "ca", "kube-apiserver", api_server, SERVER),
        server(
            "controller-manager-server",
            "ca",
            "kube-controller-manager",
            local.clone(),
            SERVER,
        ),
        server(
            "scheduler-server",
            "ca",
            "kube-scheduler",
            local.clone(),
            SERVER,
        ),
        server("etcd/server", "etcd/ca", "etcd", local.clone(), PEER),
        server("etcd/peer", "etcd/ca", "etcd", local, PEER),
    ];
    let registry = names.registry.iter().map(Host::to_string);
    all.extend(registry.map(|host| server("registry", "ca", "registry", vec![host], SERVER)));
    all
}

fn client(
    name: &str,
    authority: &'static str,
    common_name: &str,
    organization: Option<&'static str>,
) -> Leaf {
    Leaf {
        name: name.to_owned(),
        authority,
        common_name: common_name.to_owned(),
        organization,
        sans: Vec::new(),
        usages: CLIENT,
    }
}

fn server(
    name: &str,
    authority: &'static str,
    common_name: &str,
    sans: Vec<String>,
    usages: &'static [ExtendedKeyUsagePurpose],
) -> Leaf {
    let mut once = Vec::new();
    for san in sans {
        if !once.contains(&san) {
            once.push(san);
        }
    }
    Leaf {
        name: name.to_owned(),
        authority,
        common_name: common_name.to_owned(),
        organization: None,
        sans: once,
        usages,
    }
}

/// The kubeconfigs of a cluster; each carries the identity of the leaf of the same name.
pub(super) fn kubeconfigs(names: &Names) -> Vec<String> {
    let fixed = ["admin", "controller-manager", "scheduler", "kube-proxy"];
    let nodes = names.nodes.iter().map(|(node, _)| node.as_str());
    fixed.into_iter().chain(nodes).map(str::to_owned).collect()
}
