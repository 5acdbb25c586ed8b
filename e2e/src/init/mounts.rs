//! A node's own view of the file system, in its mount namespace.
//!
//! Daemons keep their default paths, two nodes never meet, and nothing is written outside of the node's own disk:
//! `/run` and `/tmp`-like state in memory, `/etc` writable over the machine's own, `/var` from the cluster's directory.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use super::{Error, Node};
use crate::files;

/// Directories that a node has for itself; what is kept below one of them is bound in again.
const PRIVATE: &[&str] = &["/run", "/var", "/etc"];

/// Kernel settings that a kubelet insists on and sets where they differ. They belong to the whole machine, so a node
/// sees them as wanted and changes nothing (kubelet: `setupKernelTunables`; vm.panic_on_oom is 0 everywhere).
const PRETENDED: &[(&str, &str)] = &[
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxbytes", "25000000"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("vm/overcommit_memory", "1"),
];

/// What the machine mounts below `/sys`, shown again in the node's own.
const BELOW_SYS: &[&str] = &[
    "/sys/fs/bpf",
    "/sys/fs/cgroup",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
];

/// Where the node's private things lie. Nothing else uses this name inside of a node.
const OWN: &str = "/run/navarch-node";

/// Mounts what the node called `name` sees.
pub(super) fn prepare(name: &str, node: &Node) -> Result<(), Error> {
    // Opened before anything covers them.
    let kept = node
        .keep
        .iter()
        .filter(|path| PRIVATE.iter().any(|private| path.starts_with(private)))
        .map(|path| Ok((path, File::open(path).map_err(files::cannot("open", path))?)))
        .collect::<Result<Vec<_>, Error>>()?;
    for dir in ["lib", "log", "tmp"] {
        let path = node.disk.join(dir);
        fs::create_dir_all(&path).map_err(files::cannot("make", &path))?;
    }

    // Nothing from here on shows on the machine, whatever its mounts share.
    do_mount(None, "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)?;
    let disk = File::open(&node.disk).map_err(files::cannot("open", &node.disk))?;
    do_mount(
        Some("tmpfs"),
        "/run",
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("mode=755"),
    )?;
    do_mount(
        Some(&descriptor(&disk)),
        "/var",
        None,
        MsFlags::MS_BIND,
        None,
    )?;
    own_etc(name, node)?;
    for (path, opened) in kept {
        fs::create_dir_all(path).map_err(files::cannot("make", path))?;
        let target = path.to_string_lossy();
        do_mount(
            Some(&descriptor(&opened)),
            &target,
            None,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None,
        )?;
    }
    own_sys()?;
    own_proc()?;
    // Volumes that pods mount with propagation have to reach the node.
    do_mount(None, "/", None, MsFlags::MS_REC | MsFlags::MS_SHARED, None)
}

/// The machine's `/etc` with the node's changes on top. They live in memory: `up` writes what matters at every start.
fn own_etc(host_name: &str, node: &Node) -> Result<(), Error> {
    let [upper, work] = ["etc", "etc.work"].map(|dir| Path::new(OWN).join(dir));
    for dir in [&upper, &work] {
        fs::create_dir_all(dir).map_err(files::cannot("make", dir))?;
    }
    let options = format!(
        "lowerdir=/etc,upperdir={},workdir={}",
        upper.display(),
        work.display()
    );
    do_mount(
        Some("overlay"),
        "/etc",
        Some("overlay"),
        MsFlags::empty(),
        Some(&options),
    )?;
    // Neither the node's network nor its registries are what the machine may have configured for itself.
    for dir in ["/etc/cni", "/etc/containerd"] {
        match fs::remove_dir_all(dir) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(files::cannot("remove", Path::new(dir))(cause).into());
            }
            _ => {}
        }
    }
    let files = [
        ("hostname", format!("{host_name}\n")),
        ("hosts", node.hosts.clone()),
    ];
    for (name, text) in files
        .into_iter()
        .chain([("resolv.conf", node.resolv_conf.clone())])
        .chain(
            node.etc
                .iter()
                .map(|(name, text)| (name.as_str(), text.clone())),
        )
    {
        let path = Path::new("/etc").join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(files::cannot("make", parent))?;
        }
        // It may be a link to a place that the node does not have.
        let _ = fs::remove_file(&path);
        fs::write(&path, text).map_err(files::cannot("write", &path))?;
    }
    Ok(())
}

/// `/sys` of the node's network namespace: the machine's shows the machine's interfaces.
fn own_sys() -> Result<(), Error> {
    let below = BELOW_SYS.iter().filter(|path| Path::new(path).is_dir());
    let opened = below
        .map(|path| {
            Ok((
                path,
                File::open(path).map_err(files::cannot("open", Path::new(path)))?,
            ))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    do_mount(Some("sysfs"), "/sys", Some("sysfs"), flags, None)?;
    for (path, opened) in opened {
        do_mount(
            Some(&descriptor(&opened)),
            path,
            None,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None,
        )?;
    }
    Ok(())
}

/// `/proc` of the node's pid namespace. A second one stays uncovered: the kernel lets pods with user namespaces mount
/// their own only where a whole one is in sight.
fn own_proc() -> Result<(), Error> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let whole = format!("{OWN}/proc");
    fs::create_dir_all(&whole).map_err(files::cannot("make", Path::new(&whole)))?;
    do_mount(Some("proc"), &whole, Some("proc"), flags, None)?;
    do_mount(Some("proc"), "/proc", Some("proc"), flags, None)?;
    let values = Path::new(OWN).join("sysctl");
    for (key, value) in PRETENDED {
        let (shown, pretended) = (Path::new("/proc/sys").join(key), values.join(key));
        if !shown.exists() {
            continue;
        }
        let parent = pretended.parent().expect("the key has a directory");
        fs::create_dir_all(parent).map_err(files::cannot("make", parent))?;
        fs::write(&pretended, format!("{value}\n")).map_err(files::cannot("write", &pretended))?;
        let source = pretended.to_string_lossy().into_owned();
        do_mount(
            Some(&source),
            &shown.to_string_lossy(),
            None,
            MsFlags::MS_BIND,
            None,
        )?;
    }
    Ok(())
}

/// The path of an open file, whatever covers the one it was opened by.
fn descriptor(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn do_mount(
    source: Option<&str>,
    target: &str,
    kind: Option<&str>,
    flags: MsFlags,
    options: Option<&str>,
) -> Result<(), Error> {
    let target = PathBuf::from(target);
    mount(source, &target, kind, flags, options).map_err(|cause| Error::Mount {
        what: target.display().to_string(),
        cause,
    })
}
