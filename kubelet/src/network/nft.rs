//! The packet rules of the built-in pod network, in a table of our own.
//!
//! The table is small (its size follows the host ports of one node), so each change replaces it
//! whole, in one transaction: what is in the kernel is always exactly what [`rules`] says.

use std::net::IpAddr;

use ipnet::IpNet;
use nix::sys::socket::SockProtocol;

use super::netlink::{Error, Message, Socket};
use super::{HostPort, Protocol};

const TABLE: &str = "navarch-pods";

/// What the rules are made from.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) bridge: String,
    /// Where pods of this node have their addresses.
    pub(super) pods: Vec<IpNet>,
    /// What pods talk to under their own address.
    pub(super) inside: Vec<IpNet>,
    pub(super) host_ports: Vec<Forward>,
}

/// A port of the node that is a pod's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Forward {
    pub(super) port: HostPort,
    /// The pod's addresses.
    pub(super) to: Vec<IpAddr>,
}

/// Requests to netfilter of the network namespace in which it was opened.
pub(super) struct Nft {
    socket: Socket,
}

impl Nft {
    pub(super) fn open() -> Result<Self, Error> {
        Ok(Self {
            socket: Socket::open(SockProtocol::NetlinkNetFilter)?,
        })
    }

    /// Makes the kernel's table equal to the plan.
    pub(super) fn apply(&mut self, plan: &Plan) -> Result<(), Error> {
        self.socket.run(encode(&rules(plan)))
    }

    /// Takes the table away. Nobody needs to have made it.
    pub(super) fn remove(&mut self) -> Result<(), Error> {
        self.socket.run(batch(vec![new_table(), delete_table()]))
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Chain {
    name: &'static str,
    /// Where in netfilter it sits, if it is not only jumped to.
    base: Option<Base>,
    rules: Vec<Vec<Expr>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Base {
    kind: &'static str,
    hook: u32,
    priority: i32,
}

// include/uapi/linux/netfilter.h
const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;
const RAW: i32 = -300;
const DSTNAT: i32 = -100;
const SRCNAT: i32 = 100;

/// A step of a rule. Values go through register 1; a destination's port through register 2.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expr {
    Meta(u32),
    Payload {
        base: u32,
        offset: u32,
        length: u32,
    },
    Mask(Vec<u8>),
    Compare {
        equal: bool,
        value: Vec<u8>,
    },
    /// What kind of address the destination is.
    DestinationType,
    Load {
        register: u32,
        value: Vec<u8>,
    },
    Destination {
        family: u32,
    },
    Masquerade,
    Drop,
    Jump(&'static str),
    Return,
}

/// Base chains with the pod network's rules.
fn rules(plan: &Plan) -> Vec<Chain> {
    let pods = plan
        .host_ports
        .iter()
        .flat_map(|forward| forward.to.iter().map(|pod| (&forward.port, *pod)));
    let jump = [local_destination(), vec![Expr::Jump("host-ports")]].concat();
    // Answers to a pod would not come back to ::1: the kernel has no way to let them.
    let mut ports = vec![[to(constant("::1/128")), vec![Expr::Return]].concat()];
    ports.extend(pods.filter_map(|(port, pod)| destination(port, pod)));
    // With `route_localnet` the node would take packets for its loopback from pods (CVE-2020-8558).
    let guard = [
        through(META_IIFNAME, &plan.bridge, true),
        to(constant(LOOPBACK)),
    ]
    .concat();
    let guard = [guard, vec![Expr::Drop]].concat();
    let base = |name, kind, hook, priority, rules| Chain {
        name,
        base: Some(Base {
            kind,
            hook,
            priority,
        }),
        rules,
    };
    vec![
        Chain {
            name: "host-ports",
            base: None,
            rules: ports,
        },
        base("guard", "filter", PREROUTING, RAW, vec![guard]),
        base("prerouting", "nat", PREROUTING, DSTNAT, vec![jump.clone()]),
        base("output", "nat", OUTPUT, DSTNAT, vec![jump]),
        base("postrouting", "nat", POSTROUTING, SRCNAT, sources(plan)),
    ]
}

/// Which packets hide behind the node's address.
fn sources(plan: &Plan) -> Vec<Vec<Expr>> {
    let masquerade = |steps: Vec<Vec<Expr>>| [steps.concat(), vec![Expr::Masquerade]].concat();
    let mut rules = Vec::new();
    for pod in plan.host_ports.iter().flat_map(|forward| &forward.to) {
        // A pod that reaches itself through the node has to answer through the node as well.
        let pod = IpNet::from(*pod);
        rules.push(masquerade(vec![from(pod), to(pod)]));
    }
    let out = |equal| through(META_OIFNAME, &plan.bridge, equal);
    rules.push(masquerade(vec![from(constant(LOOPBACK)), out(true)]));
    let inside = plan.inside.iter().chain(&plan.pods).copied();
    for net in inside.chain([constant("224.0.0.0/4"), constant("ff00::/8")]) {
        rules.push([to(net), vec![Expr::Return]].concat());
    }
    for net in &plan.pods {
        rules.push(masquerade(vec![from(*net), out(false)]));
    }
    rules
}

const LOOPBACK: &str = "127.0.0.0/8";

fn constant(net: &str) -> IpNet {
    net.parse().expect("a constant network")
}

/// Sends what arrives on a node's port to the pod, if the families agree.
fn destination(port: &HostPort, pod: IpAddr) -> Option<Vec<Expr>> {
    let on = match port.host_ip.filter(|ip| !ip.is_unspecified()) {
        Some(ip) if ip.is_ipv4() != pod.is_ipv4() => return None,
        Some(ip) => to(ip.into()),
        None if port
            .host_ip
            .is_some_and(|any| any.is_ipv4() != pod.is_ipv4()) =>
        {
            return None;
        }
        None => family_is(pod),
    };
    let steps = vec![
        Expr::Meta(META_L4PROTO),
        equal(vec![protocol(port.protocol)]),
        Expr::Payload {
            base: TRANSPORT,
            offset: 2,
            length: 2,
        },
        equal(port.host_port.to_be_bytes().to_vec()),
        Expr::Load {
            register: 1,
            value: octets(pod),
        },
        Expr::Load {
            register: 2,
            value: port.container_port.to_be_bytes().to_vec(),
        },
        Expr::Destination {
            family: family(pod),
        },
    ];
    Some([on, steps].concat())
}

// include/uapi/linux/netfilter/nf_tables.h
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

fn equal(value: Vec<u8>) -> Expr {
    Expr::Compare { equal: true, value }
}

fn family_is(ip: IpAddr) -> Vec<Expr> {
    vec![Expr::Meta(META_NFPROTO), equal(vec![family(ip) as u8])]
}

fn from(net: IpNet) -> Vec<Expr> {
    address(net, if net.addr().is_ipv4() { 12 } else { 8 })
}

fn to(net: IpNet) -> Vec<Expr> {
    address(net, if net.addr().is_ipv4() { 16 } else { 24 })
}

/// The address at this offset of the packet is in the network.
fn address(net: IpNet, offset: u32) -> Vec<Expr> {
    let (ip, mask) = (octets(net.network()), octets(net.netmask()));
    let mut steps = family_is(net.addr());
    steps.push(Expr::Payload {
        base: NETWORK,
        offset,
        length: ip.len() as u32,
    });
    if net.prefix_len() < net.max_prefix_len() {
        steps.push(Expr::Mask(mask));
    }
    steps.push(equal(ip));
    steps
}

/// Comes in or goes out through a link, or does not.
fn through(direction: u32, link: &str, equal: bool) -> Vec<Expr> {
    let mut name = link.as_bytes().to_vec();
    name.resize(libc::IFNAMSIZ, 0);
    vec![Expr::Meta(direction), Expr::Compare { equal, value: name }]
}

fn local_destination() -> Vec<Expr> {
    vec![
        Expr::DestinationType,
        equal(u32::from(libc::RTN_LOCAL).to_ne_bytes().to_vec()),
    ]
}

fn family(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(_) => libc::NFPROTO_IPV4 as u32,
        IpAddr::V6(_) => libc::NFPROTO_IPV6 as u32,
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn protocol(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP as u8,
        Protocol::Udp => libc::IPPROTO_UDP as u8,
        Protocol::Sctp => libc::IPPROTO_SCTP as u8,
    }
}

/// One transaction: the table anew (made first, because deleting a missing one is an error) with
/// these chains.
fn encode(chains: &[Chain]) -> Vec<Message> {
    let mut messages = vec![new_table(), delete_table(), new_table()];
    messages.extend(chains.iter().map(new_chain));
    for chain in chains {
        messages.extend(chain.rules.iter().map(|rule| new_rule(chain.name, rule)));
    }
    batch(messages)
}

fn batch(messages: Vec<Message>) -> Vec<Message> {
    let mark = |kind: i32| {
        let subsystem = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
        let fixed = [libc::AF_UNSPEC as u8, 0, subsystem[0], subsystem[1]];
        Message::new("batch", kind as u16, 0, &fixed)
    };
    let (begin, end) = (
        mark(libc::NFNL_MSG_BATCH_BEGIN),
        mark(libc::NFNL_MSG_BATCH_END),
    );
    std::iter::once(begin)
        .chain(messages)
        .chain([end])
        .collect()
}

fn nft(doing: String, kind: i32, flags: i32) -> Message {
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | kind) as u16;
    Message::new(doing, kind, flags, &[libc::NFPROTO_INET as u8, 0, 0, 0])
}

fn new_table() -> Message {
    nft(
        format!("add table {TABLE}"),
        libc::NFT_MSG_NEWTABLE,
        libc::NLM_F_CREATE,
    )
    .str(TABLE_NAME, TABLE)
}

fn delete_table() -> Message {
    nft(format!("delete table {TABLE}"), libc::NFT_MSG_DELTABLE, 0).str(TABLE_NAME, TABLE)
}

// Attribute numbers that libc lacks, from include/uapi/linux/netfilter/nf_tables.h.
const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUM: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

fn new_chain(chain: &Chain) -> Message {
    let message = nft(
        format!("add chain {}", chain.name),
        libc::NFT_MSG_NEWCHAIN,
        libc::NLM_F_CREATE,
    )
    .str(CHAIN_TABLE, TABLE)
    .str(CHAIN_NAME, chain.name);
    match &chain.base {
        None => message,
        Some(base) => message
            .nest(CHAIN_HOOK, |m| {
                m.be32(HOOK_NUM, base.hook)
                    .be32(HOOK_PRIORITY, base.priority as u32)
            })
            .str(CHAIN_TYPE, base.kind),
    }
}

fn new_rule(chain: &str, rule: &[Expr]) -> Message {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
    nft(format!("add rule to {chain}"), libc::NFT_MSG_NEWRULE, flags)
        .str(RULE_TABLE, TABLE)
        .str(RULE_CHAIN, chain)
        .nest(RULE_EXPRESSIONS, |m| {
            rule.iter().fold(m, |m, expr| {
                let (name, fill) = expr.parts();
                m.nest(LIST_ELEM, |m| m.str(EXPR_NAME, name).nest(EXPR_DATA, fill))
            })
        })
}

impl Expr {
    /// The kernel's name of the expression and what fills its attributes.
    fn parts(&self) -> (&'static str, Box<dyn FnOnce(Message) -> Message + '_>) {
        const REGISTER: u32 = 1;
        let value =
            |m: Message, kind: u16, value: &[u8]| m.nest(kind, |m| m.attr(DATA_VALUE, value));
        match self {
            Self::Meta(key) => ("meta", Box::new(|m| m.be32(1, REGISTER).be32(2, *key))),
            Self::Payload {
                base,
                offset,
                length,
            } => (
                "payload",
                Box::new(|m| {
                    m.be32(1, REGISTER)
                        .be32(2, *base)
                        .be32(3, *offset)
                        .be32(4, *length)
                }),
            ),
            Self::Mask(mask) => (
                "bitwise",
                Box::new(move |m| {
                    let m = m
                        .be32(1, REGISTER)
                        .be32(2, REGISTER)
                        .be32(3, mask.len() as u32);
                    value(value(m, 4, mask), 5, &vec![0; mask.len()])
                }),
            ),
            Self::Compare { equal, value: with } => {
                let operator = u32::from(!equal);
                (
                    "cmp",
                    Box::new(move |m| value(m.be32(1, REGISTER).be32(2, operator), 3, with)),
                )
            }
            Self::DestinationType => {
                const ADDRESS_TYPE: u32 = 3;
                const OF_DESTINATION: u32 = 1 << 1;
                let fill = |m: Message| {
                    m.be32(1, REGISTER)
                        .be32(2, ADDRESS_TYPE)
                        .be32(3, OF_DESTINATION)
                };
                ("fib", Box::new(fill))
            }
            Self::Load {
                register,
                value: what,
            } => (
                "immediate",
                Box::new(move |m| value(m.be32(1, *register), 2, what)),
            ),
            Self::Destination { family } => {
                const TO_DESTINATION: u32 = 1;
                let fill = |m: Message| {
                    m.be32(1, TO_DESTINATION)
                        .be32(2, *family)
                        .be32(3, 1)
                        .be32(5, 2)
                };
                ("nat", Box::new(fill))
            }
            Self::Masquerade => ("masq", Box::new(|m| m)),
            Self::Jump(chain) => (
                "immediate",
                Box::new(|m| verdict(m, libc::NFT_JUMP, Some(chain))),
            ),
            Self::Drop => ("immediate", Box::new(|m| verdict(m, libc::NF_DROP, None))),
            Self::Return => (
                "immediate",
                Box::new(|m| verdict(m, libc::NFT_RETURN, None)),
            ),
        }
    }
}

fn verdict(message: Message, code: i32, chain: Option<&str>) -> Message {
    const VERDICT_REGISTER: u32 = 0;
    message.be32(1, VERDICT_REGISTER).nest(2, |m| {
        m.nest(DATA_VERDICT, |m| {
            let m = m.be32(VERDICT_CODE, code as u32);
            chain
                .into_iter()
                .fold(m, |m, chain| m.str(VERDICT_CHAIN, chain))
        })
    })
}
