//! A pod's `resolv.conf`: upstream's `pkg/kubelet/network/dns`. Pure.

use std::fmt;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{PodDNSConfig, PodSpec};

/// Name servers that a resolver looks at.
const MAX_NAMESERVERS: usize = 3;
/// Search domains, and characters of the line with them.
const MAX_SEARCH_PATHS: usize = 32;
const MAX_SEARCH_LIST_CHARS: usize = 2048;
/// Characters of one domain; longer ones made glibc 2.28 abort.
const MAX_DOMAIN: usize = 253;

/// The contents of a `resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsConfig {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// What the node knows about names.
#[derive(Clone, Debug, Default)]
pub struct NodeDns {
    /// `clusterDNS` of the configuration.
    pub cluster_dns: Vec<IpAddr>,
    /// `clusterDomain`; empty for none.
    pub cluster_domain: String,
    /// The node's own file (`resolvConf`); none if the operator gave the empty name.
    pub host: Option<DnsConfig>,
    pub node_ips: Vec<IpAddr>,
}

/// Something to tell the pod's owner, as an event of type Warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub reason: &'static str,
    pub message: String,
}

impl DnsConfig {
    /// Reads a node's file as upstream does: servers add up, of searches the last line counts, of
    /// equal options the last.
    pub fn parse(text: &str) -> Self {
        let mut config = Self::default();
        for line in text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with('#'))
        {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
                Some("search") => {
                    let domains = words.filter(|domain| *domain != ".");
                    let domains = domains.map(|d| d.strip_suffix('.').unwrap_or(d).to_owned());
                    config.searches = domains.collect();
                }
                Some("options") => words.for_each(|option| config.set_option(option)),
                _ => {}
            }
        }
        config
    }

    /// Adds an option, in the place of one of the same name.
    fn set_option(&mut self, option: &str) {
        let name = |o: &str| o.split(':').next().unwrap_or(o).to_owned();
        match self
            .options
            .iter_mut()
            .find(|known| name(known) == name(option))
        {
            Some(known) => *known = option.to_owned(),
            None => self.options.push(option.to_owned()),
        }
    }

    fn append(&mut self, more: &PodDNSConfig) {
        self.servers
            .extend(more.nameservers.iter().flatten().cloned());
        self.searches
            .extend(more.searches.iter().flatten().cloned());
        for option in more.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            match option.value.as_deref() {
                None | Some("") => self.set_option(name),
                Some(value) => self.set_option(&format!("{name}:{value}")),
            }
        }
        self.servers = unique(std::mem::take(&mut self.servers));
        self.searches = unique(std::mem::take(&mut self.searches));
    }

    fn fit(mut self, warnings: &mut Vec<Warning>) -> Self {
        if self.servers.len() > MAX_NAMESERVERS {
            self.servers.truncate(MAX_NAMESERVERS);
            let line = self.servers.join(" ");
            warnings.push(forming(format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied \
                 nameserver line is: {line}"
            )));
        }
        let before = self.searches.len();
        self.searches.truncate(MAX_SEARCH_PATHS);
        self.searches.retain(|domain| domain.len() <= MAX_DOMAIN);
        while self.searches.join(" ").len() > MAX_SEARCH_LIST_CHARS {
            self.searches.pop();
        }
        if self.searches.len() < before {
            let line = self.searches.join(" ");
            warnings.push(forming(format!(
                "Search Line limits were exceeded, some search paths have been omitted, the \
                 applied search line is: {line}"
            )));
        }
        self
    }
}

/// The file's text.
impl fmt::Display for DnsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.searches.is_empty() {
            writeln!(f, "search {}", self.searches.join(" "))?;
        }
        for server in &self.servers {
            writeln!(f, "nameserver {server}")?;
        }
        if !self.options.is_empty() {
            writeln!(f, "options {}", self.options.join(" "))?;
        }
        Ok(())
    }
}

/// What a pod of this namespace and specification gets.
pub fn pod_dns(node: &NodeDns, namespace: &str, spec: &PodSpec) -> (DnsConfig, Vec<Warning>) {
    let mut warnings = Vec::new();
    let host_network = spec.host_network.unwrap_or_default();
    let mut config = match spec.dns_policy.as_deref() {
        Some("None") => DnsConfig::default(),
        Some("Default") => of_host(node),
        Some("ClusterFirst") if host_network => of_host(node),
        // Any other value cannot pass the API server's validation.
        _ if node.cluster_dns.is_empty() => {
            warnings.push(Warning {
                reason: "MissingClusterDNS",
                message:
                    "kubelet does not have ClusterDNS IP configured and cannot create Pod using \
                          \"ClusterFirst\" policy. Falling back to \"Default\" policy."
                        .into(),
            });
            of_host(node)
        }
        _ => of_cluster(node, namespace),
    };
    if let Some(more) = &spec.dns_config {
        config.append(more);
    }
    (config.fit(&mut warnings), warnings)
}

fn of_host(node: &NodeDns) -> DnsConfig {
    if let Some(host) = &node.host {
        return host.clone();
    }
    // With no file a resolver asks the machine itself: say so, or the image's own file would count.
    let loopback = |ip: &IpAddr| if ip.is_ipv6() { "::1" } else { "127.0.0.1" };
    let mut servers: Vec<_> = node
        .node_ips
        .iter()
        .map(loopback)
        .map(str::to_owned)
        .collect();
    if servers.is_empty() {
        servers.push("127.0.0.1".into());
    }
    DnsConfig {
        servers,
        searches: vec![".".into()],
        options: Vec::new(),
    }
}

fn of_cluster(node: &NodeDns, namespace: &str) -> DnsConfig {
    let domain = &node.cluster_domain;
    let mut searches = match domain.as_str() {
        "" => Vec::new(),
        _ => vec![
            format!("{namespace}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.clone(),
        ],
    };
    searches.extend(
        node.host
            .iter()
            .flat_map(|host| host.searches.iter().cloned()),
    );
    DnsConfig {
        servers: node.cluster_dns.iter().map(ToString::to_string).collect(),
        searches: unique(searches),
        options: vec!["ndots:5".into()],
    }
}

fn unique(mut list: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    list.retain(|item| seen.insert(item.clone()));
    list
}

fn forming(message: String) -> Warning {
    Warning {
        reason: "DNSConfigForming",
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodDNSConfigOption;

    fn node() -> NodeDns {
        NodeDns {
            cluster_dns: vec!["10.96.0.10".parse().unwrap()],
            cluster_domain: "cluster.local".into(),
            host: Some(DnsConfig::parse(
                "# made by hand\nnameserver 192.0.2.1\nsearch old\nsearch example.com. . lab\n\
                 options timeout:1 rotate timeout:2\nnameserver\n",
            )),
            node_ips: Vec::new(),
        }
    }

    fn spec(policy: &str) -> PodSpec {
        PodSpec {
            dns_policy: Some(policy.into()),
            ..PodSpec::default()
        }
    }

    #[test]
    fn cluster_first_asks_the_cluster_and_searches_the_namespace() {
        let (config, warnings) = pod_dns(&node(), "ns1", &spec("ClusterFirst"));
        assert_eq!(
            config.to_string(),
            "search ns1.svc.cluster.local svc.cluster.local cluster.local example.com lab\n\
             nameserver 10.96.0.10\noptions ndots:5\n"
        );
        assert!(warnings.is_empty());
    }

    #[test]
    fn pods_in_the_nodes_network_use_its_file_unless_they_ask_for_the_cluster() {
        let host = "search example.com lab\nnameserver 192.0.2.1\noptions timeout:2 rotate\n";
        let mut spec = spec("ClusterFirst");
        spec.host_network = Some(true);
        assert_eq!(pod_dns(&node(), "n", &spec).0.to_string(), host);
        spec.dns_policy = Some("Default".into());
        assert_eq!(pod_dns(&node(), "n", &spec).0.to_string(), host);
        spec.dns_policy = Some("ClusterFirstWithHostNet".into());
        assert_eq!(pod_dns(&node(), "n", &spec).0.servers, ["10.96.0.10"]);
    }

    #[test]
    fn without_a_cluster_server_the_policy_falls_back_and_says_so() {
        let node = NodeDns {
            cluster_dns: Vec::new(),
            host: None,
            ..node()
        };
        let (config, warnings) = pod_dns(&node, "n", &spec("ClusterFirst"));
        assert_eq!(config.to_string(), "search .\nnameserver 127.0.0.1\n");
        assert_eq!(warnings[0].reason, "MissingClusterDNS");
    }

    #[test]
    fn the_pods_own_configuration_is_merged_and_overrides_options() {
        let mut spec = spec("ClusterFirst");
        let option = |name: &str, value: Option<&str>| PodDNSConfigOption {
            name: Some(name.into()),
            value: value.map(Into::into),
        };
        spec.dns_config = Some(PodDNSConfig {
            nameservers: Some(vec!["10.96.0.10".into(), "1.1.1.1".into()]),
            searches: Some(vec!["my.search".into(), "cluster.local".into()]),
            options: Some(vec![option("ndots", Some("2")), option("edns0", None)]),
        });
        let (config, _) = pod_dns(&node(), "n", &spec);
        assert_eq!(config.servers, ["10.96.0.10", "1.1.1.1"]);
        assert_eq!(config.searches.last().unwrap(), "my.search");
        assert_eq!(config.options, ["ndots:2", "edns0"]);
        spec.dns_policy = Some("None".into());
        let (config, _) = pod_dns(&node(), "n", &spec);
        assert_eq!(config.searches, ["my.search", "cluster.local"]);
    }

    #[test]
    fn limits_cut_from_the_end_and_are_told() {
        let many = |n: usize, text: &str| (0..n).map(|i| format!("{text}{i}")).collect();
        let mut spec = spec("None");
        spec.dns_config = Some(PodDNSConfig {
            nameservers: Some(many(4, "192.0.2.")),
            searches: Some(many(33, "d")),
            options: None,
        });
        let (config, warnings) = pod_dns(&node(), "n", &spec);
        assert_eq!((config.servers.len(), config.searches.len()), (3, 32));
        assert_eq!(warnings.len(), 2);
        let long = "x".repeat(250);
        spec.dns_config = Some(PodDNSConfig {
            searches: Some(
                many(10, &long)
                    .into_iter()
                    .chain(["y".repeat(254)])
                    .collect(),
            ),
            ..PodDNSConfig::default()
        });
        let (config, warnings) = pod_dns(&node(), "n", &spec);
        assert_eq!(config.searches.len(), 8);
        assert!(
            warnings[0]
                .message
                .starts_with("Search Line limits were exceeded")
        );
    }
}
