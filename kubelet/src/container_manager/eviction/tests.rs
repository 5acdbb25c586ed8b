use std::collections::BTreeMap;
use std::time::Instant as Clock;

use serde_json::json;

use super::*;
use crate::container_manager::threshold::{Amount, Signal};
use rank::{ContainerUsage, Disk};
use state::Observation;

const MI: u64 = 1 << 20;

fn hard(signal: Signal, text: &str) -> Threshold {
    Threshold {
        signal,
        value: Amount::Fixed(text.parse().unwrap()),
        grace: Duration::ZERO,
        min_reclaim: None,
    }
}

fn seen(signal: Signal, available: i64) -> Observations {
    let observed = Observation {
        available,
        capacity: 1 << 40,
    };
    [(signal, observed)].into()
}

fn pod(name: &str, spec: serde_json::Value) -> Arc<Pod> {
    let pod = json!({"metadata": {"name": name, "uid": name}, "spec": spec});
    Arc::new(proto::typed::from_json_value(pod).unwrap())
}

fn requesting(name: &str, memory: &str, priority: i32) -> Arc<Pod> {
    let requests = json!({"requests": {"memory": memory}});
    pod(
        name,
        json!({"priority": priority, "containers": [{"name": "c", "resources": requests}]}),
    )
}

fn using(memory: u64) -> Option<Usage> {
    Some(Usage {
        memory,
        ..Usage::default()
    })
}

#[test]
fn a_soft_threshold_waits_and_a_condition_outlives_its_cause() {
    let soft = Threshold {
        grace: Duration::from_secs(30),
        ..hard(Signal::MemoryAvailable, "100Mi")
    };
    let (low, high) = (
        seen(Signal::MemoryAvailable, 1),
        seen(Signal::MemoryAvailable, 1 << 30),
    );
    let began = Clock::now();
    let after = |seconds| began + Duration::from_secs(seconds);
    let transition = Duration::from_secs(300);
    let mut state = State::default();
    let step = state.step(&[soft], &low, transition, began);
    assert_eq!(step.pressure, [Pressure::Memory].into());
    assert_eq!(step.act, []);
    assert_eq!(state.step(&[soft], &low, transition, after(30)).act, [soft]);
    let step = state.step(&[soft], &high, transition, after(40));
    assert_eq!((step.act.len(), step.pressure.len()), (0, 1));
    assert_eq!(
        state
            .step(&[soft], &high, transition, after(331))
            .pressure
            .len(),
        0
    );
    // The time starts anew.
    assert_eq!(state.step(&[soft], &low, transition, after(400)).act, []);
}

#[test]
fn what_was_acted_upon_is_met_until_enough_is_free() {
    let threshold = Threshold {
        min_reclaim: Some(Amount::Fixed("50Mi".parse().unwrap())),
        ..hard(Signal::NodefsAvailable, "100Mi")
    };
    let at = |mi: i64| seen(Signal::NodefsAvailable, mi << 20);
    let mut state = State::default();
    let now = Clock::now();
    let mut act = |mi| {
        state
            .step(&[threshold], &at(mi), Duration::ZERO, now)
            .act
            .len()
    };
    assert_eq!(act(120), 0, "not met yet");
    assert_eq!(act(90), 1);
    assert_eq!(act(120), 1, "more has to be freed");
    assert_eq!(act(151), 0);
    assert_eq!(act(120), 0);
}

#[test]
fn memory_is_dealt_with_first() {
    let both = [
        hard(Signal::ImagefsAvailable, "1Gi"),
        hard(Signal::MemoryAvailable, "1Gi"),
    ];
    let mut low = seen(Signal::ImagefsAvailable, 1);
    low.extend(seen(Signal::MemoryAvailable, 1));
    let step = State::default().step(&both, &low, Duration::ZERO, Clock::now());
    let signals: Vec<_> = step.act.iter().map(|t| t.signal).collect();
    assert_eq!(signals, [Signal::MemoryAvailable, Signal::ImagefsAvailable]);
    assert_eq!(step.pressure, [Pressure::Memory, Pressure::Disk].into());
}

#[test]
fn who_uses_more_than_asked_for_and_matters_least_goes_first() {
    let mut pods = vec![
        (requesting("within", "500Mi", 0), using(400 * MI)),
        (requesting("important", "1Mi", 10), using(900 * MI)),
        (requesting("little-over", "100Mi", 0), using(150 * MI)),
        (requesting("far-over", "100Mi", 0), using(400 * MI)),
        (requesting("unknown", "1Gi", 10), None),
    ];
    rank::by(Signal::MemoryAvailable, &mut pods);
    let names: Vec<_> = pods
        .iter()
        .map(|(pod, _)| pod.metadata.name.as_deref().unwrap())
        .collect();
    assert_eq!(
        names,
        ["unknown", "far-over", "little-over", "important", "within"]
    );
}

#[test]
fn a_victim_is_told_what_ran_out_and_by_which_container() {
    let threshold = hard(Signal::MemoryAvailable, "200Mi");
    let used = ContainerUsage {
        memory: 300 * MI,
        ..ContainerUsage::default()
    };
    let usage = Usage {
        containers: [("c".to_owned(), used)].into(),
        ..Usage::default()
    };
    let text = rank::message(
        Signal::MemoryAvailable,
        &requesting("p", "100Mi", 0),
        Some(&usage),
        &[threshold],
        &seen(Signal::MemoryAvailable, 150 << 20),
    );
    assert_eq!(
        text,
        "The node was low on resource: memory. Threshold quantity: 200Mi, available: 150Mi. \
         Container c was using 300Mi, request is 100Mi, has larger consumption of memory. "
    );
}

#[test]
fn under_memory_pressure_only_best_effort_pods_are_refused() {
    let (sender, receiver) = watch::channel(BTreeSet::new());
    let admission = Admission::new(receiver);
    let best_effort = pod("b", json!({"containers": [{"name": "c"}]}));
    let tolerant = pod(
        "t",
        json!({
            "containers": [{"name": "c"}],
            "tolerations": [{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}],
        }),
    );
    let burstable = requesting("r", "1Mi", 0);
    let critical = pod(
        "s",
        json!({"priority": 2_000_001_000, "containers": [{"name": "c"}]}),
    );
    assert_eq!(admission.admit(&best_effort), Ok(()));
    sender.send_replace([Pressure::Memory].into());
    let refused = admission.admit(&best_effort).unwrap_err();
    assert_eq!(refused.0, "Evicted");
    assert_eq!(refused.1, "The node had condition: [MemoryPressure]. ");
    assert_eq!(admission.admit(&tolerant), Ok(()));
    assert_eq!(admission.admit(&burstable), Ok(()));
    sender.send_replace([Pressure::Memory, Pressure::Disk].into());
    assert!(admission.admit(&tolerant).is_err());
    let refused = admission.admit(&burstable).unwrap_err();
    assert_eq!(
        refused.1,
        "The node had condition: [MemoryPressure DiskPressure]. "
    );
    assert_eq!(admission.admit(&critical), Ok(()));
}

#[test]
fn local_storage_is_limited_by_volume_pod_and_container() {
    let limits = json!({"limits": {"ephemeral-storage": "10Mi"}});
    let limited = pod(
        "p",
        json!({
            "containers": [{"name": "c", "resources": limits}],
            "volumes": [
                {"name": "v", "emptyDir": {"sizeLimit": "5Mi"}},
                {"name": "m", "emptyDir": {"sizeLimit": "5Mi", "medium": "Memory"}},
            ],
        }),
    );
    assert!(local::has_limits(&limited));
    assert!(!local::has_limits(&requesting("r", "1Mi", 0)));
    let usage = |volume: u64, total: u64, layer: u64, logs: u64| Usage {
        disk: Disk {
            bytes: total * MI,
            inodes: 0,
        },
        volumes: BTreeMap::from([("v".to_owned(), volume * MI), ("m".to_owned(), 99 * MI)]),
        containers: BTreeMap::from([(
            "c".to_owned(),
            ContainerUsage {
                memory: 0,
                layer: Some(layer * MI),
                logs: Some(logs * MI),
            },
        )]),
        ..Usage::default()
    };
    let told = |usage| local::exceeded(&limited, &usage, false);
    assert_eq!(told(usage(5, 10, 5, 5)), None);
    assert_eq!(
        told(usage(6, 6, 0, 0)).unwrap(),
        "Usage of EmptyDir volume \"v\" exceeds the limit \"5Mi\". "
    );
    assert_eq!(
        told(usage(0, 11, 0, 0)).unwrap(),
        "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "
    );
    assert_eq!(
        told(usage(0, 0, 8, 8)).unwrap(),
        "Container c exceeded its local ephemeral storage limit \"10Mi\". "
    );
    assert_eq!(local::exceeded(&limited, &usage(0, 0, 8, 8), true), None);
}
