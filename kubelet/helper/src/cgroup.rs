//! Joining the cgroups of another process, whatever the version.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Moves this process into each cgroup of `pid`, except roots, in which it may stay where it is.
pub(crate) fn join(pid: i32) -> Result<(), Error> {
    let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let cgroups = fs::read_to_string(&path).map_err(Error::at(&path))?;
    let mounts = read_mounts()?;
    for file in procs_files(&cgroups, &mounts) {
        fs::write(&file, "0").map_err(Error::at(&file))?;
    }
    Ok(())
}

/// Where version 2 is mounted, if it does everything.
pub(crate) fn unified() -> Result<Option<PathBuf>, Error> {
    let mounts = read_mounts()?;
    Ok(if mounts.len() == 1 {
        mounts.get("").cloned()
    } else {
        None
    })
}

fn read_mounts() -> Result<HashMap<String, PathBuf>, Error> {
    let path = Path::new("/proc/self/mountinfo");
    Ok(mounts(&fs::read_to_string(path).map_err(Error::at(path))?))
}

/// Mount points by controller; the empty name is v2's.
fn mounts(mountinfo: &str) -> HashMap<String, PathBuf> {
    let mut mounts = HashMap::new();
    for line in mountinfo.lines() {
        let Some((mount, file_system)) = line.split_once(" - ") else {
            continue;
        };
        let Some(point) = mount.split(' ').nth(4) else {
            continue;
        };
        let mut fields = file_system.split(' ');
        match (fields.next(), fields.nth(1)) {
            (Some("cgroup2"), _) => drop(mounts.insert(String::new(), point.into())),
            (Some("cgroup"), Some(options)) => {
                mounts.extend(
                    options
                        .split(',')
                        .map(|o| (o.to_owned(), PathBuf::from(point))),
                );
            }
            _ => {}
        }
    }
    mounts
}

fn procs_files(cgroups: &str, mounts: &HashMap<String, PathBuf>) -> Vec<PathBuf> {
    let lines = cgroups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let mount = mounts.get(controllers.split(',').next()?)?;
        let relative = path.strip_prefix('/')?;
        (!relative.is_empty()).then(|| mount.join(relative).join("cgroup.procs"))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
25 1 0:22 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/unified rw shared:2 - cgroup2 cgroup2 rw
27 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
28 25 0:25 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,name=systemd
";

    #[test]
    fn every_hierarchy_is_joined_but_not_its_root() {
        let cgroups = "5:cpu,cpuacct:/kubepods/a\n2:name=systemd:/kubepods/a\n1:net_cls:/b\n0::/\n";
        let expected = [
            "/sys/fs/cgroup/cpu,cpuacct/kubepods/a/cgroup.procs",
            "/sys/fs/cgroup/systemd/kubepods/a/cgroup.procs",
        ];
        assert_eq!(
            procs_files(cgroups, &mounts(HYBRID)),
            expected.map(PathBuf::from)
        );
    }

    #[test]
    fn a_unified_hierarchy_is_joined_at_its_mount() {
        let mounts = mounts("30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
        let files = procs_files("0::/kubepods.slice/a\n", &mounts);
        assert_eq!(
            files,
            [PathBuf::from(
                "/sys/fs/cgroup/kubepods.slice/a/cgroup.procs"
            )]
        );
    }
}
