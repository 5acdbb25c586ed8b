//! The daemon as a process, with its etcd and certificates.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use component::Supervisor;
use component::client::{Client, Config, Error};
use component::metrics::Metrics;
use component::testing::{Ca, Files};
use http::Method;
use http_body_util::BodyExt;
use serde_json::Value;
use store::testing::{Direct, Etcd, Etcds};

pub(crate) struct Daemon {
    admin: User,
    ca: Ca,
    files: Files,
    port: u16,
    key: String,
    /// All but the port.
    flags: Vec<String>,
    process: Child,
    etcd: Etcd,
}

/// A server beside a [`Daemon`].
pub(crate) struct Second {
    pub(crate) admin: User,
    process: Child,
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0");
    listener.and_then(|l| l.local_addr()).unwrap().port()
}

/// The daemon.
pub(crate) const OURS: &str = env!("CARGO_BIN_EXE_kube-apiserver");

fn spawn(program: &Path, flags: &[String], port: u16) -> Child {
    spawn_by(Command::new(program), flags, port)
}

/// Servers are told apart by their hosts' names: the program on a host of another name.
fn elsewhere(program: &Path, host: &str) -> Command {
    let mut command = Command::new("unshare");
    let named = "echo \"$0\" > /proc/sys/kernel/hostname && exec \"$@\"";
    command
        .args(["--uts", "sh", "-c", named, host])
        .arg(program);
    command
}

fn spawn_by(mut command: Command, flags: &[String], port: u16) -> Child {
    if flags.iter().any(|flag| flag.starts_with("--peer-ca-file=")) {
        command.arg("--peer-advertise-ip=127.0.0.1");
        command.arg(format!("--peer-advertise-port={port}"));
    }
    command
        .args(flags)
        .arg(format!("--secure-port={port}"))
        // All the time its caches are compared with etcd.
        .env("KUBE_WATCHCACHE_CONSISTENCY_CHECKER", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl std::ops::Deref for Daemon {
    type Target = User;
    fn deref(&self) -> &User {
        &self.admin
    }
}

impl Daemon {
    /// Starts a server that members of `system:masters` may do everything on.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| Vec::new()).await
    }

    /// The same with more flags, which may name files that are written for them.
    pub(crate) async fn start_with(more: impl FnOnce(&Files) -> Vec<String>) -> Self {
        Self::start_on(Etcd::start(&Etcds::newest()).await, more).await
    }

    /// The same on this etcd.
    pub(crate) async fn start_on(etcd: Etcd, more: impl FnOnce(&Files) -> Vec<String>) -> Self {
        let (ca, files) = (Ca::new("ca"), Files::new());
        let server = ca.server(&["127.0.0.1", "kubernetes.default.svc"]);
        let file = |name: &str, text: &str| files.write(name, text).display().to_string();
        let cert = file("server.crt", &server.cert);
        let key_file = file("server.key", &server.key);
        let port = free_port();
        let more = more(&files);
        // A file names all authorizers or none.
        let roles = !more
            .iter()
            .any(|flag| flag.starts_with("--authorization-config="));
        // Pods need no accounts where nothing is said of accounts.
        let accounts = more
            .iter()
            .any(|flag| flag.ends_with("-admission-plugins=ServiceAccount"));
        let mut flags = vec![
            format!("--etcd-servers={}", etcd.url()),
            format!("--tls-cert-file={cert}"),
            format!("--tls-private-key-file={key_file}"),
            format!("--client-ca-file={}", file("ca.crt", &ca.pem)),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=10.1.2.3".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        ];
        // A plugin signs tokens, or a key.
        if !more
            .iter()
            .any(|flag| flag.starts_with("--service-account-signing-endpoint="))
        {
            flags.push(format!("--service-account-key-file={cert}"));
            flags.push(format!("--service-account-signing-key-file={key_file}"));
        }
        flags.extend((!accounts).then(|| "--disable-admission-plugins=ServiceAccount".to_owned()));
        flags.extend(roles.then(|| "--authorization-mode=RBAC".to_owned()));
        flags.extend(more);
        let process = spawn(Path::new(OURS), &flags, port);
        let admin = User::new(&ca, &files, port, "admin", &["system:masters"]);
        let daemon = Self {
            admin,
            ca,
            files,
            port,
            key: server.key,
            flags,
            process,
            etcd,
        };
        daemon.admin.found_well("/readyz").await;
        daemon
    }

    /// Another server with the same flags on the same etcd.
    pub(crate) async fn second(&self) -> Second {
        self.second_when(Path::new(OURS), "/readyz").await
    }

    /// The same of this program, waited for until this path says that it is well.
    pub(crate) async fn second_when(&self, program: &Path, path: &str) -> Second {
        let port = free_port();
        self.well(spawn(program, &self.flags, port), port, path)
            .await
    }

    /// A server on a host of its own, with more flags.
    #[allow(dead_code, reason = "each program of tests has a use for a part")]
    pub(crate) async fn second_on(&self, host: &str, program: &Path, more: &[String]) -> Second {
        let port = free_port();
        let flags = [&self.flags, more].concat();
        let process = spawn_by(elsewhere(program, host), &flags, port);
        self.well(process, port, "/readyz").await
    }

    async fn well(&self, process: Child, port: u16, path: &str) -> Second {
        let admin = User::new(&self.ca, &self.files, port, "admin", &["system:masters"]);
        let second = Second { admin, process };
        second.admin.found_well(path).await;
        second
    }

    /// Asks for its end, and waits for it.
    pub(crate) async fn terminate(&mut self) {
        let pid = self.process.id().to_string();
        let asked = Command::new("kill").arg(pid).status().unwrap();
        assert!(asked.success());
        let start = Instant::now();
        while self.process.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(20), "it goes on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The administrator, who asks as somebody else.
    pub(crate) fn acting_as(&self, name: &str) -> User {
        let login = format!("as: {name}, ");
        User::login(
            &self.ca,
            &self.files,
            self.port,
            ("admin", &["system:masters"]),
            &login,
        )
    }

    /// Its etcd, behind its back.
    pub(crate) fn etcd(&self) -> Direct {
        Direct::to(&self.etcd)
    }

    /// Where its files are.
    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// Where it is, and whom to believe there.
    pub(crate) fn place(&self) -> (u16, &Ca) {
        (self.port, &self.ca)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The key that signs tokens, in PEM.
    pub(crate) fn signing_key(&self) -> &str {
        &self.key
    }

    /// Somebody else.
    pub(crate) fn user(&self, name: &str) -> User {
        self.member(name, &[])
    }

    /// Somebody else, of some groups.
    pub(crate) fn member(&self, name: &str, groups: &[&str]) -> User {
        User::new(&self.ca, &self.files, self.port, name, groups)
    }
}

/// A client with a certificate.
pub(crate) struct User(Client);

impl User {
    fn new(ca: &Ca, files: &Files, port: u16, name: &str, groups: &[&str]) -> Self {
        Self::login(ca, files, port, (name, groups), "")
    }

    /// A login with more in it than the certificate.
    fn login(ca: &Ca, files: &Files, port: u16, who: (&str, &[&str]), more: &str) -> Self {
        let (name, groups) = who;
        let pair = ca.client(name, groups);
        files.write("ca.crt", &ca.pem);
        files.write(&format!("{name}.crt"), &pair.cert);
        files.write(&format!("{name}.key"), &pair.key);
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters:\n- name: k\n  cluster: {{server: 'https://127.0.0.1:{port}', certificate-authority: ca.crt}}\n\
             users:\n- name: u\n  user: {{{more}client-certificate: {name}.crt, client-key: {name}.key}}\n\
             contexts:\n- name: c\n  context: {{cluster: k, user: u}}\n"
        );
        let path = files.write(&format!("{name}.kubeconfig"), &text);
        let config = Config {
            qps: -1.0,
            ..Config::from_kubeconfig(&path).unwrap()
        };
        let tasks = Supervisor::current();
        Self(Client::new(config, "test", &tasks, &Metrics::new()).unwrap())
    }

    /// The port is known before it is served.
    async fn found_well(&self, path: &str) {
        let start = Instant::now();
        while self.call(Method::GET, path, None).await.is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "not ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        content: Option<(&'static str, Bytes)>,
    ) -> Result<(u16, Bytes), Error> {
        let answer = self.0.raw(method, path, "*/*", content).await?;
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        Ok((code, body))
    }

    /// Code and object, or code and `Status`.
    async fn json(
        &self,
        method: Method,
        path: &str,
        content: Option<(&'static str, Bytes)>,
    ) -> (u16, Value) {
        match self.call(method, path, content).await {
            Ok((code, body)) => (code, serde_json::from_slice(&body).unwrap()),
            Err(Error::Status(status)) => {
                let code = u16::try_from(status.code.unwrap()).unwrap();
                (code, serde_json::to_value(&status).unwrap())
            }
            Err(other) => panic!("{path}: {}", component::supervisor::chain(&other)),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.json(Method::GET, path, None).await
    }

    /// The code of an answer that need not be an object.
    pub(crate) async fn asked(&self, path: &str) -> u16 {
        match self.call(Method::GET, path, None).await {
            Ok((code, _)) => code,
            Err(error) => error.code().unwrap_or_default(),
        }
    }

    /// The text that is answered in this form.
    #[allow(dead_code, reason = "each program of tests has a use for a part")]
    pub(crate) async fn accepting(&self, path: &str, accept: &str) -> String {
        let answer = self.0.raw(Method::GET, path, accept, None).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        let (_, body) = self.call(Method::GET, path, None).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let method = method.parse().unwrap();
        let body = Bytes::from(body.to_string());
        self.json(method, path, Some(("application/json", body)))
            .await
    }

    pub(crate) async fn patch(&self, path: &str, kind: &'static str, body: &Value) -> (u16, Value) {
        let body = Bytes::from(body.to_string());
        self.json(Method::PATCH, path, Some((kind, body))).await
    }
}

/// Flags of servers that ask each other for what they do not serve themselves.
#[allow(dead_code, reason = "each program of tests has a use for a part")]
pub(crate) fn peers(files: &Files) -> Vec<String> {
    let proxies = Ca::new("proxies");
    let own = proxies.client("proxy", &[]);
    let file = |name: &str, text: &str| files.write(name, text).display().to_string();
    let place = files.write("here", "");
    vec![
        format!(
            "--requestheader-client-ca-file={}",
            file("proxies.crt", &proxies.pem)
        ),
        "--requestheader-allowed-names=proxy".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={}", file("proxy.crt", &own.cert)),
        format!("--proxy-client-key-file={}", file("proxy.key", &own.key)),
        // Written once the server's own files are.
        format!(
            "--peer-ca-file={}",
            place.with_file_name("ca.crt").display()
        ),
    ]
}

/// Waits for what the server does on its own account, or sees in its caches a moment after it was written.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
