//! Services and their endpoints as compact values, as one family of addresses sees them.
//!
//! Source: `pkg/proxy/{serviceport,endpoint,servicechangetracker,endpointslicecache}.go`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};

use crate::nft::Family;

/// Which of a port's protocols.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    fn parse(text: Option<&str>) -> Option<Self> {
        match text.unwrap_or("TCP") {
            "TCP" | "" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    pub(crate) fn number(self) -> u8 {
        let number = match self {
            Self::Tcp => libc::IPPROTO_TCP,
            Self::Udp => libc::IPPROTO_UDP,
            Self::Sctp => libc::IPPROTO_SCTP,
        };
        number as u8
    }
}

/// One port of a Service, with the Service's settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ServicePort {
    pub(crate) cluster_ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    /// 0 if there is none.
    pub(crate) node_port: u16,
    /// For how many seconds a client stays with its endpoint; none without affinity.
    pub(crate) affinity: Option<u32>,
    pub(crate) external_ips: Box<[IpAddr]>,
    /// Addresses of load balancers that send packets to them unchanged.
    pub(crate) load_balancer_ips: Box<[IpAddr]>,
    /// Who may come by a load balancer's address; empty for everybody.
    pub(crate) source_ranges: Box<[IpNet]>,
    pub(crate) external_local: bool,
    pub(crate) internal_local: bool,
    /// Sorted by address and port.
    pub(crate) endpoints: Box<[Endpoint]>,
}

impl ServicePort {
    pub(crate) fn is_external(&self) -> bool {
        self.node_port != 0 || !self.load_balancer_ips.is_empty() || !self.external_ips.is_empty()
    }

    /// Addresses from outside, without the node's own.
    pub(crate) fn outside_ips(&self) -> impl Iterator<Item = IpAddr> {
        self.external_ips
            .iter()
            .chain(&self.load_balancer_ips)
            .copied()
    }
}

/// Whether hints are for us.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Hint {
    #[default]
    None,
    Ours,
    Others,
}

/// Where a Service's packets may go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Endpoint {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    /// On this node.
    pub(crate) local: bool,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    pub(crate) zone: Hint,
    pub(crate) node: Hint,
}

/// What there is to know of the node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Place {
    pub(crate) node: String,
    /// Empty if the node has no such label.
    pub(crate) zone: String,
}

/// Which of upstream's features are on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Gates {
    /// `AllowServiceExternalIPs`
    pub(crate) external_ips: bool,
    /// `PreferSameTrafficDistribution`
    pub(crate) same_node: bool,
}

/// A Service's ports in one family, with their endpoints, and the port at which its health is asked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Frontend {
    pub(crate) ports: Box<[ServicePort]>,
    /// `healthCheckNodePort`; 0 if there is none.
    pub(crate) health_port: u16,
}

impl Frontend {
    /// How many addresses on this node are ready.
    pub(crate) fn local_ready(&self) -> usize {
        let all = self.ports.iter().flat_map(|p| &p.endpoints);
        let mut ips: Vec<_> = all.filter(|e| e.local && e.ready).map(|e| e.ip).collect();
        ips.sort_unstable();
        ips.dedup();
        ips.len()
    }

    pub(crate) fn has_udp(&self) -> bool {
        self.ports.iter().any(|p| p.protocol == Protocol::Udp)
    }
}

/// What is read from a Service and its slices.
pub(crate) struct Reader<'a> {
    pub(crate) family: Family,
    pub(crate) place: &'a Place,
    pub(crate) gates: Gates,
}

/// Endpoints by the port that they serve, named with its protocol, and by where they are.
type ByPort<'s> = BTreeMap<(&'s str, Protocol), BTreeMap<(IpAddr, u16), Endpoint>>;

impl Reader<'_> {
    /// The Service with its endpoints; none if it is nothing to proxy in this family.
    pub(crate) fn frontend(
        &self,
        service: &Service,
        slices: &[impl AsRef<EndpointSlice>],
    ) -> Option<Frontend> {
        let spec = service.spec.as_ref()?;
        let is_proxied = !matches!(spec.cluster_ip.as_deref(), None | Some("" | "None"))
            && spec.type_.as_deref() != Some("ExternalName");
        if !is_proxied {
            return None;
        }
        let cluster_ip = self.cluster_ip(service)?;
        let type_ = spec.type_.as_deref().unwrap_or("ClusterIP");
        let has_external = spec
            .external_ips
            .as_ref()
            .is_some_and(|ips| !ips.is_empty());
        let is_external =
            matches!(type_, "LoadBalancer" | "NodePort") || (type_ == "ClusterIP" && has_external);
        let external_local =
            is_external && spec.external_traffic_policy.as_deref() == Some("Local");
        let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
            let config = spec.session_affinity_config.as_ref();
            let seconds = config.and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
            seconds
                .and_then(|s| u32::try_from(s).ok())
                .unwrap_or(10_800)
        });
        let external_ips = if self.gates.external_ips {
            self.ips(spec.external_ips.iter().flatten().map(String::as_str))
        } else {
            Box::default()
        };
        let ingress = service
            .status
            .as_ref()
            .and_then(|s| s.load_balancer.as_ref()?.ingress.as_ref());
        let vips = ingress
            .into_iter()
            .flatten()
            .filter(|i| i.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"));
        let load_balancer_ips = self.ips(vips.filter_map(|i| i.ip.as_deref()));
        let source_ranges = self.ranges(
            spec.load_balancer_source_ranges
                .as_deref()
                .unwrap_or_default(),
        );
        let mut endpoints = self.endpoints(slices);
        let ports = spec.ports.iter().flatten().filter_map(|port| {
            let protocol = Protocol::parse(port.protocol.as_deref())?;
            let name = port.name.as_deref().unwrap_or_default();
            let endpoints = endpoints.remove(&(name, protocol)).unwrap_or_default();
            Some(ServicePort {
                cluster_ip,
                port: u16::try_from(port.port).ok()?,
                protocol,
                node_port: port
                    .node_port
                    .and_then(|p| u16::try_from(p).ok())
                    .unwrap_or(0),
                affinity,
                external_ips: external_ips.clone(),
                load_balancer_ips: load_balancer_ips.clone(),
                source_ranges: source_ranges.clone(),
                external_local,
                internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
                endpoints: endpoints.into_values().collect(),
            })
        });
        let needs_health = type_ == "LoadBalancer" && external_local;
        Some(Frontend {
            ports: ports.collect(),
            health_port: spec
                .health_check_node_port
                .filter(|_| needs_health)
                .and_then(|p| u16::try_from(p).ok())
                .unwrap_or(0),
        })
    }

    fn cluster_ip(&self, service: &Service) -> Option<IpAddr> {
        let spec = service.spec.as_ref()?;
        let families = spec.ip_families.as_deref().unwrap_or_default();
        let text = if families.is_empty() {
            spec.cluster_ip.as_deref()
        } else {
            let at = families.iter().position(|f| f == self.family.name())?;
            spec.cluster_ips.as_ref()?.get(at).map(String::as_str)
        };
        parse_ip(text?).filter(|ip| Family::of(*ip) == self.family)
    }

    fn ips<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Box<[IpAddr]> {
        let ips = texts.filter_map(|text| parse_ip(text.trim()));
        ips.filter(|ip| Family::of(*ip) == self.family).collect()
    }

    /// Ranges without those that lie within others; none if they contain everybody.
    fn ranges(&self, texts: &[String]) -> Box<[IpNet]> {
        let parsed = texts.iter().filter_map(|text| parse_net(text.trim()));
        let mut nets: Vec<IpNet> = parsed
            .filter(|net| Family::of(net.addr()) == self.family)
            .collect();
        if nets.iter().any(|net| net.prefix_len() == 0) {
            return Box::default();
        }
        nets.sort_unstable_by_key(|net| (net.prefix_len(), net.network()));
        let mut kept: Vec<IpNet> = Vec::with_capacity(nets.len());
        for net in nets {
            if !kept.iter().any(|wider| wider.contains(&net)) {
                kept.push(net);
            }
        }
        kept.into()
    }

    /// By the Service port's name and protocol, then by address and port.
    fn endpoints<'s>(&self, slices: &'s [impl AsRef<EndpointSlice>]) -> ByPort<'s> {
        let mut found: BTreeMap<_, BTreeMap<(IpAddr, u16), Endpoint>> = BTreeMap::new();
        for slice in slices.iter().map(AsRef::as_ref) {
            if slice.address_type != self.family.name() {
                continue;
            }
            for port in slice.ports.iter().flatten() {
                let number = port
                    .port
                    .and_then(|p| u16::try_from(p).ok())
                    .filter(|p| *p != 0);
                let named = (
                    port.name.as_deref(),
                    Protocol::parse(port.protocol.as_deref()),
                    number,
                );
                let (Some(name), Some(protocol), Some(number)) = named else {
                    continue;
                };
                let of_port = found.entry((name, protocol)).or_default();
                for endpoint in slice.endpoints.iter().flatten() {
                    self.endpoint(endpoint, number, of_port);
                }
            }
        }
        found
    }

    fn endpoint(
        &self,
        endpoint: &SliceEndpoint,
        port: u16,
        into: &mut BTreeMap<(IpAddr, u16), Endpoint>,
    ) {
        let ip = endpoint.addresses.first().and_then(|text| parse_ip(text));
        let Some(ip) = ip.filter(|ip| Family::of(*ip) == self.family) else {
            return;
        };
        let conditions = endpoint.conditions.as_ref();
        let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
        // Two pods can have one address for a moment: the one that stays wins.
        if terminating && into.contains_key(&(ip, port)) {
            return;
        }
        let hints = endpoint.hints.as_ref();
        let zones = hints
            .and_then(|h| h.for_zones.as_deref())
            .unwrap_or_default();
        let nodes = hints
            .and_then(|h| h.for_nodes.as_deref())
            .unwrap_or_default();
        let nodes = if self.gates.same_node { nodes } else { &[] };
        let node = endpoint.node_name.as_deref().unwrap_or_default();
        let read = Endpoint {
            ip,
            port,
            local: !node.is_empty() && node == self.place.node,
            ready: conditions.and_then(|c| c.ready).unwrap_or(true),
            serving: conditions.and_then(|c| c.serving).unwrap_or(true),
            terminating,
            zone: hint(zones.iter().map(|z| z.name.as_str()), &self.place.zone),
            node: hint(nodes.iter().map(|n| n.name.as_str()), &self.place.node),
        };
        into.insert((ip, port), read);
    }
}

fn hint<'a>(names: impl Iterator<Item = &'a str>, ours: &str) -> Hint {
    let mut found = Hint::None;
    for name in names {
        if name == ours {
            return Hint::Ours;
        }
        found = Hint::Others;
    }
    found
}

/// As Go's lenient parser: leading zeros are decimal; an IPv4 address in IPv6 clothes is one.
pub(crate) fn parse_ip(text: &str) -> Option<IpAddr> {
    let parsed = text.parse::<IpAddr>().ok().or_else(|| {
        let parts: Option<Vec<u8>> = text.split('.').map(|part| part.parse().ok()).collect();
        let octets: [u8; 4] = parts?.try_into().ok()?;
        Some(octets.into())
    });
    parsed.map(|ip| ip.to_canonical())
}

/// A network in address/length form, host bits and leading zeros allowed.
pub(crate) fn parse_net(text: &str) -> Option<IpNet> {
    let (ip, length) = text.split_once('/')?;
    let net = IpNet::new(parse_ip(ip)?, length.parse().ok()?).ok()?;
    Some(net.trunc())
}

#[cfg(test)]
pub(crate) mod tests;
