//! Routes to the pods of other nodes, for clusters whose network does not do it: to a Node's `podCIDRs` by its
//! addresses. Not upstream's.
//!
//! Invariants: routes of this module are told from others by their protocol number, and only those are taken
//! away; no Node gets traffic of addresses outside the cluster's range, of this node's pods, or of a range
//! that a Node before it in the order of names has.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use component::informer::{Event, Informer};
use component::supervisor::BoxError;
use component::{Supervisor, Task};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use nix::sys::socket::SockProtocol;
use tokio::sync::Notify;

use crate::netlink::{Buffer, Error, Reply, Socket, attrs};
use crate::nft::Family;
use crate::node::{host_ips, pod_cidrs};
use crate::service::parse_net;

/// `rtm_protocol` of our routes; `/etc/iproute2/rt_protos` gives it to nobody.
const PROTOCOL: u8 = 78;
/// How long a route may be missing that somebody else took away.
const PERIOD: Duration = Duration::from_secs(300);
/// `struct rtmsg`
const FIXED: usize = 12;
const ATTEMPTS: usize = 20;

/// By which address a range is reached.
type Routes = BTreeMap<IpNet, IpAddr>;

/// Whose routes, and where they may lead.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) node: String,
    /// The cluster's ranges of pods.
    pub(crate) within: Vec<IpNet>,
    pub(crate) families: Vec<Family>,
    /// How long after a failure to try again.
    pub(crate) retry: Duration,
}

impl Scope {
    /// The routes that a cluster of these Nodes needs.
    fn wanted(&self, nodes: &[Arc<Node>]) -> Routes {
        let name = |node: &Node| node.metadata.name.clone().unwrap_or_default();
        let mut sorted: Vec<_> = nodes.iter().map(|node| (name(node), node)).collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        let nets = |node: &Node| {
            let cidrs = pod_cidrs(node);
            let nets = cidrs.iter().filter_map(|cidr| parse_net(cidr));
            nets.map(|net| net.trunc()).collect::<Vec<_>>()
        };
        let overlap = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
        let own = sorted.iter().filter(|(name, _)| *name == self.node);
        let own: Vec<IpNet> = own.flat_map(|(_, node)| nets(node)).collect();
        let mut routes = Routes::new();
        for (name, node) in sorted.iter().filter(|(name, _)| *name != self.node) {
            let ips = host_ips(node);
            for net in nets(node) {
                let Some(via) = ips.iter().find(|ip| ip.is_ipv4() == net.addr().is_ipv4()) else {
                    continue;
                };
                let is_free = |taken: &[IpNet]| !taken.iter().any(|known| overlap(known, &net));
                // Ranges of other Nodes are compared with neighbours only: there are thousands.
                let before = routes.range(..=net).next_back().map(|(known, _)| *known);
                let after = routes.range(net..).next().map(|(known, _)| *known);
                let neighbours: Vec<IpNet> = before.into_iter().chain(after).collect();
                let inside = self.within.iter().any(|range| range.contains(&net));
                if inside && is_free(&own) && is_free(&neighbours) && !net.contains(via) {
                    routes.insert(net, *via);
                } else {
                    tracing::warn!(node = name, %net, "A Node's pod CIDR is not the cluster's or not its own: no route");
                }
            }
        }
        routes
    }
}

/// Keeps routes as the Nodes want them.
pub(crate) fn follow(nodes: Informer<Node>, scope: Scope, tasks: &Supervisor) {
    let changed = Arc::new(Notify::new());
    let wake = Arc::clone(&changed);
    nodes.subscribe(move |_, event| {
        let same = |a: &Node, b: &Node| host_ips(a) == host_ips(b) && pod_cidrs(a) == pod_cidrs(b);
        if !matches!(event, Event::Updated { old, new } if same(old, new)) {
            wake.notify_one();
        }
    });
    tasks.spawn(Task::Critical, "routes", async move {
        nodes.synced().await;
        loop {
            let (wanted, families) = (scope.wanted(&nodes.lister().list()), scope.families.clone());
            let done = tokio::task::spawn_blocking(move || {
                families.into_iter().try_for_each(|f| sync(f, &wanted))
            });
            let wait = match done.await? {
                Ok(()) => PERIOD,
                Err(error) => {
                    tracing::error!(%error, "Cannot route to the pods of other nodes");
                    scope.retry
                }
            };
            tokio::select! {
                () = changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        #[allow(unreachable_code, reason = "it says of what type the task is")]
        Ok::<(), BoxError>(())
    });
}

/// Takes all routes of ours away.
pub(crate) fn cleanup(family: Family) -> Result<(), Error> {
    sync(family, &Routes::new())
}

/// Makes the routes of a family those that are wanted.
fn sync(family: Family, wanted: &Routes) -> Result<(), Error> {
    let mut socket = Socket::open(SockProtocol::NetlinkRoute)?;
    let found = list(&mut socket, family)?;
    let mut requests = Buffer::new();
    let stale = found.iter().filter(|(to, _)| !wanted.contains_key(to));
    for (to, via) in stale.clone() {
        request(&mut requests, libc::RTM_DELROUTE, 0, *to, *via);
    }
    let of_family = wanted
        .iter()
        .filter(|(to, _)| Family::of(to.addr()) == family);
    let missing = of_family.filter(|(to, via)| found.get(to) != Some(via));
    for (to, via) in missing.clone() {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        request(&mut requests, libc::RTM_NEWROUTE, flags, *to, *via);
    }
    if requests.len() == 0 {
        return Ok(());
    }
    socket.run(&mut requests)?;
    tracing::info!(
        family = family.name(),
        added = missing.count(),
        removed = stale.count(),
        "Changed routes to other nodes' pods"
    );
    Ok(())
}

fn fixed(family: Family, length: u8) -> [u8; FIXED] {
    let family = match family {
        Family::Ipv4 => libc::AF_INET,
        Family::Ipv6 => libc::AF_INET6,
    };
    let (table, scope) = (libc::RT_TABLE_MAIN, libc::RT_SCOPE_UNIVERSE);
    let kind = libc::RTN_UNICAST;
    [
        family as u8,
        length,
        0,
        0,
        table,
        PROTOCOL,
        scope,
        kind,
        0,
        0,
        0,
        0,
    ]
}

fn request(requests: &mut Buffer, message: u16, flags: i32, to: IpNet, via: IpAddr) {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let fixed = fixed(Family::of(to.addr()), to.prefix_len());
    requests.message(message, flags, &fixed, |a| {
        a.put(libc::RTA_DST, &octets(to.addr()));
        a.put(libc::RTA_GATEWAY, &octets(via));
    });
}

/// The routes of ours that there are.
fn list(socket: &mut Socket, family: Family) -> Result<Routes, Error> {
    for _ in 0..ATTEMPTS {
        let mut found = Routes::new();
        let mut request = Buffer::new();
        request.message(libc::RTM_GETROUTE, 0, &fixed(family, 0), |_| {});
        match socket.dump(&mut request, |reply| found.extend(route(reply))) {
            Ok(()) => return Ok(found),
            Err(Error::Interrupted) => {}
            Err(err) => return Err(err),
        }
    }
    Err(Error::Interrupted)
}

pub(crate) fn route(reply: &Reply<'_>) -> Option<(IpNet, IpAddr)> {
    let fixed = reply.body.get(..FIXED)?;
    if fixed[4] != libc::RT_TABLE_MAIN || fixed[5] != PROTOCOL {
        return None;
    }
    let found = attrs(reply.body.get(FIXED..)?);
    let ip = |kind: u16| -> Option<IpAddr> {
        let octets = *found.get(&kind)?;
        let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
            .ok()
    };
    let net = IpNet::new(ip(libc::RTA_DST)?, fixed[1]).ok()?;
    Some((net, ip(libc::RTA_GATEWAY)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::tests::in_netns;

    fn node(name: &str, cidrs: &[&str], ips: &[&str]) -> Arc<Node> {
        let addresses = ips
            .iter()
            .map(|ip| serde_json::json!({ "type": "InternalIP", "address": ip }));
        let addresses: Vec<_> = addresses.collect();
        let node = serde_json::json!({
            "metadata": { "name": name }, "spec": { "podCIDRs": cidrs }, "status": { "addresses": addresses },
        });
        Arc::new(proto::typed::from_json_value(node).unwrap())
    }

    fn scope() -> Scope {
        Scope {
            node: "a".to_owned(),
            within: vec![
                "10.244.0.0/16".parse().unwrap(),
                "fd00::/48".parse().unwrap(),
            ],
            families: vec![Family::Ipv4],
            retry: PERIOD,
        }
    }

    fn routes(routes: &[(&str, &str)]) -> Routes {
        let parsed = routes
            .iter()
            .map(|(to, via)| (to.parse().unwrap(), via.parse().unwrap()));
        parsed.collect()
    }

    #[test]
    fn each_other_node_is_the_way_to_its_pods_in_each_family() {
        let nodes = [
            node("a", &["10.244.0.0/24"], &["192.0.2.1"]),
            node(
                "b",
                &["10.244.1.0/24", "fd00:0:0:1::/64"],
                &["192.0.2.2", "2001:db8::2"],
            ),
            node("c", &["10.244.2.0/24", "fd00:0:0:2::/64"], &["192.0.2.3"]),
            node("d", &[], &["192.0.2.4"]),
        ];
        let wanted = routes(&[
            ("10.244.1.0/24", "192.0.2.2"),
            ("fd00:0:0:1::/64", "2001:db8::2"),
            ("10.244.2.0/24", "192.0.2.3"),
        ]);
        assert_eq!(scope().wanted(&nodes), wanted);
    }

    #[test]
    fn a_node_cannot_take_what_is_not_its_own() {
        for claimed in [
            "0.0.0.0/0",
            "192.0.2.0/24",
            "10.244.0.128/25",
            "10.244.1.0/25",
            "10.244.0.0/16",
        ] {
            let nodes = [
                node("z", &[claimed], &["192.0.2.9"]),
                node("b", &["10.244.1.0/24"], &["192.0.2.2"]),
                node("a", &["10.244.0.0/24"], &["192.0.2.1"]),
            ];
            let wanted = routes(&[("10.244.1.0/24", "192.0.2.2")]);
            assert_eq!(scope().wanted(&nodes), wanted, "{claimed}");
        }
    }

    #[test]
    fn routes_become_those_that_are_wanted_and_others_stay() {
        in_netns(|| {
            let ip = |args: &str| {
                let output = std::process::Command::new("ip")
                    .args(args.split(' '))
                    .output()
                    .unwrap();
                assert!(output.status.success(), "ip {args}");
                String::from_utf8(output.stdout).unwrap()
            };
            ip("link add d0 type veth peer name d1");
            ip("link set d0 up");
            ip("addr add 192.0.2.1/24 dev d0");
            ip("route add 198.51.100.0/24 via 192.0.2.9");
            let first = routes(&[
                ("10.244.1.0/24", "192.0.2.2"),
                ("10.244.2.0/24", "192.0.2.3"),
            ]);
            sync(Family::Ipv4, &first).unwrap();
            let mut socket = Socket::open(SockProtocol::NetlinkRoute).unwrap();
            assert_eq!(list(&mut socket, Family::Ipv4).unwrap(), first);
            let second = routes(&[
                ("10.244.1.0/24", "192.0.2.7"),
                ("10.244.3.0/24", "192.0.2.3"),
            ]);
            sync(Family::Ipv4, &second).unwrap();
            assert_eq!(list(&mut socket, Family::Ipv4).unwrap(), second);
            assert!(ip("route").contains("10.244.1.0/24 via 192.0.2.7"));
            cleanup(Family::Ipv4).unwrap();
            let left = ip("route");
            assert!(
                !left.contains("10.244.") && left.contains("198.51.100.0/24"),
                "{left}"
            );
        });
    }
}
