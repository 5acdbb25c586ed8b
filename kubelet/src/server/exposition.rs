//! `/metrics/cadvisor` and `/metrics/resource`: metrics of what comes and goes, made when they are asked
//! for, under upstream's names.

mod families;

use std::time::SystemTime;

use families::{Families, Kind};

use super::stats::summary::Summary;
use super::stats::{Seen, Stats, container_name, seconds};
use crate::runtime::stats::{CgroupStats, InterfaceStats};
use crate::runtime::{ContainerStatus, Resources};

/// Seconds of nanoseconds.
#[allow(
    clippy::cast_precision_loss,
    reason = "as upstream: metrics are doubles"
)]
fn from_nanos(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[allow(
    clippy::cast_precision_loss,
    reason = "as upstream: metrics are doubles"
)]
fn number(value: u64) -> f64 {
    value as f64
}

/// `/metrics/resource`, of a summary, or of the lack of one.
pub(super) fn resource(summary: Option<&Summary>) -> String {
    use Kind::{Counter, Gauge};
    let mut all = Families::default();
    if let Some(summary) = summary {
        let node = &summary.node;
        if let Some(cpu) = &node.cpu {
            let value = from_nanos(cpu.usage_core_nano_seconds);
            all.put(
                "node_cpu_usage_seconds_total",
                "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
                Counter,
                &[],
                value,
                Some(cpu.time.0),
            );
        }
        if let Some(memory) = &node.memory {
            let value = number(memory.working_set_bytes);
            all.put(
                "node_memory_working_set_bytes",
                "[STABLE] Current working set of the node in bytes",
                Gauge,
                &[],
                value,
                Some(memory.time.0),
            );
        }
        if let Some(swap) = &node.swap {
            let value = number(swap.swap_usage_bytes);
            all.put("node_swap_usage_bytes", "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems", Gauge, &[], value, Some(swap.time.0));
        }
        for pod in &summary.pods {
            resources_of_pod(&mut all, pod);
        }
    }
    let error = if summary.is_some() { 0.0 } else { 1.0 };
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    all.put(
        "scrape_error",
        &format!("[ALPHA] (Deprecated since 1.29.0) {help}"),
        Gauge,
        &[],
        error,
        None,
    );
    all.put(
        "resource_scrape_error",
        &format!("[STABLE] {help}"),
        Gauge,
        &[],
        error,
        None,
    );
    all.text()
}

fn resources_of_pod(all: &mut Families, pod: &super::stats::summary::PodStats) {
    use Kind::{Counter, Gauge};
    let of_pod = [
        ("namespace", pod.pod_ref.namespace.as_str()),
        ("pod", &pod.pod_ref.name),
    ];
    for container in &pod.containers {
        let of = [("container", container.name.as_str()), of_pod[0], of_pod[1]];
        let start = seconds(container.start_time.0);
        all.put(
            "container_start_time_seconds",
            "[STABLE] Start time of the container since unix epoch in seconds",
            Gauge,
            &of,
            start,
            None,
        );
        let cpu = &container.cpu;
        all.put(
            "container_cpu_usage_seconds_total",
            "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
            Counter,
            &of,
            from_nanos(cpu.usage_core_nano_seconds),
            Some(cpu.time.0),
        );
        let memory = &container.memory;
        all.put(
            "container_memory_working_set_bytes",
            "[STABLE] Current working set of the container in bytes",
            Gauge,
            &of,
            number(memory.working_set_bytes),
            Some(memory.time.0),
        );
        if let Some(swap) = &container.swap {
            let used = number(swap.swap_usage_bytes);
            all.put("container_swap_usage_bytes", "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems", Gauge, &of, used, Some(swap.time.0));
            if let Some(available) = swap.swap_available_bytes {
                all.put("container_swap_limit_bytes", "[ALPHA] Current amount of the container swap limit in bytes. Reported only on non-windows systems", Gauge, &of, number(available) + used, Some(swap.time.0));
            }
        }
    }
    let (cpu, memory, swap) = (&pod.cpu, &pod.memory, &pod.swap);
    all.put(
        "pod_cpu_usage_seconds_total",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
        Counter,
        &of_pod,
        from_nanos(cpu.usage_core_nano_seconds),
        Some(cpu.time.0),
    );
    all.put(
        "pod_memory_working_set_bytes",
        "[STABLE] Current working set of the pod in bytes",
        Gauge,
        &of_pod,
        number(memory.working_set_bytes),
        Some(memory.time.0),
    );
    all.put("pod_swap_usage_bytes", "[ALPHA] Current amount of the pod swap usage in bytes. Reported only on non-windows systems", Gauge, &of_pod, number(swap.swap_usage_bytes), Some(swap.time.0));
}

/// Which cgroup: cAdvisor's labels.
#[derive(Clone, Copy, Default)]
struct Of<'a> {
    container: &'a str,
    id: &'a str,
    image: &'a str,
    name: &'a str,
    namespace: &'a str,
    pod: &'a str,
}

impl<'a> Of<'a> {
    fn labels(self) -> [(&'static str, &'a str); 6] {
        [
            ("container", self.container),
            ("id", self.id),
            ("image", self.image),
            ("name", self.name),
            ("namespace", self.namespace),
            ("pod", self.pod),
        ]
    }
}

/// `/metrics/cadvisor`.
pub(super) fn cadvisor(root: Option<&CgroupStats>, seen: &[Seen]) -> String {
    let mut all = Families::default();
    machine(&mut all);
    let node = Of {
        id: "/",
        ..Of::default()
    };
    if let Some(root) = root {
        cgroup(&mut all, node, root);
    }
    for pod in seen {
        let config = &pod.sandbox.config;
        let of_pod = Of {
            id: &config.cgroup_parent,
            namespace: &config.metadata.namespace,
            pod: &config.metadata.name,
            ..Of::default()
        };
        let stats = &pod.stats;
        cgroup(&mut all, of_pod, &stats.cgroup);
        spec(&mut all, of_pod, &config.resources, pod.sandbox.created_at);
        for interface in &stats.interfaces {
            network(&mut all, of_pod, interface, stats.cgroup.at);
        }
        for (status, stats) in &pod.containers {
            let id = format!("{}/{}", config.cgroup_parent, status.id);
            let of = of_container(of_pod, status, &id);
            cgroup(&mut all, of, &stats.cgroup);
            let start = status.started_at.unwrap_or(status.created_at);
            spec(&mut all, of, &status.resources, start);
        }
    }
    all.text()
}

fn of_container<'a>(pod: Of<'a>, status: &'a ContainerStatus, id: &'a str) -> Of<'a> {
    Of {
        container: container_name(status),
        id,
        image: &status.image,
        name: &status.id,
        ..pod
    }
}

fn machine(all: &mut Families) {
    let (memory, swap) = Stats::machine();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (boot, machine) = (
        read("/proc/sys/kernel/random/boot_id"),
        read("/etc/machine-id"),
    );
    let system = read("/sys/class/dmi/id/product_uuid");
    let of = [
        ("boot_id", boot.trim()),
        ("machine_id", machine.trim()),
        ("system_uuid", system.trim()),
    ];
    all.put(
        "machine_cpu_cores",
        "Number of logical CPU cores.",
        Kind::Gauge,
        &of,
        number(cores as u64),
        None,
    );
    all.put(
        "machine_memory_bytes",
        "Amount of memory installed on the machine.",
        Kind::Gauge,
        &of,
        number(memory),
        None,
    );
    all.put(
        "machine_swap_bytes",
        "Amount of swap memory available on the machine.",
        Kind::Gauge,
        &of,
        number(swap),
        None,
    );
}

/// A metric of a cgroup: name, help, kind, value.
type Metric = (&'static str, &'static str, Kind, fn(&CgroupStats) -> f64);

const CGROUP: &[Metric] = &[
    (
        "container_cpu_user_seconds_total",
        "Cumulative user cpu time consumed in seconds.",
        Kind::Counter,
        |s| from_nanos(s.cpu.user_nanos),
    ),
    (
        "container_cpu_system_seconds_total",
        "Cumulative system cpu time consumed in seconds.",
        Kind::Counter,
        |s| from_nanos(s.cpu.system_nanos),
    ),
    (
        "container_cpu_cfs_periods_total",
        "Number of elapsed enforcement period intervals.",
        Kind::Counter,
        |s| number(s.cpu.periods),
    ),
    (
        "container_cpu_cfs_throttled_periods_total",
        "Number of throttled period intervals.",
        Kind::Counter,
        |s| number(s.cpu.throttled_periods),
    ),
    (
        "container_cpu_cfs_throttled_seconds_total",
        "Total time duration the container has been throttled.",
        Kind::Counter,
        |s| from_nanos(s.cpu.throttled_nanos),
    ),
    (
        "container_memory_rss",
        "Size of RSS in bytes.",
        Kind::Gauge,
        |s| number(s.memory.rss),
    ),
    (
        "container_memory_swap",
        "Container swap usage in bytes.",
        Kind::Gauge,
        |s| number(s.memory.swap),
    ),
    (
        "container_memory_usage_bytes",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        Kind::Gauge,
        |s| number(s.memory.usage),
    ),
    (
        "container_memory_working_set_bytes",
        "Current working set in bytes.",
        Kind::Gauge,
        |s| number(s.memory.working_set),
    ),
    (
        "container_oom_events_total",
        "Count of out of memory events observed for the container",
        Kind::Counter,
        |s| number(s.memory.oom_kills),
    ),
    (
        "container_processes",
        "Number of processes running inside the container.",
        Kind::Gauge,
        |s| number(s.pids),
    ),
];

fn cgroup(all: &mut Families, of: Of<'_>, stats: &CgroupStats) {
    let labels = of.labels();
    let at = Some(stats.at);
    for (name, help, kind, value) in CGROUP {
        all.put(name, help, *kind, &labels, value(stats), at);
    }
    let with = |name, value| {
        let mut labels = labels.to_vec();
        labels.push((name, value));
        labels
    };
    let usage = from_nanos(stats.cpu.usage_core_nanos);
    all.put(
        "container_cpu_usage_seconds_total",
        "Cumulative cpu time consumed in seconds.",
        Kind::Counter,
        &with("cpu", "total"),
        usage,
        at,
    );
    let failures = [
        ("pgfault", stats.memory.page_faults),
        ("pgmajfault", stats.memory.major_page_faults),
    ];
    for (kind, count) in failures {
        let mut labels = with("failure_type", kind);
        labels.push(("scope", "hierarchy"));
        all.put(
            "container_memory_failures_total",
            "Cumulative count of memory allocation failures.",
            Kind::Counter,
            &labels,
            number(count),
            at,
        );
    }
    all.put(
        "container_last_seen",
        "Last time a container was seen by the exporter",
        Kind::Gauge,
        &labels,
        seconds(stats.at).floor(),
        at,
    );
    let pressures = [
        ("cpu", "CPU", &stats.cpu_pressure),
        ("memory", "memory", &stats.memory_pressure),
        ("io", "IO", &stats.io_pressure),
    ];
    for (resource, word, pressure) in pressures {
        let Some(pressure) = pressure else { continue };
        let micros = |total: u64| number(total) / 1e6;
        all.put(&format!("container_pressure_{resource}_stalled_seconds_total"), &format!("Total time duration no tasks in the container could make progress due to {word} congestion."), Kind::Counter, &labels, micros(pressure.full.total_micros), at);
        all.put(
            &format!("container_pressure_{resource}_waiting_seconds_total"),
            &format!(
                "Total time duration tasks in the container have waited due to {word} congestion."
            ),
            Kind::Counter,
            &labels,
            micros(pressure.some.total_micros),
            at,
        );
    }
}

fn spec(all: &mut Families, of: Of<'_>, resources: &Resources, start: SystemTime) {
    let labels = of.labels();
    let mut gauge = |name, help, value| all.put(name, help, Kind::Gauge, &labels, value, None);
    gauge(
        "container_start_time_seconds",
        "Start time of the container since unix epoch in seconds.",
        seconds(start),
    );
    if let Some(period) = resources.cpu_period {
        gauge(
            "container_spec_cpu_period",
            "CPU period of the container.",
            number(period),
        );
    }
    if let Some(quota) = resources.cpu_quota.filter(|quota| *quota > 0) {
        gauge(
            "container_spec_cpu_quota",
            "CPU quota of the container.",
            number(quota.unsigned_abs()),
        );
    }
    if let Some(shares) = resources.cpu_shares {
        gauge(
            "container_spec_cpu_shares",
            "CPU share of the container.",
            number(shares),
        );
    }
    let limit = |limit: Option<i64>| number(limit.and_then(|l| u64::try_from(l).ok()).unwrap_or(0));
    gauge(
        "container_spec_memory_limit_bytes",
        "Memory limit for the container.",
        limit(resources.memory_limit),
    );
    gauge(
        "container_spec_memory_swap_limit_bytes",
        "Memory swap limit for the container.",
        limit(resources.memory_swap_limit),
    );
}

fn network(all: &mut Families, of: Of<'_>, interface: &InterfaceStats, at: SystemTime) {
    let mut labels = of.labels().to_vec();
    labels.push(("interface", &interface.name));
    let mut counter = |name, help, value| {
        all.put(name, help, Kind::Counter, &labels, number(value), Some(at));
    };
    counter(
        "container_network_receive_bytes_total",
        "Cumulative count of bytes received",
        interface.rx_bytes,
    );
    counter(
        "container_network_receive_errors_total",
        "Cumulative count of errors encountered while receiving",
        interface.rx_errors,
    );
    counter(
        "container_network_transmit_bytes_total",
        "Cumulative count of bytes transmitted",
        interface.tx_bytes,
    );
    counter(
        "container_network_transmit_errors_total",
        "Cumulative count of errors encountered while transmitting",
        interface.tx_errors,
    );
}
