//! Links, addresses, routes and neighbours, as few requests as the pod network needs.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use nix::sys::socket::SockProtocol;

use super::netlink::{Error, Message, Reply, Socket};

type Result<T> = std::result::Result<T, Error>;

// Not in libc.
const VETH_INFO_PEER: u16 = 1;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_NET_NS_FD: u16 = 28;
const NTF_MASTER: u8 = 0x04;
const NUD_PERMANENT: u16 = 0x80;

/// A link-layer address.
pub(super) type Mac = [u8; 6];

/// What is known of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) mtu: u32,
}

/// One end of a virtual cable, and where the other is.
pub(super) struct Veth<'a> {
    pub(super) name: &'a str,
    /// The bridge that this end is a port of.
    pub(super) bridge: u32,
    pub(super) mtu: u32,
    pub(super) peer: &'a str,
    pub(super) peer_netns: BorrowedFd<'a>,
    pub(super) peer_mac: Mac,
}

/// Requests to the network namespace in which it was opened.
pub(super) struct Rtnl {
    socket: Socket,
}

impl Rtnl {
    pub(super) fn open() -> Result<Self> {
        Ok(Self {
            socket: Socket::open(SockProtocol::NetlinkRoute)?,
        })
    }

    /// Does all of these, sent at once.
    pub(super) fn run(&mut self, messages: Vec<Message>) -> Result<()> {
        self.socket.run(messages)
    }

    pub(super) fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let message = Message::new(
            format!("look for {name}"),
            libc::RTM_GETLINK,
            0,
            &ifinfo(0, 0, 0),
        )
        .str(libc::IFLA_IFNAME, name);
        match self.socket.ask(message) {
            Ok(replies) => Ok(replies.first().and_then(parse_link)),
            Err(err) if err.errno() == Some(libc::ENODEV) => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// The smallest MTU of the links that default routes go over.
    pub(super) fn default_mtu(&mut self) -> Result<Option<u32>> {
        let routes = Message::new("list routes", libc::RTM_GETROUTE, 0, &[0; 12]);
        let is_default = |reply: &&Reply| reply.body.get(1) == Some(&0);
        let mut out = Vec::new();
        for reply in self.socket.dump(routes)?.iter().filter(is_default) {
            out.extend(reply.attrs(12).get(&libc::RTA_OIF).and_then(|b| word(b)));
        }
        let links = Message::new("list links", libc::RTM_GETLINK, 0, &ifinfo(0, 0, 0));
        let links = self.socket.dump(links)?;
        let links = links
            .iter()
            .filter_map(parse_link)
            .filter(|l| out.contains(&l.index));
        Ok(links.map(|link| link.mtu).min())
    }
}

/// Its link-layer address is set because one that follows the ports' would change with them, and
/// with each change the kernel forgets all neighbours, permanent ones too.
pub(super) fn add_bridge(name: &str, mtu: u32, mac: Mac) -> Message {
    create(
        format!("create bridge {name}"),
        libc::RTM_NEWLINK,
        &ifinfo(0, up(), up()),
    )
    .str(libc::IFLA_IFNAME, name)
    .u32(libc::IFLA_MTU, mtu)
    .attr(libc::IFLA_ADDRESS, &mac)
    .nest(libc::IFLA_LINKINFO, |m| {
        m.str(libc::IFLA_INFO_KIND, "bridge")
    })
}

/// Makes the pair with one end on the bridge and the other right in the namespace: nothing to move
/// or rename.
pub(super) fn add_veth(veth: &Veth<'_>) -> Message {
    let doing = format!("create {}", veth.name);
    create(doing, libc::RTM_NEWLINK, &ifinfo(0, up(), up()))
        .str(libc::IFLA_IFNAME, veth.name)
        .u32(libc::IFLA_MTU, veth.mtu)
        .u32(libc::IFLA_MASTER, veth.bridge)
        .nest(libc::IFLA_LINKINFO, |m| {
            m.str(libc::IFLA_INFO_KIND, "veth")
                .nest(libc::IFLA_INFO_DATA, |m| {
                    m.nest(VETH_INFO_PEER, |m| {
                        m.raw(&ifinfo(0, 0, 0))
                            .str(libc::IFLA_IFNAME, veth.peer)
                            .u32(libc::IFLA_MTU, veth.mtu)
                            .attr(libc::IFLA_ADDRESS, &veth.peer_mac)
                            .u32(IFLA_NET_NS_FD, veth.peer_netns.as_raw_fd() as u32)
                    })
                })
        })
}

/// Lets a port of a bridge talk to the bridge only, and believe nobody about who is where.
pub(super) fn confine_port(name: &str) -> Message {
    Message::new(
        format!("confine {name}"),
        libc::RTM_NEWLINK,
        0,
        &ifinfo(0, 0, 0),
    )
    .str(libc::IFLA_IFNAME, name)
    .nest(libc::IFLA_LINKINFO, |m| {
        m.str(IFLA_INFO_SLAVE_KIND, "bridge")
            .nest(IFLA_INFO_SLAVE_DATA, |m| {
                m.u8(IFLA_BRPORT_LEARNING, 0)
                    .u8(IFLA_BRPORT_UNICAST_FLOOD, 0)
                    .u8(IFLA_BRPORT_ISOLATED, 1)
            })
    })
}

pub(super) fn set_up(index: u32) -> Message {
    let doing = format!("bring up link {index}");
    Message::new(doing, libc::RTM_NEWLINK, 0, &ifinfo(index, up(), up()))
}

pub(super) fn delete_link(name: &str) -> Message {
    Message::new(
        format!("delete {name}"),
        libc::RTM_DELLINK,
        0,
        &ifinfo(0, 0, 0),
    )
    .str(libc::IFLA_IFNAME, name)
}

/// Gives a link an address. It is ours by assignment: no duplicate detection delays its use.
pub(super) fn add_address(index: u32, net: IpNet) -> Message {
    let fixed = [
        family(net.addr()),
        net.prefix_len(),
        libc::IFA_F_NODAD as u8,
        0,
    ];
    let fixed = [fixed, index.to_ne_bytes()].concat();
    let message = create(format!("add address {net}"), libc::RTM_NEWADDR, &fixed);
    message
        .ip(libc::IFA_LOCAL, net.addr())
        .ip(libc::IFA_ADDRESS, net.addr())
}

#[cfg(test)]
pub(super) fn delete_address(index: u32, net: IpNet) -> Message {
    let fixed = [family(net.addr()), net.prefix_len(), 0, 0];
    let fixed = [fixed, index.to_ne_bytes()].concat();
    Message::new(
        format!("delete address {net}"),
        libc::RTM_DELADDR,
        0,
        &fixed,
    )
    .ip(libc::IFA_LOCAL, net.addr())
}

#[cfg(test)]
pub(super) fn set_mac(index: u32, mac: Mac) -> Message {
    let doing = format!("set the address of link {index}");
    Message::new(doing, libc::RTM_NEWLINK, 0, &ifinfo(index, 0, 0)).attr(libc::IFLA_ADDRESS, &mac)
}

/// A route to `to` over a link, by way of `gateway`, or to neighbours without one.
pub(super) fn add_route(to: IpNet, gateway: Option<IpAddr>, index: u32) -> Message {
    let scope = if gateway.is_some() {
        libc::RT_SCOPE_UNIVERSE
    } else {
        libc::RT_SCOPE_LINK
    };
    let fixed = [
        family(to.addr()),
        to.prefix_len(),
        0,
        0,
        libc::RT_TABLE_MAIN,
        libc::RTPROT_STATIC,
        scope,
        libc::RTN_UNICAST,
        0,
        0,
        0,
        0,
    ];
    let mut message = create(format!("add route to {to}"), libc::RTM_NEWROUTE, &fixed);
    if to.prefix_len() > 0 {
        message = message.ip(libc::RTA_DST, to.addr());
    }
    if let Some(gateway) = gateway {
        message = message.ip(libc::RTA_GATEWAY, gateway);
    }
    message.u32(libc::RTA_OIF, index)
}

/// Says for ever which link-layer address an IP address has on a link.
pub(super) fn add_neighbour(index: u32, ip: IpAddr, mac: Mac) -> Message {
    neighbour(format!("add neighbour {ip}"), libc::RTM_NEWNEIGH, index, ip)
        .attr(libc::NDA_LLADDR, &mac)
}

pub(super) fn delete_neighbour(index: u32, ip: IpAddr) -> Message {
    neighbour(
        format!("delete neighbour {ip}"),
        libc::RTM_DELNEIGH,
        index,
        ip,
    )
}

fn neighbour(doing: String, kind: u16, index: u32, ip: IpAddr) -> Message {
    let flags = match kind {
        libc::RTM_NEWNEIGH => libc::NLM_F_CREATE | libc::NLM_F_REPLACE,
        _ => 0,
    };
    Message::new(doing, kind, flags, &ndmsg(family(ip), index, 0)).ip(libc::NDA_DST, ip)
}

/// Says for ever behind which port of its bridge a link-layer address is.
///
/// Permanent entries are also the bridge's own addresses: what a port sends to one goes up to the
/// node and is routed. With `br_netfilter`, a packet whose destination is translated to a pod is
/// given that pod's link-layer address while it is still in the bridge, where isolated ports would
/// drop it.
pub(super) fn add_forwarding(port: u32, mac: Mac) -> Message {
    let fixed = ndmsg(libc::AF_BRIDGE as u8, port, NTF_MASTER);
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    Message::new("add forwarding entry", libc::RTM_NEWNEIGH, flags, &fixed)
        .attr(libc::NDA_LLADDR, &mac)
}

impl Message {
    fn ip(self, kind: u16, ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => self.attr(kind, &ip.octets()),
            IpAddr::V6(ip) => self.attr(kind, &ip.octets()),
        }
    }
}

fn create(doing: String, kind: u16, fixed: &[u8]) -> Message {
    Message::new(doing, kind, libc::NLM_F_CREATE | libc::NLM_F_EXCL, fixed)
}

fn up() -> u32 {
    libc::IFF_UP as u32
}

/// `struct ifinfomsg`
fn ifinfo(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// `struct ndmsg`
fn ndmsg(family: u8, index: u32, flags: u8) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[0] = family;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
    bytes[10] = flags;
    bytes
}

fn family(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

fn parse_link(reply: &Reply) -> Option<Link> {
    let index = word(reply.body.get(4..8)?)?;
    Some(Link {
        index,
        mtu: word(reply.attrs(16).get(&libc::IFLA_MTU)?)?,
    })
}

fn word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}
