//! A private etcd: real processes on free loopback ports with their data in a temporary directory,
//! killed by their own process ids when the test ends.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::etcd::{Client, Config};

/// The etcd binaries to test against: Debian's, and the newest that the project's tools have built.
pub struct Etcds;

impl Etcds {
    /// `NAVARCH_ETCD` alone if it is set; otherwise all that are found, at least one.
    ///
    /// # Panics
    /// When none is installed.
    #[must_use]
    pub fn all() -> Vec<PathBuf> {
        if let Some(path) = std::env::var_os("NAVARCH_ETCD") {
            return vec![path.into()];
        }
        let built = std::env::home_dir().map(|home| home.join(".cache/navarch/tools/etcd"));
        let found: Vec<PathBuf> = [Some(PathBuf::from("/usr/bin/etcd")), built]
            .into_iter()
            .flatten()
            .filter(|p| p.exists())
            .collect();
        assert!(
            !found.is_empty(),
            "no etcd is installed: apt-get install etcd-server, or hack/tools etcd"
        );
        found
    }

    /// The newest one.
    ///
    /// # Panics
    /// When none is installed.
    #[must_use]
    pub fn newest() -> PathBuf {
        Self::all().pop().expect("there is at least one")
    }
}

/// One member.
pub struct Etcd {
    binary: PathBuf,
    dir: tempfile::TempDir,
    name: String,
    client_port: u16,
    peer_port: u16,
    /// All members of its cluster, as etcd's flag has them.
    cluster: String,
    tls: Option<Tls>,
    /// Flags of its own.
    more: Vec<String>,
    child: Option<Child>,
}

/// Certificates of a member, which must be good for clients too.
#[derive(Clone)]
pub struct Tls {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Etcd {
    /// Starts a member of its own and waits until it serves.
    ///
    /// # Panics
    /// When it does not within 20 seconds.
    pub async fn start(binary: &Path) -> Self {
        Self::cluster(binary, 1)
            .await
            .pop()
            .expect("one was started")
    }

    /// Starts a member that asks for client certificates.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub async fn start_tls(binary: &Path, tls: Tls) -> Self {
        let mut etcd = Self::new(binary, 0);
        etcd.tls = Some(tls);
        etcd.cluster = etcd.peer();
        etcd.run();
        etcd.serves().await;
        etcd
    }

    /// Starts a member whose database may become this large.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub async fn start_limited(binary: &Path, quota: u64) -> Self {
        Self::start_with(binary, vec![format!("--quota-backend-bytes={quota}")]).await
    }

    /// Starts a member that tells a collector of its part in traces.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub async fn start_traced(binary: &Path, collector: std::net::SocketAddr) -> Self {
        let address = format!("--distributed-tracing-address={collector}");
        Self::start_with(binary, vec!["--enable-distributed-tracing".into(), address]).await
    }

    async fn start_with(binary: &Path, more: Vec<String>) -> Self {
        let mut etcd = Self::new(binary, 0);
        etcd.more = more;
        etcd.cluster = etcd.peer();
        etcd.run();
        etcd.serves().await;
        etcd
    }

    /// Starts a cluster of `n` members and waits until it serves.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub async fn cluster(binary: &Path, n: usize) -> Vec<Self> {
        let mut members: Vec<Self> = (0..n).map(|i| Self::new(binary, i)).collect();
        let cluster = members.iter().map(Self::peer).collect::<Vec<_>>().join(",");
        for member in &mut members {
            member.cluster.clone_from(&cluster);
            member.run();
        }
        for member in &members {
            member.serves().await;
        }
        members
    }

    fn new(binary: &Path, i: usize) -> Self {
        Self {
            binary: binary.to_owned(),
            dir: tempfile::tempdir().expect("the temporary directory is writable"),
            name: format!("m{i}"),
            client_port: free_port(),
            peer_port: free_port(),
            cluster: String::new(),
            tls: None,
            more: Vec::new(),
            child: None,
        }
    }

    fn peer(&self) -> String {
        format!("{}=http://127.0.0.1:{}", self.name, self.peer_port)
    }

    /// Its client URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.client_port)
    }

    #[must_use]
    pub fn config(&self) -> Config {
        let file = |of: fn(&Tls) -> &PathBuf| self.tls.as_ref().map(|tls| of(tls).clone());
        Config {
            servers: vec![self.url()],
            ca_file: file(|tls| &tls.ca),
            cert_file: file(|tls| &tls.cert),
            key_file: file(|tls| &tls.key),
        }
    }

    pub(super) fn address(&self) -> std::net::SocketAddr {
        std::net::SocketAddr::from(([127, 0, 0, 1], self.client_port))
    }

    /// A client of its own.
    ///
    /// # Panics
    /// Never: the configuration is valid.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&self.config()).expect("the configuration is valid")
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again where it was.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub async fn restart(&mut self) {
        self.kill();
        self.run();
        self.serves().await;
    }

    /// Starts an empty one in its place: another cluster.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub async fn replace(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.data()).expect("the directory is ours");
        self.run();
        self.serves().await;
    }

    /// Copies its data, while it is killed, to put back later.
    ///
    /// # Panics
    /// When the copy fails.
    pub fn backup(&self) {
        copy(&self.data(), &self.dir.path().join("backup"));
    }

    /// Puts the copy back and starts: the history goes back in time.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub async fn restore(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.data()).expect("the directory is ours");
        copy(&self.dir.path().join("backup"), &self.data());
        self.run();
        self.serves().await;
    }

    /// Stops the process without ending it: its sockets stay open and say nothing. A signal stops threads one by one; this
    /// returns when the last one stands.
    ///
    /// # Panics
    /// If it goes on for ten seconds, or is not there.
    pub fn freeze(&self) {
        self.signal("-STOP");
        let id = self.child.as_ref().expect("a process to freeze").id();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !stands_still(id) {
            assert!(Instant::now() < deadline, "etcd does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        if let Some(child) = &self.child {
            let _ = Command::new("kill")
                .args([signal, &child.id().to_string()])
                .status();
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn run(&mut self) {
        let (client, peer) = (self.url(), format!("http://127.0.0.1:{}", self.peer_port));
        let log =
            std::fs::File::create(self.dir.path().join("log")).expect("the directory is ours");
        let mut command = Command::new(&self.binary);
        command
            .arg("--data-dir")
            .arg(self.data())
            .args(["--name", &self.name])
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args([
                "--initial-cluster",
                &self.cluster,
                "--heartbeat-interval",
                "50",
                "--election-timeout",
                "500",
            ])
            .args(&self.more)
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(Tls { ca, cert, key }) = &self.tls {
            command
                .arg("--client-cert-auth")
                .arg("--trusted-ca-file")
                .arg(ca);
            command
                .arg("--cert-file")
                .arg(cert)
                .arg("--key-file")
                .arg(key);
        }
        self.child = Some(command.spawn().expect("etcd starts"));
    }

    /// Waits until it serves linearizable reads.
    async fn serves(&self) {
        let (start, client) = (Instant::now(), self.client());
        while client.status().await.is_err() {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "etcd does not serve: {}",
                self.log()
            );
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .expect("cp runs");
    assert!(status.success());
}

/// A port that nobody listens on at the moment.
///
/// # Panics
/// When the loopback interface has none.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

/// Whether every thread of a process is stopped, proc_pid_stat(5).
fn stands_still(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    threads.flatten().all(|thread| {
        // Empty of a thread that has ended meanwhile. The name before the state is in parentheses and may hold any letter.
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}
