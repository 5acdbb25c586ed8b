//! A node to test on: a root directory, a cgroup subtree of its own, a busybox image. Everything is
//! ended and removed when it is dropped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use component::Supervisor;
use kubelet::runtime::cgroup::{self, Hierarchies, Qos};
use kubelet::runtime::native::Config;
use kubelet::runtime::sandbox::PodSandboxMetadata;
use kubelet::runtime::{
    ContainerConfig, ContainerState, ContainerStatus, NamespaceMode, Native, PodSandboxConfig,
    Runtime,
};

pub(crate) struct Node {
    pub(crate) root: tempfile::TempDir,
    pub(crate) cgroup_root: String,
    pub(crate) cgroups: Hierarchies,
    /// `None` while the kubelet is down.
    native: Option<Native>,
    tasks: Supervisor,
}

/// Nothing that is waited for takes longer, even on a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

impl Node {
    pub(crate) async fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = tempfile::tempdir().unwrap();
        make_image(&root.path().join("image"));
        let mut node = Self {
            root,
            cgroup_root: format!("/navarch-test-{}-{number}", std::process::id()),
            cgroups: Hierarchies::detect().unwrap(),
            native: None,
            tasks: Supervisor::current(),
        };
        node.start_kubelet().await;
        node
    }

    /// A kubelet's runtime, new each time, on the same root.
    pub(crate) async fn start_kubelet(&mut self) {
        let config = Config {
            root: self.root.path().join("state"),
            libexec_dir: Some(libexec().to_owned()),
            cgroup_root: self.cgroup_root.clone(),
        };
        self.tasks = Supervisor::current();
        self.native = Some(Native::open(config, self.tasks.clone()).await.unwrap());
    }

    /// What a killed kubelet leaves: connections end, nothing is said to anybody.
    pub(crate) async fn kill_kubelet(&mut self) {
        self.native = None;
        self.tasks.stop();
        let _ = self
            .tasks
            .finished(component::supervisor::Shutdown::default())
            .await;
    }

    pub(crate) fn runtime(&self) -> &Native {
        self.native.as_ref().unwrap()
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.root.path().join("image")
    }

    pub(crate) fn pod(&self, uid: &str) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: PodSandboxMetadata {
                uid: uid.into(),
                name: "pod".into(),
                ..Default::default()
            },
            hostname: "pod-host".into(),
            cgroup_parent: cgroup::pod_path(&self.cgroup_root, Qos::Burstable, uid),
            pid: NamespaceMode::Container,
            ..Default::default()
        }
    }

    /// A sandbox with nothing special.
    pub(crate) async fn sandbox(&self) -> String {
        self.runtime()
            .run_pod_sandbox(self.pod("uid"))
            .await
            .unwrap()
    }

    /// A container that runs a shell script.
    pub(crate) fn shell(&self, script: &str) -> ContainerConfig {
        ContainerConfig {
            rootfs: self.rootfs(),
            command: vec!["/bin/sh".into(), "-c".into(), script.into()],
            log_path: Some(self.log_path()),
            ..Default::default()
        }
    }

    fn log_path(&self) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        self.root.path().join(format!("logs/{number}/0.log"))
    }

    /// Creates and starts.
    pub(crate) async fn run(&self, sandbox: &str, config: ContainerConfig) -> String {
        let id = self
            .runtime()
            .create_container(sandbox, config)
            .await
            .unwrap();
        self.runtime().start_container(&id).await.unwrap();
        id
    }

    /// Runs a script to its end; what it wrote, and its status.
    pub(crate) async fn script(&self, sandbox: &str, script: &str) -> (String, ContainerStatus) {
        self.finish(sandbox, self.shell(script)).await
    }

    pub(crate) async fn finish(
        &self,
        sandbox: &str,
        config: ContainerConfig,
    ) -> (String, ContainerStatus) {
        let id = self.run(sandbox, config).await;
        let status = self.exited(&id).await;
        (self.output(&status), status)
    }

    pub(crate) async fn status(&self, id: &str) -> ContainerStatus {
        self.runtime().container_status(id).await.unwrap()
    }

    /// Waits for the end of a container, by events.
    pub(crate) async fn exited(&self, id: &str) -> ContainerStatus {
        let mut events = self.runtime().events();
        tokio::time::timeout(LIMIT, async {
            loop {
                let status = self.status(id).await;
                if status.state == ContainerState::Exited {
                    return status;
                }
                events.next().await;
            }
        })
        .await
        .unwrap()
    }

    /// What a container wrote to its standard output and error, out of its log.
    pub(crate) fn output(&self, status: &ContainerStatus) -> String {
        let text = fs::read_to_string(status.log_path.as_ref().unwrap()).unwrap();
        let mut output = String::new();
        for line in text.lines() {
            let mut fields = line.splitn(4, ' ');
            let tag = fields.nth(2).unwrap();
            output.push_str(fields.next().unwrap());
            output.push_str(if tag == "F" { "\n" } else { "" });
        }
        output
    }

    /// Runs a command in a container; its output.
    pub(crate) async fn exec(&self, id: &str, script: &str) -> String {
        let command = vec!["/bin/sh".into(), "-c".into(), script.into()];
        let output = self.runtime().exec_sync(id, command, LIMIT).await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            output.exit_code,
            0,
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < LIMIT, "{what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.stop();
        for _ in 0..1000 {
            self.cgroups.kill(&self.cgroup_root);
            if self.cgroups.remove(&self.cgroup_root).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for point in mounts.lines().filter_map(|line| line.split(' ').nth(4)) {
            if Path::new(point).starts_with(self.root.path()) {
                let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
            }
        }
        let left = self
            .cgroups
            .dirs(&self.cgroup_root)
            .into_iter()
            .find(|dir| dir.exists());
        if !std::thread::panicking() {
            assert_eq!(left, None, "cgroups are left");
        }
    }
}

fn make_image(root: &Path) {
    for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "root"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(list.stdout)
        .unwrap()
        .lines()
        .filter(|a| *a != "busybox")
    {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/home/web:/bin/sh\n",
    )
    .unwrap();
    fs::write(
        root.join("etc/group"),
        "root:x:0:\nweb:x:34:\nssl:x:50:web\n",
    )
    .unwrap();
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
        let message: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    });
    built.next_back().unwrap().parent().unwrap().to_owned()
}
