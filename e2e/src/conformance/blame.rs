//! Finds the component that a red test is red with: the test is run again with one component at a time upstream's.

use std::collections::BTreeSet;

use super::stop::Stop;
use super::suite::Suite;
use super::{Error, Options, Outcome, SCOREBOARD, all, run, scoreboard, stand};
use crate::cluster::{self, Daemon, OURS};
use crate::files;
use crate::workshop::Workshop;

/// What the test said with these components upstream's.
#[derive(Clone, Debug)]
pub struct Suspect {
    pub upstream: Vec<Daemon>,
    pub outcome: Outcome,
    /// Why it did not pass.
    pub reason: String,
}

/// Runs the one test that is called `pattern`, or matches it as an expression of Go's: with ours, with upstream's, and with
/// each component exchanged; each time on a fresh cluster. Tells each as it is known, and writes a single culprit to the
/// scoreboard.
pub fn blame(
    workshop: &Workshop,
    options: &Options,
    pattern: &str,
    mut tell: impl FnMut(&Suspect),
) -> Result<(String, Vec<Suspect>), Error> {
    let stop = Stop::listen();
    workshop.ensure_tools(&["e2e.test", "kubectl"])?;
    let suite = Suite::new(&workshop.tools());
    let dir = options.dir.join("run");
    run::make_dir(&dir)?;
    // A name as the scoreboard has it is no expression: it is full of brackets.
    let tests = if suite.tests(None, &dir)?.contains(pattern) {
        BTreeSet::from([pattern.to_owned()])
    } else {
        suite.tests(Some(pattern), &dir)?
    };
    let test = match tests.len() {
        0 => return Err(Error::NoSuchTest(pattern.to_owned())),
        1 => tests.first().cloned().unwrap_or_default(),
        many => return Err(Error::TooManyTests(many)),
    };
    let alone = OURS.iter().map(|daemon| vec![*daemon]);
    let mut seen = Vec::new();
    for upstream in [Vec::new(), OURS.to_vec()].into_iter().chain(alone) {
        let suspect = once(workshop, &suite, options, &tests, upstream, &stop)?;
        let Some(suspect) = suspect else {
            return Ok((test, seen));
        };
        tell(&suspect);
        seen.push(suspect);
        if is_settled(&seen) {
            break;
        }
    }
    if let Some((daemon, why)) = culprit(&seen) {
        let board = workshop.root().join(SCOREBOARD);
        scoreboard::remark(&board, &test, daemon.name(), why)?;
    }
    Ok((test, seen))
}

/// Nothing; that is, somebody stopped it.
fn once(
    workshop: &Workshop,
    suite: &Suite,
    options: &Options,
    tests: &BTreeSet<String>,
    upstream: Vec<Daemon>,
    stop: &Stop,
) -> Result<Option<Suspect>, Error> {
    let dir = options.dir.join("run");
    let verdicts = dir.join("verdicts.jsonl");
    if verdicts.exists() {
        std::fs::remove_file(&verdicts).map_err(files::cannot("remove", &verdicts))?;
    }
    let stand = stand(workshop, suite.clone(), options, &upstream, false)?;
    let (verdicts, stopped) = all(&stand, tests, 1, stop)?;
    cluster::down(&options.dir.join("cluster"), true)?;
    let verdict = verdicts.into_values().next().filter(|_| !stopped);
    Ok(verdict.map(|verdict| Suspect {
        upstream,
        outcome: verdict.outcome,
        reason: verdict.reason().to_owned(),
    }))
}

/// Green with ours, or red with upstream's: no component of ours is to blame.
fn is_settled(seen: &[Suspect]) -> bool {
    let passed = |suspect: &Suspect| suspect.outcome == Outcome::Passed;
    match seen {
        [ours] => passed(ours),
        [_, upstream] => !passed(upstream),
        _ => false,
    }
}

/// The only component that turns the test green, and why it is red with ours.
fn culprit(seen: &[Suspect]) -> Option<(Daemon, &str)> {
    let ours = seen
        .first()
        .filter(|ours| ours.outcome != Outcome::Passed)?;
    let mut green = seen
        .iter()
        .filter_map(|suspect| match suspect.upstream[..] {
            [daemon] if suspect.outcome == Outcome::Passed => Some(daemon),
            _ => None,
        });
    let daemon = green.next()?;
    green.next().is_none().then_some((daemon, &ours.reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Failed, Passed};

    fn suspect(upstream: &[Daemon], outcome: Outcome) -> Suspect {
        Suspect {
            upstream: upstream.to_vec(),
            outcome,
            reason: "no exec".to_owned(),
        }
    }

    #[test]
    fn the_one_that_turns_it_green_is_to_blame() {
        let mut seen = vec![suspect(&[], Failed), suspect(OURS, Passed)];
        assert!(!is_settled(&seen));
        seen.push(suspect(&[Daemon::KubeApiserver], Failed));
        assert_eq!(culprit(&seen), None);
        seen.push(suspect(&[Daemon::Kubelet], Passed));
        assert_eq!(culprit(&seen), Some((Daemon::Kubelet, "no exec")));
        seen.push(suspect(&[Daemon::KubeProxy], Passed));
        assert_eq!(
            culprit(&seen),
            None,
            "two of them may be a matter of chance"
        );
    }

    #[test]
    fn a_test_that_passes_with_ours_or_fails_with_upstreams_is_nobodys_fault() {
        assert!(is_settled(&[suspect(&[], Passed)]));
        let red = [suspect(&[], Failed), suspect(OURS, Failed)];
        assert!(is_settled(&red));
        assert_eq!(culprit(&red), None);
        assert!(!is_settled(&[suspect(&[], Failed)]));
    }
}
