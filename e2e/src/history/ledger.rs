//! What came of all runs: a line for each, and from those a line for each kind of run and commit.
//!
//! Several commands may run beside each other; they take turns at the files.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::plan::{self, Shape};

/// A line per run.
const RUNS: &str = "runs.tsv";
const RUNS_HEAD: &str = "when\tseed\tseconds\tetcd\tapiservers\tfaults\toperations\tchanges\tunobserved\tverdict\tcommit";
/// A line per kind of run and commit; follows from the runs.
const RESULTS: &str = "results.tsv";
const RESULTS_HEAD: &str =
    "etcd\tapiservers\tseconds\tfaults\tcommit\truns\tclean\tunobserved\tbroken";
/// The verdict on a run in which no rule was broken.
pub const CLEAN: &str = "clean";

/// What runs share that differ in their seed.
#[derive(Clone, Debug)]
pub struct Kind {
    pub seconds: u64,
    pub shape: Shape,
    /// Which API servers are whose.
    pub servers: String,
    pub faults: Vec<plan::Kind>,
}

/// What is written of one run.
#[derive(Clone, Debug)]
pub struct Line {
    /// Seconds since 1970.
    pub when: u64,
    pub seed: u64,
    pub operations: usize,
    pub changes: usize,
    pub unobserved: usize,
    pub verdict: String,
    pub commit: String,
}

/// Where it is written.
pub struct Ledger {
    dir: PathBuf,
}

impl Kind {
    /// What tells this run's line from those of others, the time apart.
    fn key(&self, seed: u64) -> String {
        let (seconds, members) = (self.seconds, self.shape.etcd_members);
        let (servers, faults) = (&self.servers, names(&self.faults));
        format!("{seed}\t{seconds}\t{members}\t{servers}\t{faults}")
    }
}

fn names(faults: &[plan::Kind]) -> String {
    if plan::parse_kinds("all").is_ok_and(|all| all == faults) {
        return "all".to_owned();
    }
    let names: Vec<String> = faults.iter().map(plan::Kind::to_string).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(",")
    }
}

impl Ledger {
    /// The one below the clone.
    #[must_use]
    pub fn of(root: &Path) -> Self {
        Self {
            dir: root.join("e2e/history"),
        }
    }

    /// Whether the run is written down already.
    #[must_use]
    pub fn knows(&self, kind: &Kind, seed: u64) -> bool {
        let wanted = format!("{}\t", kind.key(seed));
        let text = fs::read_to_string(self.dir.join(RUNS)).unwrap_or_default();
        let rest = |line: &str| line.split_once('\t').map(|(_, rest)| rest.to_owned());
        text.lines()
            .filter_map(rest)
            .any(|rest| rest.starts_with(&wanted))
    }

    /// Writes a run down.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn add(&self, kind: &Kind, line: &Line) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        // The directory is the lock; it is let go with the handle.
        let turn = fs::File::open(&self.dir)?;
        turn.lock()?;
        let path = self.dir.join(RUNS);
        let known = fs::read_to_string(&path).unwrap_or_default();
        let mut runs = format!("{RUNS_HEAD}\n");
        for line in known.lines().skip(1) {
            runs.push_str(line);
            runs.push('\n');
        }
        let Line {
            when,
            seed,
            operations,
            changes,
            unobserved,
            verdict,
            commit,
        } = line;
        let key = kind.key(*seed);
        runs.push_str(&format!(
            "{when}\t{key}\t{operations}\t{changes}\t{unobserved}\t{verdict}\t{commit}\n"
        ));
        replace(&path, &runs)?;
        replace(&self.dir.join(RESULTS), &results(&runs))
    }
}

/// Nobody sees half of a file.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("part");
    fs::File::create(&beside)?.write_all(text.as_bytes())?;
    fs::rename(&beside, path)
}

#[derive(Default)]
struct Tally {
    runs: usize,
    clean: usize,
    unobserved: usize,
    /// Seeds and verdicts of the others.
    broken: Vec<String>,
}

/// The results of runs. Pure.
fn results(runs: &str) -> String {
    let mut all: BTreeMap<[&str; 5], Tally> = BTreeMap::new();
    for line in runs.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let &[
            _,
            seed,
            seconds,
            etcd,
            servers,
            faults,
            _,
            _,
            unobserved,
            verdict,
            ..,
        ] = &columns[..]
        else {
            continue;
        };
        let commit = columns.get(10).copied().unwrap_or("unknown");
        let result = all
            .entry([etcd, servers, seconds, faults, commit])
            .or_default();
        result.runs += 1;
        result.unobserved += unobserved.parse().unwrap_or(0);
        // Faults that could not be injected are the machine's.
        if verdict.split(", ").next() == Some(CLEAN) {
            result.clean += 1;
        } else {
            result.broken.push(format!("{seed}: {verdict}"));
        }
    }
    let mut text = format!("{RESULTS_HEAD}\n");
    for (key, result) in all {
        let Tally {
            runs,
            clean,
            unobserved,
            broken,
        } = result;
        let (key, broken) = (key.join("\t"), broken.join("; "));
        text.push_str(&format!("{key}\t{runs}\t{clean}\t{unobserved}\t{broken}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(servers: &str) -> Kind {
        Kind {
            seconds: 180,
            shape: Shape {
                etcd_members: 3,
                api_servers: 1,
            },
            servers: servers.to_owned(),
            faults: plan::parse_kinds("all").unwrap_or_default(),
        }
    }

    fn line(seed: u64, verdict: &str) -> Line {
        Line {
            when: 1,
            seed,
            operations: 10,
            changes: 5,
            unobserved: 2,
            verdict: verdict.to_owned(),
            commit: "abc".to_owned(),
        }
    }

    #[test]
    fn runs_are_counted_by_kind_and_commit() {
        let dir = tempfile::tempdir().expect("a directory");
        let ledger = Ledger::of(dir.path());
        let kept = |name| fs::read_to_string(ledger.dir.join(name)).unwrap_or_default();
        assert!(!ledger.knows(&kind("ours"), 1));
        for (seed, verdict) in [
            (1, "clean"),
            (2, "clean, 1 faults failed"),
            (3, "LostEvent 2"),
        ] {
            let added = ledger.add(&kind("ours"), &line(seed, verdict));
            assert!(added.is_ok(), "{added:?}");
        }
        let added = ledger.add(&kind("upstream"), &line(1, "clean"));
        assert!(added.is_ok(), "{added:?}");
        assert!(ledger.knows(&kind("ours"), 3) && !ledger.knows(&kind("ours"), 4));
        assert!(!ledger.knows(&kind("upstream"), 2));
        assert_eq!(kept(RUNS).lines().count(), 5);
        let expected = [
            RESULTS_HEAD,
            "3\tours\t180\tall\tabc\t3\t2\t6\t3: LostEvent 2",
            "3\tupstream\t180\tall\tabc\t1\t1\t2\t",
        ];
        assert_eq!(kept(RESULTS).lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn lines_of_before_commits_were_written_count_too() {
        let runs = "head\n1\t4\t30\t1\tours\tcompact\t1370\t370\t0\tclean\n";
        assert!(results(runs).ends_with("1\tours\t30\tcompact\tunknown\t1\t1\t0\t\n"));
    }
}
