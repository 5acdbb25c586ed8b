//! Addresses of this node's pods: one of each range for each pod.
//!
//! Pure. Freed addresses are given out again as late as possible, so that nothing that still knows
//! the pod before meets the next one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Why there is no address.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum Error {
    #[error("no pod address range is known for this node yet")]
    NoRange,
    #[error("no address is free in {0}")]
    Full(IpNet),
    #[error("{0} is too small to be a pod address range")]
    TooSmall(IpNet),
}

/// One range and who has which address of it.
#[derive(Debug)]
struct Range {
    net: IpNet,
    gateway: IpAddr,
    /// First and last address for pods, as numbers.
    first: u128,
    last: u128,
    /// Where to look next.
    next: u128,
    used: BTreeMap<u128, String>,
}

/// The ranges of a node.
#[derive(Debug, Default)]
pub(super) struct Ipam {
    ranges: Vec<Range>,
}

impl Ipam {
    /// Ranges of the node, in the order in which pods list their addresses.
    pub(super) fn new(nets: &[IpNet]) -> Result<Self, Error> {
        let ranges = nets
            .iter()
            .map(|net| Range::new(*net))
            .collect::<Result<_, _>>()?;
        Ok(Self { ranges })
    }

    pub(super) fn nets(&self) -> Vec<IpNet> {
        self.ranges.iter().map(|range| range.net).collect()
    }

    /// The node's own address in each range, with the range's length.
    pub(super) fn gateways(&self) -> Vec<IpNet> {
        let gateway = |r: &Range| IpNet::new(r.gateway, r.net.prefix_len());
        self.ranges
            .iter()
            .filter_map(|range| gateway(range).ok())
            .collect()
    }

    /// The gateway of the range that an address is from.
    pub(super) fn gateway_of(&self, ip: IpAddr) -> Option<IpAddr> {
        self.ranges
            .iter()
            .find(|range| range.net.contains(&ip))
            .map(|range| range.gateway)
    }

    /// Gives a pod an address of each range: all or none.
    pub(super) fn allocate(&mut self, uid: &str) -> Result<Vec<IpAddr>, Error> {
        if self.ranges.is_empty() {
            return Err(Error::NoRange);
        }
        let picks: Vec<_> = self
            .ranges
            .iter()
            .map(Range::pick)
            .collect::<Result<_, Error>>()?;
        for (range, pick) in self.ranges.iter_mut().zip(&picks) {
            range.used.insert(*pick, uid.to_owned());
            range.next = if *pick == range.last {
                range.first
            } else {
                pick + 1
            };
        }
        Ok(self
            .ranges
            .iter()
            .zip(picks)
            .map(|(range, pick)| range.ip(pick))
            .collect())
    }

    /// Notes addresses that a pod already has. Those outside the ranges are from before a change.
    pub(super) fn adopt(&mut self, uid: &str, ips: &[IpAddr]) {
        for ip in ips {
            for range in self
                .ranges
                .iter_mut()
                .filter(|range| range.net.contains(ip))
            {
                range.used.insert(number(*ip), uid.to_owned());
            }
        }
    }

    /// Takes a pod's addresses back.
    pub(super) fn release(&mut self, uid: &str) {
        for range in &mut self.ranges {
            range.used.retain(|_, owner| owner != uid);
        }
    }
}

impl Range {
    fn new(net: IpNet) -> Result<Self, Error> {
        let net = net.trunc();
        let bits = net.max_prefix_len() - net.prefix_len();
        // Network, gateway, one pod, broadcast.
        if bits < 2 {
            return Err(Error::TooSmall(net));
        }
        let base = number(net.addr());
        let top = base + ((1u128 << bits.min(127)) - 1);
        let last = if net.addr().is_ipv4() { top - 1 } else { top };
        let (first, used) = (base + 2, BTreeMap::new());
        let gateway = ip(base + 1, net.addr().is_ipv4());
        Ok(Self {
            net,
            gateway,
            first,
            last,
            next: first,
            used,
        })
    }

    /// The first free address from where the last search ended, going round once.
    fn pick(&self) -> Result<u128, Error> {
        let free = |from: u128, to: u128| {
            let mut candidate = from;
            for taken in self.used.range(from..=to).map(|(taken, _)| *taken) {
                if taken != candidate {
                    break;
                }
                candidate += 1;
            }
            (candidate <= to).then_some(candidate)
        };
        let ahead = free(self.next, self.last);
        ahead
            .or_else(|| free(self.first, self.last))
            .ok_or(Error::Full(self.net))
    }

    fn ip(&self, n: u128) -> IpAddr {
        ip(n, self.net.addr().is_ipv4())
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn ip(n: u128, v4: bool) -> IpAddr {
    match v4 {
        true => Ipv4Addr::from_bits(n as u32).into(),
        false => Ipv6Addr::from_bits(n).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(nets: &[&str]) -> Vec<IpNet> {
        nets.iter().map(|net| net.parse().unwrap()).collect()
    }

    fn text(ips: &[IpAddr]) -> Vec<String> {
        ips.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_pod_gets_one_address_of_each_range() {
        let mut ipam = Ipam::new(&nets(&["10.244.1.0/24", "fd00:1::/64"])).unwrap();
        assert_eq!(
            text(&ipam.allocate("a").unwrap()),
            ["10.244.1.2", "fd00:1::2"]
        );
        assert_eq!(
            text(&ipam.allocate("b").unwrap()),
            ["10.244.1.3", "fd00:1::3"]
        );
        let gateways: Vec<_> = ipam.gateways().iter().map(ToString::to_string).collect();
        assert_eq!(gateways, ["10.244.1.1/24", "fd00:1::1/64"]);
    }

    #[test]
    fn a_freed_address_is_the_last_to_be_given_again() {
        let mut ipam = Ipam::new(&nets(&["10.0.0.0/29"])).unwrap();
        for pod in ["a", "b", "c", "d", "e"] {
            ipam.allocate(pod).unwrap();
        }
        assert_eq!(
            ipam.allocate("f"),
            Err(Error::Full("10.0.0.0/29".parse().unwrap()))
        );
        ipam.release("d");
        ipam.release("a");
        assert_eq!(text(&ipam.allocate("f").unwrap()), ["10.0.0.2"]);
        assert_eq!(text(&ipam.allocate("g").unwrap()), ["10.0.0.5"]);
        assert!(ipam.allocate("h").is_err());
    }

    #[test]
    fn what_a_pod_already_has_is_not_given_to_another() {
        let mut ipam = Ipam::new(&nets(&["10.0.0.0/24"])).unwrap();
        ipam.adopt(
            "old",
            &["10.0.0.2".parse().unwrap(), "192.168.0.1".parse().unwrap()],
        );
        assert_eq!(text(&ipam.allocate("new").unwrap()), ["10.0.0.3"]);
    }

    #[test]
    fn a_range_is_full_for_all_or_for_none() {
        let mut ipam = Ipam::new(&nets(&["10.0.0.0/24", "10.1.0.0/30"])).unwrap();
        ipam.allocate("a").unwrap();
        assert!(ipam.allocate("b").is_err());
        ipam.release("a");
        assert_eq!(text(&ipam.allocate("b").unwrap()), ["10.0.0.3", "10.1.0.2"]);
        assert_eq!(Ipam::default().allocate("x"), Err(Error::NoRange));
        assert!(Ipam::new(&nets(&["10.0.0.0/31"])).is_err());
    }
}
