//! Steps that rules share: what a packet is, where it goes, and marks.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Layout, LocalDetector};
use crate::elements::SetId;
use crate::nft::{
    CT_STATE, CT_STATUS, Expr, Family, Lookup, META_IIFNAME, META_L4PROTO, META_MARK, NETWORK,
    Rule, TRANSPORT, reg,
};

impl Layout {
    /// Registers that an address takes.
    pub(super) fn words(&self) -> u32 {
        match self.family {
            Family::Ipv4 => 1,
            Family::Ipv6 => 4,
        }
    }

    fn address(&self, to: u32, offset: u32) -> Expr {
        Expr::Payload {
            to: reg(to),
            base: NETWORK,
            offset,
            length: 4 * self.words(),
        }
    }

    pub(super) fn from(&self, to: u32) -> Expr {
        self.address(to, if self.family == Family::Ipv4 { 12 } else { 8 })
    }

    pub(super) fn to(&self, to: u32) -> Expr {
        self.address(to, if self.family == Family::Ipv4 { 16 } else { 24 })
    }

    /// Destination address, protocol and port, from this register on.
    pub(super) fn to_entry(&self, first: u32) -> Rule {
        rule([vec![self.to(first)], to_port(first + self.words())])
    }

    pub(super) fn to_node_ip(&self) -> Rule {
        vec![self.to(0), lookup(SetId::NodeIps, 0, Lookup::In)]
    }

    pub(super) fn not_to_loopback(&self) -> Rule {
        let loopback = match self.family {
            Family::Ipv4 => IpNet::new(IpAddr::from([127, 0, 0, 0]), 8),
            Family::Ipv6 => IpNet::new(std::net::Ipv6Addr::LOCALHOST.into(), 128),
        };
        self.within(self.to(0), loopback.expect("a constant network"), false)
    }

    /// The address is in the network, or is not.
    pub(super) fn within(&self, load: Expr, net: IpNet, equal: bool) -> Rule {
        let mut steps = vec![load];
        if net.prefix_len() < net.max_prefix_len() {
            let mask = octets(net.netmask());
            steps.push(Expr::Bitwise {
                register: reg(0),
                xor: vec![0; mask.len()],
                mask,
            });
        }
        steps.push(compare(0, equal, octets(net.network())));
        steps
    }

    /// The packet is of this node's pods, or is not; none if that cannot be told.
    pub(super) fn pods_traffic(&self, equal: bool) -> Option<Rule> {
        let interface = |name: Vec<u8>| {
            let load = Expr::Meta {
                to: reg(0),
                key: META_IIFNAME,
            };
            Some(vec![load, compare(0, equal, name)])
        };
        match &self.pods {
            LocalDetector::None => None,
            LocalDetector::Cidr(net) => Some(self.within(self.from(0), *net, equal)),
            LocalDetector::Interface(name) => {
                let mut name = name.clone().into_bytes();
                name.resize(libc::IFNAMSIZ, 0);
                interface(name)
            }
            LocalDetector::InterfacePrefix(prefix) => {
                let mut prefix = prefix.clone().into_bytes();
                prefix.truncate(libc::IFNAMSIZ);
                interface(prefix)
            }
        }
    }

    pub(super) fn mark(&self) -> Rule {
        let mark = self.masquerade_mark;
        vec![
            Expr::Meta {
                to: reg(0),
                key: META_MARK,
            },
            bits(0, !mark, mark),
            Expr::SetMark { from: reg(0) },
        ]
    }

    pub(super) fn reject(&self) -> Expr {
        Expr::Reject {
            family: self.family,
        }
    }
}

pub(super) fn rule<const N: usize>(parts: [Rule; N]) -> Rule {
    parts.concat()
}

pub(super) fn jump(chain: &str) -> Expr {
    Expr::Jump(chain.to_owned())
}

pub(super) fn lookup(set: SetId, key: u32, what: Lookup) -> Expr {
    Expr::Lookup {
        set: set.name(),
        key: reg(key),
        what,
    }
}

pub(super) fn compare(register: u32, equal: bool, value: Vec<u8>) -> Expr {
    Expr::Compare {
        register: reg(register),
        equal,
        value,
    }
}

/// `register = (register & mask) ^ xor`
pub(super) fn bits(register: u32, mask: u32, xor: u32) -> Expr {
    Expr::Bitwise {
        register: reg(register),
        mask: mask.to_ne_bytes().to_vec(),
        xor: xor.to_ne_bytes().to_vec(),
    }
}

pub(super) fn port(to: u32) -> Expr {
    Expr::Payload {
        to: reg(to),
        base: TRANSPORT,
        offset: 2,
        length: 2,
    }
}

/// Protocol and destination port, from this register on.
pub(super) fn to_port(first: u32) -> Rule {
    vec![
        Expr::Meta {
            to: reg(first),
            key: META_L4PROTO,
        },
        port(first + 1),
    ]
}

pub(super) fn is_new() -> Rule {
    const NEW: u32 = 1 << 3;
    vec![
        Expr::Connection {
            to: reg(0),
            key: CT_STATE,
        },
        bits(0, NEW, 0),
        compare(0, false, vec![0; 4]),
    ]
}

/// The connection's destination is not what its first packet named.
pub(super) fn is_translated() -> Rule {
    const IPS_DST_NAT: u32 = 1 << 5;
    vec![
        Expr::Connection {
            to: reg(0),
            key: CT_STATUS,
        },
        bits(0, IPS_DST_NAT, 0),
        compare(0, false, vec![0; 4]),
    ]
}

pub(super) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
