//! Connections that go to endpoints that are gone.
//!
//! The kernel translates a connection's packets as it did the first. A TCP connection notices that its
//! endpoint is gone; a UDP flow goes on to nowhere as long as it is busy. So flows to UDP Services that lead
//! to none of their serving endpoints are ended, and their next packet finds another.
//!
//! Source: `pkg/proxy/conntrack/cleanup.go`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use nix::sys::socket::SockProtocol;

use crate::netlink::{Buffer, Error, Socket, attrs};
use crate::nft::Family;
use crate::service::{Frontend, Protocol};

/// How often the table is read again that changed while it was read.
const ATTEMPTS: usize = 5;
/// Flows that are ended in one request.
const PIECE: usize = 500;

// include/uapi/linux/netfilter/nfnetlink_conntrack.h
const GET: u16 = 1;
const DELETE: u16 = 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;

/// An address with a port.
type Side = (IpAddr, u16);

/// Where flows to UDP Services may lead.
#[derive(Debug, Default)]
pub(crate) struct Allowed {
    ips: HashMap<Side, HashSet<Side>>,
    node_ports: HashMap<u16, HashSet<Side>>,
}

impl Allowed {
    pub(crate) fn of<'a>(frontends: impl Iterator<Item = &'a Frontend>) -> Self {
        let mut allowed = Self::default();
        let ports = frontends.flat_map(|f| &f.ports);
        for port in ports.filter(|p| p.protocol == Protocol::Udp) {
            let serving = port.endpoints.iter().filter(|e| e.serving);
            let endpoints: HashSet<Side> = serving.map(|e| (e.ip, e.port)).collect();
            for ip in port.outside_ips().chain([port.cluster_ip]) {
                allowed.ips.insert((ip, port.port), endpoints.clone());
            }
            // With no endpoint at all, flows to this port of other machines could not be told apart.
            if port.node_port != 0 && !endpoints.is_empty() {
                allowed.node_ports.insert(port.node_port, endpoints);
            }
        }
        allowed
    }

    fn is_empty(&self) -> bool {
        self.ips.is_empty()
    }

    /// Whether a flow to `to` whose answers come from `from` has to end.
    fn is_stale(&self, to: Side, from: Side) -> bool {
        let leads_elsewhere = |endpoints: &HashSet<Side>| !endpoints.contains(&from);
        self.ips.get(&to).is_some_and(leads_elsewhere)
            || self.node_ports.get(&to.1).is_some_and(leads_elsewhere)
    }
}

/// Ends stale flows of a family; how many.
pub(crate) fn clean(family: Family, allowed: &Allowed) -> Result<usize, Error> {
    if allowed.is_empty() {
        return Ok(0);
    }
    let mut socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
    let stale = stale(&mut socket, family, allowed)?;
    let mut ended = 0;
    for piece in stale.chunks(PIECE) {
        let mut requests = Buffer::new();
        for flow in piece {
            requests.message(kind(DELETE), 0, &fixed(family), |a| {
                a.put(TUPLE_ORIGINAL | 0x8000, &flow.original);
                if let Some(id) = &flow.id {
                    a.put(ID, id);
                }
            });
        }
        match socket.run(&mut requests) {
            Ok(()) => ended += piece.len(),
            // It has ended by itself; the others were tried as well.
            Err(err) if err.errno() == Some(libc::ENOENT) => ended += piece.len() - 1,
            Err(err) => return Err(err),
        }
    }
    Ok(ended)
}

struct Flow {
    original: Vec<u8>,
    id: Option<Vec<u8>>,
}

fn stale(socket: &mut Socket, family: Family, allowed: &Allowed) -> Result<Vec<Flow>, Error> {
    let mut flows = Vec::new();
    for _ in 0..ATTEMPTS {
        flows.clear();
        let mut request = Buffer::new();
        request.message(kind(GET), 0, &fixed(family), |_| {});
        let dumped = socket.dump(&mut request, |reply| {
            let found = attrs(reply.body.get(4..).unwrap_or_default());
            flows.extend(stale_flow(&found, allowed));
        });
        match dumped {
            Err(Error::Interrupted) => {}
            other => return other.map(|()| flows),
        }
    }
    // What was found counts, whether or not it is all.
    Ok(flows)
}

fn stale_flow(found: &BTreeMap<u16, &[u8]>, allowed: &Allowed) -> Option<Flow> {
    let original = found.get(&TUPLE_ORIGINAL)?;
    let (_, to) = sides(original)?;
    let (from, _) = sides(found.get(&TUPLE_REPLY)?)?;
    allowed.is_stale(to, from).then(|| Flow {
        original: original.to_vec(),
        id: found.get(&ID).map(|id| id.to_vec()),
    })
}

/// Source and destination of one direction of a UDP flow; none for other protocols.
pub(crate) fn sides(tuple: &[u8]) -> Option<(Side, Side)> {
    let tuple = attrs(tuple);
    let ip = attrs(tuple.get(&1)?);
    let protocol = attrs(tuple.get(&2)?);
    if protocol.get(&1)?.first() != Some(&Protocol::Udp.number()) {
        return None;
    }
    let address = |v4: u16, v6: u16| -> Option<IpAddr> {
        if let Some(octets) = ip.get(&v4) {
            return Some(<[u8; 4]>::try_from(*octets).ok()?.into());
        }
        Some(<[u8; 16]>::try_from(*ip.get(&v6)?).ok()?.into())
    };
    let port = |kind: u16| Some(u16::from_be_bytes((*protocol.get(&kind)?).try_into().ok()?));
    Some(((address(1, 3)?, port(2)?), (address(2, 4)?, port(3)?)))
}

fn kind(message: u16) -> u16 {
    (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8 | message
}

fn fixed(family: Family) -> [u8; 4] {
    let family = match family {
        Family::Ipv4 => libc::AF_INET,
        Family::Ipv6 => libc::AF_INET6,
    };
    [family as u8, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::tests::{endpoint, port};

    fn side(text: &str) -> Side {
        let at: std::net::SocketAddr = text.parse().unwrap();
        (at.ip(), at.port())
    }

    #[test]
    fn a_flow_is_stale_if_it_leads_to_none_of_the_serving_endpoints() {
        let mut dns = port("10.96.0.10", 53, Protocol::Udp);
        dns.node_port = 30_053;
        dns.endpoints = [endpoint("10.0.0.1", 53), endpoint("10.0.0.2", 53)].into();
        dns.endpoints[1].serving = false;
        let tcp = port("10.96.0.11", 80, Protocol::Tcp);
        let frontend = Frontend {
            ports: [dns, tcp].into(),
            health_port: 0,
        };
        let allowed = Allowed::of([&frontend].into_iter());
        assert!(!allowed.is_stale(side("10.96.0.10:53"), side("10.0.0.1:53")));
        assert!(allowed.is_stale(side("10.96.0.10:53"), side("10.0.0.2:53")));
        assert!(allowed.is_stale(side("192.0.2.1:30053"), side("10.0.0.9:53")));
        assert!(!allowed.is_stale(side("10.96.0.11:80"), side("10.0.0.9:53")));
    }

    #[test]
    fn node_ports_of_services_without_endpoints_end_no_flow() {
        let mut dns = port("10.96.0.10", 53, Protocol::Udp);
        dns.node_port = 30_053;
        let frontend = Frontend {
            ports: [dns].into(),
            health_port: 0,
        };
        let allowed = Allowed::of([&frontend].into_iter());
        assert!(allowed.is_stale(side("10.96.0.10:53"), side("10.0.0.1:53")));
        assert!(!allowed.is_stale(side("192.0.2.1:30053"), side("10.0.0.1:53")));
    }
}
