//! The node's addresses, as `pkg/kubelet/nodestatus/setters.go` (`NodeAddress`) finds them.

use std::fs;
use std::net::{IpAddr, Ipv6Addr};

use k8s_openapi::api::core::v1::NodeAddress;

/// Why the node has no address.
#[derive(thiserror::Error, Debug, PartialEq, Eq)]
pub enum Error {
    #[error("invalid --node-ip {0:?}")]
    Syntax(String),
    #[error("invalid --node-ip {0:?}: {1}")]
    Pair(String, &'static str),
    #[error("failed to validate nodeIP: {0}")]
    Invalid(String),
    #[error("can't get ip address of node {node}. error: {problem}")]
    None { node: String, problem: String },
}

/// What `--node-ip` says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// At most one of each family; one may be unspecified, which only says the family.
    ips: Vec<IpAddr>,
}

impl Wanted {
    /// Reads the flag.
    ///
    /// # Errors
    /// If it holds something other than one address, or one of each family.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let ips: Vec<IpAddr> = text
            .split(',')
            .map(|one| one.trim().parse())
            .collect::<Result<_, _>>()
            .map_err(|_| Error::Syntax(text.to_owned()))?;
        let wrong = |why| Err(Error::Pair(text.to_owned(), why));
        match ips.as_slice() {
            [one, two] if one.is_ipv4() == two.is_ipv4() => {
                wrong("must contain either a single IP or a dual-stack pair of IPs")
            }
            [one, two] if one.is_unspecified() || two.is_unspecified() => {
                wrong("dual-stack pair may not contain unspecified IPs")
            }
            [_] | [_, _] => Ok(Self { ips }),
            _ => wrong("must contain either a single IP or a dual-stack pair of IPs"),
        }
    }

    fn specified(&self) -> impl Iterator<Item = IpAddr> {
        self.ips.iter().copied().filter(|ip| !ip.is_unspecified())
    }

    fn prefers_ipv4(&self) -> bool {
        self.ips.first().is_none_or(IpAddr::is_ipv4)
    }

    /// The value of the annotation for cloud controllers; none if no address was given.
    #[must_use]
    pub fn annotation(&self) -> Option<String> {
        let all: Vec<String> = self.specified().map(|ip| ip.to_string()).collect();
        (!all.is_empty()).then(|| all.join(","))
    }

    /// Whether the flag was given at all.
    #[must_use]
    pub fn is_given(&self) -> bool {
        !self.ips.is_empty()
    }

    /// Finds the node's addresses, the primary first.
    ///
    /// # Errors
    /// If an address that was asked for is not the machine's, or none is found.
    pub async fn find(&self, node: &str, hostname: &str) -> Result<Vec<IpAddr>, Error> {
        let own = own_addresses();
        let asked: Vec<IpAddr> = self.specified().collect();
        for ip in &asked {
            validate(*ip, &own).map_err(Error::Invalid)?;
        }
        if !asked.is_empty() {
            return Ok(asked);
        }
        if let Ok(ip) = hostname.parse() {
            return Ok(vec![ip]);
        }
        let named = tokio::net::lookup_host((node, 0)).await;
        let named: Vec<IpAddr> = named
            .into_iter()
            .flatten()
            .map(|address| address.ip())
            .filter(|ip| validate(*ip, &own).is_ok())
            .collect();
        let preferred = |ip: &&IpAddr| ip.is_ipv4() == self.prefers_ipv4();
        let found = named.iter().find(preferred).or(named.first()).copied();
        let found = found.or_else(|| default_address(self.prefers_ipv4()));
        found.map(|ip| vec![ip]).ok_or_else(|| Error::None {
            node: node.to_owned(),
            problem: "no default routes found in \"/proc/net/route\" or \"/proc/net/ipv6_route\""
                .to_owned(),
        })
    }
}

/// The entries of the node's status.
#[must_use]
pub fn entries(ips: &[IpAddr], hostname: &str) -> Vec<NodeAddress> {
    let entry = |type_: &str, address: String| NodeAddress {
        type_: type_.to_owned(),
        address,
    };
    let internal = ips.iter().map(|ip| entry("InternalIP", ip.to_string()));
    internal
        .chain([entry("Hostname", hostname.to_owned())])
        .collect()
}

fn validate(ip: IpAddr, own: &[(String, IpAddr)]) -> Result<(), String> {
    let refused = if ip.is_loopback() {
        "can't be loopback address"
    } else if ip.is_multicast() {
        "can't be a multicast address"
    } else if is_link_local(ip) {
        "can't be a link-local unicast address"
    } else if ip.is_unspecified() {
        "can't be an all zeros address"
    } else if own.iter().any(|(_, own)| *own == ip) {
        return Ok(());
    } else {
        return Err(format!(
            "node IP: {:?} not found in the host's network interfaces",
            ip.to_string()
        ));
    };
    Err(format!("nodeIP {refused}"))
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// The addresses of the machine's interfaces that are up, by interface.
fn own_addresses() -> Vec<(String, IpAddr)> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    let up = all.filter(|one| one.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP));
    up.filter_map(|one| {
        let address = one.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        let v6 = || address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()));
        Some((one.interface_name, v4.or_else(v6)?))
    })
    .collect()
}

/// The address of the interface that the default route of the preferred family leaves by, else of
/// the other family's.
fn default_address(ipv4: bool) -> Option<IpAddr> {
    let own = own_addresses();
    let routes = [
        (
            true,
            default_v4(&fs::read_to_string("/proc/net/route").unwrap_or_default()),
        ),
        (
            false,
            default_v6(&fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default()),
        ),
    ];
    let of = |family: bool| {
        let (_, interfaces) = routes.iter().find(|(f, _)| *f == family)?;
        interfaces.iter().find_map(|interface| {
            let usable = |ip: IpAddr| {
                ip.is_ipv4() == family
                    && !ip.is_loopback()
                    && !ip.is_multicast()
                    && !is_link_local(ip)
            };
            own.iter()
                .find(|(name, ip)| name == interface && usable(*ip))
                .map(|(_, ip)| *ip)
        })
    };
    of(ipv4).or_else(|| of(!ipv4))
}

/// Interfaces of the default routes in `/proc/net/route`.
fn default_v4(table: &str) -> Vec<String> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let default = fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000");
            default.then(|| fields.first().map(|name| (*name).to_owned()))?
        })
        .collect()
}

/// Interfaces of the default routes in `/proc/net/ipv6_route`; those that reject are on `lo`.
fn default_v6(table: &str) -> Vec<String> {
    let zero = format!("{:032x}", Ipv6Addr::UNSPECIFIED.to_bits());
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let default = fields.first() == Some(&zero.as_str()) && fields.get(1) == Some(&"00");
            let name = fields.get(9).filter(|name| **name != "lo");
            default.then(|| name.map(|name| (*name).to_owned()))?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_or_one_of_each_family() {
        assert!(!Wanted::parse("").unwrap().is_given());
        let both = Wanted::parse("10.0.0.1,fd00::1").unwrap();
        assert_eq!(both.annotation().as_deref(), Some("10.0.0.1,fd00::1"));
        assert_eq!(Wanted::parse("::").unwrap().annotation(), None);
        assert!(!Wanted::parse("::").unwrap().prefers_ipv4());
        for bad in [
            "10.0.0.1,10.0.0.2",
            "0.0.0.0,fd00::1",
            "x",
            "1.1.1.1,fd00::1,::",
        ] {
            assert!(Wanted::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_default_route_names_the_interface() {
        let v4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                  eth1\t0000FEA9\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                  eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(default_v4(v4), ["eth0"]);
        let zero = "0".repeat(32);
        let v6 = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n"
        );
        assert_eq!(default_v6(&v6), ["eth0"]);
    }

    #[tokio::test]
    async fn an_address_that_is_not_the_machines_is_refused() {
        for (ip, why) in [
            ("127.0.0.1", "loopback"),
            ("224.0.0.1", "multicast"),
            ("169.254.1.1", "link-local"),
            ("192.0.2.77", "not found"),
        ] {
            let found = Wanted::parse(ip).unwrap().find("n", "n").await;
            assert!(found.unwrap_err().to_string().contains(why), "{ip}");
        }
    }

    #[tokio::test]
    async fn a_host_name_that_is_an_address_is_the_address() {
        let found = Wanted::default().find("10.9.8.7", "10.9.8.7").await;
        assert_eq!(found.unwrap(), ["10.9.8.7".parse::<IpAddr>().unwrap()]);
        let entries = entries(&["10.9.8.7".parse().unwrap()], "h");
        let types: Vec<_> = entries.iter().map(|e| e.type_.as_str()).collect();
        assert_eq!(types, ["InternalIP", "Hostname"]);
    }
}
