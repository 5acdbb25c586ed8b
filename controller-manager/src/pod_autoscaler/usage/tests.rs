use super::*;
use serde_json::{Value, json};

const NOW: &str = "2026-05-04T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A pod that asks for a processor of 1000m and began an hour ago.
fn pod(name: &str, phase: &str, ready: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
        "status": {
            "phase": phase,
            "startTime": "2026-05-04T11:00:00Z",
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-05-04T11:00:05Z"}],
        },
    })
}

fn pods(all: &[Value]) -> Vec<Arc<Pod>> {
    let typed = |v: &Value| Arc::new(proto::typed::from_json_value(v.clone()).unwrap());
    all.iter().map(typed).collect()
}

fn samples(all: &[(&str, i64)]) -> Samples {
    let sample = |value| Sample {
        at: at(NOW),
        window: Duration::from_secs(60),
        value,
    };
    let named = |(name, value): &(&str, i64)| ((*name).to_owned(), sample(*value));
    all.iter().map(named).collect()
}

fn crowd(pods: &[Arc<Pod>], current: i32) -> Crowd<'_> {
    Crowd {
        pods,
        current,
        tolerance: Tolerance { down: 0.1, up: 0.1 },
        patience: Patience {
            initialization: Duration::from_secs(300),
            readiness: Duration::from_secs(30),
        },
        now: at(NOW),
    }
}

const HALF: Target<'_> = Target::Utilization {
    percent: 50,
    resource: "cpu",
    container: None,
};

fn running(names: &[&str]) -> Vec<Arc<Pod>> {
    let all: Vec<Value> = names.iter().map(|n| pod(n, "Running", "True")).collect();
    pods(&all)
}

#[test]
fn pods_that_use_twice_the_target_double() {
    let two = running(&["a", "b"]);
    let usage = crowd(&two, 2)
        .per_pod(HALF, samples(&[("a", 900), ("b", 1100)]), true)
        .unwrap();
    let (replicas, utilization, average) = (4, Some(100), 1000);
    assert_eq!(
        usage,
        Usage {
            replicas,
            utilization,
            average
        }
    );
    let value = crowd(&two, 2)
        .per_pod(
            Target::Value(500),
            samples(&[("a", 900), ("b", 1100)]),
            false,
        )
        .unwrap();
    assert_eq!(
        (value.replicas, value.utilization, value.average),
        (4, None, 1000)
    );
}

#[test]
fn small_differences_change_nothing() {
    let two = running(&["a", "b"]);
    let of = |each| {
        let samples = samples(&[("a", each), ("b", each)]);
        crowd(&two, 2)
            .per_pod(HALF, samples, true)
            .unwrap()
            .replicas
    };
    assert_eq!([of(545), of(560), of(455), of(240)], [2, 3, 2, 1]);
}

#[test]
fn pods_without_samples_damp_the_change_in_both_directions() {
    let three = running(&["a", "b", "c"]);
    let of = |each| {
        let samples = samples(&[("a", each), ("b", each)]);
        crowd(&three, 3)
            .per_pod(HALF, samples, true)
            .unwrap()
            .replicas
    };
    // Up: the third is taken to use nothing; down: all that it asks for.
    assert_eq!([of(1000), of(100)], [4, 3]);
}

#[test]
fn starting_pods_count_as_idle_on_the_way_up() {
    let mut young = pod("b", "Running", "False");
    young["status"]["startTime"] = "2026-05-04T11:59:00Z".into();
    let all = pods(&[
        pod("a", "Running", "True"),
        young,
        pod("c", "Pending", "False"),
    ]);
    let both = samples(&[("a", 2000), ("b", 3000)]);
    // 2000 of three: 66 %, of 50 %: 1.32 of three.
    assert_eq!(
        crowd(&all, 3)
            .per_pod(HALF, both.clone(), true)
            .unwrap()
            .replicas,
        4
    );
    // Other resources than the processor are not used up by starting.
    let bytes = crowd(&all, 3)
        .per_pod(Target::Value(500), both, false)
        .unwrap();
    assert_eq!(bytes.average, 2500);
}

#[test]
fn pods_that_end_are_not_counted() {
    let all = pods(&[pod("a", "Running", "True"), pod("b", "Failed", "False")]);
    let usage = crowd(&all, 2)
        .per_pod(HALF, samples(&[("a", 1000), ("b", 9000)]), true)
        .unwrap();
    assert_eq!((usage.replicas, usage.utilization), (2, Some(100)));
}

#[test]
fn what_is_missing_is_told() {
    let one = running(&["a"]);
    let of = |target, samples| {
        crowd(&one, 1)
            .per_pod(target, samples, true)
            .unwrap_err()
            .to_string()
    };
    let none = "did not receive metrics for targeted pods (pods might be unready)";
    assert_eq!(of(HALF, samples(&[])), none);
    let memory = Target::Utilization {
        percent: 50,
        resource: "memory",
        container: None,
    };
    let text = "missing request for memory in container c of Pod a";
    assert_eq!(of(memory, samples(&[("a", 1)])), text);
    let other = Target::Utilization {
        percent: 50,
        resource: "cpu",
        container: Some("x"),
    };
    assert_eq!(
        of(other, samples(&[("a", 1)])),
        "container x not found in Pod a"
    );
    let error = crowd(&[], 1).per_pod(HALF, samples(&[]), true).unwrap_err();
    assert_eq!(error.to_string(), NO_PODS);
}

#[test]
fn what_a_pod_itself_asks_for_counts() {
    let mut own = pod("a", "Running", "True");
    own["spec"]["resources"] = json!({"requests": {"cpu": "4"}});
    let own = pods(&[own]);
    let of = |container| {
        let target = Target::Utilization {
            percent: 50,
            resource: "cpu",
            container,
        };
        let usage = crowd(&own, 1).per_pod(target, samples(&[("a", 1000)]), true);
        usage.unwrap().utilization
    };
    assert_eq!((of(None), of(Some("c"))), (Some(25), Some(100)));
}

#[test]
fn a_ratio_of_all_counts_pods_that_are_ready_and_no_pods_at_zero() {
    let all = pods(&[pod("a", "Running", "True"), pod("b", "Running", "False")]);
    assert_eq!(crowd(&all, 2).by_ratio(3.0).unwrap(), 3);
    assert_eq!(crowd(&all, 2).by_ratio(1.05).unwrap(), 2);
    assert_eq!(crowd(&[], 0).by_ratio(2.5).unwrap(), 3);
    assert!(crowd(&[], 2).by_ratio(2.5).is_err());
}

#[test]
fn a_sum_is_shared_by_the_pods_that_are_there() {
    let tolerance = Tolerance { down: 0.1, up: 0.1 };
    assert_eq!(shared(10_000, 2000, 2, tolerance), (5, 5000));
    assert_eq!(shared(4100, 2000, 2, tolerance), (2, 2050));
    assert_eq!(shared(i64::MAX, 1, 0, tolerance).0, i32::MAX);
}
