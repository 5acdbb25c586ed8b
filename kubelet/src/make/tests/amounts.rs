//! Quality of service, sums, limits and scores.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::sums::{self, List};
use super::super::*;
use super::{first, pod, single};
use crate::runtime::Resources;

const GI: u64 = 1 << 30;

fn list(cpu: &str, memory: &str) -> Value {
    let pairs = [("cpu", cpu), ("memory", memory)];
    let given = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    given
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// A container with requests and limits.
fn asks(name: &str, requests: (&str, &str), limits: (&str, &str)) -> Value {
    json!({ "name": name, "resources": {
        "requests": list(requests.0, requests.1), "limits": list(limits.0, limits.1),
    } })
}

/// Upstream's `TestComputePodQOS`.
#[test]
fn quality_of_service_is_upstreams() {
    let guaranteed = || asks("g", ("100m", "100Mi"), ("100m", "100Mi"));
    let best_effort = || asks("b", ("", ""), ("", ""));
    let burstable = || asks("u", ("100m", "100Mi"), ("200m", "200Mi"));
    let cpu_only = || asks("o", ("100m", ""), ("100m", ""));
    for (containers, expected) in [
        (vec![guaranteed()], Qos::Guaranteed),
        (vec![guaranteed(), guaranteed()], Qos::Guaranteed),
        (vec![best_effort()], Qos::BestEffort),
        (vec![best_effort(), best_effort()], Qos::BestEffort),
        (vec![guaranteed(), best_effort()], Qos::Burstable),
        (vec![best_effort(), cpu_only()], Qos::Burstable),
        (vec![cpu_only()], Qos::Burstable),
        (vec![burstable()], Qos::Burstable),
        (vec![guaranteed(), burstable()], Qos::Burstable),
        (vec![asks("z", ("0", "0"), ("0", "0"))], Qos::BestEffort),
        (
            vec![asks("e", ("1000m", "1Gi"), ("1", "1024Mi"))],
            Qos::Guaranteed,
        ),
        (vec![], Qos::BestEffort),
    ] {
        let of = pod(json!({ "containers": containers }));
        assert_eq!(qos(&of), expected, "{:?}", of.spec);
    }
    let init = pod(json!({ "containers": [guaranteed()], "initContainers": [best_effort()] }));
    assert_eq!(qos(&init), Qos::Burstable);
    let extended = single(json!({
        "name": "c", "resources": { "limits": { "example.com/x": "1" } },
    }));
    assert_eq!(qos(&extended), Qos::BestEffort);
}

#[test]
fn what_the_pod_asks_for_as_a_whole_decides_its_class() {
    let class = |resources: Value| {
        qos(&pod(json!({
            "containers": [asks("c", ("1", "1Gi"), ("1", "1Gi"))], "resources": resources,
        })))
    };
    let whole = |requests, limits| json!({ "requests": requests, "limits": limits });
    assert_eq!(
        class(whole(list("2", "2Gi"), list("2", "2Gi"))),
        Qos::Guaranteed
    );
    assert_eq!(class(whole(list("1", ""), json!({}))), Qos::Burstable);
    assert_eq!(
        class(whole(json!({}), json!({}))),
        Qos::Guaranteed,
        "as if it said nothing"
    );
    assert_eq!(
        class(json!({ "limits": { "other": "1" } })),
        Qos::Guaranteed
    );
}

#[test]
fn the_class_in_the_status_stays() {
    let mut of = single(asks("c", ("1", "1Gi"), ("1", "1Gi")));
    of.status = proto::typed::from_json_value(json!({ "qosClass": "BestEffort" })).unwrap();
    assert_eq!(qos(&of), Qos::BestEffort);
    assert_eq!(qos_name(Qos::BestEffort), "BestEffort");
}

#[test]
fn sums_are_those_of_the_greediest_moment() {
    let sidecar = |name, cpu| {
        let mut container = asks(name, (cpu, ""), ("", ""));
        container["restartPolicy"] = "Always".into();
        container
    };
    let cpu = |init: Vec<Value>| {
        let of = pod(json!({
            "containers": [asks("a", ("1", ""), ("", "")), asks("b", ("1", ""), ("", ""))],
            "initContainers": init, "overhead": { "cpu": "500m", "memory": "1Mi" },
        }));
        let sum = sums::of_containers(&of, List::Requests);
        let whole = sums::of_pod(&of, List::Requests);
        assert_eq!(whole["memory"].value(), 1 << 20);
        assert_eq!(whole["cpu"], sum["cpu"].plus("500m".parse().unwrap()));
        assert!(
            sums::of_pod(&of, List::Limits).is_empty(),
            "overhead makes no limit"
        );
        sum["cpu"].milli_value()
    };
    assert_eq!(cpu(vec![]), 2000);
    assert_eq!(cpu(vec![asks("i", ("5", ""), ("", ""))]), 5000);
    assert_eq!(cpu(vec![sidecar("s", "1")]), 3000);
    // An init container runs beside the sidecars before it, not those after.
    let init = || asks("i", ("5", ""), ("", ""));
    assert_eq!(cpu(vec![sidecar("s", "2"), init()]), 7000);
    assert_eq!(cpu(vec![init(), sidecar("s", "2")]), 5000);
}

#[test]
fn shares_and_quotas_are_the_kernels() {
    for (milli, expected) in [
        (0, 2),
        (1, 2),
        (2, 2),
        (3, 3),
        (100, 102),
        (1000, 1024),
        (500_000, 262_144),
    ] {
        assert_eq!(shares(milli), expected, "{milli}");
    }
    for (milli, period, expected) in [
        (0, 100_000, None),
        (5, 100_000, Some(1000)),
        (10, 100_000, Some(1000)),
        (200, 100_000, Some(20_000)),
        (1500, 100_000, Some(150_000)),
        (200, 5_000, Some(1000)),
    ] {
        assert_eq!(quota(milli, period), expected, "{milli} {period}");
    }
    assert_eq!(milli_cpu_of_quota(-1, 100_000), 0);
    assert_eq!(milli_cpu_of_quota(20_000, 100_000), 200);
    assert_eq!(milli_cpu_of_quota(1, 0), 0);
}

/// Upstream's `TestResourceConfigForPod`.
#[test]
fn limits_of_pods_are_upstreams() {
    let of = |containers: Value| pod_resources(&pod(json!({ "containers": containers })), &v1());
    let none = ("", "");
    assert_eq!(
        of(json!([asks("c", none, none)])),
        Resources {
            cpu_shares: Some(2),
            ..Resources::default()
        }
    );
    let burstable = of(json!([asks("c", ("100m", "100Mi"), none)]));
    assert_eq!(
        burstable,
        Resources {
            cpu_shares: Some(102),
            ..Resources::default()
        }
    );
    let limited = asks("a", ("100m", "100Mi"), ("200m", "200Mi"));
    assert_eq!(
        of(json!([limited])),
        Resources {
            cpu_shares: Some(102),
            cpu_period: Some(100_000),
            cpu_quota: Some(20_000),
            memory_limit: Some(200 << 20),
            ..Resources::default()
        }
    );
    let partly = of(json!([
        limited,
        asks("b", ("100m", "100Mi"), ("", "100Mi"))
    ]));
    assert_eq!(
        (partly.cpu_quota, partly.memory_limit),
        (None, Some(300 << 20))
    );
    assert_eq!(partly.cpu_shares, Some(204));
    let guaranteed = of(json!([asks("c", ("100m", "100Mi"), ("100m", "100Mi"))]));
    assert_eq!(
        (guaranteed.cpu_quota, guaranteed.memory_limit),
        (Some(10_000), Some(100 << 20))
    );
    let facts = NodeFacts {
        cpu_cfs_quota: false,
        ..v1()
    };
    let unmetered = pod_resources(&single(asks("c", ("1", "1Mi"), ("1", "1Mi"))), &facts);
    assert_eq!(unmetered.cpu_quota, Some(-1));
}

/// Nothing but what is asked for in a test: `unified` stays empty.
fn v1() -> NodeFacts {
    NodeFacts {
        cgroups_v2: false,
        single_process_oom_kill: true,
        memory_capacity: 4 * GI,
        ..NodeFacts::default()
    }
}

#[test]
fn limits_of_containers_are_upstreams() {
    let of = |container: Value| {
        let of = single(container);
        let mut made = container_resources(&of, first(&of), &v1());
        made.oom_score_adj = None;
        made
    };
    let period = Resources {
        cpu_period: Some(100_000),
        ..Resources::default()
    };
    assert_eq!(
        of(asks("c", ("", ""), ("", ""))),
        Resources {
            cpu_shares: Some(2),
            ..period.clone()
        }
    );
    // Where only a limit is given, it is the request, too.
    assert_eq!(
        of(asks("c", ("", ""), ("2", "1Gi"))),
        Resources {
            cpu_shares: Some(2048),
            cpu_quota: Some(200_000),
            memory_limit: Some(1 << 30),
            ..period.clone()
        }
    );
    assert_eq!(
        of(asks("c", ("0", ""), ("2", ""))),
        Resources {
            cpu_shares: Some(2),
            cpu_quota: Some(200_000),
            ..period
        }
    );
}

#[test]
fn containers_without_limits_have_those_of_their_pod() {
    let of = pod(json!({
        "containers": [asks("c", ("", ""), ("", "1Gi")), { "name": "d" }],
        "resources": { "limits": { "cpu": "1", "memory": "2Gi" } },
    }));
    let made = |at: usize| container_resources(&of, &spec(&of).containers[at], &v1());
    assert_eq!(
        (made(0).cpu_quota, made(0).memory_limit),
        (Some(100_000), Some(1 << 30))
    );
    assert_eq!(
        (made(1).cpu_quota, made(1).memory_limit),
        (Some(100_000), Some(2 << 30))
    );
    let whole = pod_resources(&of, &v1());
    assert_eq!(
        (whole.cpu_quota, whole.memory_limit),
        (Some(100_000), Some(2 << 30))
    );
}

#[test]
fn huge_pages_are_given_by_size_and_otherwise_forbidden() {
    let facts = NodeFacts {
        hugepage_sizes: vec!["2MB".into(), "1GB".into()],
        ..v1()
    };
    let of = single(json!({ "name": "c", "resources": {
        "requests": { "hugepages-2Mi": "4Mi" },
        "limits": { "hugepages-2Mi": "4Mi", "hugepages-64Ki": "64Ki", "hugepages-x": "1" },
    } }));
    let expected = BTreeMap::from([("2MB".to_owned(), 4 << 20), ("1GB".to_owned(), 0)]);
    assert_eq!(
        container_resources(&of, first(&of), &facts).hugepage_limits,
        expected
    );
    assert_eq!(pod_resources(&of, &facts).hugepage_limits, expected);
}

/// Upstream's `TestGetContainerOOMScoreAdjust`, with its node of 4,000,000,000 bytes.
#[test]
fn oom_scores_are_upstreams() {
    const CAPACITY: u64 = 4_000_000_000;
    let adjusted = |of: &Pod| oom_score_adj(of, first(of), CAPACITY);
    let scored = |requests, limits| adjusted(&single(asks("c", requests, limits)));
    assert_eq!(scored(("", ""), ("", "")), 1000);
    assert_eq!(scored(("10m", "10G"), ("10m", "10G")), -997);
    assert_eq!(scored(("", "2000000000"), ("", "")), 500);
    assert_eq!(scored(("", "1"), ("", "")), 999, "better than best effort");
    assert_eq!(scored(("", "10G"), ("", "")), 3, "worse than guaranteed");
    assert_eq!(scored(("5m", ""), ("", "")), 999);
    let mut critical = single(asks("c", ("", ""), ("", "")));
    let spec = critical.spec.as_mut().unwrap();
    spec.priority = Some(2_000_001_000);
    spec.priority_class_name = Some("system-node-critical".into());
    assert_eq!(adjusted(&critical), -997);
    critical.spec.as_mut().unwrap().priority_class_name = Some("system-cluster-critical".into());
    assert_eq!(adjusted(&critical), 1000);
    assert_eq!(
        oom_score_adj(
            &single(asks("c", ("1", "1"), ("", ""))),
            &Container::default(),
            0
        ),
        999
    );
}

#[test]
fn a_sidecar_is_not_killed_before_what_it_serves() {
    let of = pod(json!({
        "containers": [asks("c", ("", "2G"), ("", ""))],
        "initContainers": [
            { "name": "s", "restartPolicy": "Always" }, { "name": "i" },
        ],
    }));
    let init = |at: usize| &spec(&of).init_containers.as_ref().unwrap()[at];
    let score = |container| oom_score_adj(&of, container, 4_000_000_000);
    assert_eq!(score(first(&of)), 500);
    assert_eq!(score(init(0)), 500);
    assert_eq!(score(init(1)), 999);
}

#[test]
fn what_the_pod_asks_for_beyond_its_containers_protects_them_all() {
    let of = pod(json!({
        "containers": [asks("a", ("", "1G"), ("", "")), { "name": "b" }],
        "resources": { "requests": { "memory": "2G" } },
    }));
    let score = |at: usize| oom_score_adj(&of, &spec(&of).containers[at], 4_000_000_000);
    assert_eq!(score(0), 1000 - 375);
    assert_eq!(score(1), 1000 - 125);
}

#[test]
fn swap_is_limited_to_a_share_or_refused() {
    let facts = |v2: bool, behavior| NodeFacts {
        cgroups_v2: v2,
        swap_controller: true,
        swap_behavior: behavior,
        memory_capacity: 16 * GI,
        swap_capacity: 8 * GI,
        ..NodeFacts::default()
    };
    let swap = |of: &Pod, facts: &NodeFacts| {
        let made = container_resources(of, first(of), facts);
        let max = made.unified.get("memory.swap.max").cloned();
        (max, made.memory_swap_limit)
    };
    let burstable = single(asks("c", ("", "2Gi"), ("", "")));
    let guaranteed = single(asks("c", ("1", "2Gi"), ("1", "2Gi")));
    let even = single(asks("c", ("1", "2Gi"), ("2", "2Gi")));
    let cpu_only = single(asks("c", ("1", ""), ("", "")));
    let text = |n: u64| Some(n.to_string());
    let limited = facts(true, SwapBehavior::Limited);
    assert_eq!(swap(&burstable, &limited), (text(GI), None));
    for of in [&guaranteed, &even, &cpu_only] {
        assert_eq!(swap(of, &limited), (text(0), None));
    }
    let mut critical = burstable.clone();
    critical.spec.as_mut().unwrap().priority = Some(2_000_000_000);
    assert_eq!(swap(&critical, &limited), (text(0), None));
    assert_eq!(
        swap(&burstable, &facts(true, SwapBehavior::No)),
        (text(0), None)
    );
    assert_eq!(
        swap(&guaranteed, &facts(false, SwapBehavior::Limited)),
        (None, Some(2 << 30))
    );
    let uncounted = NodeFacts {
        swap_controller: false,
        ..limited
    };
    assert_eq!(swap(&burstable, &uncounted), (None, None));
}

#[test]
fn memory_is_protected_and_throttled_as_configured() {
    let unified = |facts: &NodeFacts, of: &Pod| container_resources(of, first(of), facts).unified;
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(a, b)| ((*a).into(), (*b).into()))
            .collect()
    };
    let burstable = single(asks("c", ("", "100Mi"), ("", "200Mi")));
    let default = NodeFacts::default();
    assert_eq!(
        unified(&default, &burstable),
        map(&[
            ("memory.low", "0"),
            ("memory.min", "0"),
            ("memory.oom.group", "1")
        ])
    );
    let tiered = NodeFacts {
        single_process_oom_kill: true,
        memory_reservation: MemoryReservation::Tiered,
        memory_throttling_factor: Some(0.9),
        ..NodeFacts::default()
    };
    let high = ((100.0_f64 + 90.0) * 1_048_576.0 / 4096.0).floor() as u64 * 4096;
    assert_eq!(
        unified(&tiered, &burstable),
        map(&[
            ("memory.high", &high.to_string()),
            ("memory.low", "104857600")
        ])
    );
    let guaranteed = single(asks("c", ("1", "100Mi"), ("1", "100Mi")));
    assert_eq!(
        unified(&tiered, &guaranteed),
        map(&[("memory.min", "104857600")])
    );
    assert_eq!(
        pod_resources(&guaranteed, &tiered).unified,
        map(&[("memory.min", "104857600")])
    );
    let off = NodeFacts {
        features: Features::defaults().with([("MemoryQoS", false)]).unwrap(),
        ..tiered
    };
    assert_eq!(unified(&off, &burstable), map(&[("memory.high", "max")]));
    assert_eq!(unified(&v1(), &burstable), map(&[]));
}

proptest! {
    #[test]
    fn shares_come_back_as_what_they_were_made_from(milli in 2_i64..256_000) {
        let back = milli_cpu_of_shares(shares(milli));
        prop_assert!((milli - 1..=milli).contains(&back) || shares(milli) == 2, "{milli} {back}");
    }

    #[test]
    fn scores_fall_as_requests_rise(a in 0_i64..8 << 30, b in 0_i64..8 << 30) {
        let score = |memory: i64| {
            let of = single(asks("c", ("1", &memory.to_string()), ("", "")));
            oom_score_adj(&of, first(&of), 4 * GI)
        };
        let (low, high) = (a.min(b), a.max(b));
        prop_assert!(score(low) >= score(high));
        prop_assert!((3..=999).contains(&score(a)));
    }

    #[test]
    fn no_amount_breaks_anything(amount in "-?[0-9]{1,25}(\\.[0-9]{1,3})?(m|k|Mi|E|e9|n)?") {
        let of = single(json!({ "name": "c", "resources": {
            "requests": { "cpu": amount, "memory": amount, "hugepages-2Mi": amount },
            "limits": { "cpu": amount, "memory": amount },
        } }));
        let facts = NodeFacts {
            hugepage_sizes: vec!["2MB".into()],
            swap_controller: true,
            memory_throttling_factor: Some(0.9),
            ..NodeFacts::default()
        };
        let made = container_resources(&of, first(&of), &facts);
        prop_assert!((2..=262_144).contains(&made.cpu_shares.unwrap()));
        let whole = pod_resources(&of, &facts);
        prop_assert!((2..=262_144).contains(&whole.cpu_shares.unwrap()));
    }
}
