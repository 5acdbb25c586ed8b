//! etcd and upstream's API server, as processes on loopback, in a directory that goes away.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use component::Supervisor;
use component::client::{Client, Config};
use component::metrics::Metrics;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

/// A process that ends with its handle.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    tools: PathBuf,
    etcd_port: u16,
    port: u16,
    api: Option<Process>,
    _etcd: Process,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let cache = std::env::var("NAVARCH_CACHE")
            .map(PathBuf::from)
            .unwrap_or_else(|_| {
                PathBuf::from(std::env::var("HOME").expect("a home directory"))
                    .join(".cache/navarch")
            });
        let tools = cache.join("tools");
        for tool in ["etcd", "kube-apiserver", "kube-scheduler"] {
            assert!(
                tools.join(tool).exists(),
                "{tool} is missing: run `hack/tools etcd kube-apiserver kube-scheduler`"
            );
        }
        let dir = tempfile::tempdir().unwrap();
        pki(dir.path());
        let (etcd_port, peer, port) = (free_port(), free_port(), free_port());
        let url = |port| format!("http://127.0.0.1:{port}");
        let mut etcd = Command::new(tools.join("etcd"));
        etcd.args(["--name=x", "--data-dir"])
            .arg(dir.path().join("etcd"))
            .args([
                format!("--listen-client-urls={}", url(etcd_port)),
                format!("--advertise-client-urls={}", url(etcd_port)),
                format!("--listen-peer-urls={}", url(peer)),
                format!("--initial-advertise-peer-urls={}", url(peer)),
                format!("--initial-cluster=x={}", url(peer)),
            ]);
        let etcd = spawn(etcd, &dir.path().join("etcd.log"));
        let mut cluster = Self {
            dir,
            tools,
            etcd_port,
            port,
            api: None,
            _etcd: etcd,
        };
        cluster.start_api().await;
        cluster
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub(crate) async fn start_api(&mut self) {
        let mut api = Command::new(self.tools.join("kube-apiserver"));
        api.args([
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            format!("--secure-port={}", self.port),
            format!("--tls-cert-file={}", self.file("server.crt")),
            format!("--tls-private-key-file={}", self.file("server.key")),
            format!("--client-ca-file={}", self.file("ca.crt")),
            format!("--service-account-key-file={}", self.file("server.crt")),
            format!(
                "--service-account-signing-key-file={}",
                self.file("server.key")
            ),
        ]);
        api.args([
            "--bind-address=127.0.0.1",
            "--advertise-address=10.1.2.3",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            "--etcd-compaction-interval=0",
        ]);
        self.api = Some(spawn(api, &self.dir.path().join("api.log")));
        let client = self.client(&Supervisor::current());
        let start = Instant::now();
        loop {
            let Err(e) = client.raw(http::Method::GET, "/readyz", "*/*", None).await else {
                return;
            };
            if start.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(self.file("api.log")).unwrap();
                let last: Vec<_> = log.lines().rev().take(15).collect();
                panic!(
                    "not ready: {}\n{}",
                    component::supervisor::chain(&e),
                    last.join("\n")
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Upstream's scheduler, which leads if it can; it dies by SIGKILL with its handle.
    pub(crate) fn scheduler(&self) -> Process {
        let mut scheduler = Command::new(self.tools.join("kube-scheduler"));
        scheduler.args([
            format!("--kubeconfig={}", self.file("admin.kubeconfig")),
            "--leader-elect-lease-duration=4s".to_owned(),
            "--leader-elect-renew-deadline=3s".to_owned(),
            "--leader-elect-retry-period=1s".to_owned(),
            "--secure-port=0".to_owned(),
        ]);
        spawn(scheduler, &self.dir.path().join("scheduler.log"))
    }

    /// SIGKILL.
    pub(crate) fn kill_api(&mut self) {
        self.api = None;
    }

    pub(crate) fn config(&self) -> Config {
        Config::from_kubeconfig(Path::new(&self.file("admin.kubeconfig"))).unwrap()
    }

    pub(crate) fn client(&self, tasks: &Supervisor) -> Client {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters:\n- name: k\n  cluster: {{server: 'https://127.0.0.1:{}', certificate-authority: ca.crt}}\n\
             users:\n- name: u\n  user: {{client-certificate: admin.crt, client-key: admin.key}}\n\
             contexts:\n- name: c\n  context: {{cluster: k, user: u}}\n",
            self.port
        );
        std::fs::write(self.file("admin.kubeconfig"), text).unwrap();
        let config = Config {
            qps: -1.0,
            ..self.config()
        };
        Client::new(config, "kube-test", tasks, &Metrics::new()).unwrap()
    }

    /// Compacts etcd up to its newest revision, through its own JSON gateway.
    pub(crate) async fn compact(&self) {
        let etcd = Config {
            qps: -1.0,
            ..Config::new(&format!("http://127.0.0.1:{}", self.etcd_port))
        };
        let etcd = Client::new(etcd, "test", &Supervisor::current(), &Metrics::new()).unwrap();
        let post = async |path: &str, body: serde_json::Value| -> serde_json::Value {
            etcd.request(http::Method::POST, path, &[], Some(&body))
                .await
                .unwrap()
        };
        let head = post("/v3/kv/range", serde_json::json!({"key": "AA=="})).await;
        post(
            "/v3/kv/compaction",
            serde_json::json!({"revision": head["header"]["revision"], "physical": true}),
        )
        .await;
    }
}

fn spawn(mut command: Command, log: &Path) -> Process {
    let log = File::options().create(true).append(true).open(log).unwrap();
    let errors = log.try_clone().unwrap();
    Process(
        command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .unwrap(),
    )
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// ca, server and admin.
fn pki(dir: &Path) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    std::fs::write(dir.join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    let ca = Issuer::new(params, key);
    let sign = |name: &str, params: CertificateParams| {
        let key = KeyPair::generate().unwrap();
        std::fs::write(
            dir.join(format!("{name}.crt")),
            params.signed_by(&key, &ca).unwrap().pem(),
        )
        .unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    };
    let mut server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    sign("server", server);
    let mut admin = CertificateParams::default();
    admin.distinguished_name.push(DnType::CommonName, "admin");
    admin
        .distinguished_name
        .push(DnType::OrganizationName, "system:masters");
    admin.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    sign("admin", admin);
}
