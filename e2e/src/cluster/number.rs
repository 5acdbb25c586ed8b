//! Gives each cluster of this machine a number, from which all its names and addresses follow.
//!
//! Owns `/run/navarch`: one directory per number, holding the state directory that it belongs to. The number of a state
//! directory stays the same until it is released, and two clusters never share one. `/run` is empty after a reboot, as
//! are the network namespaces and processes that the numbers stand for.

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

const REGISTRY: &str = "/run/navarch";
/// Clusters that can stand at once; bounded by the address plan below.
const NUMBERS: u8 = 16;
/// Nodes of one cluster; bounded by the pod addresses.
pub const MAX_NODES: usize = 64;
/// API servers of one cluster; bounded by the addresses below those of nodes.
pub const MAX_API_SERVERS: usize = 3;
/// Members of etcd: an even number bears no more losses than the odd one below it.
pub const ETCD_MEMBERS: &[usize] = &[1, 3];
/// Hosts that a control plane can have.
pub(super) const MAX_CONTROL_PLANES: usize = 3;

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("cannot use {REGISTRY}")]
    Registry(#[source] io::Error),
    #[error("no range of addresses is free for another cluster; {REGISTRY} lists those that stand")]
    NoneFree,
}

/// A number and the address plan that follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Number(u8);

impl Number {
    /// The number of `dir`, claimed now if it has none: `wish` if that is free, else the first that is. `in_use` are
    /// networks that this machine already routes to.
    pub fn claim(dir: &Path, wish: Option<Self>, in_use: &[Ipv4Net]) -> Result<Self, Error> {
        let registry = Registry::lock()?;
        if let Some(number) = registry.find(dir)? {
            return Ok(number);
        }
        for number in wish.into_iter().chain((0..NUMBERS).map(Self)) {
            let plan = [number.node_network(), number.pod_network()];
            let collides = |net: &Ipv4Net| {
                plan.iter()
                    .any(|own| own.contains(net) || net.contains(own))
            };
            if registry.owner(number)?.is_none() && !in_use.iter().any(collides) {
                registry.write(number, dir)?;
                return Ok(number);
            }
        }
        Err(Error::NoneFree)
    }

    /// The number of `dir`, if it has one.
    pub fn find(dir: &Path) -> Result<Option<Self>, Error> {
        Registry::lock()?.find(dir)
    }

    /// Keeps others from bringing this cluster up or down meanwhile; whoever held it before may have changed whose
    /// number it is.
    pub(super) fn lock(self) -> Result<Held, Error> {
        lock_file(&format!("{}.lock", self.name()))
    }

    /// Gives the number back. Everything that carries its names has to be gone.
    pub(super) fn release(self) -> Result<(), Error> {
        let _registry = Registry::lock()?;
        fs::remove_file(Registry::path(self)).map_err(Error::Registry)
    }

    /// The prefix of every name this cluster gives to kernel objects.
    pub fn name(self) -> String {
        format!("navarch{}", self.0)
    }

    /// Where etcd, the scheduler and the controller manager of a host of the control plane listen: an address of the
    /// loopback network, so that every cluster has the standard ports.
    pub fn loopback(self, control_plane: usize) -> Ipv4Addr {
        let last = u8::try_from(1 + control_plane).expect("control planes have few hosts");
        Ipv4Addr::new(127, 31, self.0, last)
    }

    pub fn node_network(self) -> Ipv4Net {
        Ipv4Net::new_assert(Ipv4Addr::new(172, 31, 100 + self.0, 0), 24)
    }

    /// This machine's own address in the node network: where clients find the API server, or what stands before several.
    pub fn gateway(self) -> Ipv4Addr {
        self.node_address(0, 1)
    }

    /// Where each of several API servers listens: further addresses of this machine.
    pub fn api_server(self, control_plane: usize) -> Ipv4Addr {
        assert!(
            control_plane < MAX_API_SERVERS,
            "the number of API servers is checked before"
        );
        self.node_address(control_plane, 2)
    }

    /// The address of the node with this index, counted from zero.
    pub fn node(self, index: usize) -> Ipv4Addr {
        assert!(index < MAX_NODES, "the number of nodes is checked before");
        self.node_address(index, 11)
    }

    fn node_address(self, index: usize, first: usize) -> Ipv4Addr {
        let last = u8::try_from(first + index).expect("MAX_NODES keeps it below 256");
        Ipv4Addr::new(172, 31, 100 + self.0, last)
    }

    /// Of which each node gets a /24.
    pub fn pod_network(self) -> Ipv4Net {
        Ipv4Net::new_assert(Ipv4Addr::new(10, 244 - self.0, 0, 0), 16)
    }
}

/// Service addresses exist inside of nodes only, so every cluster can have the same.
pub(super) fn service_network() -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16)
}

pub(super) const KUBERNETES_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
pub(super) const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// A lock that ends with this value, or with the process.
pub(super) struct Held(#[expect(dead_code, reason = "it is held, not used")] Flock<File>);

fn lock_file(name: &str) -> Result<Held, Error> {
    fs::create_dir_all(REGISTRY).map_err(Error::Registry)?;
    let file = File::create(Path::new(REGISTRY).join(name)).map_err(Error::Registry)?;
    let locked = Flock::lock(file, FlockArg::LockExclusive);
    locked
        .map(Held)
        .map_err(|(_, errno)| Error::Registry(errno.into()))
}

/// The registry while its lock is held.
struct Registry(#[expect(dead_code, reason = "it is held, not used")] Held);

impl Registry {
    fn lock() -> Result<Self, Error> {
        lock_file("lock").map(Self)
    }

    fn path(number: Number) -> PathBuf {
        Path::new(REGISTRY).join(number.name())
    }

    fn owner(&self, number: Number) -> Result<Option<PathBuf>, Error> {
        match fs::read_to_string(Self::path(number)) {
            Ok(text) => Ok(Some(PathBuf::from(text.trim_end()))),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(Error::Registry(cause)),
        }
    }

    fn find(&self, dir: &Path) -> Result<Option<Number>, Error> {
        for number in (0..NUMBERS).map(Number) {
            if self.owner(number)?.as_deref() == Some(dir) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    fn write(&self, number: Number, dir: &Path) -> Result<(), Error> {
        fs::write(Self::path(number), format!("{}\n", dir.display())).map_err(Error::Registry)
    }
}
