//! What the kubelet needs of its own process and machine before it starts.

use std::fs;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::config::Config;

/// The node's name: `--hostname-override`, else the host name, in lower case.
pub(super) fn hostname(config: &Config) -> anyhow::Result<String> {
    let given = config.node.hostname_override.trim();
    let name = if given.is_empty() {
        let name = nix::unistd::gethostname().context("cannot read the host name")?;
        name.to_string_lossy().trim().to_lowercase()
    } else {
        given.to_lowercase()
    };
    if name.is_empty() {
        bail!("empty hostname is invalid");
    }
    Ok(name)
}

/// Refuses to run with swap, unless that was allowed.
pub(super) fn check_swap(config: &Config) -> anyhow::Result<()> {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    if config.kubelet.fail_swap_on && swaps.lines().count() > 1 {
        bail!(
            "running with swap on is not supported, please disable swap or set --fail-swap-on flag to false"
        );
    }
    Ok(())
}

/// Refuses what this kubelet does not have, where going on without it would break a promise; tells
/// what it goes on without.
pub(super) fn check_supported(config: &Config) -> anyhow::Result<()> {
    let kubelet = &config.kubelet;
    let refused = [
        ("cpuManagerPolicy", kubelet.cpu_manager_policy != "none"),
        (
            "memoryManagerPolicy",
            kubelet.memory_manager_policy != "None",
        ),
        (
            "topologyManagerPolicy",
            kubelet.topology_manager_policy != "none",
        ),
        ("cgroupsPerQOS", !kubelet.cgroups_per_qos),
        (
            "--image-credential-provider-config",
            config.node.credential_providers.is_some(),
        ),
    ];
    let names: Vec<&str> = refused.iter().filter(|r| r.1).map(|r| r.0).collect();
    if !names.is_empty() {
        bail!("not supported with this value: {}", names.join(", "));
    }
    let shutdown = !kubelet.shutdown_grace_period.0.is_zero()
        || !kubelet.shutdown_grace_period_by_pod_priority.is_empty();
    let ignored = [
        ("cgroupDriver", kubelet.cgroup_driver != "cgroupfs"),
        ("shutdownGracePeriod", shutdown),
    ];
    for (field, _) in ignored.iter().filter(|i| i.1) {
        tracing::warn!(field, "A setting has no effect");
    }
    Ok(())
}

/// Takes the lock file, for as long as the process lives.
pub(super) fn lock(config: &Config) -> anyhow::Result<Option<Flock<fs::File>>> {
    if config.node.exit_on_lock_contention {
        bail!("--exit-on-lock-contention is not supported");
    }
    let Some(path) = &config.node.lock_file else {
        return Ok(None);
    };
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, e)) => bail!("unable to acquire file lock on {:?}: {e}", path.display()),
    }
}

/// Settings that the kernel may refuse: told, and gone on without.
pub(super) fn adjust(config: &Config) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let score = config.kubelet.oom_score_adj.to_string();
    if let Err(e) = fs::write("/proc/self/oom_score_adj", score) {
        tracing::warn!(error = %e, "Cannot set the kubelet's own oom_score_adj");
    }
    let wanted = u64::try_from(config.kubelet.max_open_files).unwrap_or(0);
    let limited = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let hard = hard.max(wanted);
        setrlimit(Resource::RLIMIT_NOFILE, wanted.max(soft), hard)
    });
    if let Err(e) = limited {
        tracing::warn!(error = %e, "Cannot raise the limit of open files");
    }
}

/// Makes the directories that upstream's kubelet makes below its root.
pub(super) fn directories(config: &Config) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let make = |path: &Path, mode| {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
    };
    let root = &config.node.root;
    for (name, mode) in [
        ("", 0o755),
        ("pods", 0o750),
        ("plugins", 0o750),
        ("plugins_registry", 0o750),
    ] {
        make(&root.join(name), mode)?;
    }
    make(Path::new(&config.kubelet.pod_logs_dir), 0o755)?;
    make(Path::new("/var/log/containers"), 0o755)
}

/// Tells systemd that the kubelet is up, if systemd asked for it.
pub(super) fn notify_ready() {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(e) = notify(&path) {
        tracing::warn!(error = %e, "Cannot notify systemd");
    }
}

fn notify(path: &str) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.send_to_addr(b"READY=1", &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;

    #[test]
    fn a_lock_file_belongs_to_one_kubelet() {
        let dir = tempfile::tempdir().unwrap();
        let flag = format!("--lock-file={}", dir.path().join("lock").display());
        let config = config("", &[&flag]);
        let first = lock(&config).unwrap();
        assert!(first.is_some() && lock(&config).is_err());
        drop(first);
        assert!(lock(&config).unwrap().is_some());
    }

    #[test]
    fn what_would_break_a_promise_is_refused() {
        assert!(check_supported(&config("cgroupDriver: systemd\n", &[])).is_ok());
        let error = check_supported(&config("cpuManagerPolicy: static\n", &[])).unwrap_err();
        assert!(error.to_string().ends_with("cpuManagerPolicy"), "{error}");
    }

    #[test]
    fn names_are_in_lower_case() {
        let config = config("", &["--hostname-override= Node-1 "]);
        assert_eq!(hostname(&config).unwrap(), "node-1");
    }

    #[test]
    fn systemd_hears_that_the_kubelet_is_ready() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        notify(path.to_str().unwrap()).unwrap();
        let mut buffer = [0; 16];
        let n = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"READY=1");
    }
}
