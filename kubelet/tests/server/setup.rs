//! A node with a server, a pod with containers, and certificates.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use component::Supervisor;
use component::metrics::Metrics;
use component::serving::{Authenticator, Authorizer, ClientCa, Identity, Options, Pair, Tls};
use k8s_openapi::api::core::v1::Pod;
use kubelet::runtime::{ContainerConfig, Runtime};
use kubelet::server::{self, Auth, Config, Parts, Source};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::node::Node;

pub(crate) const POD_UID: &str = "11112222-3333";

pub(crate) struct Setup {
    pub(crate) node: Node,
    pub(crate) sandbox: String,
    pub(crate) address: SocketAddr,
    pub(crate) plain: SocketAddr,
    pub(crate) ca: Ca,
    pub(crate) tasks: Supervisor,
    pub(crate) pods: Arc<Pods>,
}

/// The pods of the tests.
#[derive(Default)]
pub(crate) struct Pods {
    all: Mutex<Vec<Arc<Pod>>>,
    pub(crate) stuck: AtomicBool,
}

impl Source for Pods {
    fn all(&self) -> Vec<Arc<Pod>> {
        self.all.lock().clone()
    }

    fn get(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let is = |pod: &&Arc<Pod>| {
            pod.metadata.name.as_deref() == Some(name)
                && pod.metadata.namespace.as_deref() == Some(namespace)
        };
        self.all.lock().iter().find(is).cloned()
    }

    fn by_uid(&self, uid: &str) -> Option<Arc<Pod>> {
        let is = |pod: &&Arc<Pod>| pod.metadata.uid.as_deref() == Some(uid);
        self.all.lock().iter().find(is).cloned()
    }

    fn health(&self) -> Result<(), String> {
        let stuck = self.stuck.load(Ordering::Relaxed);
        (!stuck).then_some(()).ok_or_else(|| "stuck".to_owned())
    }
}

pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    pub(crate) fn sign(&self, hosts: &[&str], user: &str, group: &str) -> Pair {
        let hosts: Vec<String> = hosts.iter().map(|h| (*h).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, user);
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
            rcgen::ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    pub(crate) fn admin(&self) -> Pair {
        self.sign(&[], "admin", "system:masters")
    }
}

impl Setup {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let node = Node::start().await;
        let mut pod = node.pod(POD_UID);
        pod.metadata.namespace = "ns".into();
        pod.metadata.name = "web".into();
        let sandbox = node.runtime().run_pod_sandbox(pod).await.unwrap();
        let ca = Ca::new();
        let tasks = Supervisor::current();
        let client_ca = ClientCa::unset();
        client_ca.set(&ca.pem).unwrap();
        let nobody = Duration::from_secs(1);
        let auth = Auth {
            authenticator: Authenticator::new(Some(client_ca), None, false),
            authorizer: Some(Authorizer::new(None, nobody, nobody, Vec::new())),
        };
        let loopback = "127.0.0.1:0".parse().unwrap();
        let identity = Identity::Memory(ca.sign(&["127.0.0.1"], "node", "nodes"));
        let logs = node.root.path().join("logs");
        std::fs::create_dir_all(&logs).unwrap();
        let mut config = Config {
            node_name: "node".into(),
            secure: Options::secure(loopback, Tls::new(identity)),
            read_only: Some(Options::plain(loopback)),
            streaming_idle: Duration::from_secs(4 * 3600),
            new_websockets: true,
            enable_debugging_handlers: true,
            enable_system_log_handler: true,
            enable_system_log_query: false,
            enable_profiling_handler: true,
            enable_debug_flags_handler: true,
            log_dir: logs,
            root_dir: node.root.path().to_owned(),
            image_dir: node.root.path().join("image"),
            pods_cgroup: format!("{}/kubepods", node.cgroup_root),
            tracer: component::tracing::Tracer::default(),
        };
        change(&mut config);
        let pods = Arc::new(Pods::default());
        let parts = Parts {
            pods: Arc::clone(&pods) as Arc<dyn Source>,
            runtime: Arc::new(node.runtime().clone()),
            metrics: Metrics::new(),
            probe_metrics: Metrics::new(),
            pages: component::serving::Pages::new(
                "kubelet",
                &component::args::Args::default(),
                &[],
            ),
            configz: serde_json::Map::from_iter([(
                "kubeletconfig".into(),
                serde_json::json!({"port": 10250}),
            )]),
            auth,
            config,
        };
        let bound = server::serve(parts, &tasks).unwrap();
        let setup = Self {
            node,
            sandbox,
            address: bound.secure,
            plain: bound.read_only.unwrap(),
            ca,
            tasks,
            pods,
        };
        setup.publish(&[]);
        setup
    }

    /// Runs a shell script in a container of the pod; its id.
    pub(crate) async fn run(&self, name: &str, script: &str) -> String {
        self.run_as(name, self.node.shell(script)).await
    }

    pub(crate) async fn run_as(&self, name: &str, mut config: ContainerConfig) -> String {
        config.metadata.name = name.into();
        config.image = "busybox".into();
        let labels = [
            ("io.kubernetes.pod.uid", POD_UID),
            ("io.kubernetes.container.name", name),
        ];
        config.labels = BTreeMap::from(labels.map(|(k, v)| (k.to_owned(), v.to_owned())));
        let tty = config.tty;
        let id = self.node.run(&self.sandbox, config).await;
        self.publish(&[(name, &id, tty)]);
        id
    }

    /// Says what containers the pod has, all of them running.
    pub(crate) fn publish(&self, containers: &[(&str, &str, bool)]) {
        let spec: Vec<_> = containers
            .iter()
            .map(|(name, _, tty)| serde_json::json!({"name": name, "tty": tty}))
            .collect();
        let statuses: Vec<_> = containers
            .iter()
            .map(|(name, id, _)| {
                serde_json::json!({
                    "name": name, "image": "", "imageID": "", "ready": true, "restartCount": 0,
                    "containerID": format!("navarch://{id}"), "state": {"running": {}},
                })
            })
            .collect();
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": "ns", "uid": POD_UID},
            "spec": {"containers": spec},
            "status": {"containerStatuses": statuses},
        });
        *self.pods.all.lock() = vec![Arc::new(proto::typed::from_json_value(pod).unwrap())];
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}
