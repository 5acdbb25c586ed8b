//! Upstream's conformance suite on a local cluster: runs it, keeps what it said, says whose fault a red test is.
//!
//! ```text
//! DIR/cluster/            the cluster (`crate::cluster`)
//! DIR/run/plan.json       what this run is: its tests, whose components
//!         verdicts.jsonl  a line per finished test; `--resume` goes on from here
//!         reports.jsonl   all that the suite said of each
//!         junit.xml
//!         failed/TEST/    why, and what every daemon logged meanwhile
//! e2e/conformance/        the scoreboard, over the last full runs
//! ```
//!
//! The suite's processes are started here and report to a server of ours ([`judge`]) in place of ginkgo's command line, which tells
//! a verdict at once, bounds each test, and lets a run go on where it stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cluster::{self, Cluster, Daemon, OURS, Spec, Upstream};
use crate::files;
use crate::progress::Progress;
use crate::workshop::Workshop;
use crate::{command, image, init};

mod blame;
mod evidence;
mod images;
mod judge;
mod junit;
mod run;
mod scoreboard;
mod screen;
mod stop;
mod suite;
mod verdict;

pub use blame::{Suspect, blame};
pub use scoreboard::{Score, Whose};
pub use verdict::{Outcome, Verdict};

use evidence::Evidence;
use run::{Books, Setup};
use screen::{Count, Screen};
use stop::Stop;
use suite::Suite;
use verdict::Journal;

/// What Conformance asks for.
const NODES: usize = 2;
/// The longest test, on upstream's components and two cores, takes nine minutes.
const BOUND: Duration = Duration::from_secs(12 * 60);
/// A process that is ended for one test leaves others unrun; more rounds than this are a circle.
const ROUNDS: usize = 5;
/// Where the scoreboard is, below the clone.
const SCOREBOARD: &str = "e2e/conformance";

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("{path} is no report of ginkgo's")]
    Report {
        path: PathBuf,
        #[source]
        cause: serde_json::Error,
    },
    #[error("there is no run to resume in {0}")]
    NothingToResume(PathBuf),
    #[error("no test is called so: {0}")]
    NoSuchTest(String),
    #[error("{0} holds no test that was green three times and fits into the time")]
    NothingGreen(PathBuf),
    #[error("{0} tests match; one can be looked into")]
    TooManyTests(usize),
    #[error("no recipe of e2e/images makes {0}")]
    NoRecipe(String),
    #[error("cannot listen for the suite")]
    Judge(#[source] std::io::Error),
    #[error("the suite did not come to its tests: {0}")]
    Broken(String),
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    #[error(transparent)]
    Command(#[from] command::Error),
    #[error(transparent)]
    Image(#[from] image::Error),
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    pub dir: PathBuf,
    /// Tests whose names match, in Go's regular expressions; all of Conformance without.
    pub focus: Option<String>,
    /// Only the tests that the scoreboard has as green, as many as fit in this time.
    pub part: Option<Duration>,
    /// Tests that run at once.
    pub processes: usize,
    /// Goes on with the run of `dir`.
    pub resume: bool,
    pub upstream: Vec<Daemon>,
    /// Leaves the cluster standing.
    pub keep: bool,
    /// The program that starts hosts (`navarch-cluster`).
    pub launcher: PathBuf,
}

/// What a run is. Kept, so that `--resume` needs no second telling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Plan {
    tests: BTreeSet<String>,
    upstream: Vec<Daemon>,
    /// All of Conformance.
    full: bool,
}

/// What a run came to.
#[derive(Debug)]
pub struct Summary {
    pub verdicts: BTreeMap<String, Verdict>,
    pub planned: usize,
    pub took: Duration,
    /// Holds the reports and the folders of failed tests.
    pub dir: PathBuf,
    /// Somebody ended it early.
    pub stopped: bool,
    /// Set by a full run that was with our components or with upstream's alone.
    pub score: Option<Score>,
}

/// Everything that tests are run with.
struct Stand {
    suite: Suite,
    cluster: Cluster,
    dir: PathBuf,
    /// Where the scoreboard is.
    board: PathBuf,
}

/// Runs the suite.
pub fn run(workshop: &Workshop, options: &Options) -> Result<Summary, Error> {
    let stop = Stop::listen();
    let dir = options.dir.join("run");
    let tools = ["e2e.test", "kubectl"];
    workshop.ensure_tools(&tools)?;
    let suite = Suite::new(&workshop.tools());
    let board = workshop.root().join(SCOREBOARD);
    let plan = plan(&suite, &board, options, &dir)?;
    let stand = stand(workshop, suite, options, &plan.upstream, options.resume)?;
    let started = Instant::now();
    let (verdicts, stopped) = all(&stand, &plan.tests, options.processes, &stop)?;
    let junit = dir.join("junit.xml");
    fs::write(&junit, junit::render(verdicts.values())).map_err(files::cannot("write", &junit))?;
    if !options.keep && !stopped {
        cluster::down(&options.dir.join("cluster"), true)?;
    }
    let whole = !stopped && plan.full && verdicts.len() == plan.tests.len();
    let score = match (whole, whose(&plan.upstream)) {
        (true, Some(whose)) => {
            let run = scoreboard::Run {
                verdicts: &verdicts,
                whose,
                took: (!options.resume).then(|| started.elapsed()),
            };
            Some(scoreboard::record(&board, &run)?)
        }
        _ => None,
    };
    Ok(Summary {
        verdicts,
        planned: plan.tests.len(),
        took: started.elapsed(),
        dir,
        stopped,
        score,
    })
}

/// What is to be run: what was planned before, or what is asked for now in a fresh directory.
fn plan(suite: &Suite, board: &Path, options: &Options, dir: &Path) -> Result<Plan, Error> {
    let path = dir.join("plan.json");
    if options.resume {
        let plan = init::read_json(&path);
        return plan.map_err(|_| Error::NothingToResume(options.dir.clone()));
    }
    if dir.exists() {
        fs::remove_dir_all(dir).map_err(files::cannot("remove", dir))?;
    }
    run::make_dir(dir)?;
    let mut tests = suite.tests(options.focus.as_deref(), dir)?;
    if let Some(time) = options.part {
        let part = scoreboard::part(board, time, options.processes)?;
        tests.retain(|test| part.contains(test));
        if tests.is_empty() {
            return Err(Error::NothingGreen(board.to_owned()));
        }
    }
    if tests.is_empty() {
        return Err(Error::NoSuchTest(options.focus.clone().unwrap_or_default()));
    }
    let plan = Plan {
        tests,
        upstream: options.upstream.clone(),
        full: options.focus.is_none() && options.part.is_none(),
    };
    let text = serde_json::to_string_pretty(&plan).expect("a plan has nothing but text");
    fs::write(&path, text).map_err(files::cannot("write", &path))?;
    Ok(plan)
}

/// Whose run it is, if it is one's alone.
fn whose(upstream: &[Daemon]) -> Option<Whose> {
    if upstream.is_empty() {
        Some(Whose::Ours)
    } else if OURS.iter().all(|daemon| upstream.contains(daemon)) {
        Some(Whose::Upstream)
    } else {
        None
    }
}

/// Brings up the cluster, afresh unless `again`.
fn stand(
    workshop: &Workshop,
    suite: Suite,
    options: &Options,
    upstream: &[Daemon],
    again: bool,
) -> Result<Stand, Error> {
    let upstream = Upstream::from(upstream);
    workshop.ensure_programs(&upstream)?;
    let archives = images::build(workshop, &suite)?;
    let dir = options.dir.join("cluster");
    if dir.exists() && !again {
        match cluster::down(&dir, false) {
            Err(cluster::Error::NoCluster { .. }) => {}
            ended => ended?,
        }
    }
    let spec = Spec {
        nodes: NODES,
        upstream,
        images: archives.preloaded,
        pulled: archives.pulled,
        ..workshop.spec(&dir, &options.launcher)
    };
    Ok(Stand {
        suite,
        cluster: Cluster::up(spec, Progress::Screen)?,
        dir: options.dir.join("run"),
        board: workshop.root().join(SCOREBOARD),
    })
}

/// Runs those of `tests` that have no verdict yet until all have one, or somebody stops it.
fn all(
    stand: &Stand,
    tests: &BTreeSet<String>,
    processes: usize,
    stop: &Stop,
) -> Result<(BTreeMap<String, Verdict>, bool), Error> {
    let dir = &stand.dir;
    run::make_dir(dir)?;
    let mut journal = Journal::open(&dir.join("verdicts.jsonl"))?;
    let mut screen = Screen::new(count(tests, &journal, processes));
    let mut evidence = Evidence::new(&stand.cluster.logs(), &dir.join("failed"));
    let times = scoreboard::times(&stand.board)?;
    let kubeconfig = stand.cluster.kubeconfig();
    let setup = Setup {
        suite: &stand.suite,
        kubeconfig: &kubeconfig,
        nodes: stand.cluster.nodes().len(),
        processes,
        times: &times,
        bound: BOUND,
        dir,
    };
    for round in 1..=ROUNDS {
        let left: BTreeSet<String> = tests
            .iter()
            .filter(|test| !journal.verdicts().contains_key(*test))
            .cloned()
            .collect();
        if left.is_empty() {
            break;
        }
        let before = journal.verdicts().len();
        let mut books = Books {
            journal: &mut journal,
            screen: &mut screen,
            evidence: &mut evidence,
        };
        let ending = run::run(&setup, &left, &mut books, stop)?;
        if ending.stopped {
            return Ok((verdicts(&journal, tests), true));
        }
        if journal.verdicts().len() == before || round == ROUNDS {
            let why = ending.broken.unwrap_or_else(|| {
                format!("{} tests never ran; see {}", left.len(), dir.display())
            });
            return Err(Error::Broken(why));
        }
    }
    Ok((verdicts(&journal, tests), false))
}

fn verdicts(journal: &Journal, tests: &BTreeSet<String>) -> BTreeMap<String, Verdict> {
    let of_run = journal
        .verdicts()
        .iter()
        .filter(|(name, _)| tests.contains(*name));
    of_run
        .map(|(name, verdict)| (name.clone(), verdict.clone()))
        .collect()
}

fn count(tests: &BTreeSet<String>, journal: &Journal, processes: usize) -> Count {
    let mut count = Count {
        processes,
        ..Count::default()
    };
    for test in tests {
        count.expect(test);
        if let Some(verdict) = journal.verdicts().get(test) {
            count.add(test, verdict.outcome);
        }
    }
    count
}
