//! The types of the summary API, `k8s.io/kubelet/pkg/apis/stats/v1alpha1`.

use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::runtime::stats::{CgroupStats, InterfaceStats, MemoryUsage, Pressure, PressureLine};

/// A time to the second, as `metav1.Time`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Time(pub SystemTime);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let age = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let time = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
        to.collect_str(&time)
    }
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Summary {
    pub node: NodeStats,
    pub pods: Vec<PodStats>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStats {
    pub node_name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub system_containers: Vec<ContainerStats>,
    pub start_time: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<IoStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fs: Option<FsStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rlimit: Option<RlimitStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<SwapStats>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RlimitStats {
    pub time: Time,
    pub maxpid: i64,
    pub curproc: i64,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeStats {
    pub image_fs: Option<FsStats>,
    pub container_fs: Option<FsStats>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStats {
    pub pod_ref: PodReference,
    pub start_time: Time,
    pub containers: Vec<ContainerStats>,
    pub cpu: CpuStats,
    pub memory: MemoryStats,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<IoStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkStats>,
    #[serde(rename = "volume", skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeStats>,
    #[serde(rename = "ephemeral-storage", skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<FsStats>,
    #[serde(rename = "process_stats")]
    pub process_stats: ProcessStats,
    pub swap: SwapStats,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PodReference {
    pub name: String,
    pub namespace: String,
    pub uid: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ProcessStats {
    #[serde(rename = "process_count")]
    pub process_count: u64,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStats {
    pub name: String,
    pub start_time: Time,
    pub cpu: CpuStats,
    pub memory: MemoryStats,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<IoStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<FsStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<FsStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<SwapStats>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuStats {
    pub time: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_nano_cores: Option<u64>,
    pub usage_core_nano_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryStats {
    pub time: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_bytes: Option<u64>,
    pub usage_bytes: u64,
    pub working_set_bytes: u64,
    pub rss_bytes: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct IoStats {
    pub time: Time,
    pub psi: Psi,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Psi {
    pub full: PsiData,
    pub some: PsiData,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PsiData {
    /// Nanoseconds.
    pub total: u64,
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SwapStats {
    pub time: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_available_bytes: Option<u64>,
    pub swap_usage_bytes: u64,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct NetworkStats {
    pub time: Time,
    /// Of the interface that leads out.
    #[serde(flatten)]
    pub main: Interface,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rx_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rx_errors: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx_errors: Option<u64>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStats {
    #[serde(flatten)]
    pub fs: FsStats,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc_ref: Option<PvcReference>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PvcReference {
    pub name: String,
    pub namespace: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FsStats {
    pub time: Time,
    pub available_bytes: u64,
    pub capacity_bytes: u64,
    pub used_bytes: u64,
    pub inodes_free: u64,
    pub inodes: u64,
    pub inodes_used: u64,
}

impl CpuStats {
    pub(super) fn of(stats: &CgroupStats, rate: Option<u64>) -> Self {
        Self {
            time: Time(stats.at),
            usage_nano_cores: rate,
            usage_core_nano_seconds: stats.cpu.usage_core_nanos,
            psi: stats.cpu_pressure.as_ref().map(Psi::of),
        }
    }
}

impl MemoryStats {
    pub(super) fn of(stats: &CgroupStats) -> Self {
        let MemoryUsage {
            usage,
            working_set,
            rss,
            available,
            page_faults,
            major_page_faults,
            ..
        } = stats.memory;
        Self {
            time: Time(stats.at),
            available_bytes: available,
            usage_bytes: usage,
            working_set_bytes: working_set,
            rss_bytes: rss,
            page_faults,
            major_page_faults,
            psi: stats.memory_pressure.as_ref().map(Psi::of),
        }
    }
}

impl IoStats {
    pub(super) fn of(stats: &CgroupStats) -> Option<Self> {
        Some(Self {
            time: Time(stats.at),
            psi: Psi::of(stats.io_pressure.as_ref()?),
        })
    }
}

impl Psi {
    fn of(pressure: &Pressure) -> Self {
        let data = |line: &PressureLine| PsiData {
            total: line.total_micros.saturating_mul(1000),
            avg10: line.avg10,
            avg60: line.avg60,
            avg300: line.avg300,
        };
        Self {
            full: data(&pressure.full),
            some: data(&pressure.some),
        }
    }
}

impl SwapStats {
    pub(super) fn of(stats: &CgroupStats) -> Self {
        Self {
            time: Time(stats.at),
            swap_available_bytes: None,
            swap_usage_bytes: stats.memory.swap,
        }
    }
}

/// The interface that the network counters of a pod or node are about.
const MAIN: &str = "eth0";

impl NetworkStats {
    pub(super) fn of(interfaces: &[InterfaceStats], at: SystemTime) -> Option<Self> {
        let interface = |stats: &InterfaceStats| Interface {
            name: stats.name.clone(),
            rx_bytes: Some(stats.rx_bytes),
            rx_errors: Some(stats.rx_errors),
            tx_bytes: Some(stats.tx_bytes),
            tx_errors: Some(stats.tx_errors),
        };
        let all: Vec<_> = interfaces.iter().map(interface).collect();
        if all.is_empty() {
            return None;
        }
        let main = all.iter().find(|i| i.name == MAIN).cloned();
        Some(Self {
            time: Time(at),
            main: main.unwrap_or_default(),
            interfaces: all,
        })
    }
}
