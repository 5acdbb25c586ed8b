//! The node that this is, as its Node object and its interfaces tell.
//!
//! Sources: `pkg/proxy/node.go`, `cmd/kube-proxy/app/server.go`, `pkg/proxy/util/nodeport_addresses.go`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;

use crate::nft::Family;
use crate::service::{parse_ip, parse_net};

/// Set by the cluster autoscaler on nodes that it is about to delete.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";
const ZONE: &str = "topology.kubernetes.io/zone";

/// The node's addresses, internal ones first: one, or one of each family.
pub(crate) fn host_ips(node: &Node) -> Vec<IpAddr> {
    let addresses = node
        .status
        .as_ref()
        .and_then(|s| s.addresses.as_deref())
        .unwrap_or_default();
    let of_type = |kind: &'static str| addresses.iter().filter(move |a| a.type_ == kind);
    let all = of_type("InternalIP").chain(of_type("ExternalIP"));
    let mut ips = all.filter_map(|a| parse_ip(&a.address));
    let Some(first) = ips.next() else {
        return Vec::new();
    };
    let other = ips.find(|ip| ip.is_ipv4() != first.is_ipv4());
    std::iter::once(first).chain(other).collect()
}

/// Where the node's pods have their addresses.
pub(crate) fn pod_cidrs(node: &Node) -> Vec<String> {
    let cidrs = node.spec.as_ref().and_then(|s| s.pod_cidrs.clone());
    cidrs.unwrap_or_default()
}

pub(crate) fn zone(node: &Node) -> String {
    let labels = node.metadata.labels.as_ref();
    labels
        .and_then(|l| l.get(ZONE))
        .cloned()
        .unwrap_or_default()
}

/// Whether load balancers shall send traffic to the node.
pub(crate) fn is_eligible(node: &Node) -> bool {
    let taints = node
        .spec
        .as_ref()
        .and_then(|s| s.taints.as_deref())
        .unwrap_or_default();
    node.metadata.deletion_timestamp.is_none() && taints.iter().all(|t| t.key != TO_BE_DELETED)
}

/// The node's address in each family, loopback where there is none, and which family is the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NodeIps {
    pub(crate) primary: Family,
    pub(crate) v4: IpAddr,
    pub(crate) v6: IpAddr,
}

impl NodeIps {
    /// From the Node's addresses; `bind_address` replaces the first unless it is unspecified.
    pub(crate) fn detect(of_node: &[IpAddr], bind_address: &str) -> Self {
        let mut ips = Self {
            primary: Family::Ipv4,
            v4: Ipv4Addr::LOCALHOST.into(),
            v6: Ipv6Addr::LOCALHOST.into(),
        };
        let bound = parse_ip(bind_address).filter(|ip| !ip.is_unspecified());
        for ip in of_node.iter().copied().chain(bound) {
            match ip {
                IpAddr::V4(_) => ips.v4 = ip,
                IpAddr::V6(_) => ips.v6 = ip,
            }
        }
        if let Some(first) = bound.or(of_node.first().copied()) {
            ips.primary = Family::of(first);
        }
        ips
    }

    pub(crate) fn of(&self, family: Family) -> IpAddr {
        match family {
            Family::Ipv4 => self.v4,
            Family::Ipv6 => self.v6,
        }
    }
}

/// On which addresses node ports work, in one family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NodePortAddresses {
    All,
    In(Vec<IpNet>),
}

impl NodePortAddresses {
    /// From the configuration's ranges and keywords. A family that they do not speak of has all.
    pub(crate) fn new(configured: &[String], family: Family, ips: &NodeIps) -> Self {
        let words = configured.iter().map(String::as_str);
        let nets = words.flat_map(|word| match word {
            "primary" => [ips.v4, ips.v6]
                .into_iter()
                .filter(|ip| !ip.is_loopback())
                .map(IpNet::from)
                .collect(),
            "localhost" => constants(&["127.0.0.0/8", "::1/128"]),
            "all" => constants(&["0.0.0.0/0", "::/0"]),
            range => constants(&[range]),
        });
        let nets: Vec<_> = nets
            .filter(|net| Family::of(net.addr()) == family)
            .collect();
        if nets.is_empty() || nets.iter().any(|net| net.prefix_len() == 0) {
            Self::All
        } else {
            Self::In(nets)
        }
    }

    /// Those of the machine's addresses; loopback ones never serve node ports.
    pub(crate) fn of(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        match self {
            Self::All => Vec::new(),
            Self::In(nets) => {
                let matches = |ip: &IpAddr| nets.iter().any(|net| net.contains(ip));
                let usable = addresses.iter().copied().filter(|ip| !ip.is_loopback());
                usable.filter(matches).collect()
            }
        }
    }
}

fn constants(nets: &[&str]) -> Vec<IpNet> {
    nets.iter().filter_map(|net| parse_net(net)).collect()
}

/// All addresses of the machine's interfaces.
pub(crate) fn interface_addresses() -> std::io::Result<Vec<IpAddr>> {
    let interfaces = nix::ifaddrs::getifaddrs()?;
    let addresses = interfaces.filter_map(|interface| interface.address);
    Ok(addresses
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect())
}

/// Whether the kernel has IPv6.
pub(crate) fn has_ipv6() -> bool {
    let disabled = std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6");
    std::path::Path::new("/proc/net/if_inet6").exists()
        && !disabled.is_ok_and(|text| text.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn node(value: serde_json::Value) -> Node {
        proto::typed::from_json_value(value).unwrap()
    }

    #[test]
    fn internal_addresses_come_first_and_one_of_each_family_counts() {
        let node = node(serde_json::json!({"status": {"addresses": [
            {"type": "ExternalIP", "address": "203.0.113.1"},
            {"type": "Hostname", "address": "n"},
            {"type": "InternalIP", "address": "10.0.0.1"},
            {"type": "InternalIP", "address": "10.0.0.2"},
            {"type": "ExternalIP", "address": "2001:db8::1"},
        ]}}));
        assert_eq!(host_ips(&node), [ip("10.0.0.1"), ip("2001:db8::1")]);
    }

    #[test]
    fn a_bind_address_is_the_nodes_unless_it_is_unspecified() {
        let of_node = [ip("10.0.0.1"), ip("2001:db8::1")];
        let ips = NodeIps::detect(&of_node, "0.0.0.0");
        assert_eq!(
            (ips.primary, ips.v4, ips.v6),
            (Family::Ipv4, of_node[0], of_node[1])
        );
        let ips = NodeIps::detect(&of_node, "2001:db8::9");
        assert_eq!(
            (ips.primary, ips.v4, ips.v6),
            (Family::Ipv6, of_node[0], ip("2001:db8::9"))
        );
        let ips = NodeIps::detect(&[], "0.0.0.0");
        assert_eq!((ips.primary, ips.v4), (Family::Ipv4, ip("127.0.0.1")));
    }

    #[test]
    fn node_ports_work_where_the_configuration_says() {
        let ips = NodeIps::detect(&[ip("10.0.0.1")], "0.0.0.0");
        let at = |words: &[&str], family| {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            NodePortAddresses::new(&words, family, &ips)
        };
        let machine = [
            ip("127.0.0.1"),
            ip("10.0.0.1"),
            ip("192.168.0.1"),
            ip("::1"),
        ];
        assert_eq!(at(&[], Family::Ipv4), NodePortAddresses::All);
        assert_eq!(
            at(&["primary"], Family::Ipv4).of(&machine),
            [ip("10.0.0.1")]
        );
        assert_eq!(at(&["primary"], Family::Ipv6), NodePortAddresses::All);
        assert_eq!(
            at(&["all", "primary"], Family::Ipv4),
            NodePortAddresses::All
        );
        assert_eq!(
            at(&["192.168.0.0/16"], Family::Ipv4).of(&machine),
            [ip("192.168.0.1")]
        );
        assert_eq!(
            at(&["localhost"], Family::Ipv4).of(&machine),
            [] as [IpAddr; 0]
        );
    }

    #[test]
    fn a_node_that_goes_away_gets_no_traffic() {
        let tainted = |key: &str| {
            node(serde_json::json!({"spec": {"taints": [{"key": key, "effect": "NoSchedule"}]}}))
        };
        assert!(is_eligible(&tainted("other")));
        assert!(!is_eligible(&tainted(TO_BE_DELETED)));
        let deleted =
            node(serde_json::json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        assert!(!is_eligible(&deleted));
    }
}
