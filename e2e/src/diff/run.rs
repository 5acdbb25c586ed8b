//! Sends all cases to two servers, or to ours while upstream's answers are read, and compares as they come.

use std::collections::{BTreeMap, VecDeque};
use std::thread;
use std::time::{Duration, Instant};

use futures::future::join_all;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::audit;
use super::case::{self, Case, JSON, Names, Namespace, Phase, Step};
use super::compare::{Found, compare};
use super::record::Recorded;
use super::seen::{Seen, revision};
use super::server::{Caller, Raw, Server};
use super::vain::vain;
use super::value::list;
use crate::progress::Progress;

/// Threads that ask, and cases that each has open at once. Watches wait more than they work.
const THREADS: usize = 2;
const AT_ONCE: usize = 12;
/// How long rights may take to reach who decides.
const SETTLED: Duration = Duration::from_secs(10);
const SHARED: &str = "shared";
/// What pods of the corpus run as.
const ACCOUNTS: &[&str] = &["default", "runner"];

/// Where upstream's answers come from.
#[derive(Clone, Copy)]
pub enum Theirs<'a> {
    Live(&'a Server),
    Recorded(&'a BTreeMap<String, Vec<Seen>>),
}

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("no runtime")]
    Runtime(#[source] std::io::Error),
}

/// What came of it.
#[derive(Default)]
pub struct Outcome {
    pub found: Vec<Found>,
    pub cases: usize,
    /// Requests that were compared.
    pub requests: usize,
    /// What is wrong with cases that do not ask what they seem to.
    pub vain: Vec<String>,
    /// Upstream's answers, if they were to be kept.
    pub recorded: Vec<Recorded>,
}

/// Everything that workers share.
struct Work<'a> {
    ours: &'a Server,
    theirs: Theirs<'a>,
    lanes: Mutex<VecDeque<Vec<Case>>>,
    keep: bool,
    outcome: Mutex<Outcome>,
}

/// Runs all cases, phase by phase.
///
/// # Errors
/// If no runtime can be had.
pub fn run(
    ours: &Server,
    theirs: Theirs<'_>,
    cases: Vec<Case>,
    keep: bool,
    progress: Progress,
) -> Result<Outcome, Error> {
    let mut work = Work {
        ours,
        theirs,
        lanes: Mutex::default(),
        keep,
        outcome: Mutex::default(),
    };
    let mut phases: BTreeMap<Phase, Vec<Case>> = BTreeMap::new();
    for case in cases {
        phases.entry(case.phase).or_default().push(case);
    }
    for (phase, cases) in phases {
        let requests: usize = cases.iter().map(|case| case.steps.len()).sum();
        let label = format!("{} cases, {requests} requests", cases.len());
        *work.lanes.get_mut() = lanes(cases, phase);
        let workers = if phase == Phase::Alone { 1 } else { AT_ONCE };
        let threads = if phase == Phase::Alone { 1 } else { THREADS };
        progress.step(&label, || work.phase(phase, threads, workers))?;
    }
    let mut outcome = work.outcome.into_inner();
    outcome
        .found
        .sort_by(|a, b| (&a.case, a.step, &a.place).cmp(&(&b.case, b.step, &b.place)));
    outcome.vain.sort();
    outcome
        .recorded
        .sort_by(|a, b| a.case.name.cmp(&b.case.name));
    Ok(outcome)
}

/// Cases that are run one after the other, the longest first.
fn lanes(cases: Vec<Case>, phase: Phase) -> VecDeque<Vec<Case>> {
    let mut named: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    for case in cases {
        let lane = match (&case.lane, phase) {
            (_, Phase::Alone) => String::new(),
            (Some(lane), _) => lane.clone(),
            (None, _) => case.name.clone(),
        };
        named.entry(lane).or_default().push(case);
    }
    let mut lanes: Vec<Vec<Case>> = named.into_values().collect();
    let length = |lane: &Vec<Case>| lane.iter().map(|case| case.steps.len()).sum::<usize>();
    lanes.sort_by_key(|lane| std::cmp::Reverse(length(lane)));
    lanes.into()
}

impl Work<'_> {
    fn phase(&self, phase: Phase, threads: usize, workers: usize) -> Result<(), Error> {
        thread::scope(|scope| {
            let start = |_| scope.spawn(|| self.thread(phase, workers));
            let all: Vec<_> = (0..threads).map(start).collect();
            all.into_iter()
                .try_for_each(|one| one.join().expect("workers do not panic"))
        })
    }

    fn thread(&self, phase: Phase, workers: usize) -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Runtime)?;
        runtime.block_on(async {
            join_all((0..workers).map(|_| self.worker(phase))).await;
        });
        Ok(())
    }

    async fn worker(&self, phase: Phase) {
        let mut ours = self.ours.caller();
        let mut theirs = match self.theirs {
            Theirs::Live(server) => Some(server.caller()),
            Theirs::Recorded(_) => None,
        };
        if phase != Phase::First {
            // Every worker makes sure; all but the first are told that it is there.
            namespace(&mut ours, SHARED).await;
            if let Some(theirs) = &mut theirs {
                namespace(theirs, SHARED).await;
            }
        }
        while let Some(lane) = self.next() {
            for case in lane {
                self.case(case, &mut ours, theirs.as_mut()).await;
            }
        }
    }

    fn next(&self) -> Option<Vec<Case>> {
        self.lanes.lock().pop_front()
    }

    async fn case(&self, case: Case, ours: &mut Caller<'_>, theirs: Option<&mut Caller<'_>>) {
        let (a, b) = match (theirs, self.theirs) {
            (Some(theirs), _) => {
                let (a, b) = tokio::join!(play(&case, ours), play(&case, theirs));
                (a, Some(b))
            }
            (None, Theirs::Recorded(all)) => {
                (play(&case, ours).await, all.get(&case.name).cloned())
            }
            (None, Theirs::Live(_)) => unreachable!("a live server has a caller"),
        };
        let Some(b) = b else {
            return;
        };
        let found = compare(&case, &a, &b);
        let mut outcome = self.outcome.lock();
        outcome.cases += 1;
        outcome.requests += case.steps.len();
        outcome.found.extend(found);
        outcome.vain.extend(vain(&case, &b));
        if self.keep {
            outcome.recorded.push(Recorded { case, seen: b });
        }
    }
}

/// A namespace's name follows from the case, so that it is the same in every run.
fn namespace_of(case: &Case) -> String {
    match case.namespace {
        Namespace::Shared => SHARED.to_owned(),
        Namespace::Own => {
            let digest = Sha256::digest(&case.name);
            let digits: String = digest
                .iter()
                .take(5)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("case-{digits}")
        }
    }
}

/// Makes a namespace in which pods can be made: there is no controller that would give it an account.
async fn namespace(caller: &mut Caller<'_>, name: &str) {
    let names = Names {
        namespace: name.to_owned(),
        ..Names::default()
    };
    let object = |name: &str| serde_json::json!({"metadata": {"name": name}});
    let mut steps = vec![Step::new("POST", "/api/v1/namespaces", "").body(JSON, &object("${ns}"))];
    steps.extend(ACCOUNTS.iter().map(|account| {
        let path = "/api/v1/namespaces/${ns}/serviceaccounts";
        Step::new("POST", path, "").body(JSON, &object(account))
    }));
    for step in steps {
        // What goes wrong here is seen by the requests that need it.
        caller.send(&step, &names).await;
    }
}

/// Sends a request: one that waits for rights to arrive again and again.
async fn settled(step: &Step, names: &Names, caller: &mut Caller<'_>) -> Raw {
    let began = Instant::now();
    loop {
        let raw = caller.send(step, names).await;
        let waits = step.until_allowed && began.elapsed() < SETTLED;
        if !waits || raw.answer().json["status"]["allowed"] == true {
            return raw;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A flow schema with the status that its server writes a moment later: updates say which version they are of.
async fn with_status(step: &Step, raw: Raw, names: &Names, caller: &mut Caller<'_>) -> Raw {
    if step.method != "POST" || !step.path.ends_with("/flowschemas") || raw.status != 201 {
        return raw;
    }
    let made = raw.answer().json;
    let path = format!("{}/{}", step.path, case::name(&made));
    let began = Instant::now();
    loop {
        let raw = caller.send(&Step::get(&path, "its status"), names).await;
        let conditions = &raw.answer().json["status"]["conditions"];
        if !list(conditions).is_empty() || began.elapsed() >= SETTLED {
            return raw;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends a case's requests to one server.
async fn play(case: &Case, caller: &mut Caller<'_>) -> Vec<Seen> {
    let mut names = Names {
        namespace: namespace_of(case),
        ..Names::default()
    };
    if case.namespace == Namespace::Own {
        namespace(caller, &names.namespace).await;
    }
    let mut sent = String::new();
    let mut all = Vec::with_capacity(case.steps.len());
    for (index, step) in case.steps.iter().enumerate() {
        let audited = audit::identified(case, &names.namespace, index + 1, step);
        let step = audited.as_ref().map_or(step, |(_, step)| step);
        let raw = settled(step, &names, caller).await;
        sent.push_str(&step.says());
        let writes = match revision(&raw) {
            Some(revision)
                if step.writes() && step.method != "DELETE" && (200..300).contains(&raw.status) =>
            {
                caller.server.writes.at(revision).await
            }
            _ => Vec::new(),
        };
        let Server { mask, audit, .. } = caller.server;
        let mut seen = Seen::new(step, &raw, writes, mask, &sent);
        if let Some((id, _)) = &audited {
            seen = seen.with(audit.events(id).await, mask, &sent);
        }
        all.push(seen);
        if let Some(label) = &step.label {
            let kept = with_status(step, raw, &names, caller).await;
            names.answers.insert(label.clone(), kept.answer());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, lane: Option<&str>, requests: usize) -> Case {
        Case {
            name: name.to_owned(),
            lane: lane.map(str::to_owned),
            steps: vec![Step::default(); requests],
            ..Case::default()
        }
    }

    #[test]
    fn cases_of_one_lane_stay_together_and_long_ones_come_first() {
        let cases = vec![
            case("a", None, 1),
            case("b", Some("x"), 2),
            case("c", Some("x"), 3),
        ];
        let all = lanes(cases.clone(), Phase::Beside);
        let names: Vec<Vec<&str>> = all
            .iter()
            .map(|lane| lane.iter().map(|of| &*of.name).collect())
            .collect();
        assert_eq!(names, [vec!["b", "c"], vec!["a"]]);
        assert_eq!(lanes(cases, Phase::Alone).len(), 1);
    }

    #[test]
    fn a_namespace_follows_from_the_case() {
        let one = Case {
            namespace: Namespace::Own,
            ..case("a", None, 0)
        };
        assert_eq!(namespace_of(&one), "case-ca978112ca");
        assert_eq!(namespace_of(&case("a", None, 0)), "shared");
    }
}
