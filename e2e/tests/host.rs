//! A host by itself, with a shell in place of daemons: needs neither network nor anything that is built elsewhere.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use e2e::init::{
    FIRST, First, HOST, Host, Node, PROCESSES, Process, ProcessStatus, STATUS, Status, Wanted,
    start_time,
};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

/// A host that is ended with this value.
struct Running {
    dir: TempDir,
    generation: u64,
    namespace: Option<String>,
}

impl Running {
    fn launch(node: impl FnOnce(&Path) -> Option<(String, Node)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (namespace, node) = node(dir.path()).unzip();
        let host = Host {
            name: "node-7".to_owned(),
            dir: dir.path().to_owned(),
            // The test's own: hosts of a cluster get theirs from the cluster.
            cgroup: PathBuf::new(),
            log: dir.path().join("host.log"),
            node,
        };
        let spec = dir.path().join(HOST);
        fs::write(&spec, serde_json::to_vec(&host).unwrap()).unwrap();
        let launcher = env!("CARGO_BIN_EXE_navarch-cluster");
        let launched = Command::new(launcher)
            .args(["init", "launch"])
            .arg(&spec)
            .output()
            .unwrap();
        let running = Self {
            dir,
            generation: 0,
            namespace,
        };
        assert!(
            launched.status.success(),
            "{}",
            String::from_utf8_lossy(&launched.stderr)
        );
        running
    }

    fn first(&self) -> First {
        serde_json::from_slice(&fs::read(self.dir.path().join(FIRST)).unwrap()).unwrap()
    }

    /// Asks for these processes, each a shell script, and waits until nothing else runs.
    fn want(&mut self, scripts: &[(&str, &str)]) {
        self.generation += 1;
        let process = |(name, script): &(&str, &str)| Process {
            name: (*name).to_owned(),
            program: "/bin/sh".into(),
            args: vec!["-c".to_owned(), (*script).to_owned()],
            env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
            log: self.dir.path().join(format!("{name}.log")),
            build: String::new(),
        };
        let wanted = Wanted {
            generation: self.generation,
            processes: scripts.iter().map(process).collect(),
        };
        fs::write(
            self.dir.path().join(PROCESSES),
            serde_json::to_vec(&wanted).unwrap(),
        )
        .unwrap();
        kill(Pid::from_raw(self.first().pid), Signal::SIGHUP).unwrap();
        let generation = self.generation;
        self.eventually(|status| (status.generation == generation).then_some(()));
    }

    fn eventually<T>(&self, look: impl Fn(&Status) -> Option<T>) -> T {
        let deadline = Instant::now() + SOON;
        loop {
            let text = fs::read(self.dir.path().join(STATUS)).unwrap_or_default();
            let status: Status = serde_json::from_slice(&text).unwrap_or_default();
            if let Some(found) = look(&status) {
                return found;
            }
            assert!(Instant::now() < deadline, "{status:?}");
            sleep(Duration::from_millis(5));
        }
    }

    fn process(&self, name: &str, look: impl Fn(&ProcessStatus) -> bool) -> ProcessStatus {
        self.eventually(|status| {
            status
                .processes
                .get(name)
                .filter(|process| look(process))
                .cloned()
        })
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let first = self.first();
        let _ = kill(Pid::from_raw(first.pid), Signal::SIGKILL);
        while start_time(first.pid) == Some(first.started) {
            sleep(Duration::from_millis(1));
        }
        if let Some(namespace) = &self.namespace {
            Command::new("ip")
                .args(["netns", "delete", namespace])
                .status()
                .unwrap();
        }
    }
}

#[test]
fn a_process_that_ends_is_started_again_and_says_how_it_ended() {
    let mut host = Running::launch(|_| None);
    host.want(&[("brief", "exit 3"), ("long", "exec sleep 1000")]);
    let brief = host.process("brief", |process| process.starts >= 3);
    assert_eq!(brief.ended.as_deref(), Some("exit code 3"));
    let long = host.process("long", |process| process.pid.is_some());
    assert_eq!(
        (long.starts, long.ended),
        (1, None),
        "what one process does is nothing to another"
    );
}

#[test]
fn a_changed_process_is_restarted_and_one_no_longer_wanted_ends() {
    let mut host = Running::launch(|_| None);
    host.want(&[
        ("kept", "exec sleep 1000"),
        ("changed", "exec sleep 1000"),
        ("dropped", "exec sleep 1000"),
    ]);
    let kept = host.process("kept", |process| process.pid.is_some());
    let asked = Instant::now();
    host.want(&[
        ("kept", "exec sleep 1000"),
        ("changed", "echo new; exec sleep 1000"),
    ]);
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "SIGTERM is enough to end a process"
    );
    assert_eq!(host.process("kept", |_| true), kept);
    assert_eq!(
        host.process("changed", |process| process.pid.is_some())
            .starts,
        2
    );
    host.eventually(|status| (!status.processes.contains_key("dropped")).then_some(()));
    let deadline = Instant::now() + SOON;
    while host.log("changed") != "new\n" {
        assert!(Instant::now() < deadline, "{:?}", host.log("changed"));
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_program_that_does_not_exist_is_told_and_tried_again() {
    let mut host = Running::launch(|_| None);
    host.want(&[]);
    let path = host.dir.path().join(PROCESSES);
    host.want(&[("missing", "")]);
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("/bin/sh", "/nowhere/sh")
        .replace("\"generation\":2", "\"generation\":3");
    fs::write(&path, text).unwrap();
    kill(Pid::from_raw(host.first().pid), Signal::SIGHUP).unwrap();
    let missing = host.process("missing", |process| {
        process
            .ended
            .as_deref()
            .is_some_and(|ended| ended.starts_with("cannot run /nowhere/sh"))
    });
    host.process("missing", |process| process.starts > missing.starts);
}

#[test]
fn nothing_of_a_host_survives_its_first_process() {
    let mut host = Running::launch(|_| None);
    // A grandchild in a session of its own, as a pod is. Its argument tells it from other tests' processes.
    let seconds = 100_000 + std::process::id();
    let tree = format!("setsid sleep {seconds} & wait");
    host.want(&[("tree", &tree)]);
    let first = host.first();
    let alive = || {
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let lines = pids.filter_map(|pid| fs::read_to_string(pid.path().join("cmdline")).ok());
        lines
            .filter(|line| *line == format!("sleep\0{seconds}\0"))
            .count()
    };
    let deadline = Instant::now() + SOON;
    while alive() == 0 {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(5));
    }
    kill(Pid::from_raw(first.pid), Signal::SIGKILL).unwrap();
    while alive() > 0 {
        assert!(Instant::now() < deadline + SOON);
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_host_keeps_nothing_open_of_whoever_launched_it() {
    let kept = tempfile::NamedTempFile::new().unwrap();
    fcntl(kept.as_file(), FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let mut host = Running::launch(|_| None);
    host.want(&[("long", "exec sleep 1000")]);
    host.process("long", |process| process.pid.is_some());
    let first = host.first().pid;
    let open = fs::read_dir(format!("/proc/{first}/fd")).unwrap().flatten();
    let files: Vec<PathBuf> = open
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .collect();
    assert!(!files.iter().any(|file| file == kept.path()), "{files:?}");
}

#[test]
fn a_node_writes_to_its_own_disk_and_sees_what_it_keeps() {
    let kept = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::write(kept.path().join("file"), "kept\n").unwrap();
    let mut host = Running::launch(|dir| {
        let namespace = format!("navarch-host-test-{}", std::process::id());
        assert!(
            Command::new("ip")
                .args(["netns", "add", &namespace])
                .status()
                .unwrap()
                .success()
        );
        let node = Node {
            network: Path::new("/run/netns").join(&namespace),
            disk: dir.join("disk"),
            keep: vec![dir.to_owned(), kept.path().to_owned()],
            resolv_conf: "nameserver 192.0.2.53\n".to_owned(),
            hosts: "127.0.0.1 localhost\n".to_owned(),
            etc: vec![("registries/a".to_owned(), "mine\n".to_owned())],
        };
        Some((namespace, node))
    });
    let script = format!(
        "hostname; cat /etc/hosts /etc/hostname {kept}/file /proc/sys/kernel/panic /proc/sys/vm/overcommit_memory; \
         ls /sys/class/net /proc/sys/net/ipv4/conf; cat /proc/1/cmdline | tr '\\0' ' '; echo; \
         echo mine > /var/lib/mine; echo mine > /etc/mine; echo mine > /run/mine; echo done; exec sleep 1000",
        kept = kept.path().display()
    );
    host.want(&[("look", &script)]);
    let deadline = Instant::now() + SOON;
    while !host.log("look").ends_with("done\n") {
        assert!(Instant::now() < deadline, "{}", host.log("look"));
        sleep(Duration::from_millis(5));
    }
    let seen = host.log("look");
    assert!(
        seen.starts_with("node-7\n127.0.0.1 localhost\nnode-7\nkept\n10\n1\n"),
        "{seen}"
    );
    assert!(seen.contains("navarch-init init first"), "{seen}");
    assert!(!seen.contains("eth0"), "a node has its own network: {seen}");
    assert_eq!(
        fs::read_to_string(host.dir.path().join("disk/lib/mine")).unwrap(),
        "mine\n"
    );
    for path in ["/var/lib/mine", "/etc/mine", "/run/mine"] {
        assert!(
            !Path::new(path).exists(),
            "{path} was written on the machine"
        );
    }
}
