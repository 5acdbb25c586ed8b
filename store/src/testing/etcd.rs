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
        let found: Vec<PathBuf> =
            [Some(PathBuf::from("/usr/bin/etcd")), built].into_iter().flatten().filter(|p| p.exists()).collect();
        assert!(!found.is_empty(), "no etcd is installed: apt-get install etcd-server, or hack/tools etcd");
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

/// One running member.
pub struct Etcd {
    binary: PathBuf,
    dir: tempfile::TempDir,
    client_port: u16,
    peer_port: u16,
    extra: Vec<String>,
    child: Option<Child>,
}

impl Etcd {
    /// Starts a member and waits until it serves.
    ///
    /// # Panics
    /// When it does not within 20 seconds.
    pub async fn start(binary: &Path) -> Self {
        Self::start_with(binary, &[]).await
    }

    /// Starts a member with more flags.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub async fn start_with(binary: &Path, extra: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("the temporary directory is writable");
        let mut etcd = Self {
            binary: binary.to_owned(),
            dir,
            client_port: free_port(),
            peer_port: free_port(),
            extra: extra.iter().map(|&s| s.to_owned()).collect(),
            child: None,
        };
        etcd.run().await;
        etcd
    }

    /// Its client URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    #[must_use]
    pub fn config(&self) -> Config {
        Config { servers: vec![self.url()], ca_file: None, cert_file: None, key_file: None }
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
        self.run().await;
    }

    /// Starts an empty one in its place: another cluster.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub async fn replace(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.data()).expect("the directory is ours");
        self.run().await;
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
        self.run().await;
    }

    /// Stops the process without ending it: its sockets stay open and say nothing.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        if let Some(child) = &self.child {
            let _ = Command::new("kill").args([signal, &child.id().to_string()]).status();
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    async fn run(&mut self) {
        let (client, peer) = (self.url(), format!("http://127.0.0.1:{}", self.peer_port));
        let log = std::fs::File::create(self.dir.path().join("log")).expect("the directory is ours");
        let scheme_given = self.extra.iter().any(|e| e.starts_with("--listen-client-urls"));
        let mut command = Command::new(&self.binary);
        command.arg("--data-dir").arg(self.data()).args(["--name", "test"]);
        if !scheme_given {
            command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        }
        command
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("test={peer}"), "--unsafe-no-fsync"])
            .args(&self.extra)
            .stdout(Stdio::null())
            .stderr(log);
        if self.is_old() {
            // etcd 3.4 has no such flag.
            command = without(&command, "--unsafe-no-fsync", self.dir.path());
        }
        self.child = Some(command.spawn().expect("etcd starts"));
        if scheme_given {
            return;
        }
        let start = Instant::now();
        while self.client().status().await.is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "etcd does not serve: {}", self.log());
        }
    }

    fn is_old(&self) -> bool {
        let out = Command::new(&self.binary).arg("--version").output().expect("etcd runs");
        String::from_utf8_lossy(&out.stdout).contains("Version: 3.4")
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

fn without(command: &Command, flag: &str, dir: &Path) -> Command {
    let mut other = Command::new(command.get_program());
    other.args(command.get_args().filter(|arg| *arg != flag));
    let log = std::fs::File::create(dir.join("log")).expect("the directory is ours");
    other.stdout(Stdio::null()).stderr(log);
    other
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
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
