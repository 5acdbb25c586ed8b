//! Runs tests: starts the suite's processes, takes their verdicts, ends what takes too long.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Error;
use super::evidence::Evidence;
use super::judge::{Event, Judge, SpecReport};
use super::screen::{Screen, clock};
use super::stop::Stop;
use super::suite::{Part, Suite, runs_alone};
use super::verdict::{Journal, Outcome, Verdict};
use crate::files;

/// What an interrupted test gets to clean up after itself.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// Between two looks at processes, logs and the clock.
const TICK: Duration = Duration::from_secs(1);
/// From asking a process what it is at to interrupting it.
const ASKED: Duration = Duration::from_secs(2);
/// From interrupting a process to killing it: the test's clean-up, and that of what it stands in.
const KILL: Duration = Duration::from_secs(90);
/// Events that wait for the run at most: each process may tell all that it leaves out at once.
const EVENTS: usize = 256;

/// What tests run on and where what they say goes.
pub(super) struct Setup<'a> {
    pub(super) suite: &'a Suite,
    pub(super) kubeconfig: &'a Path,
    pub(super) nodes: usize,
    /// Tests that run at once.
    pub(super) processes: usize,
    /// How long tests took the last time, in seconds.
    pub(super) times: &'a BTreeMap<String, u32>,
    /// What one test may take.
    pub(super) bound: Duration,
    /// What processes print, and the reports.
    pub(super) dir: &'a Path,
}

/// What a run writes to.
pub(super) struct Books<'a> {
    pub(super) journal: &'a mut Journal,
    pub(super) screen: &'a mut Screen,
    pub(super) evidence: &'a mut Evidence,
}

/// One of the suite's processes.
struct Worker {
    number: usize,
    child: Child,
    running: bool,
    /// When it took its test, or began.
    since: Instant,
    /// What it said it is at, when it was asked.
    at: Option<String>,
    overdue: Option<Overdue>,
}

#[derive(Clone, Copy)]
struct Overdue {
    since: Instant,
    interrupted: bool,
    killed: bool,
}

/// How a part of a run ended.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// Somebody asked for it.
    pub(super) stopped: bool,
    /// What went wrong outside of tests.
    pub(super) broken: Option<String>,
}

struct Round<'a> {
    setup: &'a Setup<'a>,
    tests: &'a BTreeSet<String>,
    judge: Arc<Judge>,
    workers: Vec<Worker>,
    reports: File,
    ending: Ending,
}

/// Runs `tests` once. Tests without a verdict afterwards were not reached.
pub(super) fn run(
    setup: &Setup<'_>,
    tests: &BTreeSet<String>,
    books: &mut Books<'_>,
    stop: &Stop,
) -> Result<Ending, Error> {
    let together = tests.iter().filter(|test| !runs_alone(test)).count();
    let started = together.clamp(1, setup.processes.max(1));
    // With a single process the suite would tell nothing until its end; the second one is never there.
    let total = started.max(2);
    let (sender, events) = sync_channel(EVENTS);
    let seed = seed();
    let order = longest_first(&setup.suite.order(seed, setup.dir)?, tests, setup.times);
    let judge = Judge::new(total, order, sender);
    for absent in started + 1..=total {
        judge.ended(absent);
    }
    let url = judge.start().map_err(Error::Judge)?;
    let part = Part {
        tests,
        judge: &url,
        seed,
        total,
        kubeconfig: setup.kubeconfig,
        nodes: setup.nodes,
    };
    let reports = setup.dir.join("reports.jsonl");
    let file = File::options().create(true).append(true).open(&reports);
    let mut round = Round {
        setup,
        tests,
        judge,
        workers: Vec::new(),
        reports: file.map_err(files::cannot("open", &reports))?,
        ending: Ending::default(),
    };
    for number in 1..=started {
        match round.start(&part, number) {
            Ok(worker) => round.workers.push(worker),
            Err(error) => {
                round.workers.iter_mut().for_each(Worker::end_now);
                return Err(error);
            }
        }
    }
    let result = round.follow(&events, books, stop);
    round.workers.iter_mut().for_each(Worker::end_now);
    result.map(|()| round.ending)
}

/// Numbers of all tests: those that are to run, from the longest to the shortest, so that none begins when all others have
/// ended; then the rest, which processes pass over.
fn longest_first(
    numbered: &[String],
    tests: &BTreeSet<String>,
    times: &BTreeMap<String, u32>,
) -> Vec<usize> {
    let time = |name: &String| match times.get(name) {
        _ if !tests.contains(name) => None,
        // What nobody knows may be long.
        None => Some(u32::MAX),
        Some(seconds) => Some(*seconds),
    };
    let mut order: Vec<usize> = (0..numbered.len()).collect();
    order.sort_by_key(|number| std::cmp::Reverse(time(&numbered[*number])));
    order
}

/// Numbers the tests. Nothing else depends on its value.
fn seed() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // ginkgo takes a signed number of 32 bits or more.
    (now.unwrap_or_default().as_secs() & 0x7fff_ffff) as u32
}

impl Round<'_> {
    fn start(&self, part: &Part<'_>, number: usize) -> Result<Worker, Error> {
        let path: PathBuf = self.setup.dir.join(format!("process-{number}.log"));
        let log = File::options().create(true).append(true).open(&path);
        let log = log.map_err(files::cannot("open", &path))?;
        let errors = log.try_clone().map_err(files::cannot("open", &path))?;
        let child = self
            .setup
            .suite
            .process(part, number)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // A terminal's Ctrl-C is for the run, which ends its processes in order.
            .process_group(0)
            .spawn();
        Ok(Worker {
            number,
            child: child.map_err(files::cannot("run", &self.setup.suite.program))?,
            running: true,
            since: Instant::now(),
            at: None,
            overdue: None,
        })
    }

    fn follow(
        &mut self,
        events: &Receiver<Event>,
        books: &mut Books<'_>,
        stop: &Stop,
    ) -> Result<(), Error> {
        let mut ticked = Instant::now();
        books.evidence.sample(ticked);
        loop {
            match events.recv_timeout(TICK) {
                Ok(event) => self.take(event, books)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            let now = Instant::now();
            if now.duration_since(ticked) < TICK {
                continue;
            }
            ticked = now;
            books.evidence.sample(now);
            books.screen.tick(now);
            if stop.is_asked() {
                self.ending.stopped = true;
            }
            self.watch(now, books)?;
            if self.workers.iter().all(|worker| !worker.running) {
                // What they told last may still be on its way through the server.
                while let Ok(event) = events.recv_timeout(TICK) {
                    self.take(event, books)?;
                }
                return Ok(());
            }
        }
    }

    fn take(&mut self, event: Event, books: &mut Books<'_>) -> Result<(), Error> {
        match event {
            Event::Took { process } => {
                if let Some(worker) = self.worker(process) {
                    worker.since = Instant::now();
                    worker.at = None;
                }
            }
            Event::At { process, name } => {
                if let Some(worker) = self.worker(process) {
                    worker.at = Some(name);
                }
            }
            Event::Ran {
                process,
                report,
                raw,
            } => {
                if let Some(worker) = self.worker(process) {
                    // Tests that run alone are taken without a question.
                    worker.since = Instant::now();
                }
                self.ran(&report, &raw, books)?;
            }
        }
        Ok(())
    }

    fn ran(&mut self, report: &SpecReport, raw: &[u8], books: &mut Books<'_>) -> Result<(), Error> {
        if report.leaf_node_type != "It" {
            if is_failure(&report.state) && !self.ending.stopped {
                let text = format!("{}: {}", report.leaf_node_type, failure_text(report));
                self.ending.broken.get_or_insert(text);
            }
            return Ok(());
        }
        let name = report.name();
        if !self.tests.contains(&name) {
            return Ok(());
        }
        let outcome = match report.state.as_str() {
            "passed" => Outcome::Passed,
            // What is left when a process is told to end is left for later.
            "skipped" if report.failure.is_none() => return Ok(()),
            "interrupted" | "aborted" | "timedout" if self.ending.stopped => return Ok(()),
            "skipped" => Outcome::Skipped,
            _ => Outcome::Failed,
        };
        let mut line = raw.to_vec();
        line.push(b'\n');
        let path = self.setup.dir.join("reports.jsonl");
        self.reports
            .write_all(&line)
            .map_err(files::cannot("write", &path))?;
        if outcome == Outcome::Failed {
            books.evidence.keep(report, Instant::now())?;
        }
        let verdict = Verdict {
            name,
            outcome,
            seconds: report.seconds(),
            started: report.start_time.clone(),
            ended: report.end_time.clone(),
            failure: failure_text(report),
        };
        books.screen.verdict(&verdict);
        Ok(books.journal.add(verdict)?)
    }

    /// Sees who has ended, and ends those who take too long or shall stop.
    fn watch(&mut self, now: Instant, books: &mut Books<'_>) -> Result<(), Error> {
        let stopped = self.ending.stopped;
        for worker in self.workers.iter_mut().filter(|worker| worker.running) {
            if worker.has_ended() {
                self.judge.ended(worker.number);
                continue;
            }
            let late = now.duration_since(worker.since) > self.setup.bound;
            if worker.overdue.is_none() && (late || stopped) {
                self.judge.retire(worker.number);
                worker.signal(Signal::SIGUSR1);
                worker.overdue = Some(Overdue {
                    since: now,
                    interrupted: false,
                    killed: false,
                });
            }
            let Some(overdue) = &mut worker.overdue else {
                continue;
            };
            let waited = now.duration_since(overdue.since);
            if waited > ASKED && !overdue.interrupted {
                overdue.interrupted = true;
                worker.signal(Signal::SIGINT);
            } else if waited > KILL && !overdue.killed {
                overdue.killed = true;
                worker.signal(Signal::SIGKILL);
                let told = worker.at.as_ref().filter(|name| {
                    let known = books.journal.verdicts().contains_key(*name);
                    self.tests.contains(*name) && !known && !stopped
                });
                if let Some(name) = told {
                    let verdict = Verdict {
                        name: name.clone(),
                        outcome: Outcome::Failed,
                        seconds: now.duration_since(worker.since).as_secs_f64(),
                        started: String::new(),
                        ended: String::new(),
                        failure: format!("no end after {}", clock(self.setup.bound)),
                    };
                    books.screen.verdict(&verdict);
                    books.journal.add(verdict)?;
                }
            }
        }
        Ok(())
    }

    fn worker(&mut self, number: usize) -> Option<&mut Worker> {
        self.workers
            .iter_mut()
            .find(|worker| worker.number == number)
    }
}

impl Worker {
    fn has_ended(&mut self) -> bool {
        // A child that cannot be waited for is none any more.
        self.running = matches!(self.child.try_wait(), Ok(None));
        !self.running
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        // It was not waited for yet, so the id is still its own.
        let _ = kill(pid, signal);
    }

    fn end_now(&mut self) {
        if self.running {
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.running = false;
        }
    }
}

fn is_failure(state: &str) -> bool {
    !matches!(state, "passed" | "skipped" | "pending")
}

fn failure_text(report: &SpecReport) -> String {
    let failure = report.failure.as_ref();
    let more = report
        .additional_failures
        .iter()
        .flatten()
        .map(|more| &more.failure);
    let texts =
        failure
            .into_iter()
            .chain(more)
            .map(|failure| match failure.forwarded_panic.as_str() {
                "" => failure.message.clone(),
                panic => format!("{}: {panic}", failure.message),
            });
    texts.collect::<Vec<_>>().join("\n")
}

/// Makes the directory of a run's output.
pub(super) fn make_dir(dir: &Path) -> Result<(), files::Error> {
    fs::create_dir_all(dir).map_err(files::cannot("make", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_test_is_taken_first_and_what_is_not_to_run_last() {
        let numbered = ["other", "short", "new", "long"].map(str::to_owned);
        let tests = numbered[1..].iter().cloned().collect();
        let times = [("other", 9), ("short", 1), ("long", 5)];
        let times = times.map(|(name, time)| (name.to_owned(), time)).into();
        assert_eq!(longest_first(&numbered, &tests, &times), [2, 3, 1, 0]);
    }
}
