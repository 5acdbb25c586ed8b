//! Cgroups, driven through the file system (`cgroupDriver: cgroupfs`), version 2 and version 1.
//!
//! Owns: where hierarchies are mounted, the names of pod cgroups, making and removing cgroups, writing
//! limits ([`limits`]) and reading counters ([`usage`]). Nobody else writes limits: libcontainer only puts
//! the process into cgroups that are here already, and sets its devices.
//!
//! Invariant: a cgroup is a path like `/kubepods/burstable/podUID`, the same in every hierarchy; only
//! cgroups made here are changed.

pub mod limits;
pub mod usage;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::container::Resources;
use limits::Version;

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("{}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("no cgroup hierarchy with the {0} controller is mounted")]
    NoController(&'static str),
    #[error("cgroup name {0:?}")]
    Name(String),
    #[error("{} still has processes", .0.display())]
    Busy(PathBuf),
}

/// For `map_err`.
fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}

/// Quality of service of a pod, as far as it names a cgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

/// The cgroup of a pod: upstream's names with the cgroupfs driver. `root` is `--cgroup-root`.
#[must_use]
pub fn pod_path(root: &str, qos: Qos, uid: &str) -> String {
    let class = match qos {
        Qos::Guaranteed => "",
        Qos::Burstable => "/burstable",
        Qos::BestEffort => "/besteffort",
    };
    format!("{}/kubepods{class}/pod{uid}", root.trim_end_matches('/'))
}

/// The hierarchies of a machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hierarchies {
    /// Mount points by controller (`memory`, `name=systemd`); the empty name is version 2's.
    mounts: BTreeMap<String, PathBuf>,
}

/// Controllers that pods need.
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];

impl Hierarchies {
    /// Finds what is mounted.
    ///
    /// # Errors
    /// If the mounts cannot be read, or a controller that pods need is missing.
    pub fn detect() -> Result<Self, Error> {
        let path = Path::new("/proc/self/mountinfo");
        let found = Self::from_mountinfo(&fs::read_to_string(path).map_err(at(path))?);
        for controller in NEEDED {
            found
                .mount(controller)
                .ok_or(Error::NoController(controller))?;
        }
        Ok(found)
    }

    pub(crate) fn from_mountinfo(text: &str) -> Self {
        let mut mounts = BTreeMap::new();
        for line in text.lines() {
            let Some((mount, file_system)) = line.split_once(" - ") else {
                continue;
            };
            let Some(point) = mount.split(' ').nth(4).map(PathBuf::from) else {
                continue;
            };
            let mut fields = file_system.split(' ');
            match (fields.next(), fields.nth(1)) {
                (Some("cgroup2"), _) => drop(mounts.insert(String::new(), point)),
                (Some("cgroup"), Some(options)) => {
                    let controllers = options.split(',').filter(|o| !["rw", "ro"].contains(o));
                    mounts.extend(controllers.map(|c| (c.to_owned(), point.clone())));
                }
                _ => {}
            }
        }
        Self { mounts }
    }

    /// Whether version 2 does everything.
    #[must_use]
    pub fn is_unified(&self) -> bool {
        self.mounts.keys().all(String::is_empty)
    }

    const fn version_of(unified: bool) -> Version {
        if unified { Version::V2 } else { Version::V1 }
    }

    fn mount(&self, controller: &str) -> Option<&Path> {
        let key = if self.is_unified() { "" } else { controller };
        self.mounts.get(key).map(PathBuf::as_path)
    }

    /// A cgroup's directory where a controller is.
    #[must_use]
    pub fn dir(&self, controller: &str, cgroup: &str) -> Option<PathBuf> {
        self.mount(controller)
            .map(|mount| mount.join(cgroup.trim_start_matches('/')))
    }

    /// A cgroup's directory in every hierarchy.
    #[must_use]
    pub fn dirs(&self, cgroup: &str) -> Vec<PathBuf> {
        let mut points: Vec<&PathBuf> = self.mounts.values().collect();
        points.sort();
        points.dedup();
        points
            .into_iter()
            .map(|point| point.join(cgroup.trim_start_matches('/')))
            .collect()
    }

    /// Makes a cgroup with all above it, in every hierarchy, and sets its limits.
    ///
    /// # Errors
    /// If the kernel refuses a directory or a value.
    pub fn make(&self, cgroup: &str, limits: &Resources) -> Result<(), Error> {
        let safe = |part: &str| !part.is_empty() && part != "." && part != "..";
        let name = cgroup
            .strip_prefix('/')
            .filter(|name| name.split('/').all(safe));
        let name = name.ok_or_else(|| Error::Name(cgroup.to_owned()))?;
        let mut points: Vec<&PathBuf> = self.mounts.values().collect();
        points.sort();
        points.dedup();
        for point in points {
            self.make_below(point, name)?;
        }
        self.limit(cgroup, limits)
    }

    fn make_below(&self, point: &Path, name: &str) -> Result<(), Error> {
        let cpuset = self
            .mounts
            .get("cpuset")
            .is_some_and(|mount| mount == point);
        let mut dir = point.to_owned();
        for part in name.split('/') {
            if self.is_unified() {
                enable_controllers(&dir)?;
            }
            let above = dir.clone();
            dir.push(part);
            match fs::create_dir(&dir) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(at(&dir)(error)),
            }
            if cpuset {
                inherit_cpuset(&above, &dir)?;
            }
        }
        Ok(())
    }

    /// Sets limits of a cgroup; what is unset stays.
    ///
    /// # Errors
    /// If the kernel refuses a value, or a controller is missing.
    pub fn limit(&self, cgroup: &str, limits: &Resources) -> Result<(), Error> {
        let writes = limits::writes(Self::version_of(self.is_unified()), limits);
        let mut refused = Vec::new();
        for write in &writes {
            let dir = self.dir(write.controller, cgroup);
            let path = dir
                .ok_or(Error::NoController(write.controller))?
                .join(&write.file);
            match fs::write(&path, &write.value) {
                Ok(()) => {}
                // Without swap accounting there is nothing to limit.
                Err(error) if write.optional && error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => refused.push((path, &write.value, error)),
            }
        }
        // On version 1 memory may not pass memory with swap at any moment, so which of the two goes first
        // depends on the direction: what was refused is tried once more after the rest.
        for (path, value, _) in refused {
            fs::write(&path, value).map_err(at(&path))?;
        }
        Ok(())
    }

    /// Kills everything in a cgroup and below. Does not wait.
    pub fn kill(&self, cgroup: &str) {
        for dir in self.dirs(cgroup) {
            if fs::write(dir.join("cgroup.kill"), "1").is_ok() {
                continue;
            }
            for pid in processes(&dir) {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
    }

    /// Whether any process is in a cgroup or below.
    #[must_use]
    pub fn has_processes(&self, cgroup: &str) -> bool {
        self.dirs(cgroup)
            .iter()
            .any(|dir| !processes(dir).is_empty())
    }

    /// Removes a cgroup that has nothing below, once. Nothing there is no error.
    ///
    /// # Errors
    /// [`Error::Busy`] if it is in use.
    pub fn remove_empty(&self, cgroup: &str) -> Result<(), Error> {
        self.dirs(cgroup).iter().try_for_each(|dir| remove_one(dir))
    }

    /// Removes a cgroup and all below, once. Nothing there is no error.
    ///
    /// # Errors
    /// [`Error::Busy`] while processes (or their remains) are in it.
    pub fn remove(&self, cgroup: &str) -> Result<(), Error> {
        self.dirs(cgroup)
            .iter()
            .try_for_each(|dir| remove_tree(dir))
    }
}

/// Lets the cgroups below a version 2 cgroup have all controllers that it has.
fn enable_controllers(dir: &Path) -> Result<(), Error> {
    let path = dir.join("cgroup.controllers");
    let available = fs::read_to_string(&path).map_err(at(&path))?;
    let path = dir.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&path).map_err(at(&path))?;
    for controller in available.split_whitespace() {
        if !enabled.split_whitespace().any(|on| on == controller) {
            // One by one: the kernel takes all or none of a write, and some cannot be enabled.
            let written = fs::write(&path, format!("+{controller}"));
            if NEEDED.contains(&controller) {
                written.map_err(at(&path))?;
            }
        }
    }
    Ok(())
}

/// A new version 1 cpuset is empty and takes no process: it starts as its parent's.
fn inherit_cpuset(above: &Path, dir: &Path) -> Result<(), Error> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let path = dir.join(file);
        if fs::read_to_string(&path)
            .map_err(at(&path))?
            .trim()
            .is_empty()
        {
            let from = above.join(file);
            let value = fs::read_to_string(&from).map_err(at(&from))?;
            fs::write(&path, value.trim()).map_err(at(&path))?;
        }
    }
    Ok(())
}

fn subdirectories(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    entries
        .filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|e| e.path())
}

fn processes(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut all: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    all.retain(|pid| *pid > 0); // 0: of a PID namespace that is not below ours
    all.extend(subdirectories(dir).flat_map(|dir| processes(&dir)));
    all
}

fn remove_tree(dir: &Path) -> Result<(), Error> {
    for below in subdirectories(dir) {
        remove_tree(&below)?;
    }
    remove_one(dir)
}

fn remove_one(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir(dir) {
        Ok(()) => Ok(()),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty => {
                Err(Error::Busy(dir.to_owned()))
            }
            _ => Err(at(dir)(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
25 1 0:22 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
27 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
28 25 0:25 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,name=systemd
29 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
";

    #[test]
    fn pods_are_named_as_upstream_names_them() {
        assert_eq!(
            pod_path("/", Qos::Burstable, "u"),
            "/kubepods/burstable/podu"
        );
        assert_eq!(pod_path("", Qos::Guaranteed, "u"), "/kubepods/podu");
        assert_eq!(
            pod_path("/a/b", Qos::BestEffort, "u"),
            "/a/b/kubepods/besteffort/podu"
        );
    }

    #[test]
    fn a_hybrid_machine_is_not_unified_and_has_a_directory_per_hierarchy() {
        let found = Hierarchies::from_mountinfo(HYBRID);
        assert!(!found.is_unified());
        assert_eq!(
            found.dir("cpuacct", "/a/b"),
            Some("/sys/fs/cgroup/cpu,cpuacct/a/b".into())
        );
        assert_eq!(found.dir("pids", "/a"), None);
        assert_eq!(found.dirs("/a").len(), 4);
    }

    #[test]
    fn on_a_unified_machine_every_controller_is_in_one_place() {
        let text = "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = Hierarchies::from_mountinfo(text);
        assert!(found.is_unified());
        assert_eq!(found.dir("memory", "/a"), Some("/sys/fs/cgroup/a".into()));
        assert_eq!(found.dirs("/a"), [PathBuf::from("/sys/fs/cgroup/a")]);
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let found = Hierarchies {
            mounts: BTreeMap::new(),
        };
        for name in ["", "/", "a", "/a/../b", "/a//b", "/./a"] {
            let made = found.make(name, &Resources::default());
            assert!(matches!(made, Err(Error::Name(_))), "{name:?}");
        }
    }
}
