//! What a configuration may not say. Source: `pkg/proxy/apis/config/validation/validation.go`.

use component::config::{Duration, Problems};

use super::{KubeProxyConfiguration, split_host_port};
use crate::service::{parse_ip, parse_net};

const MODES: &[&str] = &["", "iptables", "ipvs", "nftables"];
const LOCAL_MODES: &[&str] = &[
    "",
    "ClusterCIDR",
    "NodeCIDR",
    "BridgeInterface",
    "InterfaceNamePrefix",
];
const KEYWORDS: &[&str] = &["primary", "localhost", "all"];

impl KubeProxyConfiguration {
    pub(super) fn validate(&self, problems: &mut Problems) {
        if let Err(err) = self.features() {
            problems.add("featureGates", err);
        }
        self.logging.validate("logging", problems);
        self.client_connection
            .validate("clientConnection", problems);
        let bit = |bit: Option<i32>| bit.is_none_or(|bit| (0..=31).contains(&bit));
        let range = "must be within the range [0, 31]";
        problems.check(
            bit(self.iptables.masquerade_bit),
            "iptables.masqueradeBit",
            range,
        );
        problems.check(
            bit(self.nftables.masquerade_bit),
            "nftables.masqueradeBit",
            range,
        );
        let modes = "must be iptables, ipvs, nftables or blank";
        problems.check(MODES.contains(&self.mode.as_str()), "mode", modes);
        problems.check(
            self.config_sync_period > Duration::default(),
            "configSyncPeriod",
            "must be greater than 0",
        );
        problems.check(
            !self.sync_period().is_zero(),
            "syncPeriod",
            "must be greater than 0",
        );
        let ordered = self.min_sync_period() <= self.sync_period();
        problems.check(
            ordered,
            "syncPeriod",
            "must be greater than or equal to minSyncPeriod",
        );
        let score = self
            .oom_score_adj
            .is_none_or(|s| (-1000..=1000).contains(&s));
        problems.check(
            score,
            "oomScoreAdj",
            "must be within the range [-1000, 1000]",
        );
        for (value, path) in [
            (self.conntrack.max_per_core, "conntrack.maxPerCore"),
            (self.conntrack.min, "conntrack.min"),
        ] {
            problems.check(
                value.is_none_or(|v| v >= 0),
                path,
                "must be greater than or equal to 0",
            );
        }
        for cidr in &self.ipvs.exclude_cidrs {
            problems.check(
                parse_net(cidr).is_some(),
                "ipvs.excludeCIDRs",
                "must be a valid CIDR",
            );
        }
        let routes = "needs clusterCIDR: routes lead nowhere else";
        let ranges = !self.cluster_cidrs().is_empty();
        problems.check(!self.pod_routes || ranges, "podRoutes", routes);
        self.validate_addresses(problems);
        self.validate_local(problems);
    }

    fn validate_addresses(&self, problems: &mut Problems) {
        let ip = parse_ip(&self.bind_address).is_some();
        problems.check(
            ip,
            "bindAddress",
            "not a valid textual representation of an IP address",
        );
        for (address, path) in [
            (&self.healthz_bind_address, "healthzBindAddress"),
            (&self.metrics_bind_address, "metricsBindAddress"),
        ] {
            match split_host_port(address) {
                // A deprecated flag turned it off.
                _ if address.is_empty() => {}
                None => problems.add(path, "must be IP:port"),
                Some((host, port)) => {
                    problems.check(parse_ip(host).is_some(), path, "must be a valid IP");
                    let valid = port.parse::<u16>().is_ok_and(|port| port > 0);
                    problems.check(valid, path, "must be a valid port");
                }
            }
        }
        let mut seen = Vec::new();
        for (index, address) in self.node_port_addresses.iter().enumerate() {
            let path = format!("nodePortAddresses[{index}]");
            if KEYWORDS.contains(&address.as_str()) {
                problems.check(!seen.contains(&address), &path, "is there twice");
                seen.push(address);
                continue;
            }
            let problem =
                "must be a valid CIDR or one of the keywords 'primary', 'localhost', 'all'";
            problems.check(parse_net(address).is_some(), &path, problem);
        }
    }

    fn validate_local(&self, problems: &mut Problems) {
        let mode = self.detect_local_mode.as_str();
        let known = LOCAL_MODES.contains(&mode);
        problems.check(
            known,
            "detectLocalMode",
            format!("must be one of {}", LOCAL_MODES.join(", ")),
        );
        let empty = "must not be empty";
        match mode {
            "BridgeInterface" => {
                let name = &self.detect_local.bridge_interface;
                problems.check(!name.is_empty(), "detectLocal.bridgeInterface", empty);
                problems.check(
                    name.len() < libc::IFNAMSIZ,
                    "detectLocal.bridgeInterface",
                    "is too long",
                );
            }
            "InterfaceNamePrefix" => {
                let prefix = &self.detect_local.interface_name_prefix;
                problems.check(!prefix.is_empty(), "detectLocal.interfaceNamePrefix", empty);
                problems.check(
                    prefix.len() < libc::IFNAMSIZ,
                    "detectLocal.interfaceNamePrefix",
                    "is too long",
                );
            }
            "ClusterCIDR" => self.validate_cluster_cidrs(problems),
            _ => {}
        }
    }

    fn validate_cluster_cidrs(&self, problems: &mut Problems) {
        let nets: Vec<_> = self.cluster_cidrs().into_iter().map(parse_net).collect();
        for net in &nets {
            problems.check(
                net.is_some(),
                "clusterCIDR",
                "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)",
            );
        }
        let families: Vec<_> = nets
            .iter()
            .flatten()
            .map(|net| net.addr().is_ipv4())
            .collect();
        let fits = match families.as_slice() {
            [one, other] => one != other,
            more => more.len() < 2,
        };
        problems.check(
            fits,
            "clusterCIDR",
            "must be either a single CIDR or dual-stack pair of CIDRs",
        );
    }
}
