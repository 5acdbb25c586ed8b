//! A cluster for the tests of one program.
//!
//! It stands in the build's temporary directory and is ended when the test process is gone, however that came about: a
//! guard process waits for the end of a pipe that only the test process holds. The directory stays for reading its logs
//! until the next run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use e2e::cluster::{self, Cluster, NOT_OURS_YET, Spec, Upstream};
use e2e::image;
use e2e::progress::Progress;
use e2e::workshop::Workshop;

const IMAGES: &[&str] = &["coredns", "web", "busybox", "pause"];

pub(super) struct Fixture {
    pub(super) cluster: Cluster,
    pub(super) spec: Spec,
    /// Ends the cluster when its standard input does.
    _guard: Child,
}

impl Fixture {
    /// A fresh cluster under a name that no other test program uses.
    pub(super) fn up(name: &str, nodes: usize) -> Self {
        Self::with(name, |spec| spec.nodes = nodes)
    }

    /// The same, changed as the test needs it.
    pub(super) fn with(name: &str, change: impl FnOnce(&mut Spec)) -> Self {
        let (mut spec, workshop, guard) = Self::prepare(name, change);
        let images = IMAGES
            .iter()
            .map(|name| image::build(&workshop, name).unwrap().archive);
        spec.images = images.collect();
        let cluster = Cluster::up(spec.clone(), Progress::Screen);
        Self::standing(cluster, spec, guard)
    }

    /// Gets everything built that the cluster will need. `NAVARCH_UPSTREAM` says what is upstream's where the test does not.
    pub(super) fn prepare(name: &str, change: impl FnOnce(&mut Spec)) -> (Spec, Workshop, Child) {
        let launcher = PathBuf::from(env!("CARGO_BIN_EXE_navarch-cluster"));
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // A run that was ended early leaves it empty.
        if dir.exists() && std::fs::remove_dir(&dir).is_err() {
            cluster::down(&dir, false).unwrap();
        }
        std::fs::create_dir_all(&dir).unwrap();
        let guard = Command::new(&launcher)
            .args(["guard", "--dir"])
            .arg(&dir)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let workshop = Workshop::new("dev");
        let upstream =
            std::env::var("NAVARCH_UPSTREAM").unwrap_or_else(|_| NOT_OURS_YET.to_owned());
        let mut spec = Spec {
            upstream: Upstream::parse(&upstream).unwrap(),
            ..workshop.spec(&dir, &launcher)
        };
        change(&mut spec);
        workshop.ensure_programs(&spec.upstream).unwrap();
        (spec, workshop, guard)
    }

    pub(super) fn standing(
        cluster: Result<Cluster, cluster::Error>,
        spec: Spec,
        _guard: Child,
    ) -> Self {
        let cluster = cluster.unwrap_or_else(|error| panic!("{}", e2e::init::chain(&error)));
        Self {
            cluster,
            spec,
            _guard,
        }
    }

    /// Runs kubectl and fails the test when it fails.
    pub(super) fn kubectl(&self, args: &[&str]) -> String {
        self.cluster
            .kubectl(args)
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Asks until the answer is good; fails the test with the last bad one.
pub(super) fn eventually<T>(within: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + within;
    loop {
        match ask() {
            Ok(found) => return found,
            Err(why) if Instant::now() > deadline => panic!("not within {within:?}: {why}"),
            Err(_) => sleep(Duration::from_millis(50)),
        }
    }
}

/// A namespace of one test, so that tests on one cluster do not see each other.
pub(super) struct Namespace<'a> {
    fixture: &'a Fixture,
    pub(super) name: String,
}

impl Fixture {
    /// A new namespace that takes pods.
    pub(super) fn namespace(&self, name: &str) -> Namespace<'_> {
        self.kubectl(&["create", "namespace", name]);
        let namespace = Namespace {
            fixture: self,
            name: name.to_owned(),
        };
        eventually(SOON, || {
            namespace.try_kubectl(&["get", "serviceaccount", "default"])
        });
        namespace
    }
}

/// What a cluster does by itself is done within this time, also on a busy machine.
pub(super) const SOON: Duration = Duration::from_secs(90);

impl Namespace<'_> {
    /// Runs kubectl in the namespace and fails the test when it fails.
    pub(super) fn kubectl(&self, args: &[&str]) -> String {
        self.try_kubectl(args)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    pub(super) fn try_kubectl(&self, args: &[&str]) -> Result<String, String> {
        self.kubectl_with_input(args, "")
    }

    pub(super) fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<String, String> {
        let all: Vec<&str> = ["--namespace", &self.name]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        self.fixture
            .cluster
            .kubectl_with_input(&all, input)
            .map_err(|error| error.to_string())
    }

    pub(super) fn apply(&self, manifest: &serde_json::Value) {
        self.kubectl_with_input(&["apply", "-f", "-"], &manifest.to_string())
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// An object, or a list of objects, as it is now.
    pub(super) fn get(&self, what: &[&str]) -> serde_json::Value {
        let args: Vec<&str> = ["get", "-o", "json"]
            .into_iter()
            .chain(what.iter().copied())
            .collect();
        serde_json::from_str(&self.kubectl(&args)).unwrap()
    }

    /// Waits until a field of an object has this value.
    pub(super) fn wait_for(&self, object: &str, field: &str, value: &str) {
        let path = format!("-ojsonpath={{{field}}}");
        eventually(SOON, || {
            let is = self.try_kubectl(&["get", object, &path])?;
            if is == value {
                return Ok(());
            }
            Err(format!("{object}: {field} is {is:?}, not {value:?}"))
        });
    }

    /// Names of the objects that a selector selects, sorted.
    pub(super) fn names(&self, kind: &str, selector: &str) -> Vec<String> {
        let path = "-ojsonpath={.items[*].metadata.name}";
        let mut names: Vec<String> = self
            .kubectl(&["get", kind, "-l", selector, path])
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    }
}

/// A Deployment of the demo's web server, whose pods carry `app: web`.
pub(super) fn web(replicas: u32) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "terminationGracePeriodSeconds": 2,
                    "containers": [{
                        "name": "web",
                        "image": "navarch.local/web:1",
                        "imagePullPolicy": "IfNotPresent",
                        "ports": [{"name": "http", "containerPort": 8080}],
                        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1},
                    }],
                },
            },
        },
    })
}

/// A pod that runs a script in the shell image.
pub(super) fn shell(name: &str, script: &str) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main",
                "image": "navarch.local/busybox:1",
                "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", script],
            }],
        },
    })
}
