//! What the files of a cgroup are told: limits in, writes out.

use crate::runtime::container::Resources;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    V1,
    V2,
}

/// A value for a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    pub controller: &'static str,
    pub file: String,
    pub value: String,
    /// The kernel may be built or started without this file.
    pub optional: bool,
}

/// The writes that set these limits, in order.
#[must_use]
pub fn writes(version: Version, limits: &Resources) -> Vec<Write> {
    match version {
        Version::V1 => v1(limits),
        Version::V2 => v2(limits),
    }
}

fn write(controller: &'static str, file: impl Into<String>, value: impl ToString) -> Write {
    Write {
        controller,
        file: file.into(),
        value: value.to_string(),
        optional: false,
    }
}

fn optional(write: Write) -> Write {
    Write {
        optional: true,
        ..write
    }
}

fn v1(limits: &Resources) -> Vec<Write> {
    let mut all = Vec::new();
    all.extend(
        limits
            .cpu_shares
            .map(|shares| write("cpu", "cpu.shares", shares)),
    );
    all.extend(
        limits
            .cpu_period
            .map(|period| write("cpu", "cpu.cfs_period_us", period)),
    );
    all.extend(
        limits
            .cpu_quota
            .map(|quota| write("cpu", "cpu.cfs_quota_us", quota)),
    );
    all.extend(
        limits
            .memory_limit
            .map(|m| write("memory", "memory.limit_in_bytes", m)),
    );
    all.extend(
        limits
            .memory_swap_limit
            .map(|m| optional(write("memory", "memory.memsw.limit_in_bytes", m))),
    );
    all.extend(common(limits));
    all.extend(
        limits
            .hugepage_limits
            .iter()
            .map(|(size, limit)| write("hugetlb", format!("hugetlb.{size}.limit_in_bytes"), limit)),
    );
    all
}

fn v2(limits: &Resources) -> Vec<Write> {
    let mut all = Vec::new();
    all.extend(
        limits
            .cpu_shares
            .map(|shares| write("cpu", "cpu.weight", weight(shares))),
    );
    all.extend(cpu_max(limits).map(|max| write("cpu", "cpu.max", max)));
    all.extend(
        limits
            .memory_limit
            .map(|m| write("memory", "memory.max", or_max(m))),
    );
    all.extend(swap_max(limits).map(|m| optional(write("memory", "memory.swap.max", or_max(m)))));
    all.extend(common(limits));
    all.extend(
        limits
            .hugepage_limits
            .iter()
            .map(|(size, limit)| write("hugetlb", format!("hugetlb.{size}.max"), limit)),
    );
    all.extend(
        limits
            .unified
            .iter()
            .map(|(file, value)| write("", file.as_str(), value)),
    );
    all
}

/// Files that both versions have.
fn common(limits: &Resources) -> impl Iterator<Item = Write> {
    let cpus = limits.cpuset_cpus.as_ref().filter(|cpus| !cpus.is_empty());
    let mems = limits.cpuset_mems.as_ref().filter(|mems| !mems.is_empty());
    let pids = limits
        .pids_limit
        .map(|limit| write("pids", "pids.max", or_max(limit)));
    cpus.map(|cpus| write("cpuset", "cpuset.cpus", cpus))
        .into_iter()
        .chain(mems.map(|mems| write("cpuset", "cpuset.mems", mems)))
        .chain(pids)
}

fn or_max(limit: i64) -> String {
    if limit < 0 {
        "max".into()
    } else {
        limit.to_string()
    }
}

fn cpu_max(limits: &Resources) -> Option<String> {
    let quota = limits.cpu_quota.map(or_max);
    match (quota, limits.cpu_period) {
        (Some(quota), Some(period)) => Some(format!("{quota} {period}")),
        (Some(quota), None) => Some(quota),
        (None, Some(period)) => Some(format!("max {period}")),
        (None, None) => None,
    }
}

/// Version 2 counts swap apart.
fn swap_max(limits: &Resources) -> Option<i64> {
    match (limits.memory_swap_limit?, limits.memory_limit) {
        (both, Some(memory)) if both >= 0 && memory >= 0 => Some((both - memory).max(0)),
        (both, _) if both < 0 => Some(-1),
        _ => None,
    }
}

/// Shares of version 1 (2 to 262,144) as a weight of version 2 (1 to 10,000), by the curve on which
/// runtimes agreed (opencontainers/cgroups `ConvertCPUSharesToCgroupV2Value`): 1,024 is 100.
#[must_use]
pub fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(version: Version, limits: &Resources) -> Vec<(String, String)> {
        writes(version, limits)
            .into_iter()
            .map(|w| (w.file, w.value))
            .collect()
    }

    fn full() -> Resources {
        Resources {
            cpu_period: Some(100_000),
            cpu_quota: Some(50_000),
            cpu_shares: Some(512),
            memory_limit: Some(1 << 20),
            memory_swap_limit: Some(3 << 20),
            pids_limit: Some(-1),
            hugepage_limits: [("2MB".to_owned(), 4 << 20)].into(),
            unified: [("memory.high".to_owned(), "1000".to_owned())].into(),
            ..Resources::default()
        }
    }

    fn expect(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    }

    #[test]
    fn version_1_is_told_in_its_files() {
        let expected = expect(&[
            ("cpu.shares", "512"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_quota_us", "50000"),
            ("memory.limit_in_bytes", "1048576"),
            ("memory.memsw.limit_in_bytes", "3145728"),
            ("pids.max", "max"),
            ("hugetlb.2MB.limit_in_bytes", "4194304"),
        ]);
        assert_eq!(written(Version::V1, &full()), expected);
    }

    #[test]
    fn version_2_is_told_in_its_files_and_units() {
        let expected = expect(&[
            ("cpu.weight", "59"),
            ("cpu.max", "50000 100000"),
            ("memory.max", "1048576"),
            ("memory.swap.max", "2097152"),
            ("pids.max", "max"),
            ("hugetlb.2MB.max", "4194304"),
            ("memory.high", "1000"),
        ]);
        assert_eq!(written(Version::V2, &full()), expected);
    }

    #[test]
    fn what_is_unset_is_not_written() {
        for version in [Version::V1, Version::V2] {
            assert_eq!(written(version, &Resources::default()), []);
        }
        let unlimited = Resources {
            cpu_quota: Some(-1),
            ..Resources::default()
        };
        assert_eq!(
            written(Version::V2, &unlimited),
            expect(&[("cpu.max", "max")])
        );
    }

    #[test]
    fn weights_meet_the_agreed_points() {
        for (shares, expected) in [
            (0, 1),
            (2, 1),
            (1024, 100),
            (262_144, 10_000),
            (1 << 30, 10_000),
        ] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
        assert!((3..262_144).step_by(97).map(weight).is_sorted());
    }
}
