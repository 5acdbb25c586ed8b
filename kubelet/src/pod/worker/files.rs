//! Files of a pod on the node: volumes, and what the kubelet itself puts into containers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Pod;

use super::Worker;
use super::start::Start;
use crate::make::{self, NodeFacts};
use crate::network::{hosts, resolv};
use crate::pod::spec;
use crate::runtime::Mount;
use crate::sys::file::{self, Durability};
use crate::volume::{Failure, PodVolumes};

/// What the volumes were made of the last time.
#[derive(Default)]
pub(super) struct Made {
    at: Option<SystemTime>,
    metadata: Option<Metadata>,
    failed: bool,
}

impl Made {
    pub(super) fn is_made(&self) -> bool {
        self.at.is_some()
    }
}

type Metadata = [Option<BTreeMap<String, String>>; 2];

fn metadata(pod: &Pod) -> Metadata {
    [
        pod.metadata.labels.clone(),
        pod.metadata.annotations.clone(),
    ]
}

/// How soon volumes that could not be brought up to date are tried again.
const RETRY: Duration = Duration::from_secs(10);

/// A token's default life.
const TOKEN: i64 = 3600;

impl Worker {
    /// Makes the pod's volumes, or brings their files up to date.
    pub(super) async fn set_up_volumes(&self, pod: &Arc<Pod>) -> Result<PodVolumes, Vec<Failure>> {
        let volumes = &self.shared.parts.volumes;
        let dir = volumes.pod_dir(&self.uid);
        let dirs = tokio::task::spawn_blocking(move || make_dirs(&dir)).await;
        if let Ok(Err(error)) = dirs {
            let message = format!("error making pod data directories: {error}");
            self.warn(pod, "Failed", &message);
        }
        let made = volumes.set_up(&self.with_status(pod)).await;
        self.memory.lock().volumes = Made {
            at: Some(SystemTime::now()),
            metadata: Some(metadata(pod)),
            failed: made.is_err(),
        };
        for (reason, message) in made.iter().flat_map(|made| &made.warnings) {
            self.warn(pod, reason, message);
        }
        made
    }

    /// The pod with its status as last generated: files can show it.
    fn with_status(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        let registry = self.shared.registry.lock();
        let entry = registry.entries.get(&self.uid);
        entry.map_or_else(|| pod.clone(), super::super::registry::Entry::current)
    }

    /// Whether files that are there are out of date.
    pub(super) fn are_files_due(&self, pod: &Pod) -> bool {
        let memory = self.memory.lock();
        let Some(known) = &memory.volumes.metadata else {
            // A kubelet before this one made them.
            return spec::of(pod)
                .volumes
                .as_ref()
                .is_some_and(|v| !v.is_empty());
        };
        let changed = *known != metadata(pod);
        drop(memory);
        changed
            || self
                .files_due_at(pod)
                .is_some_and(|at| at <= SystemTime::now())
    }

    /// When files go out of date by themselves: tokens expire.
    pub(super) fn files_due_at(&self, pod: &Pod) -> Option<SystemTime> {
        let memory = self.memory.lock();
        let made = memory.volumes.at?;
        if memory.volumes.failed {
            return Some(made + RETRY);
        }
        let volumes = spec::of(pod).volumes.iter().flatten();
        let projected = volumes.filter_map(|volume| volume.projected.as_ref());
        let sources = projected.flat_map(|p| p.sources.iter().flatten());
        let tokens = sources.filter_map(|s| s.service_account_token.as_ref());
        let lives = tokens.map(|token| token.expiration_seconds.unwrap_or(TOKEN));
        let least = u64::try_from(lives.min()?).ok()?;
        // Tokens are renewed at four fifths of their life.
        Some(made + Duration::from_secs(least) * 4 / 5 + Duration::from_secs(1))
    }

    /// Adds the kubelet's own files to what the volumes give.
    pub(super) async fn add_files(
        &self,
        start: &Start<'_>,
        facts: &Arc<NodeFacts>,
        mounts: &mut Vec<Mount>,
    ) -> Result<(), String> {
        let (dns, warnings) =
            resolv::pod_dns(&facts.dns, spec::namespace(start.pod), spec::of(start.pod));
        for warning in warnings {
            self.warn(start.pod, warning.reason, &warning.message);
        }
        let own = Own {
            dir: self.shared.parts.volumes.pod_dir(&self.uid),
            pod: start.pod.clone(),
            facts: facts.clone(),
            ips: start.ips.to_vec(),
            resolv_conf: dns.to_string(),
            container: start.container.name.clone(),
            message_path: start.container.termination_message_path.clone(),
            taken: mounts.iter().map(|m| m.container_path.clone()).collect(),
        };
        let made = tokio::task::spawn_blocking(move || own.make()).await;
        match made {
            Ok(Ok(made)) => mounts.extend(made),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err("the kubelet is shutting down".into()),
        }
        Ok(())
    }

    /// The link by which log collectors find the container's log.
    pub(super) async fn link_log(&self, pod: &Pod, container: &str, id: &str) {
        let parts = &self.shared.parts;
        let status = parts.runtime.container_status(id).await;
        let Some(log) = status.ok().and_then(|status| status.log_path) else {
            return;
        };
        let link = make::log_link(&parts.container_logs, pod, container, id);
        let work = move || {
            let dir = link.parent().map_or(Ok(()), fs::create_dir_all);
            dir.and_then(|()| std::os::unix::fs::symlink(log, &link))
        };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(work).await {
            tracing::warn!(container.id = id, %error, "Cannot link a container's log");
        }
    }
}

fn make_dirs(pod: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o750);
    for dir in ["volumes", "plugins", "containers"] {
        builder.create(pod.join(dir))?;
    }
    Ok(())
}

/// What the kubelet's own files are made from.
struct Own {
    dir: PathBuf,
    pod: Arc<Pod>,
    facts: Arc<NodeFacts>,
    ips: Vec<std::net::IpAddr>,
    resolv_conf: String,
    container: String,
    message_path: Option<String>,
    /// Where volumes are mounted already.
    taken: Vec<PathBuf>,
}

impl Own {
    fn make(&self) -> Result<Vec<Mount>, String> {
        let mut mounts = Vec::new();
        let files = [
            ("/etc/hosts", "etc-hosts", self.hosts()?),
            ("/etc/hostname", "etc-hostname", self.hostname()?),
            ("/etc/resolv.conf", "resolv.conf", self.resolv_conf.clone()),
        ];
        for (inside, name, text) in files {
            if self.taken.iter().any(|taken| taken == Path::new(inside)) {
                continue;
            }
            let path = self.dir.join(name);
            write_in_place(&path, text.as_bytes())
                .map_err(|err| format!("cannot write {}: {err}", path.display()))?;
            mounts.push(mount(inside.into(), path));
        }
        if let Some(inside) = self.message_path.as_deref().filter(|p| !p.is_empty()) {
            let inside = Path::new("/").join(inside);
            if !self.taken.contains(&inside) {
                let path = self
                    .message_file()
                    .map_err(|err| format!("cannot make the termination message file: {err}"))?;
                mounts.push(mount(inside, path));
            }
        }
        Ok(mounts)
    }

    fn hosts(&self) -> Result<String, String> {
        let spec = spec::of(&self.pod);
        let aliases = spec.host_aliases.as_deref().unwrap_or_default();
        if spec::is_host_network(spec) {
            let node = fs::read_to_string("/etc/hosts").unwrap_or_default();
            return Ok(hosts::node_hosts(&node, aliases));
        }
        let (hostname, domain) = self.names()?;
        Ok(hosts::managed_hosts(&self.ips, &hostname, &domain, aliases))
    }

    fn hostname(&self) -> Result<String, String> {
        if spec::is_host_network(spec::of(&self.pod)) {
            let node = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            return Ok(hosts::hostname_file(node.trim()));
        }
        Ok(hosts::hostname_file(&self.names()?.0))
    }

    fn names(&self) -> Result<(String, String), String> {
        let names = hosts::hostname_and_domain(&self.pod, &self.facts.dns.cluster_domain);
        names.map_err(|err| err.to_string())
    }

    /// A file of this container alone, which whoever it runs as may write.
    fn message_file(&self) -> std::io::Result<PathBuf> {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        let dir = self.dir.join("containers").join(&self.container);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(&dir)?;
        let name = uuid::Uuid::new_v4().simple().to_string();
        let path = dir.join(name.get(..8).unwrap_or(&name));
        fs::File::create(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        Ok(path)
    }
}

fn mount(container_path: PathBuf, host_path: PathBuf) -> Mount {
    Mount {
        container_path,
        host_path,
        ..Mount::default()
    }
}

/// Writes a file that containers have mounted: the same file, so that they see it. Nothing is
/// written if it is the same.
fn write_in_place(path: &Path, text: &[u8]) -> std::io::Result<()> {
    match fs::read(path) {
        Ok(old) if old == text => Ok(()),
        Ok(_) => fs::write(path, text),
        Err(_) => file::write_atomic(path, text, 0o644, Durability::Process),
    }
}
