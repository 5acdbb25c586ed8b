//! The rules: base chains, the chains that they jump to, and the chains that draw endpoints.
//!
//! Rules do not depend on Services, only on the configuration; what they look up does. Source of each rule:
//! `setupNFTables` and `syncProxyRules` of `pkg/proxy/nftables/proxier.go`.

use ipnet::IpNet;

use crate::elements::{FIXED, SetId};
use crate::nft::{
    Expr, Family, Holds, Hook, Lookup, META_L4PROTO, META_MARK, Rule, Set, Type, reg,
};

mod draw;
mod steps;

use steps::{bits, compare, is_new, is_translated, jump, lookup, port, rule, to_port};

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
        // The first is room, see [`Layout::go`].
        let numbers = Holds::Values(vec![Type::NUMBER, Type::NUMBER]);
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
            SetId::Chains { .. } => (vec![Type::NUMBER], Holds::Verdicts),
            SetId::NoEndpointIps => (vec![address, protocol, port], Holds::Verdicts),
            SetId::NoEndpointNodePorts => (vec![protocol, port], Holds::Verdicts),
            SetId::ServiceIps | SetId::LocalSourceIps => (vec![address, protocol, port], numbers),
            SetId::NodePorts | SetId::LocalSourceNodePorts => (vec![protocol, port], numbers),
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
            self.pods_traffic(false)
        };
        if let Some(from_outside) = from_outside {
            // The answer may not come back through this node otherwise.
            rules.push(rule([to_cluster_ip(), from_outside, self.mark()]));
        }
        rules.push(self.go(SetId::ServiceIps));
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
        rules.push(rule([node, self.go(SetId::NodePorts)]));
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

    /// The map says to drop, or to continue, which leads to the rest of the rule.
    fn service_check(&self) -> Vec<Rule> {
        let verdict = lookup(SetId::NoEndpointIps, 0, Lookup::Verdict);
        vec![rule([self.to_entry(0), vec![verdict, self.reject()]])]
    }

    fn node_port_check(&self) -> Vec<Rule> {
        let node = if self.node_ports_everywhere {
            self.not_to_loopback()
        } else {
            self.to_node_ip()
        };
        let verdict = lookup(SetId::NoEndpointNodePorts, 0, Lookup::Verdict);
        vec![rule([node, to_port(0), vec![verdict, self.reject()]])]
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
}

/// The map in which chains of this kind remember clients.
pub(crate) fn affinity_maps() -> [(bool, &'static str); 2] {
    [(false, AFFINITY), (true, NODE_PORT_AFFINITY)]
}
