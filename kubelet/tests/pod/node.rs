//! A node: the real runtime and image store, pods on top of them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use component::client::Client;
use component::events::{self, Recorder};
use component::informer::Informers;
use component::supervisor::{Shutdown, Supervisor};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kubelet::config::ContainerCollection;
use kubelet::container_manager::eviction::Admission;
use kubelet::image::auth::Keyring;
use kubelet::image::ensure::{self, Images};
use kubelet::image::import;
use kubelet::image::manifest::Platform;
use kubelet::image::pull::{self, Puller};
use kubelet::image::registry::{self, Registry};
use kubelet::image::store::Store;
use kubelet::make::NodeFacts;
use kubelet::network::{self, Attachment, PodNetwork, Status};
use kubelet::pod::{Allowlist, CrashLimits, Parts, Pods, Users, users};
use kubelet::runtime::cgroup::Hierarchies;
use kubelet::runtime::native::Config;
use kubelet::runtime::{Native, Runtime};
use kubelet::sys::userns;
use kubelet::volume::{
    self, CertificateRequest, Credentials, ObjectError, Objects, TokenRequest, TrustBundles,
    Volumes,
};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::api::{Api, LIMIT};

pub(crate) struct Node {
    pub(crate) root: tempfile::TempDir,
    pub(crate) api: Api,
    pub(crate) network: Arc<Network>,
    cgroup_root: String,
    cgroups: Hierarchies,
    outer: Supervisor,
    kubelet: Option<Kubelet>,
}

struct Kubelet {
    tasks: Supervisor,
    runtime: Arc<Native>,
    pods: Pods,
    /// Its own, because it knows of all that the kubelet does: a task that is stopped leaves behind what it waits
    /// for in another thread, such as the start of a shim.
    threads: tokio::runtime::Runtime,
}

impl Kubelet {
    /// Ends it as a kill does, but returns only when nothing of it runs any more. For threads that may wait.
    fn end(self) {
        self.tasks.stop();
        let _ = self
            .threads
            .block_on(self.tasks.finished(Shutdown::default()));
        self.threads.shutdown_timeout(LIMIT);
    }
}

impl Node {
    pub(crate) async fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let outer = Supervisor::current();
        let mut node = Self {
            root: tempfile::tempdir().unwrap(),
            api: Api::start(&outer),
            network: Arc::default(),
            cgroup_root: format!("/navarch-pods-{}-{number}", std::process::id()),
            cgroups: Hierarchies::detect().unwrap(),
            outer,
            kubelet: None,
        };
        node.start_kubelet().await;
        node
    }

    /// Another kubelet on the same node.
    pub(crate) async fn start_kubelet(&mut self) {
        let root = self.root.path();
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        let threads = threads.worker_threads(2).enable_all().build().unwrap();
        let tasks = Supervisor::new(threads.handle().clone());
        let config = Config {
            root: root.join("state"),
            libexec_dir: Some(libexec().to_owned()),
            cgroup_root: self.cgroup_root.clone(),
        };
        let runtime = Arc::new(Native::open(config, tasks.clone()).await.unwrap());
        let store = Store::open(&root.join("images")).unwrap();
        if store.image("busybox:1").is_none() {
            let archive = root.join("busybox.tar");
            std::fs::write(&archive, archive_bytes()).unwrap();
            let here = Platform::of_this_machine();
            import::import(&store, &archive, &here, false).unwrap();
        }
        let registry = Registry::new(registry::Config::default());
        let puller = Puller::new(store.clone(), registry, pull::Config::default());
        let images = Images::new(store.clone(), puller, ensure::Config::default());
        let objects: Arc<dyn Objects> = Arc::new(Claims(self.api.client.clone()));
        let volumes = Volumes::new(root, objects.clone(), Default::default());
        let all = users::Range::but_the_first(65_536);
        let users = Users::open(root, all, 65_536, 110).unwrap();
        let facts = NodeFacts {
            name: "node-1".into(),
            host_ips: vec!["192.168.9.1".parse().unwrap()],
            cgroups_v2: self.cgroups.is_unified(),
            cgroup_root: self.cgroup_root.clone(),
            log_dir: root.join("logs/pods"),
            memory_capacity: 1 << 30,
            ..NodeFacts::default()
        };
        let (facts, receiver) = watch::channel(Arc::new(facts));
        std::mem::forget(facts);
        let (_, pressure) = watch::channel(BTreeSet::new());
        let client = self.api.client.clone();
        let recorder = Recorder::new(&client, events::Api::Core, "kubelet", "node-1", &tasks);
        let pods = kubelet::pod::start(Parts {
            informers: Some(Informers::new(client.clone(), tasks.clone())),
            client: Some(client),
            recorder,
            runtime: runtime.clone(),
            images: Arc::new(images),
            store,
            keyring: Keyring::default(),
            volumes: Arc::new(volumes),
            users: Arc::new(users),
            network: self.network.clone(),
            objects,
            facts: receiver,
            cgroups: self.cgroups.clone(),
            root: root.to_owned(),
            container_logs: root.join("logs/containers"),
            static_pods: Some(root.join("manifests")),
            manifest_url: None,
            admission: Admission::new(pressure),
            sysctls: Allowlist::new(&[]),
            crash_limits: CrashLimits::default(),
            dead_containers: ContainerCollection {
                min_age: Duration::ZERO,
                per_container: 1,
                in_total: -1,
            },
            tasks: tasks.clone(),
            metrics: self.api.metrics.clone(),
            probe_metrics: self.api.metrics.clone(),
            tracer: component::tracing::Tracer::default(),
        });
        self.kubelet = Some(Kubelet {
            tasks,
            runtime,
            pods,
            threads,
        });
    }

    pub(crate) async fn kill_kubelet(&mut self) {
        let kubelet = self.kubelet.take().unwrap();
        tokio::task::spawn_blocking(|| kubelet.end()).await.unwrap();
    }

    pub(crate) fn runtime(&self) -> &dyn Runtime {
        self.kubelet.as_ref().unwrap().runtime.as_ref()
    }

    pub(crate) fn pods(&self) -> &Pods {
        &self.kubelet.as_ref().unwrap().pods
    }

    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root.path().join("pods").join(uid)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Before its cgroups go: a pod that it still starts makes them anew.
        if let Some(kubelet) = self.kubelet.take() {
            let _ = std::thread::spawn(|| kubelet.end()).join();
        }
        self.outer.stop();
        let until = Instant::now() + LIMIT;
        let removed = loop {
            self.cgroups.kill(&self.cgroup_root);
            let removed = self.cgroups.remove(&self.cgroup_root);
            if removed.is_ok() || Instant::now() > until {
                break removed;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        for point in points.collect::<Vec<_>>().into_iter().rev() {
            if Path::new(point).starts_with(self.root.path()) {
                let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
            }
        }
        if !std::thread::panicking() {
            removed.expect("its cgroups and what runs in them are gone");
        }
    }
}

/// Gives every pod the network that the test runs in, and notes who has one.
#[derive(Default)]
pub(crate) struct Network {
    pub(crate) pods: Mutex<BTreeSet<String>>,
    /// Those of pods with users of their own.
    own: Mutex<BTreeMap<String, OwnedFd>>,
}

impl PodNetwork for Network {
    fn setup(&self, pod: network::Pod) -> network::Answer<'_, Attachment> {
        let mut netns = PathBuf::from("/proc/self/ns/net");
        if !pod.users.is_empty() {
            let own = userns::create_network(&pod.users, &pod.users).unwrap();
            netns = format!("/proc/self/fd/{}", own.as_raw_fd()).into();
            self.own.lock().insert(pod.uid.clone(), own);
        }
        self.pods.lock().insert(pod.uid);
        Box::pin(async move {
            Ok(Attachment {
                netns,
                ips: vec!["10.1.2.3".parse().unwrap()],
            })
        })
    }

    fn teardown<'a>(&'a self, uid: &'a str) -> network::Answer<'a, ()> {
        self.pods.lock().remove(uid);
        self.own.lock().remove(uid);
        Box::pin(async { Ok(()) })
    }

    fn attachment(&self, _uid: &str) -> Option<Attachment> {
        None
    }

    fn reconcile(&self, live: BTreeSet<String>) -> network::Answer<'_, ()> {
        self.pods.lock().retain(|uid| live.contains(uid));
        Box::pin(async { Ok(()) })
    }

    fn set_pod_cidrs(&self, _cidrs: Vec<ipnet::IpNet>) -> network::Answer<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn status(&self) -> Status {
        Status::Ready
    }
}

/// Claims and volumes of the API server, and nothing else.
struct Claims(Client);

fn read<T>(
    answer: Result<T, component::client::Error>,
    kind: &'static str,
    name: &str,
) -> Result<T, ObjectError> {
    answer.map_err(|err| match err.is_not_found() {
        true => ObjectError::NotFound {
            kind,
            name: name.to_owned(),
        },
        false => ObjectError::Failed(err.to_string()),
    })
}

fn none<T: Send + 'static>(kind: &'static str, name: &str) -> volume::Answer<'static, T> {
    let name = name.to_owned();
    Box::pin(async move { Err(ObjectError::NotFound { kind, name }) })
}

impl Objects for Claims {
    fn config_map<'a>(
        &'a self,
        _namespace: &'a str,
        name: &'a str,
    ) -> volume::Answer<'a, Arc<k8s_openapi::api::core::v1::ConfigMap>> {
        none("configmap", name)
    }

    fn secret<'a>(
        &'a self,
        _namespace: &'a str,
        name: &'a str,
    ) -> volume::Answer<'a, Arc<k8s_openapi::api::core::v1::Secret>> {
        none("secret", name)
    }

    fn token(&self, request: TokenRequest) -> volume::Answer<'_, String> {
        none("serviceaccount", &request.service_account)
    }

    fn trust_anchors(&self, _: TrustBundles, _: bool) -> volume::Answer<'_, Vec<u8>> {
        none("clustertrustbundle", "")
    }

    fn certificate(&self, request: CertificateRequest) -> volume::Answer<'_, Arc<Credentials>> {
        none("podcertificaterequest", &request.signer)
    }

    fn claim<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> volume::Answer<'a, PersistentVolumeClaim> {
        let claims = self.0.namespaced::<PersistentVolumeClaim>(namespace);
        Box::pin(async move { read(claims.get(name).await, "persistentvolumeclaims", name) })
    }

    fn persistent_volume<'a>(&'a self, name: &'a str) -> volume::Answer<'a, PersistentVolume> {
        let volumes = self.0.all::<PersistentVolume>();
        Box::pin(async move { read(volumes.get(name).await, "persistentvolumes", name) })
    }
}

/// An image with nothing but busybox, as `docker save` writes one.
fn archive_bytes() -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    layer
        .append_path_with_name("/bin/busybox", "bin/busybox")
        .unwrap();
    for applet in ["sh", "sleep", "cat", "echo", "touch", "test", "kill"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        let path = format!("bin/{applet}");
        layer.append_link(&mut header, path, "busybox").unwrap();
    }
    let layer = layer.into_inner().unwrap();
    let digest: String = Sha256::digest(&layer)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let here = Platform::of_this_machine();
    let config = serde_json::json!({
        "architecture": here.architecture, "os": here.os,
        "config": { "Env": ["PATH=/bin"], "Cmd": ["/bin/sh"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    let manifest = serde_json::json!([
        { "Config": "config.json", "RepoTags": ["busybox:1"], "Layers": ["layer.tar"] },
    ]);
    let mut archive = tar::Builder::new(Vec::new());
    let files = [
        ("config.json", config.to_string().into_bytes()),
        ("layer.tar", layer),
        ("manifest.json", manifest.to_string().into_bytes()),
    ];
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

/// Where shim and helper are.
fn libexec() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| match std::env::var_os("RUNTIME_LIBEXEC_DIR") {
        Some(dir) => dir.into(),
        None => build_programs(),
    })
}

fn build_programs() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args([
            "build",
            "-p",
            "navarch-shim",
            "-p",
            "navarch-helper",
            "--bins",
        ])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let mut built = text.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    });
    built.next_back().unwrap().parent().unwrap().to_owned()
}
