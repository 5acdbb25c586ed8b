//! Measuring the node.

use std::fs;
use std::path::PathBuf;

use super::state::{Observation, Observations};
use crate::container_manager::threshold::Signal;
use crate::runtime::cgroup::Hierarchies;

/// What is measured, and where.
pub struct Observe {
    /// The kubelet's root, whose file system is `nodefs`.
    pub root: PathBuf,
    /// Where images and writable layers are, whose file system is `imagefs`.
    pub images: PathBuf,
    pub cgroups: Hierarchies,
    /// The cgroup above all pods.
    pub pods: String,
    /// Bytes, and processes.
    pub memory: u64,
    pub max_pids: Option<i64>,
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

impl Observe {
    /// Whether images have a file system of their own.
    #[must_use]
    pub fn separate_images(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let device = |path: &PathBuf| fs::metadata(path).map(|m| m.dev()).ok();
        device(&self.root) != device(&self.images)
    }

    /// A measurement. What cannot be measured is left out.
    #[must_use]
    pub fn now(&self) -> Observations {
        let mut all = Observations::new();
        all.extend(self.memory());
        all.extend(self.pods_memory());
        let filesystems = [
            (
                &self.root,
                Signal::NodefsAvailable,
                Signal::NodefsInodesFree,
            ),
            (
                &self.images,
                Signal::ImagefsAvailable,
                Signal::ImagefsInodesFree,
            ),
            (
                &self.images,
                Signal::ContainerfsAvailable,
                Signal::ContainerfsInodesFree,
            ),
        ];
        for (path, bytes, inodes) in filesystems {
            let Ok(stat) = nix::sys::statvfs::statvfs(path) else {
                continue;
            };
            let size = stat.fragment_size();
            let observed = |available: u64, capacity: u64| Observation {
                available: signed(available),
                capacity: signed(capacity),
            };
            let of = |blocks: u64| blocks.saturating_mul(size);
            all.insert(
                bytes,
                observed(of(stat.blocks_available()), of(stat.blocks())),
            );
            // Some file systems have no inodes to run out of.
            if stat.files() > 0 {
                all.insert(inodes, observed(stat.files_available(), stat.files()));
            }
        }
        all.extend(self.pids());
        all
    }

    /// What the machine has less its working set, as cAdvisor computes it for the root cgroup.
    fn memory(&self) -> Option<(Signal, Observation)> {
        let working_set = if self.cgroups.is_unified() {
            let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
            let stat = self.cgroups.dir("memory", "/")?.join("memory.stat");
            unified(&meminfo, &fs::read_to_string(stat).ok()?)?
        } else {
            self.cgroups.stats("/").ok()?.memory.working_set
        };
        let available = signed(self.memory).saturating_sub(signed(working_set));
        let observed = Observation {
            available,
            capacity: signed(self.memory),
        };
        Some((Signal::MemoryAvailable, observed))
    }

    /// What is left of the limit above all pods.
    fn pods_memory(&self) -> Option<(Signal, Observation)> {
        let memory = self.cgroups.stats(&self.pods).ok()?.memory;
        let available = signed(memory.available?);
        let observed = Observation {
            available,
            capacity: available.saturating_add(signed(memory.working_set)),
        };
        Some((Signal::AllocatableMemoryAvailable, observed))
    }

    fn pids(&self) -> Option<(Signal, Observation)> {
        let capacity = self.max_pids?;
        let running = running(&fs::read_to_string("/proc/loadavg").ok()?)?;
        let observed = Observation {
            available: capacity.saturating_sub(running),
            capacity,
        };
        Some((Signal::PidAvailable, observed))
    }
}

/// The working set of a machine whose root cgroup does not count memory.
fn unified(meminfo: &str, stat: &str) -> Option<u64> {
    let kilobytes = |name: &str| -> Option<u64> {
        let mut lines = meminfo.lines();
        let rest = lines.find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let used = kilobytes("MemTotal")?
        .saturating_sub(kilobytes("MemFree")?)
        .saturating_mul(1024);
    let mut lines = stat.lines();
    let inactive = lines.find_map(|l| l.strip_prefix("inactive_file ")?.parse().ok());
    Some(used.saturating_sub(inactive.unwrap_or(0)))
}

/// Threads that exist: the second number of `1/234`.
fn running(loadavg: &str) -> Option<i64> {
    let (_, all) = loadavg.split_whitespace().nth(3)?.split_once('/')?;
    all.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_working_set_leaves_out_what_can_be_dropped() {
        let meminfo = "MemTotal: 1000 kB\nMemFree: 400 kB\n";
        assert_eq!(
            unified(meminfo, "anon 1\ninactive_file 1024\n"),
            Some(599 * 1024)
        );
        assert_eq!(running("0.1 0.2 0.3 1/234 999\n"), Some(234));
    }

    #[test]
    fn this_machine_can_be_measured() {
        let observe = Observe {
            root: "/".into(),
            images: "/proc".into(),
            cgroups: Hierarchies::detect().unwrap(),
            pods: "/no/such/cgroup".to_owned(),
            memory: 1 << 50,
            max_pids: Some(1 << 40),
        };
        let seen = observe.now();
        for signal in [
            Signal::MemoryAvailable,
            Signal::NodefsAvailable,
            Signal::PidAvailable,
        ] {
            let observed = seen[&signal];
            assert!(
                observed.available > 0 && observed.available < observed.capacity,
                "{signal:?}"
            );
        }
        assert!(!seen.contains_key(&Signal::AllocatableMemoryAvailable));
        assert!(observe.separate_images());
    }
}
