//! What a process costs, from `/proc`.

use std::fs;
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// CPU time that a process used so far, all threads, ended ones included. To the nanosecond: `stat` of a process counts in ticks
/// of 10 ms, which is a sixth of what a few lists cost.
pub(super) fn cpu(pid: Pid) -> Duration {
    let now = clock_getcpuclockid(pid).and_then(clock_gettime);
    now.map_or(Duration::ZERO, Duration::from)
}

/// CPU time that the whole machine spent working.
pub(super) fn machine() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let all = stat.lines().next().unwrap_or_default();
    let fields: Vec<u64> = all
        .split_whitespace()
        .skip(1)
        .map(|f| f.parse().unwrap_or(0))
        .collect();
    // Of user nice system idle iowait irq softirq steal, without idle and iowait.
    let busy = [0, 1, 2, 5, 6, 7];
    let ticks: u64 = busy.iter().filter_map(|i| fields.get(*i)).sum();
    Duration::from_secs_f64(ticks as f64 / per_second())
}

fn per_second() -> f64 {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    ticks as f64
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Resident, with the pages of its own file.
    pub resident: u64,
    /// Of it, what belongs to nobody else and to no file.
    pub anonymous: u64,
}

pub(super) fn memory(pid: Pid) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.split_whitespace().next());
        kib.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    Memory {
        resident: of("VmRSS:"),
        anonymous: of("RssAnon:"),
    }
}

/// The most memory that a process had resident since [`forget_peak`], in bytes.
pub(super) fn peak(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    kib.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Begins anew to look for the peak (`clear_refs` in proc(5)).
pub(super) fn forget_peak(pid: Pid) {
    // A process that is gone has no peak; the next figure will say so.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_memory_of_a_process_are_seen() {
        let own = nix::unistd::getpid();
        let before = (cpu(own), machine());
        let mut sum = 0_u64;
        while cpu(own) < before.0 + Duration::from_millis(50) {
            sum = (0..100_000).fold(sum, u64::wrapping_add);
        }
        assert!(machine() > before.1, "{sum}");
        let is = memory(own);
        assert!(is.anonymous > 0 && is.resident > is.anonymous, "{is:?}");
    }
}
