//! The rules: base chains, the chains that they jump to, and the chains that draw endpoints.
//!
//! Rules do not depend on Services, only on the configuration; what they look up does. Source of each rule:
//! `setupNFTables` and `syncProxyRules` of `pkg/proxy/nftables/proxier.go`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::elements::{Dispatch, FIXED, Kind, SetId};
use crate::nft::{
    CT_IPV4, CT_IPV6, CT_PORT, CT_STATE, CT_STATUS, Expr, Family, Holds, Hook, Lookup,
    META_IIFNAME, META_L4PROTO, META_MARK, NETWORK, Rule, Set, TRANSPORT, Type, reg,
};

pub(crate) const REJECT: &str = "reject-chain";
const AFFINITY: &str = "affinity";
const NODE_PORT_AFFINITY: &str = "nodeport-affinity";
/// How many clients of sticky Services are remembered; memory is used for those that there are.
const AFFINITY_SIZE: u32 = 1 << 20;

/// How traffic of this node's pods is told from other traffic.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum LocalDetector {
    #[default]
    None,
    Cidr(IpNet),
    Interface(String),
    InterfacePrefix(String),
}

/// What the rules are made from, for one family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    pub(crate) family: Family,
    /// The packet mark's bit that asks to hide the source.
    pub(crate) masquerade_mark: u32,
    pub(crate) masquerade_all: bool,
    pub(crate) pods: LocalDetector,
    /// Node ports work on every address of the node, not only on those of a set.
    pub(crate) node_ports_everywhere: bool,
    /// Where cluster IPs are: packets to others of these ranges are dropped.
    pub(crate) service_ranges: Vec<IpNet>,
}

/// A chain with its rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Chain {
    pub(crate) name: String,
    pub(crate) hook: Option<Hook>,
    pub(crate) rules: Vec<Rule>,
}

// include/uapi/linux/netfilter.h and netfilter_ipv4.h
const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;
const DSTNAT: i32 = -100;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;

const SERVICES: &str = "services";
const MASQUERADING: &str = "masquerading";
const FIREWALL_CHECK: &str = "firewall-check";
const SERVICE_CHECK: &str = "service-endpoints-check";
const NODE_PORT_CHECK: &str = "nodeport-endpoints-check";
const CLUSTER_IPS_CHECK: &str = "cluster-ips-check";
pub(crate) const REMEMBER: &str = "remember-clients";

impl Layout {
    /// The sets that are always there, and the maps in which rules remember clients.
    pub(crate) fn sets(&self) -> Vec<Set> {
        let fixed = FIXED.iter().map(|(set, _)| self.set(*set));
        let affinity = [AFFINITY, NODE_PORT_AFFINITY].map(|name| self.affinity_map(name));
        fixed.chain(affinity).collect()
    }

    /// The shape of a set.
    pub(crate) fn set(&self, set: SetId) -> Set {
        let address = Type::address(self.family);
        let (protocol, port) = (Type::PROTOCOL, Type::PORT);
        let (key, holds) = match set {
            SetId::ClusterIps | SetId::NodeIps => (vec![address], Holds::Nothing),
            SetId::Hairpin => (vec![address, address, protocol, port], Holds::Nothing),
            SetId::Sticky {
                node_port: false, ..
            } => (vec![address, protocol, port, address, port], Holds::Nothing),
            SetId::Sticky {
                node_port: true, ..
            } => (vec![protocol, port, address, port], Holds::Nothing),
            SetId::FirewallIps => (vec![address, protocol, port], Holds::Nothing),
            SetId::FirewallSources => (vec![address, protocol, port, address], Holds::Nothing),
            SetId::ServiceIps | SetId::LocalSourceIps | SetId::NoEndpointIps => {
                (vec![address, protocol, port], Holds::Verdicts)
            }
            SetId::NodePorts | SetId::LocalSourceNodePorts | SetId::NoEndpointNodePorts => {
                (vec![protocol, port], Holds::Verdicts)
            }
            SetId::Endpoints { node_port, .. } => {
                let key = match node_port {
                    false => vec![Type::NUMBER, address, protocol, port],
                    true => vec![Type::NUMBER, protocol, port],
                };
                (key, Holds::Values(vec![address, port]))
            }
        };
        Set {
            name: set.name(),
            key,
            holds,
            ranges: set == SetId::FirewallSources,
            dynamic: None,
        }
    }

    /// Which endpoint a client was sent to: by entry and source address.
    fn affinity_map(&self, name: &str) -> Set {
        let address = Type::address(self.family);
        let mut key = vec![Type::PROTOCOL, Type::PORT, address];
        if name == AFFINITY {
            key.insert(0, address);
        }
        Set {
            name: name.to_owned(),
            key,
            holds: Holds::Values(vec![address, Type::PORT]),
            ranges: false,
            dynamic: Some(AFFINITY_SIZE),
        }
    }

    /// Chains that do not depend on how many endpoints there are, those that are jumped to first.
    pub(crate) fn chains(&self) -> Vec<Chain> {
        let plain = |name: &str, rules| Chain {
            name: name.to_owned(),
            hook: None,
            rules,
        };
        let base = |name: &str, kind, hook, priority, rules| Chain {
            name: name.to_owned(),
            hook: Some(Hook {
                kind,
                hook,
                priority,
            }),
            rules,
        };
        let new = |chain: &str| rule([is_new(), vec![jump(chain)]]);
        let remember = || rule([is_new(), is_translated(), vec![jump(REMEMBER)]]);
        let jump_to = |chain: &str| vec![jump(chain)];
        let before_nat = DSTNAT - 10;
        vec![
            plain(REJECT, vec![vec![self.reject()]]),
            plain(SERVICES, self.services()),
            plain(MASQUERADING, self.masquerading()),
            plain(FIREWALL_CHECK, self.firewall_check()),
            plain(SERVICE_CHECK, self.service_check()),
            plain(NODE_PORT_CHECK, self.node_port_check()),
            plain(CLUSTER_IPS_CHECK, self.cluster_ips_check()),
            base(
                "filter-prerouting-pre-dnat",
                "filter",
                PREROUTING,
                before_nat,
                vec![new(FIREWALL_CHECK)],
            ),
            base(
                "filter-output-pre-dnat",
                "filter",
                OUTPUT,
                before_nat,
                vec![new(FIREWALL_CHECK)],
            ),
            base(
                "filter-input",
                "filter",
                INPUT,
                FILTER,
                vec![new(NODE_PORT_CHECK), new(SERVICE_CHECK), remember()],
            ),
            base(
                "filter-forward",
                "filter",
                FORWARD,
                FILTER,
                vec![new(SERVICE_CHECK), new(CLUSTER_IPS_CHECK)],
            ),
            base(
                "filter-output",
                "filter",
                OUTPUT,
                FILTER,
                vec![new(SERVICE_CHECK), new(CLUSTER_IPS_CHECK)],
            ),
            // Before sources are hidden.
            base(
                "filter-postrouting",
                "filter",
                POSTROUTING,
                FILTER,
                vec![remember()],
            ),
            base(
                "nat-postrouting",
                "nat",
                POSTROUTING,
                SRCNAT,
                vec![jump_to(MASQUERADING)],
            ),
            base(
                "nat-prerouting",
                "nat",
                PREROUTING,
                DSTNAT,
                vec![jump_to(SERVICES)],
            ),
            base("nat-output", "nat", OUTPUT, DSTNAT, vec![jump_to(SERVICES)]),
        ]
    }

    fn services(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        let to_cluster_ip = || {
            rule([
                vec![self.to(0)],
                vec![lookup(SetId::ClusterIps, 0, Lookup::In)],
            ])
        };
        let from_outside = if self.masquerade_all {
            Some(Vec::new())
        } else {
            self.from_pods(false)
        };
        if let Some(from_outside) = from_outside {
            // The answer may not come back through this node otherwise.
            rules.push(rule([to_cluster_ip(), from_outside, self.mark()]));
        }
        let verdict = |set| lookup(set, 0, Lookup::Verdict);
        rules.push(rule([self.to_entry(0), vec![verdict(SetId::ServiceIps)]]));
        let node = if self.node_ports_everywhere {
            let is_local = vec![
                Expr::AddressType {
                    to: reg(0),
                    source: false,
                },
                compare(0, true, u32::from(libc::RTN_LOCAL).to_ne_bytes().to_vec()),
            ];
            rule([is_local, self.not_to_loopback()])
        } else {
            self.to_node_ip()
        };
        rules.push(rule([node, to_port(0), vec![verdict(SetId::NodePorts)]]));
        rules
    }

    fn masquerading(&self) -> Vec<Rule> {
        let mark = self.masquerade_mark;
        let marked = vec![
            Expr::Meta {
                to: reg(0),
                key: META_MARK,
            },
            bits(0, mark, 0),
            compare(0, false, vec![0; 4]),
            Expr::Meta {
                to: reg(0),
                key: META_MARK,
            },
            // The mark has done its work: tunnels that carry the packet must not see it.
            bits(0, u32::MAX, mark),
            Expr::SetMark { from: reg(0) },
            Expr::Masquerade,
        ];
        let hairpin = vec![
            self.from(0),
            self.to(self.words()),
            Expr::Meta {
                to: reg(2 * self.words()),
                key: META_L4PROTO,
            },
            port(2 * self.words() + 1),
            lookup(SetId::Hairpin, 0, Lookup::In),
            Expr::Masquerade,
        ];
        vec![marked, rule([is_translated(), hairpin])]
    }

    fn firewall_check(&self) -> Vec<Rule> {
        let guarded = rule([
            self.to_entry(0),
            vec![lookup(SetId::FirewallIps, 0, Lookup::In)],
        ]);
        let stranger = rule([
            self.to_entry(0),
            vec![
                self.from(self.words() + 2),
                lookup(SetId::FirewallSources, 0, Lookup::NotIn),
                Expr::Drop,
            ],
        ]);
        vec![rule([guarded, stranger])]
    }

    fn service_check(&self) -> Vec<Rule> {
        let verdict = lookup(SetId::NoEndpointIps, 0, Lookup::Verdict);
        vec![rule([self.to_entry(0), vec![verdict]])]
    }

    fn node_port_check(&self) -> Vec<Rule> {
        let node = if self.node_ports_everywhere {
            self.not_to_loopback()
        } else {
            self.to_node_ip()
        };
        let verdict = lookup(SetId::NoEndpointNodePorts, 0, Lookup::Verdict);
        vec![rule([node, to_port(0), vec![verdict]])]
    }

    fn cluster_ips_check(&self) -> Vec<Rule> {
        let known = vec![
            self.to(0),
            lookup(SetId::ClusterIps, 0, Lookup::In),
            self.reject(),
        ];
        let ranges = self
            .service_ranges
            .iter()
            .filter(|r| Family::of(r.addr()) == self.family);
        let unknown =
            ranges.map(|range| rule([self.within(self.to(0), *range, true), vec![Expr::Drop]]));
        std::iter::once(known).chain(unknown).collect()
    }

    /// The rules of a chain that draws one of a number of endpoints.
    pub(crate) fn dispatch(&self, dispatch: Dispatch) -> Chain {
        let mut rules = Vec::new();
        if dispatch.kind == Kind::Outside {
            rules.push(self.mark());
        }
        if dispatch.kind == Kind::Local {
            rules.extend(self.local_sources(dispatch.node_port));
        }
        if dispatch.count > 0 {
            if dispatch.sticky {
                rules.push(self.sticky(dispatch));
            }
            let (mut draw, value) = self.draw(dispatch);
            draw.push(self.destination(value));
            rules.push(draw);
        }
        Chain {
            name: dispatch.name(),
            hook: None,
            rules,
        }
    }

    /// The node's pods go anywhere, as if they had come from outside and back; so does the node itself,
    /// under the node's address.
    fn local_sources(&self, node_port: bool) -> Vec<Rule> {
        let anywhere = || match node_port {
            false => rule([
                self.to_entry(0),
                vec![lookup(SetId::LocalSourceIps, 0, Lookup::Verdict)],
            ]),
            true => rule([
                to_port(0),
                vec![lookup(SetId::LocalSourceNodePorts, 0, Lookup::Verdict)],
            ]),
        };
        let from_node = || {
            vec![
                Expr::AddressType {
                    to: reg(0),
                    source: true,
                },
                compare(0, true, u32::from(libc::RTN_LOCAL).to_ne_bytes().to_vec()),
            ]
        };
        let from_pods = self.from_pods(true).map(|pods| rule([pods, anywhere()]));
        let mut rules: Vec<Rule> = from_pods.into_iter().collect();
        rules.push(rule([from_node(), self.mark()]));
        rules.push(rule([from_node(), anywhere()]));
        rules
    }

    /// Goes to the endpoint that is remembered for the client, if there is one.
    fn sticky(&self, dispatch: Dispatch) -> Rule {
        let (map, entry, words) = self.affinity(dispatch.node_port);
        let found = words + self.words();
        let go = vec![
            self.from(words),
            Expr::Lookup {
                set: map.to_owned(),
                key: reg(0),
                what: Lookup::Value(reg(found)),
            },
            self.destination(found),
        ];
        rule([entry, go])
    }

    /// The map of remembered clients, the entry that begins its key, and how many registers that takes.
    fn affinity(&self, node_port: bool) -> (&'static str, Rule, u32) {
        match node_port {
            false => (AFFINITY, self.to_entry(0), self.words() + 2),
            true => (NODE_PORT_AFFINITY, to_port(0), 2),
        }
    }

    /// Remembers where new connections to sticky Services went, once that is known; for clients that are
    /// remembered already, only their time begins anew.
    ///
    /// Not done where the endpoint is drawn: older `nft` cannot print such a rule, and then prints none.
    pub(crate) fn remember(&self, periods: &BTreeSet<u32>) -> Chain {
        let both = periods
            .iter()
            .flat_map(|seconds| [(false, *seconds), (true, *seconds)]);
        Chain {
            name: REMEMBER.to_owned(),
            hook: None,
            rules: both
                .map(|(node_port, seconds)| self.remember_rule(node_port, seconds))
                .collect(),
        }
    }

    fn remember_rule(&self, node_port: bool, seconds: u32) -> Rule {
        let (map, _, words) = self.affinity(node_port);
        let address = match self.family {
            Family::Ipv4 => CT_IPV4,
            Family::Ipv6 => CT_IPV6,
        };
        let mut steps = Vec::new();
        if !node_port {
            steps.push(Expr::FirstSentTo {
                to: reg(0),
                key: address,
            });
        }
        let value = words + self.words();
        steps.extend([
            Expr::Meta {
                to: reg(words - 2),
                key: META_L4PROTO,
            },
            Expr::FirstSentTo {
                to: reg(words - 1),
                key: CT_PORT,
            },
            // Only what was sent to an endpoint of the Service counts.
            self.to(words),
            port(words + self.words()),
            lookup(SetId::Sticky { node_port, seconds }, 0, Lookup::In),
            self.from(words),
            self.to(value),
            port(value + self.words()),
            Expr::Remember {
                map: map.to_owned(),
                key: reg(0),
                value: reg(value),
                seconds,
            },
        ]);
        steps
    }

    /// Draws an endpoint; the register of the value, without its base.
    fn draw(&self, dispatch: Dispatch) -> (Rule, u32) {
        let (entry, entry_words) = match dispatch.node_port {
            false => (self.to_entry(1), self.words() + 2),
            true => (to_port(1), 2),
        };
        let value = 1 + entry_words;
        let random = Expr::Random {
            to: reg(0),
            below: dispatch.count,
        };
        let find = lookup(dispatch.endpoints(), 0, Lookup::Value(reg(value)));
        (rule([vec![random], entry, vec![find]]), value)
    }

    fn destination(&self, value: u32) -> Expr {
        Expr::Destination {
            family: self.family,
            address: reg(value),
            port: reg(value + self.words()),
        }
    }

    /// Registers that an address takes.
    fn words(&self) -> u32 {
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

    fn from(&self, to: u32) -> Expr {
        self.address(to, if self.family == Family::Ipv4 { 12 } else { 8 })
    }

    fn to(&self, to: u32) -> Expr {
        self.address(to, if self.family == Family::Ipv4 { 16 } else { 24 })
    }

    /// Destination address, protocol and port, from this register on.
    fn to_entry(&self, first: u32) -> Rule {
        rule([vec![self.to(first)], to_port(first + self.words())])
    }

    fn to_node_ip(&self) -> Rule {
        vec![self.to(0), lookup(SetId::NodeIps, 0, Lookup::In)]
    }

    fn not_to_loopback(&self) -> Rule {
        let loopback = match self.family {
            Family::Ipv4 => IpNet::new(IpAddr::from([127, 0, 0, 0]), 8),
            Family::Ipv6 => IpNet::new(std::net::Ipv6Addr::LOCALHOST.into(), 128),
        };
        self.within(self.to(0), loopback.expect("a constant network"), false)
    }

    /// The address is in the network, or is not.
    fn within(&self, load: Expr, net: IpNet, equal: bool) -> Rule {
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
    fn from_pods(&self, equal: bool) -> Option<Rule> {
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

    fn mark(&self) -> Rule {
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

    fn reject(&self) -> Expr {
        Expr::Reject {
            family: self.family,
        }
    }
}

/// The map in which chains of this kind remember clients.
pub(crate) fn affinity_maps() -> [(bool, &'static str); 2] {
    [(false, AFFINITY), (true, NODE_PORT_AFFINITY)]
}

fn rule<const N: usize>(parts: [Rule; N]) -> Rule {
    parts.concat()
}

fn jump(chain: &str) -> Expr {
    Expr::Jump(chain.to_owned())
}

fn lookup(set: SetId, key: u32, what: Lookup) -> Expr {
    Expr::Lookup {
        set: set.name(),
        key: reg(key),
        what,
    }
}

fn compare(register: u32, equal: bool, value: Vec<u8>) -> Expr {
    Expr::Compare {
        register: reg(register),
        equal,
        value,
    }
}

/// `register = (register & mask) ^ xor`
fn bits(register: u32, mask: u32, xor: u32) -> Expr {
    Expr::Bitwise {
        register: reg(register),
        mask: mask.to_ne_bytes().to_vec(),
        xor: xor.to_ne_bytes().to_vec(),
    }
}

fn port(to: u32) -> Expr {
    Expr::Payload {
        to: reg(to),
        base: TRANSPORT,
        offset: 2,
        length: 2,
    }
}

/// Protocol and destination port, from this register on.
fn to_port(first: u32) -> Rule {
    vec![
        Expr::Meta {
            to: reg(first),
            key: META_L4PROTO,
        },
        port(first + 1),
    ]
}

fn is_new() -> Rule {
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
fn is_translated() -> Rule {
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

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
