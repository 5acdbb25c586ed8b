//! Upstream's flags. Source: `cmd/kube-proxy/app/options.go`.

use std::time::Duration;

use component::args::{self, Flag, Group};

macro_rules! flags {
    ($($(#[$doc:meta])* $constant:ident: $type:ty = $name:literal, $default:literal, $help:literal $(, $fate:ident($why:expr))?;)*) => {
        $($(#[$doc])* #[doc = concat!("`--", $name, "`: ", $help)]
        pub const $constant: Flag<$type> = Flag::new($name, $default, $help)$(.$fate($why))?;)*
    };
}

const IPVS: &str = "there is one backend, on nftables, whatever the mode";
const IPTABLES: &str = "there is one backend, on nftables, whatever the mode";

flags! {
    CLEANUP: bool = "cleanup", "false", "Take away the rules of all modes and exit.";
    INIT_ONLY: bool = "init-only", "false", "Do what needs all of root's rights and exit; afterwards CAP_NET_ADMIN is enough.";
    HOSTNAME_OVERRIDE: String = "hostname-override", "", "The name of the Node, instead of the machine's.";
    BIND_ADDRESS: String = "bind-address", "0.0.0.0", "The node's primary address, instead of the one that its Node names; nothing is bound to it.";
    HEALTHZ_BIND_ADDRESS: String = "healthz-bind-address", "0.0.0.0:10256", "Where health is served.";
    METRICS_BIND_ADDRESS: String = "metrics-bind-address", "127.0.0.1:10249", "Where metrics are served.";
    HEALTHZ_PORT: u16 = "healthz-port", "10256", "The port at which health is served; 0 serves none.", deprecated("use --healthz-bind-address");
    METRICS_PORT: u16 = "metrics-port", "10249", "The port at which metrics are served; 0 serves none.", deprecated("use --metrics-bind-address");
    BIND_ADDRESS_HARD_FAIL: bool = "bind-address-hard-fail", "false", "Exit if a port cannot be bound.";
    PROFILING: bool = "profiling", "false", "What can be seen of the running process, at /debug/pprof.";
    PROXY_MODE: String = "proxy-mode", "", "iptables, ipvs or nftables: all are nftables here.";
    MASQUERADE_ALL: bool = "masquerade-all", "false", "Hide the source of all traffic to cluster IPs.";
    IPTABLES_MASQUERADE_BIT: i32 = "iptables-masquerade-bit", "14", "The bit of the packet mark that asks to hide the source, in modes iptables and ipvs.";
    IPTABLES_LOCALHOST_NODEPORTS: bool = "iptables-localhost-nodeports", "true", "Node ports at 127.0.0.1.", ignored("node ports are not served at loopback addresses");
    IPTABLES_SYNC_PERIOD: Duration = "iptables-sync-period", "30s", "How long after a failed sync to try again.";
    IPTABLES_MIN_SYNC_PERIOD: Duration = "iptables-min-sync-period", "1s", "The least time between two syncs.";
    IPVS_SYNC_PERIOD: Duration = "ipvs-sync-period", "30s", "How long after a failed sync to try again.";
    IPVS_MIN_SYNC_PERIOD: Duration = "ipvs-min-sync-period", "1s", "The least time between two syncs.";
    IPVS_SCHEDULER: String = "ipvs-scheduler", "", "The scheduler of mode ipvs.", ignored(IPVS);
    IPVS_EXCLUDE_CIDRS: Vec<String> = "ipvs-exclude-cidrs", "", "Ranges that mode ipvs leaves alone.", ignored(IPVS);
    IPVS_STRICT_ARP: bool = "ipvs-strict-arp", "false", "Strict ARP for mode ipvs.", ignored(IPVS);
    IPVS_TCP_TIMEOUT: Duration = "ipvs-tcp-timeout", "0s", "A timeout of mode ipvs.", ignored(IPVS);
    IPVS_TCPFIN_TIMEOUT: Duration = "ipvs-tcpfin-timeout", "0s", "A timeout of mode ipvs.", ignored(IPVS);
    IPVS_UDP_TIMEOUT: Duration = "ipvs-udp-timeout", "0s", "A timeout of mode ipvs.", ignored(IPTABLES);
    DETECT_LOCAL_MODE: String = "detect-local-mode", "", "How traffic of the node's pods is told: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix.";
    POD_BRIDGE_INTERFACE: String = "pod-bridge-interface", "", "The bridge that the node's pods are behind, in mode BridgeInterface.";
    POD_INTERFACE_NAME_PREFIX: String = "pod-interface-name-prefix", "", "How names of interfaces to the node's pods begin, in mode InterfaceNamePrefix.";
    CLUSTER_CIDR: String = "cluster-cidr", "", "Where pods have their addresses, in mode ClusterCIDR; for two families two ranges, separated by a comma.";
    NODEPORT_ADDRESSES: Vec<String> = "nodeport-addresses", "", "Where node ports work: ranges, or primary, localhost, all.";
    OOM_SCORE_ADJ: i32 = "oom-score-adj", "-999", "The process's oom-score-adj.";
    CONNTRACK_MAX_PER_CORE: i32 = "conntrack-max-per-core", "32768", "Connections that are tracked, per core; 0 leaves the limit as it is.";
    CONNTRACK_MIN: i32 = "conntrack-min", "131072", "The least limit of connections.";
    CONNTRACK_TCP_TIMEOUT_ESTABLISHED: Duration = "conntrack-tcp-timeout-established", "24h", "How long an idle TCP connection is tracked; 0 leaves it as it is.";
    CONNTRACK_TCP_TIMEOUT_CLOSE_WAIT: Duration = "conntrack-tcp-timeout-close-wait", "1h", "How long a TCP connection in CLOSE_WAIT is tracked.";
    CONNTRACK_TCP_BE_LIBERAL: bool = "conntrack-tcp-be-liberal", "false", "Accept TCP packets outside of the window.";
    CONNTRACK_UDP_TIMEOUT: Duration = "conntrack-udp-timeout", "0s", "How long an unanswered UDP flow is tracked; 0 leaves it as it is.";
    CONNTRACK_UDP_TIMEOUT_STREAM: Duration = "conntrack-udp-timeout-stream", "0s", "How long an answered UDP flow is tracked; 0 leaves it as it is.";
    CONFIG_SYNC_PERIOD: Duration = "config-sync-period", "15m", "How often the API server's objects are listed again.", ignored("watches are resumed, and lists made again only when that cannot be done");
    POD_ROUTES: bool = "pod-routes", "false", "Keep routes to the pods of other nodes, by their Nodes' podCIDRs and InternalIPs, within --cluster-cidr. Not upstream's: for clusters whose network does not do it.";
    BOOT_ID_FILE: String = "boot-id-file", "", "Where the boot ID is.", ignored("it is not used");
    MACHINE_ID_FILE: String = "machine-id-file", "", "Where the machine ID is.", ignored("it is not used");
}

/// All flags.
#[must_use]
pub fn groups() -> Vec<Group> {
    vec![
        Group::new(
            "Misc",
            &[
                &args::CONFIG,
                &args::WRITE_CONFIG_TO,
                &CLEANUP,
                &INIT_ONLY,
                &HOSTNAME_OVERRIDE,
                &BIND_ADDRESS,
                &HEALTHZ_BIND_ADDRESS,
                &METRICS_BIND_ADDRESS,
                &HEALTHZ_PORT,
                &METRICS_PORT,
                &BIND_ADDRESS_HARD_FAIL,
                &PROFILING,
                &args::SHOW_HIDDEN_METRICS,
                &OOM_SCORE_ADJ,
                &CONFIG_SYNC_PERIOD,
                &BOOT_ID_FILE,
                &MACHINE_ID_FILE,
            ],
        ),
        Group::new(
            "Rules",
            &[
                &PROXY_MODE,
                &MASQUERADE_ALL,
                &IPTABLES_MASQUERADE_BIT,
                &IPTABLES_LOCALHOST_NODEPORTS,
                &IPTABLES_SYNC_PERIOD,
                &IPTABLES_MIN_SYNC_PERIOD,
                &IPVS_SYNC_PERIOD,
                &IPVS_MIN_SYNC_PERIOD,
                &IPVS_SCHEDULER,
                &IPVS_EXCLUDE_CIDRS,
                &IPVS_STRICT_ARP,
                &IPVS_TCP_TIMEOUT,
                &IPVS_TCPFIN_TIMEOUT,
                &IPVS_UDP_TIMEOUT,
                &DETECT_LOCAL_MODE,
                &POD_BRIDGE_INTERFACE,
                &POD_INTERFACE_NAME_PREFIX,
                &CLUSTER_CIDR,
                &NODEPORT_ADDRESSES,
                &POD_ROUTES,
            ],
        ),
        Group::new(
            "Connection tracking",
            &[
                &CONNTRACK_MAX_PER_CORE,
                &CONNTRACK_MIN,
                &CONNTRACK_TCP_TIMEOUT_ESTABLISHED,
                &CONNTRACK_TCP_TIMEOUT_CLOSE_WAIT,
                &CONNTRACK_TCP_BE_LIBERAL,
                &CONNTRACK_UDP_TIMEOUT,
                &CONNTRACK_UDP_TIMEOUT_STREAM,
            ],
        ),
        args::client_connection()
            .with_default(&args::KUBE_API_QPS, "5")
            .with_default(&args::KUBE_API_BURST, "10"),
        args::logs(),
        args::global(),
    ]
}
