//! The scoreboard: one line per test, over the last three full runs.
//!
//! `history.tsv` holds what runs said: our last three verdicts, upstream's last, and how long the test took with ours last.
//! `scoreboard.tsv` is what follows from it for people, with the component to blame and why, which people and `--blame` write
//! and which stay while a test is not green. `runs.tsv` has a line per full run. From the history follows, too, what a change
//! can be held against in a given time ([`part`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::Error;
use super::suite::runs_alone;
use super::verdict::{Outcome, Verdict};
use crate::files;

/// So many full runs have to pass in a row.
const RUNS: usize = 3;
const HISTORY: &str = "history.tsv";
const SCOREBOARD: &str = "scoreboard.tsv";
const RUN_LIST: &str = "runs.tsv";
const HISTORY_HEAD: &str = "# name\tours, oldest first\tupstream's\tseconds with ours";
const RUN_LIST_HEAD: &str = "# ended\twhose\tpassed\tof\tminutes";
const SCOREBOARD_HEAD: &str = "# name\tours\tupstream's\tto blame\twhy";

/// Whose components a run was with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Ours,
    Upstream,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Past {
    /// `P` or `F` per full run, oldest first.
    ours: String,
    upstream: String,
    /// How long it took with ours the last time; whole seconds, upwards.
    seconds: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Remark {
    blame: String,
    why: String,
}

/// How many tests stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    pub pass: usize,
    pub fail: usize,
    pub flaky: usize,
    /// Green so far, but not in three runs.
    pub unknown: usize,
}

/// A full run.
pub(super) struct Run<'a> {
    pub(super) verdicts: &'a BTreeMap<String, Verdict>,
    pub(super) whose: Whose,
    /// Unknown of a run that went on after a pause.
    pub(super) took: Option<Duration>,
}

/// Takes a full run into the scoreboard of `dir`. A test that the suite does not have any more leaves it.
pub(super) fn record(dir: &Path, run: &Run<'_>) -> Result<Score, Error> {
    let history = parse_history(&read(&dir.join(HISTORY))?);
    let history = add(history, run.verdicts, run.whose);
    let remarks = parse_remarks(&read(&dir.join(SCOREBOARD))?);
    fs::create_dir_all(dir).map_err(files::cannot("make", dir))?;
    write(&dir.join(HISTORY), &render_history(&history))?;
    write(
        &dir.join(SCOREBOARD),
        &render_scoreboard(&history, &remarks),
    )?;
    list(&dir.join(RUN_LIST), run)?;
    Ok(score(&history))
}

/// Adds a line to the list of runs.
fn list(path: &Path, run: &Run<'_>) -> Result<(), files::Error> {
    let head = if path.exists() { "" } else { RUN_LIST_HEAD };
    let ended = run.verdicts.values().map(|verdict| verdict.ended.as_str());
    let passed = run
        .verdicts
        .values()
        .filter(|verdict| verdict.outcome == Outcome::Passed);
    let line = format!(
        "{}\t{}\t{}\t{}\t{}",
        // Up to the minute.
        ended.max().unwrap_or_default().get(..16).unwrap_or("-"),
        match run.whose {
            Whose::Ours => "ours",
            Whose::Upstream => "upstream's",
        },
        passed.count(),
        run.verdicts.len(),
        run.took.map_or("-".to_owned(), |took| {
            format!("{:.1}", took.as_secs_f64() / 60.0)
        }),
    );
    let file = fs::File::options().create(true).append(true).open(path);
    let mut file = file.map_err(files::cannot("open", path))?;
    for line in [head, &line].into_iter().filter(|line| !line.is_empty()) {
        writeln!(file, "{line}").map_err(files::cannot("write", path))?;
    }
    Ok(())
}

/// The tests that never failed in our last three runs and can run beside others: as many as `processes` run within `time`,
/// the longest left out.
pub(super) fn part(
    dir: &Path,
    time: Duration,
    processes: usize,
) -> Result<BTreeSet<String>, Error> {
    let history = parse_history(&read(&dir.join(HISTORY))?);
    Ok(choose(history, time, processes))
}

/// How long each test took with ours the last time, in seconds.
pub(super) fn times(dir: &Path) -> Result<BTreeMap<String, u32>, Error> {
    let history = parse_history(&read(&dir.join(HISTORY))?);
    let timed = history
        .into_iter()
        .filter_map(|(name, past)| Some((name, past.seconds?)));
    Ok(timed.collect())
}

fn choose(history: BTreeMap<String, Past>, time: Duration, processes: usize) -> BTreeSet<String> {
    let green = history
        .into_iter()
        .filter(|(name, past)| ours(&past.ours) == "pass" && !runs_alone(name));
    let mut green: Vec<(u32, String)> = green
        .filter_map(|(name, past)| past.seconds.map(|seconds| (seconds, name)))
        .collect();
    green.sort_unstable();
    let processes = u64::try_from(processes.max(1)).unwrap_or(1);
    let mut work = 0;
    let fits = |(seconds, _): &(u32, String)| {
        work += u64::from(*seconds);
        // The last one may begin when all others have ended.
        work / processes + u64::from(*seconds) <= time.as_secs()
    };
    green
        .into_iter()
        .take_while(fits)
        .map(|(_, name)| name)
        .collect()
}

/// Writes down which component a test's failure comes from, and why.
pub(super) fn remark(dir: &Path, test: &str, blame: &str, why: &str) -> Result<(), Error> {
    let history = parse_history(&read(&dir.join(HISTORY))?);
    let mut remarks = parse_remarks(&read(&dir.join(SCOREBOARD))?);
    // A field holds no tab, and a remark is one line.
    let field = |text: &str| text.replace(['\t', '\n', '\r'], " ");
    let remark = Remark {
        blame: field(blame),
        why: field(why),
    };
    remarks.insert(test.to_owned(), remark);
    let text = render_scoreboard(&history, &remarks);
    Ok(write(&dir.join(SCOREBOARD), &text)?)
}

fn add(
    mut history: BTreeMap<String, Past>,
    verdicts: &BTreeMap<String, Verdict>,
    whose: Whose,
) -> BTreeMap<String, Past> {
    let known: BTreeSet<&String> = verdicts.keys().collect();
    history.retain(|name, _| known.contains(name));
    for (name, verdict) in verdicts {
        let letter = if verdict.outcome == Outcome::Passed {
            'P'
        } else {
            'F'
        };
        let past = history.entry(name.clone()).or_default();
        match whose {
            Whose::Ours => {
                past.ours.push(letter);
                let excess = past.ours.len().saturating_sub(RUNS);
                past.ours.drain(..excess);
                past.seconds = Some(verdict.seconds.ceil() as u32);
            }
            Whose::Upstream => past.upstream = letter.to_string(),
        }
    }
    history
}

/// `pass` takes three green runs in a row; before that, and without any run, nothing is said.
fn ours(past: &str) -> &'static str {
    let (green, red) = (past.contains('P'), past.contains('F'));
    match (green, red) {
        (true, true) => "flaky",
        (false, true) => "fail",
        (true, false) if past.len() >= RUNS => "pass",
        _ => "-",
    }
}

fn upstream(past: &str) -> &'static str {
    match past {
        "P" => "pass",
        "F" => "fail",
        _ => "-",
    }
}

fn score(history: &BTreeMap<String, Past>) -> Score {
    let count = |word| {
        history
            .values()
            .filter(|past| ours(&past.ours) == word)
            .count()
    };
    Score {
        pass: count("pass"),
        fail: count("fail"),
        flaky: count("flaky"),
        unknown: count("-"),
    }
}

/// Lines of fields, without those that begin with `#`. Missing fields are empty.
fn fields(text: &str) -> impl Iterator<Item = (&str, [&str; 4])> {
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let mut fields = line.split('\t');
        let name = fields.next().unwrap_or_default();
        (
            name,
            std::array::from_fn(|_| fields.next().unwrap_or_default()),
        )
    })
}

fn parse_history(text: &str) -> BTreeMap<String, Past> {
    let letters = |field: &str| {
        field
            .chars()
            .filter(|letter| "PF".contains(*letter))
            .collect()
    };
    let past = |(name, [ours, upstream, seconds, _]): (&str, [&str; 4])| {
        let past = Past {
            ours: letters(ours),
            upstream: letters(upstream),
            seconds: seconds.parse().ok(),
        };
        (name.to_owned(), past)
    };
    fields(text).map(past).collect()
}

fn parse_remarks(text: &str) -> BTreeMap<String, Remark> {
    let remark = |(name, [_, _, blame, why]): (&str, [&str; 4])| {
        let remark = Remark {
            blame: blame.to_owned(),
            why: why.to_owned(),
        };
        (name.to_owned(), remark)
    };
    fields(text).map(remark).collect()
}

fn render_history(history: &BTreeMap<String, Past>) -> String {
    let mut text = format!("{HISTORY_HEAD}\n");
    for (name, past) in history {
        let seconds = past.seconds.map(|seconds| seconds.to_string());
        let line = format!(
            "{name}\t{}\t{}\t{}",
            past.ours,
            past.upstream,
            seconds.unwrap_or_default()
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn render_scoreboard(
    history: &BTreeMap<String, Past>,
    remarks: &BTreeMap<String, Remark>,
) -> String {
    let none = Remark::default();
    let mut text = format!("{SCOREBOARD_HEAD}\n");
    for (name, past) in history {
        let word = ours(&past.ours);
        let red = past.ours.contains('F');
        let Remark { blame, why } = remarks.get(name).filter(|_| red).unwrap_or(&none);
        let line = format!(
            "{name}\t{word}\t{}\t{blame}\t{why}",
            upstream(&past.upstream)
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn read(path: &Path) -> Result<String, files::Error> {
    match fs::read_to_string(path) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(files::cannot("read", path)),
    }
}

fn write(path: &Path, text: &str) -> Result<(), files::Error> {
    fs::write(path, text).map_err(files::cannot("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(outcomes: &[(&str, Outcome)]) -> BTreeMap<String, Verdict> {
        let verdict = |(name, outcome): &(&str, Outcome)| {
            let verdict = Verdict {
                name: (*name).to_owned(),
                outcome: *outcome,
                seconds: 0.0,
                started: String::new(),
                ended: String::new(),
                failure: String::new(),
            };
            (verdict.name.clone(), verdict)
        };
        outcomes.iter().map(verdict).collect()
    }

    fn take(dir: &Path, outcomes: &[(&str, Outcome)], whose: Whose) -> Result<Score, Error> {
        let full = Run {
            verdicts: &run(outcomes),
            whose,
            took: Some(Duration::from_secs(90)),
        };
        record(dir, &full)
    }

    fn lines(dir: &Path) -> Vec<String> {
        let text = fs::read_to_string(dir.join(SCOREBOARD)).unwrap();
        text.lines().skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn pass_takes_three_green_runs_in_a_row() {
        use Outcome::{Failed, Passed};
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let mut seen = Vec::new();
        for outcome in [Passed, Passed, Passed, Failed, Passed, Passed, Passed] {
            take(dir, &[("a", outcome)], Whose::Ours).unwrap();
            seen.push(lines(dir)[0].split('\t').nth(1).unwrap().to_owned());
        }
        assert_eq!(seen, ["-", "-", "pass", "flaky", "flaky", "flaky", "pass"]);
    }

    #[test]
    fn a_test_that_is_skipped_does_not_pass() {
        let dir = tempfile::tempdir().unwrap();
        take(dir.path(), &[("a", Outcome::Skipped)], Whose::Ours).unwrap();
        assert_eq!(lines(dir.path()), ["a\tfail\t-"]);
    }

    #[test]
    fn remarks_stay_while_a_test_is_red_and_go_when_it_is_green() {
        use Outcome::{Failed, Passed};
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        take(dir, &[("a", Failed), ("b", Passed)], Whose::Ours).unwrap();
        take(dir, &[("a", Passed), ("b", Passed)], Whose::Upstream).unwrap();
        remark(dir, "a", "kubelet", "no exec").unwrap();
        assert_eq!(
            lines(dir),
            ["a\tfail\tpass\tkubelet\tno exec", "b\t-\tpass"]
        );
        for _ in 0..2 {
            take(dir, &[("a", Passed), ("b", Passed)], Whose::Ours).unwrap();
        }
        assert_eq!(lines(dir)[0], "a\tflaky\tpass\tkubelet\tno exec");
        let score = take(dir, &[("a", Passed), ("b", Passed)], Whose::Ours).unwrap();
        assert_eq!(lines(dir)[0], "a\tpass\tpass");
        assert_eq!(
            (score.pass, score.fail, score.flaky, score.unknown),
            (2, 0, 0, 0)
        );
    }

    #[test]
    fn tests_that_the_suite_lost_leave_the_scoreboard() {
        let dir = tempfile::tempdir().unwrap();
        let both = [("a", Outcome::Passed), ("b", Outcome::Passed)];
        take(dir.path(), &both, Whose::Ours).unwrap();
        take(dir.path(), &both[1..], Whose::Upstream).unwrap();
        assert_eq!(lines(dir.path()), ["b\t-\tpass"]);
    }

    #[test]
    fn every_full_run_is_listed() {
        use Outcome::{Failed, Passed};
        let dir = tempfile::tempdir().unwrap();
        take(dir.path(), &[("a", Passed), ("b", Failed)], Whose::Ours).unwrap();
        take(dir.path(), &[("a", Passed), ("b", Passed)], Whose::Upstream).unwrap();
        let text = fs::read_to_string(dir.path().join(RUN_LIST)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], RUN_LIST_HEAD);
        assert_eq!(lines[1], "-\tours\t1\t2\t1.5");
        assert_eq!(lines[2], "-\tupstream's\t2\t2\t1.5");
    }

    #[test]
    fn a_part_is_what_is_green_and_fits_the_longest_left_out() {
        let past = |ours: &str, seconds| Past {
            ours: ours.to_owned(),
            upstream: String::new(),
            seconds: Some(seconds),
        };
        let history: BTreeMap<String, Past> = [
            ("quick", past("PPP", 5)),
            ("middling", past("PPP", 30)),
            ("long", past("PPP", 100)),
            ("longest", past("PPP", 500)),
            ("new", past("PP", 1)),
            ("was red", past("PFP", 1)),
            ("alone [Serial]", past("PPP", 1)),
        ]
        .map(|(name, past)| (name.to_owned(), past))
        .into();
        let chosen = |seconds, processes| {
            let all = choose(history.clone(), Duration::from_secs(seconds), processes);
            all.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(chosen(4, 2), Vec::<String>::new());
        assert_eq!(chosen(60, 2), ["middling", "quick"]);
        assert_eq!(chosen(200, 2), ["long", "middling", "quick"]);
        assert_eq!(chosen(165, 2), ["middling", "quick"]);
        assert_eq!(chosen(165, 10), ["long", "middling", "quick"]);
    }
}
