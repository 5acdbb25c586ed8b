//! The built-in pod network: one bridge per node, addresses from the node's pod ranges.
//!
//! ```text
//! pod: eth0 10.244.1.5/32, default via 10.244.1.1 - veth -> nvbr0 10.244.1.1/24 -> node's routes
//! ```
//! - A pod's address is a /32 (/128): everything it sends goes to the gateway and is routed, to its
//!   neighbour too. So conntrack and packet rules see both directions of every connection, which a
//!   bridged reply from a service's endpoint on the same node would evade without `br_netfilter`.
//! - Ports are isolated and do not learn; the node knows each pod's link-layer address by permanent
//!   entries. A pod can neither answer for another one nor listen to it.
//! - The link-layer address follows from the IP address: a later pod with the same IP needs nobody
//!   to forget anything.
//!
//! What a pod has is on disk before it is in the kernel. After a reboot the kernel has nothing, and
//! what is on disk is void. Routes to other nodes' pods are not made here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt;
use ipnet::IpNet;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::ipam::Ipam;
use super::netns::{Fresh, Namespaces};
use super::nft::{Forward, Nft, Plan};
use super::rtnl::{self, Link, Mac, Rtnl, Veth};
use super::{Answer, Attachment, Error, Pod, PodNetwork, Result, Status, blocking, checked};
use crate::sys::file::{self, Durability};

/// How the bridge is made.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its name; several kubelets in one network namespace need different ones.
    pub name: String,
    /// State is kept here: `netns/` and `pods/`.
    pub root: PathBuf,
    /// What pods reach under their own address, beside pods of this node: the whole cluster's pod
    /// ranges. Everything else sees the node's address.
    pub cluster_cidrs: Vec<IpNet>,
    /// Whether to hide pods behind the node's address at all.
    pub masquerade: bool,
    /// Bytes; absent, that of the links of the default routes.
    pub mtu: Option<u32>,
    /// Namespaces to keep ready.
    pub spare: usize,
}

impl Config {
    /// The usual configuration with state below `root`.
    pub fn new(root: &Path) -> Self {
        Self {
            name: "nvbr0".into(),
            root: root.to_owned(),
            cluster_cidrs: Vec::new(),
            masquerade: true,
            mtu: None,
            spare: 4,
        }
    }
}

const DEFAULT_MTU: u32 = 1500;
/// The link inside the pod.
const POD_LINK: &str = "eth0";

/// What is kept of one pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    pod: Pod,
    ips: Vec<IpAddr>,
    veth: String,
    boot: String,
}

/// The built-in pod network. Acts in the network namespace in which it was opened.
#[derive(Clone)]
pub struct Bridge(Arc<Inner>);

struct Inner {
    config: Config,
    boot: String,
    namespaces: Namespaces,
    state: Mutex<State>,
    /// Requests to the node's namespace; one after the other, as the kernel's lock has it anyway.
    rtnl: Mutex<Rtnl>,
    nft: Mutex<Nft>,
}

#[derive(Default)]
struct State {
    ipam: Ipam,
    pods: BTreeMap<String, Record>,
    bridge: Option<Link>,
}

impl Bridge {
    /// Reads what is there. The bridge itself comes with [`PodNetwork::set_pod_cidrs`]. Blocks.
    pub fn open(config: Config) -> Result<Self> {
        let boot_path = Path::new("boot id");
        let boot = file::boot_id().map_err(Error::at("read", boot_path))?;
        let namespaces = Namespaces::open(&config.root.join("netns"), config.spare)?;
        let inner = Inner {
            boot,
            namespaces,
            state: Mutex::default(),
            rtnl: Mutex::new(Rtnl::open()?),
            nft: Mutex::new(Nft::open()?),
            config,
        };
        inner.load()?;
        Ok(Self(Arc::new(inner)))
    }

    /// Takes everything away that no pod needs: the bridge, the rules. For tests and for a node
    /// that moves to a CNI plugin. Blocks.
    pub fn remove(&self) -> Result<()> {
        self.0.nft.lock().remove()?;
        self.0.state.lock().bridge = None;
        match self
            .0
            .rtnl
            .lock()
            .run(vec![rtnl::delete_link(&self.0.config.name)])
        {
            Err(err) if err.errno() == Some(libc::ENODEV) => Ok(()),
            other => Ok(other?),
        }
    }

    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Answer<'_, T> {
        let inner = self.0.clone();
        blocking(move || work(&inner)).boxed()
    }
}

impl PodNetwork for Bridge {
    fn setup(&self, pod: Pod) -> Answer<'_, Attachment> {
        let inner = self.0.clone();
        async move {
            let setup = inner.clone();
            let attachment = blocking(move || setup.setup(pod)).await?;
            // The next pod's namespace is made while this pod's containers are.
            drop(tokio::task::spawn_blocking(move || {
                if let Err(error) = inner.namespaces.refill() {
                    tracing::warn!(%error, "cannot make network namespaces ahead");
                }
            }));
            Ok(attachment)
        }
        .boxed()
    }

    fn teardown<'a>(&'a self, uid: &'a str) -> Answer<'a, ()> {
        let uid = uid.to_owned();
        self.call(move |inner| inner.teardown(&uid))
    }

    fn attachment(&self, uid: &str) -> Option<Attachment> {
        let state = self.0.state.lock();
        Some(self.0.attached(state.pods.get(uid)?))
    }

    fn reconcile(&self, live: BTreeSet<String>) -> Answer<'_, ()> {
        self.call(move |inner| inner.reconcile(&live))
    }

    fn set_pod_cidrs(&self, cidrs: Vec<IpNet>) -> Answer<'_, ()> {
        self.call(move |inner| inner.set_pod_cidrs(&cidrs))
    }

    fn status(&self) -> Status {
        let state = self.0.state.lock();
        match (state.ipam.nets().is_empty(), state.bridge) {
            (true, _) => Status::NotReady {
                reason: "NetworkPluginNotReady",
                message: "the node has no pod address range (spec.podCIDR) yet".into(),
            },
            (false, None) => Status::NotReady {
                reason: "NetworkPluginNotReady",
                message: format!("bridge {} is not there", self.0.config.name),
            },
            (false, Some(_)) => Status::Ready,
        }
    }
}

impl Inner {
    fn record_path(&self, uid: &str) -> PathBuf {
        self.config.root.join("pods").join(format!("{uid}.json"))
    }

    fn load(&self) -> Result<()> {
        let dir = self.config.root.join("pods");
        fs::create_dir_all(&dir).map_err(Error::at("create", &dir))?;
        let mut state = self.state.lock();
        for entry in fs::read_dir(&dir)
            .map_err(Error::at("list", &dir))?
            .flatten()
        {
            let path = entry.path();
            let record = fs::read(&path).ok();
            let record = record.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
            match record.filter(|record| record.boot == self.boot) {
                Some(record) => drop(state.pods.insert(record.pod.uid.clone(), record)),
                None => file::remove_all(&path).map_err(Error::at("remove", &path))?,
            }
        }
        Ok(())
    }

    fn attached(&self, record: &Record) -> Attachment {
        Attachment {
            netns: self.namespaces.path(&record.pod.uid),
            ips: record.ips.clone(),
        }
    }

    fn setup(&self, pod: Pod) -> Result<Attachment> {
        let uid = checked(&pod.uid)?.to_owned();
        let known = self.state.lock().pods.get(&uid).cloned();
        if let Some(record) = known {
            if self.namespaces.is_pinned(&uid)? {
                return Ok(self.attached(&record));
            }
            // Half made by a kubelet that was killed.
            self.teardown(&uid)?;
        }
        let (record, bridge) = self.reserve(pod)?;
        let made = self
            .connect(&record, bridge)
            .and_then(|()| match record.pod.host_ports[..] {
                [] => Ok(()),
                _ => self.apply_rules(),
            });
        match made {
            Ok(()) => Ok(self.attached(&record)),
            Err(err) => {
                if let Err(error) = self.teardown(&uid) {
                    tracing::warn!(pod.uid = uid, %error, "cannot undo a failed pod network");
                }
                Err(err)
            }
        }
    }

    /// Takes addresses and host ports for the pod and writes them down.
    fn reserve(&self, pod: Pod) -> Result<(Record, Link)> {
        let mut state = self.state.lock();
        for port in &pod.host_ports {
            let holds = |record: &&Record| record.pod.host_ports.iter().any(|p| collide(p, port));
            if let Some(holder) = state.pods.values().find(holds) {
                let by = format!("{}/{}", holder.pod.namespace, holder.pod.name);
                return Err(Error::HostPort { port: *port, by });
            }
        }
        let ips = state.ipam.allocate(&pod.uid)?;
        let bridge = state.bridge.ok_or(super::ipam::Error::NoRange)?;
        let veth = format!("veth{:08x}", rand::random::<u32>());
        let record = Record {
            ips,
            veth,
            boot: self.boot.clone(),
            pod,
        };
        let path = self.record_path(&record.pod.uid);
        let written = serde_json::to_vec(&record)
            .map_err(std::io::Error::from)
            .and_then(|json| file::write_atomic(&path, &json, 0o600, Durability::Process));
        if let Err(err) = written {
            state.ipam.release(&record.pod.uid);
            return Err(Error::at("write", &path)(err));
        }
        state.pods.insert(record.pod.uid.clone(), record.clone());
        Ok((record, bridge))
    }

    /// Makes the namespace and the links.
    fn connect(&self, record: &Record, bridge: Link) -> Result<()> {
        let Fresh {
            fd,
            rtnl: mut inside,
        } = self.namespaces.fresh(&record.pod.users)?;
        let mac = mac(&record.ips);
        let veth = Veth {
            name: &record.veth,
            bridge: bridge.index,
            mtu: bridge.mtu,
            peer: POD_LINK,
            peer_netns: fd.as_fd(),
            peer_mac: mac,
        };
        {
            let mut node = self.rtnl.lock();
            node.run(vec![
                rtnl::add_veth(&veth),
                rtnl::confine_port(&record.veth),
            ])?;
            let port = node
                .link(&record.veth)?
                .ok_or(super::netlink::Error::Malformed)?;
            let ips = record.ips.iter();
            let neighbours = ips.map(|ip| rtnl::add_neighbour(bridge.index, *ip, mac));
            node.run(
                std::iter::once(rtnl::add_forwarding(port.index, mac))
                    .chain(neighbours)
                    .collect(),
            )?;
        }
        let link = inside
            .link(POD_LINK)?
            .ok_or(super::netlink::Error::Malformed)?;
        let mut steps = vec![rtnl::set_up(link.index)];
        for ip in &record.ips {
            let gateway = self.state.lock().ipam.gateway_of(*ip);
            let gateway = gateway.ok_or(super::ipam::Error::NoRange)?;
            steps.push(rtnl::add_address(link.index, (*ip).into()));
            steps.push(rtnl::add_route(gateway.into(), None, link.index));
            steps.push(rtnl::add_route(everything(*ip), Some(gateway), link.index));
        }
        inside.run(steps)?;
        self.namespaces.pin(&record.pod.uid, fd.as_fd())?;
        Ok(())
    }

    fn teardown(&self, uid: &str) -> Result<()> {
        let uid = checked(uid)?;
        self.namespaces.unpin(uid)?;
        let Some(record) = self.state.lock().pods.get(uid).cloned() else {
            return Ok(());
        };
        let bridge = self.state.lock().bridge;
        if let Some(bridge) = bridge {
            for ip in &record.ips {
                // The port's own entries go with it, when the namespace ends.
                match self
                    .rtnl
                    .lock()
                    .run(vec![rtnl::delete_neighbour(bridge.index, *ip)])
                {
                    Err(err) if matches!(err.errno(), Some(libc::ENOENT | libc::ENODEV)) => {}
                    other => other?,
                }
            }
        }
        let path = self.record_path(uid);
        file::remove_all(&path).map_err(Error::at("remove", &path))?;
        {
            let mut state = self.state.lock();
            state.pods.remove(uid);
            state.ipam.release(uid);
        }
        if record.pod.host_ports.is_empty() {
            Ok(())
        } else {
            self.apply_rules()
        }
    }

    fn reconcile(&self, live: &BTreeSet<String>) -> Result<()> {
        let known: BTreeSet<_> = self.state.lock().pods.keys().cloned().collect();
        for uid in known
            .union(&self.namespaces.pinned()?)
            .filter(|uid| !live.contains(*uid))
        {
            self.teardown(uid)?;
        }
        Ok(())
    }

    fn set_pod_cidrs(&self, cidrs: &[IpNet]) -> Result<()> {
        let mut ipam = Ipam::new(cidrs)?;
        {
            let mut state = self.state.lock();
            for record in state.pods.values() {
                ipam.adopt(&record.pod.uid, &record.ips);
            }
            state.ipam = ipam;
        }
        self.make_bridge()?;
        self.apply_rules()?;
        self.set_sysctls(cidrs);
        self.namespaces.refill()
    }

    /// Makes the bridge with the gateways' addresses; what is there is kept.
    fn make_bridge(&self) -> Result<()> {
        let name = &self.config.name;
        let gateways = self.state.lock().ipam.gateways();
        let mut node = self.rtnl.lock();
        let mtu = match self.config.mtu {
            Some(mtu) => mtu,
            None => node.default_mtu()?.unwrap_or(DEFAULT_MTU),
        };
        let bridge = match node.link(name)? {
            Some(bridge) => bridge,
            None => {
                let ips: Vec<_> = gateways.iter().map(IpNet::addr).collect();
                node.run(vec![rtnl::add_bridge(name, mtu, mac(&ips))])?;
                node.link(name)?.ok_or(super::netlink::Error::Malformed)?
            }
        };
        node.run(vec![rtnl::set_up(bridge.index)])?;
        for gateway in gateways {
            match node.run(vec![rtnl::add_address(bridge.index, gateway)]) {
                Err(err) if err.errno() == Some(libc::EEXIST) => {}
                other => other?,
            }
        }
        self.state.lock().bridge = Some(Link { mtu, ..bridge });
        Ok(())
    }

    /// Lets the node forward. What cannot be set is logged: somebody else may have set it, and
    /// /proc/sys may be read-only.
    fn set_sysctls(&self, cidrs: &[IpNet]) {
        let bridge = format!("ipv4/conf/{}/send_redirects", self.config.name);
        let local = format!("ipv4/conf/{}/route_localnet", self.config.name);
        // Lets host ports answer on the node's loopback too; the rules keep pods away from it.
        let mut wanted = vec![
            ("ipv4/ip_forward", "1"),
            (bridge.as_str(), "0"),
            (local.as_str(), "1"),
        ];
        if cidrs.iter().any(|net| net.addr().is_ipv6()) {
            wanted.push(("ipv6/conf/all/forwarding", "1"));
        }
        for (key, value) in wanted {
            let path = Path::new("/proc/sys/net").join(key);
            let is = fs::read_to_string(&path).unwrap_or_default();
            if is.trim() == value {
                continue;
            }
            if let Err(error) = fs::write(&path, value) {
                tracing::warn!(sysctl = key, %error, "cannot set a sysctl that pods need");
            }
        }
    }

    fn apply_rules(&self) -> Result<()> {
        let state = self.state.lock();
        let forwards = state.pods.values().flat_map(|record| {
            let forward = |port| Forward {
                port,
                to: record.ips.clone(),
            };
            record.pod.host_ports.iter().copied().map(forward)
        });
        let plan = Plan {
            bridge: self.config.name.clone(),
            pods: if self.config.masquerade {
                state.ipam.nets()
            } else {
                Vec::new()
            },
            inside: self.config.cluster_cidrs.clone(),
            host_ports: forwards.collect(),
        };
        // Under the lock: an older plan must not replace a newer one.
        Ok(self.nft.lock().apply(&plan)?)
    }
}

/// Whether two host ports cannot be had at once.
fn collide(a: &super::HostPort, b: &super::HostPort) -> bool {
    let any = |p: &super::HostPort| p.host_ip.is_none_or(|ip| ip.is_unspecified());
    let same_address = any(a) || any(b) || a.host_ip == b.host_ip;
    a.protocol == b.protocol && a.host_port == b.host_port && same_address
}

/// `0a:58` and the IPv4 address, as CNI's plugins do; for IPv6 alone its last four bytes.
fn mac(ips: &[IpAddr]) -> Mac {
    let v4 = ips.iter().find_map(|ip| match ip {
        IpAddr::V4(ip) => Some(ip.octets()),
        IpAddr::V6(_) => None,
    });
    let v6 = ips.iter().find_map(|ip| match ip {
        IpAddr::V6(ip) => ip.octets().last_chunk().copied(),
        IpAddr::V4(_) => None,
    });
    let [a, b, c, d] = v4.or(v6).unwrap_or_default();
    [0x0a, 0x58, a, b, c, d]
}

fn everything(like: IpAddr) -> IpNet {
    match like {
        IpAddr::V4(_) => ipnet::Ipv4Net::default().into(),
        IpAddr::V6(_) => ipnet::Ipv6Net::default().into(),
    }
}

#[cfg(test)]
pub(super) mod tests;
