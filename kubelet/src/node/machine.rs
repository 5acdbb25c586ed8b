//! What the machine is and has, read from where cAdvisor reads it.

use std::fs;
use std::path::Path;

use crate::container_manager::cpus;

/// Facts about the machine. What cannot be read is empty or zero.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Machine {
    /// CPUs that are on.
    pub cores: u32,
    /// Bytes.
    pub memory: u64,
    /// Bytes.
    pub swap: u64,
    pub huge_pages: Vec<HugePages>,
    pub machine_id: String,
    pub boot_id: String,
    pub system_uuid: String,
    pub kernel: String,
    /// `PRETTY_NAME` of the system.
    pub os_image: String,
    /// As Go names it: `amd64`.
    pub architecture: &'static str,
    /// Processes that the kernel allows.
    pub max_pids: Option<i64>,
}

/// Pages of one size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HugePages {
    /// Bytes.
    pub size: u64,
    pub count: u64,
}

impl Machine {
    /// Looks at the machine.
    #[must_use]
    pub fn read() -> Self {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Self {
        let text = |path: &str| {
            let text = fs::read_to_string(root.join(path)).unwrap_or_default();
            text.trim_end_matches('\0').trim().to_owned()
        };
        let first = |paths: &[&str]| {
            let mut texts = paths.iter().map(|path| text(path));
            texts.find(|t| !t.is_empty()).unwrap_or_default()
        };
        let meminfo = text("proc/meminfo");
        let memory = |name| kilobytes(&meminfo, name).saturating_mul(1024);
        Self {
            cores: cores(&text("sys/devices/system/cpu/online")),
            memory: memory("MemTotal"),
            swap: memory("SwapTotal"),
            huge_pages: huge_pages(&root.join("sys/kernel/mm/hugepages")),
            machine_id: first(&["etc/machine-id", "var/lib/dbus/machine-id"]),
            boot_id: text("proc/sys/kernel/random/boot_id"),
            system_uuid: first(&[
                "sys/class/dmi/id/product_uuid",
                "proc/device-tree/system-id",
                "proc/device-tree/vm,uuid",
                "etc/machine-id",
            ]),
            kernel: text("proc/sys/kernel/osrelease"),
            os_image: os_image(&first(&["etc/os-release", "usr/lib/os-release"])),
            architecture: architecture(),
            max_pids: max_pids(
                &text("proc/sys/kernel/pid_max"),
                &text("proc/sys/kernel/threads-max"),
            ),
        }
    }
}

/// CPUs that are on; where the kernel does not say, those that this process may use.
pub(crate) fn cores(online: &str) -> u32 {
    let counted = cpus::parse(online).map_or(0, |cpus| cpus.len());
    let counted = match counted {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        some => some,
    };
    u32::try_from(counted).unwrap_or(u32::MAX)
}

pub(crate) fn kilobytes(meminfo: &str, name: &str) -> u64 {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// `hugepages-2048kB/nr_hugepages` and its like, the smallest first.
fn huge_pages(dir: &Path) -> Vec<HugePages> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let kilobytes: u64 = name
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()?;
            let count = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?;
            Some(HugePages {
                size: kilobytes.checked_mul(1024)?,
                count: count.trim().parse().ok()?,
            })
        })
        .collect();
    all.sort_by_key(|pages| pages.size);
    all
}

pub(crate) fn os_image(release: &str) -> String {
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let name = name.unwrap_or("Linux");
    name.trim_matches(['"', '\'']).to_owned()
}

/// This machine's architecture as Go names it.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// The lower of the two bounds that the kernel has.
pub(crate) fn max_pids(pid_max: &str, threads_max: &str) -> Option<i64> {
    [pid_max, threads_max]
        .iter()
        .filter_map(|text| text.parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_machine_is_what_its_files_say() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, "sys/devices/system/cpu/online", "0-3,6\n");
        write(
            root,
            "proc/meminfo",
            "MemTotal:  1000 kB\nMemFree: 1 kB\nSwapTotal: 8 kB\n",
        );
        write(root, "etc/machine-id", "abc\n");
        write(root, "proc/sys/kernel/pid_max", "4194304\n");
        write(root, "proc/sys/kernel/threads-max", "1000\n");
        write(
            root,
            "etc/os-release",
            "NAME=x\nPRETTY_NAME=\"Debian 12\"\n",
        );
        let pages = "sys/kernel/mm/hugepages/hugepages-";
        write(root, &format!("{pages}1048576kB/nr_hugepages"), "1\n");
        write(root, &format!("{pages}2048kB/nr_hugepages"), "7\n");
        let machine = Machine::below(root);
        assert_eq!(machine.cores, 5);
        assert_eq!(machine.memory, 1_024_000);
        assert_eq!(machine.swap, 8192);
        assert_eq!(machine.machine_id, "abc");
        assert_eq!(machine.system_uuid, "abc", "for want of another");
        assert_eq!(machine.max_pids, Some(1000));
        assert_eq!(machine.os_image, "Debian 12");
        let sizes: Vec<_> = machine
            .huge_pages
            .iter()
            .map(|p| (p.size, p.count))
            .collect();
        assert_eq!(sizes, [(2 << 20, 7), (1 << 30, 1)]);
    }

    #[test]
    fn this_machine_has_something_of_everything() {
        let machine = Machine::read();
        assert!(machine.cores > 0 && machine.memory > 0);
        assert!(!machine.boot_id.is_empty() && !machine.kernel.is_empty());
    }
}
