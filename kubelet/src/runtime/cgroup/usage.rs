//! What the files of a cgroup count: texts in, counters out.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::{Error, Hierarchies, at};
use crate::runtime::stats::{CgroupStats, CpuUsage, MemoryUsage, Pressure, PressureLine};

/// Nanoseconds of one `USER_HZ` tick, in which version 1 counts user and system time.
const TICK: u64 = 10_000_000;

/// Limits from here on are none: version 1 writes the largest number of pages.
const UNLIMITED: u64 = 1 << 60;

impl Hierarchies {
    /// Reads the counters of a cgroup.
    ///
    /// # Errors
    /// If the cgroup does not exist.
    pub fn stats(&self, cgroup: &str) -> Result<CgroupStats, Error> {
        let read = |controller: &'static str, file: &str| -> Result<String, Error> {
            let dir = self
                .dir(controller, cgroup)
                .ok_or(Error::NoController(controller))?;
            read_if_there(&dir.join(file))
        };
        let pids = number(&read("pids", "pids.current")?);
        let at = SystemTime::now();
        if self.is_unified() {
            let memory_max = read("memory", "memory.max")?;
            let memory = memory_v2(
                &read("memory", "memory.current")?,
                &read("memory", "memory.stat")?,
                memory_max.trim().parse().ok(),
                &read("memory", "memory.swap.current")?,
                &read("memory", "memory.events")?,
            );
            Ok(CgroupStats {
                at,
                cpu: cpu_v2(&read("cpu", "cpu.stat")?),
                memory,
                pids,
                cpu_pressure: pressure(&read("cpu", "cpu.pressure")?),
                memory_pressure: pressure(&read("memory", "memory.pressure")?),
                io_pressure: pressure(&read("io", "io.pressure")?),
            })
        } else {
            let cpu = cpu_v1(
                &read("cpuacct", "cpuacct.usage")?,
                &read("cpuacct", "cpuacct.stat")?,
                &read("cpu", "cpu.stat")?,
            );
            let memory = memory_v1(
                &read("memory", "memory.usage_in_bytes")?,
                &read("memory", "memory.stat")?,
                &read("memory", "memory.oom_control")?,
            );
            let none = None;
            Ok(CgroupStats {
                at,
                cpu,
                memory,
                pids,
                cpu_pressure: none,
                memory_pressure: none,
                io_pressure: none,
            })
        }
    }
}

/// A file that this kernel does not have is empty; a cgroup that is not there is an error.
fn read_if_there(path: &Path) -> Result<String, Error> {
    match fs::read_to_string(path) {
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                && path.parent().is_some_and(Path::exists) =>
        {
            Ok(String::new())
        }
        other => other.map_err(at(path)),
    }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

/// The value of a `name value` line; 0 if it is not there.
fn field(text: &str, name: &str) -> u64 {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, number)
}

pub(crate) fn cpu_v1(usage: &str, stat: &str, throttling: &str) -> CpuUsage {
    CpuUsage {
        usage_core_nanos: number(usage),
        user_nanos: field(stat, "user").saturating_mul(TICK),
        system_nanos: field(stat, "system").saturating_mul(TICK),
        periods: field(throttling, "nr_periods"),
        throttled_periods: field(throttling, "nr_throttled"),
        throttled_nanos: field(throttling, "throttled_time"),
    }
}

pub(crate) fn cpu_v2(stat: &str) -> CpuUsage {
    CpuUsage {
        usage_core_nanos: field(stat, "usage_usec").saturating_mul(1000),
        user_nanos: field(stat, "user_usec").saturating_mul(1000),
        system_nanos: field(stat, "system_usec").saturating_mul(1000),
        periods: field(stat, "nr_periods"),
        throttled_periods: field(stat, "nr_throttled"),
        throttled_nanos: field(stat, "throttled_usec").saturating_mul(1000),
    }
}

pub(crate) fn memory_v1(usage: &str, stat: &str, oom_control: &str) -> MemoryUsage {
    let usage = number(usage);
    let working_set = usage.saturating_sub(field(stat, "total_inactive_file"));
    let limit = Some(field(stat, "hierarchical_memory_limit")).filter(|limit| *limit > 0);
    MemoryUsage {
        usage,
        working_set,
        rss: field(stat, "total_rss"),
        available: available(limit, working_set),
        page_faults: field(stat, "total_pgfault"),
        major_page_faults: field(stat, "total_pgmajfault"),
        swap: field(stat, "total_swap"),
        oom_kills: field(oom_control, "oom_kill"),
    }
}

pub(crate) fn memory_v2(
    usage: &str,
    stat: &str,
    limit: Option<u64>,
    swap: &str,
    events: &str,
) -> MemoryUsage {
    let usage = number(usage);
    let working_set = usage.saturating_sub(field(stat, "inactive_file"));
    MemoryUsage {
        usage,
        working_set,
        rss: field(stat, "anon"),
        available: available(limit, working_set),
        page_faults: field(stat, "pgfault"),
        major_page_faults: field(stat, "pgmajfault"),
        swap: number(swap),
        oom_kills: field(events, "oom_kill"),
    }
}

fn available(limit: Option<u64>, working_set: u64) -> Option<u64> {
    limit
        .filter(|limit| *limit < UNLIMITED)
        .map(|limit| limit.saturating_sub(working_set))
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`.
pub(crate) fn pressure(text: &str) -> Option<Pressure> {
    let line = |kind: &str| -> Option<PressureLine> {
        let fields = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let value = |name: &str| fields.split_whitespace().find_map(|f| f.strip_prefix(name));
        Some(PressureLine {
            avg10: value("avg10=")?.parse().ok()?,
            avg60: value("avg60=")?.parse().ok()?,
            avg300: value("avg300=")?.parse().ok()?,
            total_micros: value("total=")?.parse().ok()?,
        })
    };
    Some(Pressure {
        some: line("some ")?,
        full: line("full ").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_working_set_is_usage_without_inactive_file_pages() {
        let stat = "total_rss 700\ntotal_inactive_file 300\nhierarchical_memory_limit 2000\n";
        let memory = memory_v1(
            "1000\n",
            stat,
            "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        );
        assert_eq!(
            (memory.working_set, memory.rss, memory.oom_kills),
            (700, 700, 2)
        );
        assert_eq!(memory.available, Some(1300));
        let memory = memory_v2(
            "1000\n",
            "anon 600\ninactive_file 1200\n",
            None,
            "",
            "oom 9\noom_kill 1\n",
        );
        assert_eq!(
            (memory.working_set, memory.rss, memory.oom_kills),
            (0, 600, 1)
        );
        assert_eq!(memory.available, None);
    }

    #[test]
    fn times_beyond_what_can_be_counted_saturate() {
        let stat = format!("usage_usec {0}\nuser_usec {0}\nuser {0}\n", u64::MAX);
        assert_eq!(cpu_v2(&stat).user_nanos, u64::MAX);
        assert_eq!(cpu_v1("1", &stat, "").user_nanos, u64::MAX);
    }

    #[test]
    fn version_1_without_a_limit_has_none() {
        let stat = "hierarchical_memory_limit 9223372036854771712\n";
        assert_eq!(memory_v1("1000", stat, "").available, None);
    }

    #[test]
    fn pressure_is_read_as_the_kernel_prints_it() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=123\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let read = pressure(text).unwrap();
        assert_eq!(
            (
                read.some.avg10,
                read.some.total_micros,
                read.full.total_micros
            ),
            (1.5, 123, 7)
        );
        assert_eq!(pressure(""), None);
    }
}
