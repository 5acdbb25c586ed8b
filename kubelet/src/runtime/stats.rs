//! What cgroups count, in the terms of CRI and the summary API.

use std::time::SystemTime;

/// CPU time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuUsage {
    /// Since the cgroup was made.
    pub usage_core_nanos: u64,
    pub user_nanos: u64,
    pub system_nanos: u64,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_nanos: u64,
}

/// Memory, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryUsage {
    /// With all page cache.
    pub usage: u64,
    /// Usage less what can be dropped at once (inactive file pages).
    pub working_set: u64,
    pub rss: u64,
    /// Limit less working set; `None` without a limit.
    pub available: Option<u64>,
    pub page_faults: u64,
    pub major_page_faults: u64,
    pub swap: u64,
    /// Processes that the kernel killed for memory.
    pub oom_kills: u64,
}

/// Pressure stall totals of one resource, in microseconds, and averages in percent.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Pressure {
    pub some: PressureLine,
    pub full: PressureLine,
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct PressureLine {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total_micros: u64,
}

/// One cgroup's counters at one time.
#[derive(Clone, PartialEq, Debug)]
pub struct CgroupStats {
    pub at: SystemTime,
    pub cpu: CpuUsage,
    pub memory: MemoryUsage,
    pub pids: u64,
    /// Only where the kernel counts it per cgroup (v2).
    pub cpu_pressure: Option<Pressure>,
    pub memory_pressure: Option<Pressure>,
    pub io_pressure: Option<Pressure>,
}

/// A container's counters.
#[derive(Clone, PartialEq, Debug)]
pub struct ContainerStats {
    pub id: String,
    pub name: String,
    pub cgroup: CgroupStats,
}

/// A pod's counters: of its cgroup as a whole, and of each running container.
#[derive(Clone, PartialEq, Debug)]
pub struct PodSandboxStats {
    pub id: String,
    pub cgroup: CgroupStats,
    pub containers: Vec<ContainerStats>,
    /// Of the pod's network namespace; empty for pods in the node's.
    pub interfaces: Vec<InterfaceStats>,
}

/// Counters of a network interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct InterfaceStats {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_errors: u64,
    pub tx_bytes: u64,
    pub tx_errors: u64,
}
