//! What of the node the specifications of pods are read against.

use std::net::IpAddr;
use std::path::Path;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use proto::quantity::Quantity;

use super::machine::Machine;
use crate::config::Config;
use crate::container_manager::Resources;
use crate::make::{MemoryReservation, NodeFacts, SwapBehavior, thermal_paths};
use crate::network::resolv::{DnsConfig, NodeDns};
use crate::runtime::cgroup::Hierarchies;

/// What is known before the node's object and addresses are.
#[must_use]
pub fn initial(
    name: &str,
    config: &Config,
    machine: &Machine,
    allocatable: &Resources,
    cgroups: &Hierarchies,
) -> NodeFacts {
    let kubelet = &config.kubelet;
    let unified = cgroups.is_unified();
    let size: Option<Quantity> = kubelet.container_log_max_size.parse().ok();
    let period = kubelet.cpu_cfs_quota_period.0.as_micros();
    NodeFacts {
        name: name.to_owned(),
        allocatable: allocatable
            .iter()
            .map(|(name, amount)| (name.clone(), Text(amount.to_string())))
            .collect(),
        memory_capacity: machine.memory,
        swap_capacity: machine.swap,
        hugepage_sizes: hugepage_sizes(machine, cgroups),
        masked_paths: thermal_paths(Path::new("/sys")),
        cgroups_v2: unified,
        swap_controller: swap_is_counted(cgroups),
        cgroup_root: match kubelet.cgroup_root.as_str() {
            "" => "/".to_owned(),
            root => root.to_owned(),
        },
        pods_pids_limit: kubelet.pod_pids_limit,
        cpu_cfs_quota: kubelet.cpu_cfs_quota,
        cpu_cfs_quota_period_us: u64::try_from(period).unwrap_or(100_000),
        swap_behavior: match kubelet.memory_swap.swap_behavior.as_str() {
            "LimitedSwap" => SwapBehavior::Limited,
            _ => SwapBehavior::No,
        },
        memory_throttling_factor: kubelet.memory_throttling_factor,
        memory_reservation: match kubelet.memory_reservation_policy.as_str() {
            "TieredReservation" => MemoryReservation::Tiered,
            _ => MemoryReservation::None,
        },
        single_process_oom_kill: kubelet.single_process_oom_kill.unwrap_or(!unified),
        seccomp_default: kubelet.seccomp_default,
        seccomp_root: config.node.root.join("seccomp"),
        dns: dns(config),
        log_dir: kubelet.pod_logs_dir.clone().into(),
        log_max_size: size.map_or(10 << 20, |s| u64::try_from(s.value()).unwrap_or(0)),
        log_max_files: u32::try_from(kubelet.container_log_max_files).unwrap_or(5),
        features: config.features.clone(),
        ..NodeFacts::default()
    }
}

/// The same with what the node's object and addresses say.
#[must_use]
pub fn with_node(facts: &NodeFacts, node: &Node, ips: &[IpAddr]) -> NodeFacts {
    let mut facts = facts.clone();
    facts.labels = node.metadata.labels.clone().unwrap_or_default();
    if !ips.is_empty() {
        facts.host_ips = ips.to_vec();
        facts.dns.node_ips = ips.to_vec();
    }
    facts
}

/// Sizes as the kernel's `hugetlb` files are named (`2MB`, `1GB`); none without that controller.
fn hugepage_sizes(machine: &Machine, cgroups: &Hierarchies) -> Vec<String> {
    if cgroups.dir("hugetlb", "/").is_none() {
        return Vec::new();
    }
    let name = |bytes: u64| match bytes {
        b if b >= 1 << 30 => format!("{}GB", b >> 30),
        b if b >= 1 << 20 => format!("{}MB", b >> 20),
        b => format!("{}KB", b >> 10),
    };
    machine.huge_pages.iter().map(|p| name(p.size)).collect()
}

fn swap_is_counted(cgroups: &Hierarchies) -> bool {
    let file = if cgroups.is_unified() {
        // The root cgroup has no such file; any below it does.
        "memory.swap.max"
    } else {
        "memory.memsw.limit_in_bytes"
    };
    let Some(root) = cgroups.dir("memory", "/") else {
        return false;
    };
    if root.join(file).exists() {
        return true;
    }
    let below = std::fs::read_dir(root).into_iter().flatten().flatten();
    below
        .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
        .any(|entry| entry.path().join(file).exists())
}

fn dns(config: &Config) -> NodeDns {
    let kubelet = &config.kubelet;
    let servers = kubelet.cluster_dns.iter().filter_map(|text| {
        let parsed = text.parse();
        if parsed.is_err() {
            tracing::warn!(address = text, "Invalid clusterDNS address");
        }
        parsed.ok()
    });
    let path = &kubelet.resolv_conf;
    let host = (!path.is_empty()).then(|| match std::fs::read_to_string(path) {
        Ok(text) => DnsConfig::parse(&text),
        Err(e) => {
            tracing::warn!(path, error = %e, "Cannot read the resolver configuration");
            DnsConfig::default()
        }
    });
    NodeDns {
        cluster_dns: servers.collect(),
        cluster_domain: kubelet.cluster_domain.clone(),
        host,
        node_ips: Vec::new(),
    }
}
