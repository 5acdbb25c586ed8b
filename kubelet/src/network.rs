//! The pods' network.
//!
//! Owns: network namespaces of pods, their addresses and links, host ports; and what pods read
//! about names: `resolv.conf`, `/etc/hosts`, the host name.
//!
//! [`PodNetwork`] has two implementations: CNI plugins ([`cni`]), if the node has a configuration
//! for them, else the built-in [`bridge`], so that a fresh node works with no further install.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::sys::userns::IdMap;

pub mod bridge;
pub mod choice;
pub mod cni;
pub mod hosts;
mod ipam;
pub(crate) mod netlink;
mod netns;
mod nft;
pub mod resolv;
mod rtnl;

/// Why a pod has no network. The text goes into the pod's events.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("{doing} {path}: {source}", path = path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("network namespace: {0}")]
    Netns(io::Error),
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    #[error(transparent)]
    Mount(#[from] crate::sys::mount::Error),
    #[error(transparent)]
    Ipam(#[from] ipam::Error),
    #[error("{0:?} cannot name a pod's network namespace")]
    Uid(String),
    #[error("host port {port} is taken by pod {by}")]
    HostPort { port: HostPort, by: String },
    #[error(transparent)]
    Cni(#[from] cni::Error),
    #[error("the pod network was interrupted")]
    Interrupted,
}

impl Error {
    fn at<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

type Result<T> = std::result::Result<T, Error>;

/// The answer of a call; boxed, because which implementation it is, is decided at start.
pub type Answer<'a, T> = BoxFuture<'a, Result<T>>;

/// Who needs a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub host_ports: Vec<HostPort>,
    /// For plugins that shape traffic (`kubernetes.io/ingress-bandwidth`), bits per second.
    pub ingress_bandwidth: Option<u64>,
    pub egress_bandwidth: Option<u64>,
    /// Mappings of the pod's user namespace, to which its network then belongs; empty for the node's.
    #[serde(default)]
    pub users: Vec<IdMap>,
}

/// A port of the node that leads to a port of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPort {
    pub protocol: Protocol,
    pub host_port: u16,
    pub container_port: u16,
    /// Only on this address of the node; every one if absent or unspecified.
    pub host_ip: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(ip) => write!(f, "{ip}:{}/{}", self.host_port, self.protocol),
            None => write!(f, "{}/{}", self.host_port, self.protocol),
        }
    }
}

/// What a pod got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// A file that is the namespace; for `Network::Path` of the sandbox.
    pub netns: PathBuf,
    /// For `status.podIPs`, the primary first.
    pub ips: Vec<IpAddr>,
}

/// Whether pods can get a network; the node's `Ready` condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Ready,
    /// Reason and message as upstream's runtime status has them.
    NotReady {
        reason: &'static str,
        message: String,
    },
}

/// Gives pods their network.
///
/// Setting up and tearing down one pod never overlap: its worker calls one after the other.
/// Dropping an answer leaves the call running to its end.
pub trait PodNetwork: Send + Sync {
    /// Makes the pod's namespace with everything in it. A pod that has one keeps it. After an error
    /// nothing is left, or [`teardown`](Self::teardown) takes it away.
    fn setup(&self, pod: Pod) -> Answer<'_, Attachment>;

    /// Takes away what `setup` made. Succeeds if there is nothing.
    fn teardown<'a>(&'a self, uid: &'a str) -> Answer<'a, ()>;

    /// What a pod has, if it has a network.
    fn attachment(&self, uid: &str) -> Option<Attachment>;

    /// Takes away the networks of all pods but these: the first call after a start.
    fn reconcile(&self, live: BTreeSet<String>) -> Answer<'_, ()>;

    /// Tells the ranges of the node's pods, from its object. Implementations with their own plan of
    /// addresses ignore it.
    fn set_pod_cidrs(&self, cidrs: Vec<ipnet::IpNet>) -> Answer<'_, ()>;

    fn status(&self) -> Status;
}

/// A pod's uid as a file name: uids are made by the API server, or by us from a hash.
fn checked(uid: &str) -> Result<&str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if uid.is_empty() || uid.len() > 128 || !uid.bytes().all(allowed) {
        return Err(Error::Uid(uid.to_owned()));
    }
    Ok(uid)
}

/// Runs blocking work to its end, whether or not somebody still waits.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::Interrupted)?
}
