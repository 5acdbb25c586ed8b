//! A cluster for the tests of one program.
//!
//! It stands in the build's temporary directory and is ended when the test process is gone, however that came about: a
//! guard process waits for the end of a pipe that only the test process holds. The directory stays for reading its logs
//! until the next run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use e2e::cluster::{self, Cluster, Daemon, NOT_OURS_YET, Spec};
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
        let launcher = PathBuf::from(env!("CARGO_BIN_EXE_navarch-cluster"));
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if dir.exists() {
            cluster::down(&dir, false).unwrap();
        }
        std::fs::create_dir_all(&dir).unwrap();
        let _guard = Command::new(&launcher)
            .args(["guard", "--dir"])
            .arg(&dir)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let workshop = Workshop::new("dev");
        let upstream =
            std::env::var("NAVARCH_UPSTREAM").unwrap_or_else(|_| NOT_OURS_YET.to_owned());
        let upstream = Daemon::parse_list(&upstream).unwrap();
        workshop.ensure_programs(&upstream).unwrap();
        let images = IMAGES
            .iter()
            .map(|name| image::build(&workshop, name).unwrap().archive)
            .collect();
        let spec = Spec {
            dir,
            nodes,
            upstream,
            programs: workshop.programs(),
            tools: workshop.tools(),
            launcher,
            root: workshop.root().to_owned(),
            images,
        };
        let cluster = Cluster::up(spec.clone(), Progress::Screen)
            .unwrap_or_else(|error| panic!("{}", e2e::init::chain(&error)));
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
