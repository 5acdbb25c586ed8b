//! The history checker against a real API server and a real etcd, small enough for every run of CI.
//!
//! `hack/history` does the same for longer, with more faults and in larger shapes.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use e2e::cluster::Upstream;
use e2e::history::check::Rule;
use e2e::history::plan::{Kind, Shape};
use e2e::history::proxy::{self, Lie};
use e2e::history::run::{self, Options, Report};
use e2e::progress::Progress;
use e2e::workshop::Workshop;

const SEED: u64 = 1;

/// One API server on one etcd. The cluster is gone afterwards, however this process ends.
fn run(name: &str, seconds: u64, faults: &[Kind], lies: Vec<Lie>) -> Report {
    let launcher = PathBuf::from(env!("CARGO_BIN_EXE_navarch-cluster"));
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _guard = Guard::new(&launcher, &dir.join("cluster"));
    let workshop = Workshop::new("dev");
    workshop.ensure_programs(&Upstream::default()).unwrap();
    let options = Options {
        dir,
        seed: SEED,
        length: Duration::from_secs(seconds),
        shape: Shape {
            etcd_members: 1,
            api_servers: 1,
        },
        upstream: Upstream::default(),
        faults: faults.to_vec(),
        lies,
        launcher,
        progress: Progress::Screen,
    };
    run::run(&workshop, &options).unwrap_or_else(|error| panic!("{}", e2e::init::chain(&error)))
}

/// Ends the cluster when this value is gone, or this process: it reads a pipe that only this process holds.
struct Guard(Child);

impl Guard {
    fn new(launcher: &Path, dir: &Path) -> Self {
        let child = Command::new(launcher)
            .args(["guard", "--dir"])
            .arg(dir)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn clients_are_told_the_truth_while_daemons_are_killed_and_paused() {
    let faults = [
        Kind::KillApiserver,
        Kind::PauseApiserver,
        Kind::KillEtcd,
        Kind::Compact,
    ];
    let report = run("history-faults", 28, &faults, Vec::new());
    let text = report.text();
    assert!(report.verdict.violations.is_empty(), "{text}");
    assert_eq!(report.failed, Vec::<String>::new());
    assert_eq!(report.different, Vec::<String>::new());
    assert_eq!(report.verdict.unobserved, 0, "{text}");
    // It saw something to judge.
    let counts = report.history.counts();
    for (what, least) in [
        ("write done", 100),
        ("get done", 100),
        ("list done", 50),
        ("event", 200),
    ] {
        assert!(
            counts.get(what).is_some_and(|count| *count >= least),
            "{what}: {text}"
        );
    }
}

#[test]
fn every_lie_is_found() {
    let report = run("history-lies", 15, &[], proxy::parse_lies("all").unwrap());
    let text = report.text();
    for (lie, times) in &report.lies {
        assert!(*times > 0, "{lie} had no chance: {text}");
    }
    let rules = report.verdict.by_rule();
    for rule in [
        Rule::StaleRead,
        Rule::WrongList,
        Rule::NobodyWrote,
        Rule::LostWrite,
        Rule::LostEvent,
        Rule::DuplicateEvent,
        Rule::ReorderedEvent,
        Rule::BookmarkAhead,
    ] {
        assert!(rules.contains_key(&rule), "{rule} is not found: {text}");
    }
}
