//! What sets and chains are called in the kernel, and what such a name stands for.

use super::{Dispatch, EndpointsKind, Kind, SetId};

/// Sets that are always there.
pub(crate) const FIXED: &[(SetId, &str)] = &[
    (chains(false, false), "chains"),
    (chains(false, true), "inside-chains"),
    (chains(true, false), "nodeport-chains"),
    (chains(true, true), "nodeport-inside-chains"),
    (SetId::ClusterIps, "cluster-ips"),
    (SetId::Hairpin, "hairpin-connections"),
    (SetId::NodeIps, "nodeport-ips"),
    (SetId::FirewallSources, "firewall-sources"),
    (SetId::FirewallIps, "firewall-ips"),
    (SetId::LocalSourceIps, "local-source-ips"),
    (SetId::LocalSourceNodePorts, "local-source-nodeports"),
    (SetId::ServiceIps, "service-ips"),
    (SetId::NodePorts, "service-nodeports"),
    (SetId::NoEndpointIps, "no-endpoint-services"),
    (SetId::NoEndpointNodePorts, "no-endpoint-nodeports"),
];

const fn chains(node_port: bool, inside: bool) -> SetId {
    SetId::Chains { node_port, inside }
}

const ENDPOINTS: &[(EndpointsKind, bool, &str)] = &[
    (EndpointsKind::Cluster, false, "endpoints-"),
    (EndpointsKind::Local, false, "local-endpoints-"),
    (EndpointsKind::Cluster, true, "nodeport-endpoints-"),
    (EndpointsKind::Local, true, "nodeport-local-endpoints-"),
];

const CHAINS: &[(Kind, bool, &str)] = &[
    (Kind::Inside, false, "services-"),
    (Kind::Outside, false, "external-"),
    (Kind::Local, false, "local-"),
    (Kind::Inside, true, "nodeport-services-"),
    (Kind::Outside, true, "nodeport-"),
    (Kind::Local, true, "nodeport-local-"),
];

const STICKY: &[(bool, &str)] = &[(false, "sticky-"), (true, "nodeport-sticky-")];
const STICKY_CHAIN: &str = "-sticky";

impl SetId {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Endpoints {
                kind,
                node_port,
                count,
            } => {
                let known = ENDPOINTS
                    .iter()
                    .find(|(k, n, _)| (*k, *n) == (kind, node_port));
                format!("{}{count}", known.map_or("", |(_, _, prefix)| prefix))
            }
            Self::Sticky { node_port, seconds } => {
                let known = STICKY.iter().find(|(n, _)| *n == node_port);
                format!("{}{seconds}", known.map_or("", |(_, prefix)| prefix))
            }
            fixed => {
                let known = FIXED.iter().find(|(set, _)| *set == fixed);
                known.map_or("", |(_, name)| name).to_owned()
            }
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        let fixed = FIXED.iter().find(|(_, known)| *known == name);
        let sticky = |(node_port, prefix): &(bool, &str)| {
            Some(Self::Sticky {
                node_port: *node_port,
                seconds: number(name.strip_prefix(prefix)?)?,
            })
        };
        let endpoints = |(kind, node_port, prefix): &(EndpointsKind, bool, &str)| {
            Some(Self::Endpoints {
                kind: *kind,
                node_port: *node_port,
                count: number(name.strip_prefix(prefix)?)?,
            })
        };
        let fixed = fixed.map(|(set, _)| *set);
        fixed
            .or_else(|| STICKY.iter().find_map(sticky))
            .or_else(|| ENDPOINTS.iter().find_map(endpoints))
    }
}

impl Dispatch {
    /// `services-3`, or `services-3-sticky`.
    pub(crate) fn name(&self) -> String {
        let key = (self.kind, self.node_port);
        let known = CHAINS.iter().find(|(k, n, _)| (*k, *n) == key);
        let prefix = known.map_or("", |(_, _, prefix)| prefix);
        let suffix = if self.sticky { STICKY_CHAIN } else { "" };
        format!("{prefix}{}{suffix}", self.count)
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        CHAINS.iter().find_map(|(kind, node_port, prefix)| {
            let rest = name.strip_prefix(prefix)?;
            let count = rest.strip_suffix(STICKY_CHAIN);
            Some(Self {
                kind: *kind,
                node_port: *node_port,
                count: number(count.unwrap_or(rest))?,
                sticky: count.is_some(),
            })
        })
    }
}

/// As it is written here: `+3` and `03` are no names of ours.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let plain = digits && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_what_they_were_made_from() {
        for (kind, node_port, _) in CHAINS {
            for sticky in [false, true] {
                let chain = Dispatch {
                    kind: *kind,
                    node_port: *node_port,
                    count: 12,
                    sticky,
                };
                assert_eq!(Dispatch::parse(&chain.name()), Some(chain));
                assert_eq!(Dispatch::numbered(chain.number()), Some(chain));
                assert_eq!(
                    SetId::parse(&chain.endpoints().name()),
                    Some(chain.endpoints())
                );
            }
        }
        for (set, name) in FIXED {
            assert_eq!(SetId::parse(name), Some(*set));
        }
        for set in [false, true].map(|node_port| SetId::Sticky {
            node_port,
            seconds: 60,
        }) {
            assert_eq!(SetId::parse(&set.name()), Some(set));
        }
        for other in [
            "services",
            "services-",
            "services-x",
            "services-+1",
            "services-01",
            "services--sticky",
        ] {
            assert_eq!(Dispatch::parse(other), None, "{other}");
        }
    }
}
