//! `KubeProxyConfiguration` of `kubeproxy.config.k8s.io/v1alpha1`, and the flags beside it.
//!
//! With `--config` the file says everything but the node's name and the logging; without it the flags do.
//! Source: `k8s.io/kube-proxy/config/v1alpha1`, `pkg/proxy/apis/config/{v1alpha1,validation}`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use component::args::{self as shared, Args};
use component::config::{ClientConnection, Duration, Logging, Problems, Versioned};
use component::features::Features;
use serde::{Deserialize, Serialize};

use crate::args;
use crate::service::parse_ip;

mod validate;

const HEALTHZ_PORT: u16 = 10_256;
const METRICS_PORT: u16 = 10_249;

/// The file. Absent fields have upstream's defaults.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeProxyConfiguration {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub feature_gates: BTreeMap<String, bool>,
    pub client_connection: ClientConnection,
    pub logging: Logging,
    pub hostname_override: String,
    pub bind_address: String,
    pub healthz_bind_address: String,
    pub metrics_bind_address: String,
    pub bind_address_hard_fail: bool,
    /// Serves `/debug/pprof` and `/debug/flags/v`.
    pub enable_profiling: bool,
    /// Without effect: no metric is hidden.
    pub show_hidden_metrics_for_version: String,
    pub mode: String,
    pub iptables: IpTables,
    pub ipvs: Ipvs,
    pub nftables: NfTables,
    pub winkernel: Winkernel,
    pub detect_local_mode: String,
    pub detect_local: DetectLocal,
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    #[serde(deserialize_with = "null_is_default")]
    pub node_port_addresses: Vec<String>,
    pub oom_score_adj: Option<i32>,
    pub conntrack: Conntrack,
    /// Without effect: watches are resumed.
    pub config_sync_period: Duration,
    /// Without effect, as upstream.
    pub port_range: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub windows_run_as_service: bool,
    /// Keep routes to the pods of other nodes. Not upstream's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pod_routes: bool,
}

/// `iptables`: of it, what has a meaning for every backend.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IpTables {
    pub masquerade_bit: Option<i32>,
    pub masquerade_all: bool,
    pub localhost_node_ports: Option<bool>,
    pub sync_period: Duration,
    pub min_sync_period: Duration,
}

/// `ipvs`
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ipvs {
    pub sync_period: Duration,
    pub min_sync_period: Duration,
    pub scheduler: String,
    #[serde(rename = "excludeCIDRs", deserialize_with = "null_is_default")]
    pub exclude_cidrs: Vec<String>,
    #[serde(rename = "strictARP")]
    pub strict_arp: bool,
    pub tcp_timeout: Duration,
    pub tcp_fin_timeout: Duration,
    pub udp_timeout: Duration,
}

/// `nftables`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NfTables {
    pub masquerade_bit: Option<i32>,
    pub masquerade_all: bool,
    pub sync_period: Duration,
    pub min_sync_period: Duration,
}

/// `winkernel`: for Windows.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Winkernel {
    pub network_name: String,
    pub source_vip: String,
    #[serde(rename = "enableDSR")]
    pub enable_dsr: bool,
    pub root_hns_endpoint_name: String,
    pub forward_health_check_vip: bool,
}

/// `detectLocal`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DetectLocal {
    pub bridge_interface: String,
    pub interface_name_prefix: String,
}

/// `conntrack`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Conntrack {
    pub max_per_core: Option<i32>,
    pub min: Option<i32>,
    pub tcp_established_timeout: Option<Duration>,
    pub tcp_close_wait_timeout: Option<Duration>,
    pub tcp_be_liberal: bool,
    pub udp_timeout: Duration,
    pub udp_stream_timeout: Duration,
}

const SYNC_PERIOD: Duration = Duration::from_secs(30);
const MIN_SYNC_PERIOD: Duration = Duration::from_secs(1);

impl Default for IpTables {
    fn default() -> Self {
        Self {
            masquerade_bit: Some(14),
            masquerade_all: false,
            localhost_node_ports: Some(true),
            sync_period: SYNC_PERIOD,
            min_sync_period: MIN_SYNC_PERIOD,
        }
    }
}

impl Default for NfTables {
    fn default() -> Self {
        Self {
            masquerade_bit: Some(14),
            masquerade_all: false,
            sync_period: SYNC_PERIOD,
            min_sync_period: MIN_SYNC_PERIOD,
        }
    }
}

impl Default for Conntrack {
    fn default() -> Self {
        Self {
            max_per_core: Some(32 * 1024),
            min: Some(128 * 1024),
            tcp_established_timeout: Some(Duration::from_secs(24 * 3600)),
            tcp_close_wait_timeout: Some(Duration::from_secs(3600)),
            tcp_be_liberal: false,
            udp_timeout: Duration::default(),
            udp_stream_timeout: Duration::default(),
        }
    }
}

/// Nothing said: [`KubeProxyConfiguration::load`] fills in the rest.
impl Default for KubeProxyConfiguration {
    fn default() -> Self {
        Self::unset()
    }
}

impl Versioned for KubeProxyConfiguration {
    const API_VERSIONS: &'static [&'static str] = &["kubeproxy.config.k8s.io/v1alpha1"];
    const KIND: &'static str = "KubeProxyConfiguration";
}

/// Go writes empty lists as null.
fn null_is_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl KubeProxyConfiguration {
    fn unset() -> Self {
        Self {
            feature_gates: BTreeMap::new(),
            client_connection: ClientConnection {
                qps: 0.0,
                burst: 0,
                ..ClientConnection::default()
            },
            logging: Logging::default(),
            hostname_override: String::new(),
            bind_address: String::new(),
            healthz_bind_address: String::new(),
            metrics_bind_address: String::new(),
            bind_address_hard_fail: false,
            enable_profiling: false,
            show_hidden_metrics_for_version: String::new(),
            mode: String::new(),
            iptables: IpTables::default(),
            ipvs: Ipvs::default(),
            nftables: NfTables::default(),
            winkernel: Winkernel::default(),
            detect_local_mode: String::new(),
            detect_local: DetectLocal::default(),
            cluster_cidr: String::new(),
            node_port_addresses: Vec::new(),
            oom_score_adj: None,
            conntrack: Conntrack::default(),
            config_sync_period: Duration::default(),
            port_range: String::new(),
            windows_run_as_service: false,
            pod_routes: false,
        }
    }

    /// The configuration that flags and the file say, complete.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn load(args: &Args) -> anyhow::Result<Self> {
        let mut config = match args.get(&shared::CONFIG) {
            Some(path) => component::config::load(&path)?,
            None => Self::from_flags(args),
        };
        config.logging.flags(args);
        config.complete();
        let mut problems = Problems::new();
        if args.get(&shared::CONFIG).is_none() && args.get(&shared::WRITE_CONFIG_TO).is_none() {
            config.deprecated_ports(args);
        }
        if let Some(name) = args
            .given(&args::HOSTNAME_OVERRIDE)
            .filter(|n| !n.is_empty())
        {
            let name = name.trim().to_lowercase();
            problems.check(
                !name.is_empty(),
                "hostnameOverride",
                "empty hostname-override is invalid",
            );
            config.hostname_override = name;
        }
        config.validate(&mut problems);
        Ok(problems.or(config)?)
    }

    fn from_flags(args: &Args) -> Self {
        let mut config = Self::unset();
        let gates = args.get(&shared::FEATURE_GATES).0;
        config.feature_gates = gates.into_iter().collect();
        config.client_connection.flags(args);
        config.bind_address = args.get(&args::BIND_ADDRESS);
        config.enable_profiling = args.get(&args::PROFILING);
        config.bind_address_hard_fail = args.get(&args::BIND_ADDRESS_HARD_FAIL);
        config.show_hidden_metrics_for_version = args.get(&shared::SHOW_HIDDEN_METRICS);
        config.mode = args.get(&args::PROXY_MODE);
        // Upstream's flag defaults are those of the unspecified bind address.
        config.healthz_bind_address = args.get(&args::HEALTHZ_BIND_ADDRESS);
        config.metrics_bind_address = args.get(&args::METRICS_BIND_ADDRESS);
        config.iptables.masquerade_bit = Some(args.get(&args::IPTABLES_MASQUERADE_BIT));
        config.iptables.masquerade_all = args.get(&args::MASQUERADE_ALL);
        config.nftables.masquerade_all = args.get(&args::MASQUERADE_ALL);
        config.iptables.sync_period = args.get(&args::IPTABLES_SYNC_PERIOD).into();
        config.iptables.min_sync_period = args.get(&args::IPTABLES_MIN_SYNC_PERIOD).into();
        config.nftables.sync_period = config.iptables.sync_period;
        config.nftables.min_sync_period = config.iptables.min_sync_period;
        config.ipvs.sync_period = args.get(&args::IPVS_SYNC_PERIOD).into();
        config.ipvs.min_sync_period = args.get(&args::IPVS_MIN_SYNC_PERIOD).into();
        config.ipvs.exclude_cidrs = args.get(&args::IPVS_EXCLUDE_CIDRS);
        config.detect_local_mode = args.get(&args::DETECT_LOCAL_MODE);
        config.detect_local.bridge_interface = args.get(&args::POD_BRIDGE_INTERFACE);
        config.detect_local.interface_name_prefix = args.get(&args::POD_INTERFACE_NAME_PREFIX);
        config.cluster_cidr = args.get(&args::CLUSTER_CIDR);
        config.node_port_addresses = args.get(&args::NODEPORT_ADDRESSES);
        config.oom_score_adj = Some(args.get(&args::OOM_SCORE_ADJ));
        config.pod_routes = args.get(&args::POD_ROUTES);
        config.conntrack = Conntrack {
            max_per_core: Some(args.get(&args::CONNTRACK_MAX_PER_CORE)),
            min: Some(args.get(&args::CONNTRACK_MIN)),
            tcp_established_timeout: Some(
                args.get(&args::CONNTRACK_TCP_TIMEOUT_ESTABLISHED).into(),
            ),
            tcp_close_wait_timeout: Some(args.get(&args::CONNTRACK_TCP_TIMEOUT_CLOSE_WAIT).into()),
            tcp_be_liberal: args.get(&args::CONNTRACK_TCP_BE_LIBERAL),
            udp_timeout: args.get(&args::CONNTRACK_UDP_TIMEOUT).into(),
            udp_stream_timeout: args.get(&args::CONNTRACK_UDP_TIMEOUT_STREAM).into(),
        };
        config
    }

    /// Ports of the deprecated flags: 0 serves none.
    fn deprecated_ports(&mut self, args: &Args) {
        for (address, port) in [
            (
                &mut self.healthz_bind_address,
                args.given(&args::HEALTHZ_PORT),
            ),
            (
                &mut self.metrics_bind_address,
                args.given(&args::METRICS_PORT),
            ),
        ] {
            match port {
                Some(0) => address.clear(),
                Some(port) if split_host_port(address).is_none() => {
                    *address = append_port(address, port);
                }
                _ => {}
            }
        }
    }

    /// Fills in what depends on other fields, and zeroes, which files use for "not set".
    fn complete(&mut self) {
        if self.bind_address.is_empty() {
            "0.0.0.0".clone_into(&mut self.bind_address);
        }
        let v4 = parse_ip(&self.bind_address).is_some_and(|ip| ip.is_ipv4());
        let (any, loopback) = if v4 {
            ("0.0.0.0", "127.0.0.1")
        } else {
            ("[::]", "[::1]")
        };
        for (address, host, port) in [
            (&mut self.healthz_bind_address, any, HEALTHZ_PORT),
            (&mut self.metrics_bind_address, loopback, METRICS_PORT),
        ] {
            *address = if address.is_empty() {
                format!("{host}:{port}")
            } else {
                append_port(address, port)
            };
        }
        self.oom_score_adj.get_or_insert(-999);
        for (period, default) in [
            (&mut self.iptables.sync_period, SYNC_PERIOD),
            (&mut self.iptables.min_sync_period, MIN_SYNC_PERIOD),
            (&mut self.nftables.sync_period, SYNC_PERIOD),
            (&mut self.nftables.min_sync_period, MIN_SYNC_PERIOD),
            (&mut self.ipvs.sync_period, SYNC_PERIOD),
            (&mut self.config_sync_period, Duration::from_secs(15 * 60)),
        ] {
            if *period == Duration::default() {
                *period = default;
            }
        }
        self.iptables.masquerade_bit.get_or_insert(14);
        self.nftables.masquerade_bit.get_or_insert(14);
        self.iptables.localhost_node_ports.get_or_insert(true);
        let (conntrack, defaults) = (&mut self.conntrack, Conntrack::default());
        conntrack.max_per_core = conntrack.max_per_core.or(defaults.max_per_core);
        conntrack.min = conntrack.min.or(defaults.min);
        conntrack.tcp_established_timeout = conntrack
            .tcp_established_timeout
            .or(defaults.tcp_established_timeout);
        conntrack.tcp_close_wait_timeout = conntrack
            .tcp_close_wait_timeout
            .or(defaults.tcp_close_wait_timeout);
        let client = &mut self.client_connection;
        if client.content_type.is_empty() {
            client.content_type = ClientConnection::default().content_type;
        }
        if client.qps == 0.0 {
            client.qps = 5.0;
        }
        if client.burst == 0 {
            client.burst = 10;
        }
        if self.detect_local_mode.is_empty() {
            "ClusterCIDR".clone_into(&mut self.detect_local_mode);
        }
    }

    /// Whether the file asks for another backend than there is.
    pub(crate) fn is_other_mode(&self) -> bool {
        self.mode != "nftables"
    }

    /// The mode by upstream's default.
    pub(crate) fn effective_mode(&self) -> &str {
        if self.mode.is_empty() {
            "iptables"
        } else {
            &self.mode
        }
    }

    pub(crate) fn sync_period(&self) -> std::time::Duration {
        match self.mode.as_str() {
            "ipvs" => self.ipvs.sync_period.0,
            "nftables" => self.nftables.sync_period.0,
            _ => self.iptables.sync_period.0,
        }
    }

    pub(crate) fn min_sync_period(&self) -> std::time::Duration {
        match self.mode.as_str() {
            "ipvs" => self.ipvs.min_sync_period.0,
            "nftables" => self.nftables.min_sync_period.0,
            _ => self.iptables.min_sync_period.0,
        }
    }

    pub(crate) fn masquerade_all(&self) -> bool {
        match self.mode.as_str() {
            "nftables" => self.nftables.masquerade_all,
            _ => self.iptables.masquerade_all,
        }
    }

    pub(crate) fn masquerade_mark(&self) -> u32 {
        let bit = match self.mode.as_str() {
            "nftables" => self.nftables.masquerade_bit,
            _ => self.iptables.masquerade_bit,
        };
        let bit = bit.and_then(|bit| u32::try_from(bit).ok()).unwrap_or(14);
        1_u32.checked_shl(bit).unwrap_or(1 << 14)
    }

    /// Where node ports work: the mode's default without any.
    pub(crate) fn node_ports_at(&self) -> Vec<String> {
        if self.node_port_addresses.is_empty() && self.mode == "nftables" {
            return vec!["primary".to_owned()];
        }
        self.node_port_addresses.clone()
    }

    pub(crate) fn cluster_cidrs(&self) -> Vec<&str> {
        let all = self.cluster_cidr.split(',').map(str::trim);
        all.filter(|cidr| !cidr.is_empty()).collect()
    }

    /// Which features are on.
    ///
    /// # Errors
    /// If a gate does not exist, or is locked.
    pub fn features(&self) -> Result<Features, component::features::Error> {
        let gates = self
            .feature_gates
            .iter()
            .map(|(name, on)| (name.as_str(), *on));
        Features::defaults().with(gates)
    }
}

/// `host:port` or `[host]:port`.
pub(crate) fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(host) => Some((host, port)),
        None => (!host.contains(':')).then_some((host, port)),
    }
}

/// A lone address gets a port.
fn append_port(address: &str, port: u16) -> String {
    if split_host_port(address).is_some() {
        return address.to_owned();
    }
    match parse_ip(address) {
        Some(ip) => SocketAddr::new(ip, port).to_string(),
        None => address.to_owned(),
    }
}

/// The address of a valid `ip:port`.
pub(crate) fn socket_address(text: &str) -> Option<SocketAddr> {
    let (host, port) = split_host_port(text)?;
    let ip: IpAddr = parse_ip(host)?;
    Some(SocketAddr::new(ip, port.parse().ok()?))
}

#[cfg(test)]
mod tests;
