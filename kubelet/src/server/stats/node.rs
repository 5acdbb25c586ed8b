//! What the node as a whole uses, out of procfs and the root cgroup. Texts in, numbers out.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::summary::{RlimitStats, Time};
use crate::runtime::cgroup::Hierarchies;
use crate::runtime::stats::{CgroupStats, InterfaceStats};

/// Counters of the root cgroup. Version 2 has no memory files there, so that the kernel's own figures
/// take their place, as in runc; the limit is the machine's memory.
pub(super) fn root(cgroups: &Hierarchies) -> Result<CgroupStats, crate::runtime::cgroup::Error> {
    let mut stats = cgroups.stats("/")?;
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    complete(&mut stats, &meminfo);
    Ok(stats)
}

fn complete(stats: &mut CgroupStats, meminfo: &str) {
    let kib = |name| kib(meminfo, name).saturating_mul(1024);
    let total = kib("MemTotal:");
    let memory = &mut stats.memory;
    if memory.usage == 0 {
        memory.usage = total.saturating_sub(kib("MemFree:"));
        memory.working_set = memory.usage.saturating_sub(kib("Inactive(file):"));
        memory.rss = kib("AnonPages:");
        memory.swap = kib("SwapTotal:").saturating_sub(kib("SwapFree:"));
    }
    memory.available = Some(total.saturating_sub(memory.working_set));
}

/// Bytes of swap that are free.
pub(super) fn swap_free() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    kib(&meminfo, "SwapFree:").saturating_mul(1024)
}

/// Bytes of memory and of swap.
pub(super) fn machine() -> (u64, u64) {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |name| kib(&meminfo, name).saturating_mul(1024);
    (bytes("MemTotal:"), bytes("SwapTotal:"))
}

fn kib(meminfo: &str, name: &str) -> u64 {
    meminfo
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// When the machine was started.
pub(super) fn boot_time() -> SystemTime {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let second = stat
        .lines()
        .find_map(|line| line.strip_prefix("btime "))
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    UNIX_EPOCH + Duration::from_secs(second)
}

/// Processes that there may be and are.
pub(super) fn processes() -> Option<RlimitStats> {
    let number = |path: &str| -> Option<i64> { fs::read_to_string(path).ok()?.trim().parse().ok() };
    let pids = number("/proc/sys/kernel/pid_max")?;
    let threads = number("/proc/sys/kernel/threads-max").unwrap_or(pids);
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    Some(RlimitStats {
        time: Time(SystemTime::now()),
        maxpid: pids.min(threads),
        curproc: running(&load)?,
    })
}

/// `0.20 0.18 0.12 1/80 11206`
fn running(load: &str) -> Option<i64> {
    let tasks = load.split_whitespace().nth(3)?;
    tasks.split_once('/')?.1.parse().ok()
}

/// Interfaces that do not lead out, by the begin of their name; cAdvisor's list.
const INNER: &[&str] = &["lo", "veth", "docker", "nerdctl"];

/// Counters of the node's interfaces.
pub(super) fn interfaces() -> Vec<InterfaceStats> {
    let text = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    text.lines()
        .filter_map(interface)
        .filter(|i| !INNER.iter().any(|inner| i.name.starts_with(inner)))
        .collect()
}

fn interface(line: &str) -> Option<InterfaceStats> {
    let (name, counters) = line.split_once(':')?;
    let counters: Vec<u64> = counters
        .split_whitespace()
        .map_while(|c| c.parse().ok())
        .collect();
    Some(InterfaceStats {
        name: name.trim().to_owned(),
        rx_bytes: *counters.first()?,
        rx_errors: *counters.get(2)?,
        tx_bytes: *counters.get(8)?,
        tx_errors: *counters.get(10)?,
    })
}

/// The cgroup of this process.
pub(super) fn own_cgroup() -> Option<String> {
    own(&fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// `12:cpu,cpuacct:/a/b` of version 1, or `0::/a/b` of version 2.
fn own(text: &str) -> Option<String> {
    let lines = || {
        text.lines()
            .map(|line| line.splitn(3, ':').collect::<Vec<_>>())
    };
    let path = |wanted: &dyn Fn(&str) -> bool| {
        lines()
            .filter(|fields| fields.len() == 3)
            .find(|fields| wanted(fields[1]))
            .map(|fields| fields[2].to_owned())
    };
    path(&|controllers| controllers.split(',').any(|c| c == "memory"))
        .or_else(|| path(&str::is_empty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_read_as_the_kernel_writes_them() {
        assert_eq!(kib("MemTotal:  16 kB\nMemFree: 4 kB\n", "MemFree:"), 4);
        assert_eq!(running("0.20 0.18 0.12 1/80 11206\n"), Some(80));
        assert_eq!(own("3:memory:/a\n0::/b\n").as_deref(), Some("/a"));
        assert_eq!(own("0::/b/c\n").as_deref(), Some("/b/c"));
        let read = interface("  eth0: 1500 10 1 0 0 0 0 0 2500 20 2 0 0 0 0 0").unwrap();
        assert_eq!((read.rx_bytes, read.tx_errors), (1500, 2));
        assert!(boot_time() > UNIX_EPOCH && processes().unwrap().curproc > 0);
    }

    #[test]
    fn a_root_without_memory_files_has_the_machines_figures() {
        let mut stats = CgroupStats {
            at: UNIX_EPOCH,
            cpu: Default::default(),
            memory: Default::default(),
            pids: 0,
            cpu_pressure: None,
            memory_pressure: None,
            io_pressure: None,
        };
        let meminfo = "MemTotal: 100 kB\nMemFree: 30 kB\nInactive(file): 20 kB\nAnonPages: 7 kB\n";
        complete(&mut stats, meminfo);
        let memory = &stats.memory;
        assert_eq!(memory.usage, 70 << 10);
        assert_eq!(memory.working_set, 50 << 10);
        assert_eq!(memory.available, Some(50 << 10));
    }
}
