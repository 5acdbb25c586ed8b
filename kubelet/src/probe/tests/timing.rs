//! When probes are made, on a clock of the test's own.

use super::schedule::{Row, Timing};
use super::*;
use proptest::prelude::*;
use results::Verdict;

fn timing(probe: Value) -> Timing {
    Timing::of(&proto::typed::from_json_value(probe).unwrap())
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn numbers_that_are_missing_are_those_of_the_api() {
    let timing = timing(json!({}));
    assert_eq!(timing.initial_delay, secs(0));
    assert_eq!(timing.period, secs(10));
    assert_eq!(timing.timeout, secs(1));
}

#[test]
fn the_first_probe_waits_for_its_delay_and_its_period() {
    for (kind, delay, period, age, expected) in [
        (Kind::Readiness, 0, 10, 0, 0),
        (Kind::Readiness, 5, 10, 0, 5),
        (Kind::Readiness, 5, 10, 3, 2),
        (Kind::Readiness, 5, 10, 60, 0),
        (Kind::Liveness, 0, 10, 0, 10),
        (Kind::Liveness, 5, 10, 0, 10),
        (Kind::Liveness, 15, 10, 0, 20),
        (Kind::Liveness, 15, 5, 0, 15),
        (Kind::Liveness, 0, 10, 33, 7),
        (Kind::Startup, 0, 1, 0, 1),
        (Kind::Startup, 3, 2, 1, 3),
    ] {
        let timing = timing(json!({ "initialDelaySeconds": delay, "periodSeconds": period }));
        let first = timing.first(kind, secs(age));
        assert_eq!(first, secs(expected), "{kind:?} {delay} {period} {age}");
    }
}

proptest! {
    #[test]
    fn no_probe_comes_before_its_delay(delay in 0_i32..100_000, period in 1_i32..100_000, age in 0_u64..1_000_000) {
        let timing = timing(json!({ "initialDelaySeconds": delay, "periodSeconds": period }));
        for kind in Kind::ALL {
            let first = timing.first(kind, secs(age)) + secs(age);
            prop_assert!(first >= timing.initial_delay);
            prop_assert!(first <= timing.initial_delay.max(secs(age)) + timing.period);
        }
        let resumed = timing.resumed(secs(age), 0.5) + secs(age);
        prop_assert!(resumed >= timing.initial_delay);
    }

    #[test]
    fn a_verdict_needs_its_number_in_a_row(results in prop::collection::vec(any::<bool>(), 0..40), success in 1_u32..4, failure in 1_u32..4) {
        let timing = timing(json!({ "successThreshold": success, "failureThreshold": failure }));
        let mut row = Row::EMPTY;
        for (at, good) in results.iter().enumerate() {
            let result = if *good { Verdict::Success } else { Verdict::Failure(String::new()) };
            let needed = if *good { success } else { failure } as usize;
            let enough = at + 1 >= needed && results[at + 1 - needed..=at].iter().all(|r| r == good);
            prop_assert_eq!(row.count(&timing, result.clone()), enough.then_some(result));
        }
    }
}

/// Runs probes on a paused clock: when each command ran, in seconds after the start.
async fn ran_at(
    container: Value,
    answers: &'static [(&'static str, &'static [i32])],
    for_: u64,
) -> Vec<(String, u64)> {
    let began = Instant::now();
    let log = Arc::new(parking_lot::Mutex::new(Vec::<(String, u64)>::new()));
    let writer = Arc::clone(&log);
    let runtime = Commands::new(move |command, _| {
        let mut log = writer.lock();
        let turn = log.iter().filter(|(ran, _)| *ran == command[0]).count();
        log.push((
            command[0].clone(),
            (began.elapsed() + Duration::from_millis(100)).as_secs(),
        ));
        let codes = answers.iter().find(|(name, _)| *name == command[0]);
        let codes = codes.map_or(&[0][..], |(_, codes)| *codes);
        Ok(ExecOutput {
            exit_code: codes[turn.min(codes.len() - 1)],
            ..ExecOutput::default()
        })
    });
    let bench = bench(runtime);
    tokio::time::pause();
    bench.start(&pod(container), "1");
    tokio::time::sleep(secs(for_) + Duration::from_millis(500)).await;
    log.lock().clone()
}

fn at(name: &str, seconds: &[u64]) -> Vec<(String, u64)> {
    seconds
        .iter()
        .map(|second| (name.to_owned(), *second))
        .collect()
}

#[tokio::test]
async fn liveness_goes_by_its_period_until_it_fails() {
    let probe =
        json!({ "exec": { "command": ["live"] }, "periodSeconds": 3, "failureThreshold": 2 });
    let ran = ran_at(
        json!({ "name": "c", "livenessProbe": probe }),
        &[("live", &[0, 1, 0, 1, 1])],
        60,
    )
    .await;
    assert_eq!(
        ran,
        at("live", &[3, 6, 9, 12, 15]),
        "and no more after the verdict"
    );
}

#[tokio::test]
async fn readiness_is_asked_as_soon_as_the_container_has_started() {
    let ran = ran_at(
        json!({ "name": "c",
            "startupProbe": { "exec": { "command": ["start"] }, "periodSeconds": 2 },
            "readinessProbe": { "exec": { "command": ["ready"] }, "periodSeconds": 5 },
            "livenessProbe": { "exec": { "command": ["live"] }, "periodSeconds": 4 },
        }),
        &[("start", &[1, 1, 0])],
        14,
    )
    .await;
    let of = |name: &str| -> Vec<(String, u64)> {
        ran.iter().filter(|(ran, _)| ran == name).cloned().collect()
    };
    assert_eq!(of("start"), at("start", &[2, 4, 6]));
    assert_eq!(of("ready"), at("ready", &[6, 11]));
    assert_eq!(of("live"), at("live", &[8, 12]));
}

#[tokio::test]
async fn a_delayed_readiness_probe_waits() {
    let probe =
        json!({ "exec": { "command": ["r"] }, "initialDelaySeconds": 7, "periodSeconds": 5 });
    let ran = ran_at(json!({ "name": "c", "readinessProbe": probe }), &[], 13).await;
    assert_eq!(ran, at("r", &[7, 12]));
}

#[tokio::test]
async fn many_probes_at_once_wait_for_their_turn() {
    static AT_ONCE: AtomicUsize = AtomicUsize::new(0);
    let at = serve(|_| {
        AT_ONCE.fetch_add(1, Ordering::Relaxed);
        None
    })
    .await;
    let bench = bench(Commands::ending(0, "", ""));
    let pod = pod(json!({ "name": "c", "readinessProbe": {
        "httpGet": { "port": at.port() }, "timeoutSeconds": 60,
    } }));
    for id in 0..300 {
        bench.start(&pod, &id.to_string());
    }
    let limit = Instant::now() + secs(30);
    while AT_ONCE.load(Ordering::Relaxed) < 256 {
        assert!(
            Instant::now() < limit,
            "{}",
            AT_ONCE.load(Ordering::Relaxed)
        );
        tokio::task::yield_now().await;
    }
    assert_eq!(AT_ONCE.load(Ordering::Relaxed), 256);
    bench.probes.remove_pod("u");
}
