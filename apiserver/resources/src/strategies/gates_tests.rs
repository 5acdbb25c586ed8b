//! Objects where gates are not as they are by default: what is kept of them, and what is wrong with them.

use proto::Value;
use proto::catalogue::{GateId, Gates, Release, gate};
use proto::codec::json;

use super::testing::Of;

const SERVICES: Of = Of("", "v1", "services");
const VOLUMES: Of = Of("", "v1", "persistentvolumes");
const JOBS: Of = Of("batch", "v1", "jobs");
const DEPLOYMENTS: Of = Of("apps", "v1", "deployments");
const RANGES: Of = Of("networking.k8s.io", "v1", "servicecidrs");
const SLICES: Of = Of("resource.k8s.io", "v1", "resourceslices");
const DEVICE_CLAIMS: Of = Of("resource.k8s.io", "v1", "resourceclaims");
const POOLS: Of = Of("resource.k8s.io", "v1alpha3", "resourcepoolstatusrequests");
const PODS: Of = Of("", "v1", "pods");
const NODES: Of = Of("", "v1", "nodes");
const LEASES: Of = Of("coordination.k8s.io", "v1", "leases");
const SCALERS: Of = Of("autoscaling", "v2", "horizontalpodautoscalers");
const SETS: Of = Of("apps", "v1", "statefulsets");
const DRIVERS: Of = Of("storage.k8s.io", "v1", "csidrivers");
const CLAIMS: Of = Of("", "v1", "persistentvolumeclaims");
const WEBHOOKS: Of = Of(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
);

const TEMPLATE: &str = r#""template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;

fn with(gate: GateId, on: bool) -> Gates {
    Gates::defaults().with(gate, on)
}

/// An object as it is stored where these gates are on.
fn stored(of: Of, gates: Gates, spec: &str) -> String {
    let namespace = match of.2 {
        "csidrivers" => "",
        _ => r#","namespace":"n""#,
    };
    let text = format!(r#"{{"metadata":{{"name":"o"{namespace}}},"spec":{{{spec}}}}}"#);
    let made = of.on(gates).create(&text).expect("the object is valid");
    let mut out = Vec::new();
    json::write(&made, &mut out);
    String::from_utf8(out).expect("JSON is UTF-8")
}

#[test]
fn a_field_is_stored_where_its_gate_is_on_and_nowhere_else() {
    let set = format!(
        r#""selector":{{"matchLabels":{{"a":"b"}}}},"serviceName":"s","updateStrategy":{{"type":"RollingUpdate","rollingUpdate":{{"maxUnavailable":2}}}},{TEMPLATE}"#
    );
    let claim = r#""accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}},"volumeAttributesClassName":"gold""#;
    let pod = |more: &str| format!(r#""containers":[{{"name":"c","image":"i"{more}}}]"#);
    for (of, gate, spec, field) in [
        (
            LEASES,
            gate::COORDINATED_LEADER_ELECTION,
            r#""strategy":"OldestEmulationVersion""#.to_owned(),
            "OldestEmulationVersion",
        ),
        (
            SETS,
            gate::MAX_UNAVAILABLE_STATEFUL_SET,
            set,
            "maxUnavailable",
        ),
        (
            CLAIMS,
            gate::VOLUME_ATTRIBUTES_CLASS,
            claim.to_owned(),
            "gold",
        ),
        (
            DRIVERS,
            gate::VOLUME_LIMIT_SCALING,
            r#""preventPodSchedulingIfMissing":true"#.to_owned(),
            "preventPodSchedulingIfMissing",
        ),
        (
            PODS,
            gate::CONTAINER_STOP_SIGNALS,
            format!(
                r#""os":{{"name":"linux"}},{}"#,
                pod(r#","lifecycle":{"stopSignal":"SIGUSR1"}"#)
            ),
            "SIGUSR1",
        ),
        (
            PODS,
            gate::POD_LEVEL_RESOURCES,
            format!(r#""resources":{{"limits":{{"cpu":"777m"}}}},{}"#, pod("")),
            "777m",
        ),
        (
            PODS,
            gate::CONTAINER_RESTART_RULES,
            pod(r#","restartPolicy":"OnFailure""#),
            "OnFailure",
        ),
    ] {
        for on in [false, true] {
            let made = stored(of, with(gate, on), &spec);
            assert_eq!(made.contains(field), on, "{gate:?} {on}: {made}");
        }
    }
}

#[test]
fn what_may_be_depends_on_gates() {
    let scaler = r#"{"metadata":{"name":"a","namespace":"n"},"spec":{"maxReplicas":2,"minReplicas":0,
        "scaleTargetRef":{"kind":"Deployment","name":"d","apiVersion":"apps/v1"},
        "metrics":[{"type":"External","external":{"metric":{"name":"m"},"target":{"type":"Value","value":"1"}}}]}}"#;
    let refused = |on| {
        SCALERS
            .on(with(gate::HPA_SCALE_TO_ZERO, on))
            .refused(scaler)
    };
    assert!(refused(true).is_empty(), "{:?}", refused(true));
    assert_eq!(
        refused(false),
        [r#"spec.minReplicas: Invalid value: 0: must be greater than or equal to 1"#]
    );
    let pod = r#"{"metadata":{"name":"p","namespace":"n"},"spec":{"containers":[{"name":"c","image":"i"}],
        "tolerations":[{"key":"k","operator":"Gt","value":"5"}]}}"#;
    let refused = |on| {
        PODS.on(with(gate::TAINT_TOLERATION_COMPARISON_OPERATORS, on))
            .refused(pod)
    };
    assert!(refused(true).is_empty());
    assert_eq!(refused(false).len(), 1);
}

#[test]
fn a_release_of_before_keeps_what_it_knew() {
    let old = Gates::at(Release::new(1, 34), Release::new(1, 34));
    let pod = r#""hostnameOverride":"h","containers":[{"name":"c","image":"i","resizePolicy":[{"resourceName":"cpu","restartPolicy":"NotRequired"}]}]"#;
    let made = stored(PODS, old, pod);
    assert!(!made.contains("hostnameOverride"), "of 1.35: {made}");
    assert!(made.contains("resizePolicy"), "of 1.33: {made}");
    let driver = stored(DRIVERS, old, r#""seLinuxMount":true"#);
    assert!(
        !driver.contains("preventPodSchedulingIfMissing"),
        "{driver}"
    );
}

/// Whether a text is in what an update makes of an object, with the gate off and on.
fn is_kept(of: Of, part: &str, gate: GateId, new: &str, old: &str, text: &str) -> [bool; 2] {
    [false, true].map(|on| {
        let made = of.on(with(gate, on)).update(part, new, old);
        let mut out = Vec::new();
        json::write(&made.expect("the update is valid"), &mut out);
        String::from_utf8_lossy(&out).contains(text)
    })
}

/// An object as it is stored where these gates are on, with the status that it is given.
fn complete(of: Of, gates: Gates, body: &str) -> String {
    let status = json::parse(body.as_bytes()).expect("the test's JSON is valid");
    let status = status.get("status").cloned();
    let mut made = of.on(gates).create(body).expect("the object is valid");
    made.set(&["status"], status.unwrap_or_else(Value::object));
    let mut out = Vec::new();
    json::write(&made, &mut out);
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// An object of a name.
fn named(rest: &str) -> String {
    format!(r#"{{"metadata":{{"name":"o"}},{rest}}}"#)
}

#[test]
fn what_slices_say_of_devices_is_dropped_unless_one_said_it_before() {
    let slice = |devices: &str, more: &str| {
        named(&format!(
            r#""spec":{{"driver":"a.b","pool":{{"name":"p","resourceSliceCount":1}},{more}"devices":[{{"name":"d"{devices}}},{{"name":"e"}}]}}"#
        ))
    };
    let all = r#""allNodes":true,"#;
    for (gate, devices, field) in [
        (
            gate::DRA_DEVICE_TAINTS,
            r#","taints":[{"key":"k","effect":"NoSchedule","timeAdded":"2026-01-01T00:00:00Z"}]"#,
            "taints",
        ),
        (
            gate::DRA_CONSUMABLE_CAPACITY,
            r#","allowMultipleAllocations":true"#,
            "allowMultipleAllocations",
        ),
        (
            gate::DRA_DEVICE_BINDING_CONDITIONS,
            r#","bindsToNode":true,"bindingConditions":["a.b/c"],"bindingFailureConditions":["a.b/d"]"#,
            "bind",
        ),
    ] {
        let (with_it, without) = (slice(devices, all), slice("", all));
        assert_eq!(
            is_kept(SLICES, "", gate, &with_it, &without, field),
            [false, true],
            "{gate:?}"
        );
        assert_eq!(
            is_kept(SLICES, "", gate, &with_it, &with_it, field),
            [true, true],
            "{gate:?}"
        );
    }
    // Of two gates both are needed.
    let both = with(gate::DRA_DEVICE_BINDING_CONDITIONS, true);
    let none = both.with(gate::DRA_RESOURCE_CLAIM_DEVICE_STATUS, false);
    let made = SLICES
        .on(none)
        .create(&slice(r#","bindsToNode":true"#, all))
        .unwrap();
    assert!(!format!("{made:?}").contains("bindsToNode"));
    // Where devices are is another matter.
    let gate = gate::DRA_PARTITIONABLE_DEVICES;
    let split = slice(r#","allNodes":true"#, r#""perDeviceNodeSelection":true,"#);
    let split = split.replace(r#"{"name":"e"}"#, r#"{"name":"e","nodeName":"n"}"#);
    assert_eq!(
        is_kept(SLICES, "", gate, &split, &split, "perDeviceNodeSelection"),
        [true, true]
    );
    let refused = SLICES.on(with(gate, false)).refused(&split);
    assert!(!refused.is_empty(), "no node is selected any more");
}

#[test]
fn what_a_claims_status_says_of_devices_is_dropped_unless_it_said_it_before() {
    let claim = |result: &str| {
        named(&format!(
            r#""spec":{{"devices":{{"requests":[{{"name":"r","exactly":{{"deviceClassName":"c"}}}}]}}}},
            "status":{{"allocation":{{"devices":{{"results":[{{"request":"r","driver":"a.b","pool":"p","device":"d"{result}}}]}}}}}}"#
        ))
    };
    let none = named(
        r#""spec":{"devices":{"requests":[{"name":"r","exactly":{"deviceClassName":"c"}}]}}"#,
    );
    for (gate, result, field) in [
        (
            gate::DRA_ADMIN_ACCESS,
            r#","adminAccess":true"#,
            "adminAccess",
        ),
        (
            gate::DRA_CONSUMABLE_CAPACITY,
            r#","shareID":"a6ba7b81-9dad-41d1-80b4-00c04fd430c8""#,
            "shareID",
        ),
        (
            gate::DRA_DEVICE_BINDING_CONDITIONS,
            r#","bindingConditions":["a.b/c"],"bindingFailureConditions":["a.b/d"]"#,
            "bind",
        ),
    ] {
        let given = claim(result);
        assert_eq!(
            is_kept(DEVICE_CLAIMS, "status", gate, &given, &none, field),
            [false, true],
            "{gate:?}"
        );
        assert_eq!(
            is_kept(DEVICE_CLAIMS, "status", gate, &given, &given, field),
            [true, true],
            "{gate:?}"
        );
    }
}

#[test]
fn what_is_asked_of_pools_is_checked_and_answered_once() {
    let on = with(gate::DRA_RESOURCE_POOL_STATUS, true);
    let ask = |spec: &str, status: &str| named(&format!(r#""spec":{{{spec}}}{status}"#));
    let good = r#""driver":"a.b","limit":5,"defaultPartitionTypeAttribute":"a.b/c""#;
    let made = POOLS
        .on(on)
        .create(&ask(good, r#","status":{"poolCount":1}"#))
        .unwrap();
    let text = format!("{made:?}");
    assert!(
        !text.contains("poolCount") && !text.contains("defaultPartitionTypeAttribute"),
        "{text}"
    );
    let refused = POOLS
        .on(on)
        .refused(&ask(r#""driver":"a.b","limit":5000"#, ""));
    assert_eq!(refused.len(), 1, "{refused:?}");
    let answer = |count| {
        ask(
            r#""driver":"a.b","limit":5"#,
            &format!(r#","status":{{"poolCount":{count}}}"#),
        )
    };
    let first = POOLS.on(on).update(
        "status",
        &answer(1),
        &ask(r#""driver":"a.b","limit":5"#, ""),
    );
    assert!(first.is_ok(), "{first:?}");
    let again = POOLS
        .on(on)
        .refused_update("status", &answer(2), &answer(1));
    assert!(
        again.iter().any(|e| e.contains("field is immutable")),
        "{again:?}"
    );
}

#[test]
fn a_scaler_is_counted_and_tolerates_by_its_gates() {
    let scaler = |max: u8, behavior: &str| {
        named(&format!(
            r#""spec":{{"maxReplicas":{max},"scaleTargetRef":{{"kind":"Deployment","name":"d","apiVersion":"apps/v1"}}{behavior}}}"#
        ))
    };
    let gate = gate::HPA_GENERATION;
    let (old, new) = (scaler(2, ""), scaler(3, ""));
    assert_eq!(
        is_kept(SCALERS, "", gate, &new, &old, "generation"),
        [false, true]
    );
    let made = [false, true].map(|on| {
        let made = SCALERS
            .on(with(gate, on))
            .create(&old.replace(r#""o""#, r#""o","generation":7"#));
        proto::meta::generation(&made.unwrap())
    });
    assert_eq!(
        made,
        [Some(7), Some(1)],
        "a client may count where the server does not"
    );
    let gate = gate::HPA_CONFIGURABLE_TOLERANCE;
    let up = scaler(2, r#","behavior":{"scaleUp":{"tolerance":"50m"}}"#);
    let down = scaler(2, r#","behavior":{"scaleDown":{"tolerance":"50m"}}"#);
    assert_eq!(
        is_kept(SCALERS, "", gate, &up, &old, "tolerance"),
        [false, true]
    );
    assert_eq!(
        is_kept(SCALERS, "", gate, &up, &down, "tolerance"),
        [true, true]
    );
}

#[test]
fn a_suspended_job_may_change_what_its_gates_let_it() {
    let job = |cpu: &str, zone: &str, status: &str| {
        let body = named(&format!(
            r#""spec":{{"suspend":true,"manualSelector":true,"selector":{{"matchLabels":{{"a":"b"}}}},"template":{{"metadata":{{"labels":{{"a":"b"}}}},
            "spec":{{"restartPolicy":"Never","nodeSelector":{{"zone":"{zone}"}},"containers":[{{"name":"c","image":"i","resources":{{"requests":{{"cpu":"{cpu}"}}}}}}]}}}}}},
            "status":{{{status}}}"#
        ));
        complete(JOBS, Gates::defaults(), &body)
    };
    let started =
        r#""startTime":"2026-01-01T00:00:00Z","conditions":[{"type":"Suspended","status":"True"}]"#;
    let refused = |gate, new: &str, old: &str| {
        [false, true].map(|on| {
            !JOBS
                .on(with(gate, on))
                .refused_update("", new, old)
                .is_empty()
        })
    };
    let resources = gate::MUTABLE_POD_RESOURCES_FOR_SUSPENDED_JOBS;
    let directives = gate::MUTABLE_SCHEDULING_DIRECTIVES_FOR_SUSPENDED_JOBS;
    assert_eq!(
        refused(resources, &job("2", "a", ""), &job("1", "a", "")),
        [true, false]
    );
    assert_eq!(
        refused(resources, &job("1", "b", ""), &job("1", "a", "")),
        [false, false]
    );
    assert_eq!(
        refused(directives, &job("1", "b", ""), &job("1", "a", "")),
        [false, false],
        "it never ran"
    );
    assert_eq!(
        refused(directives, &job("1", "b", started), &job("1", "a", started)),
        [true, false]
    );
    // Who makes the pods is said once.
    let managed = job("1", "a", "").replace(r#""suspend""#, r#""managedBy":"a.b/c","suspend""#);
    let kept = [false, true].map(|on| {
        let made = JOBS.on(with(gate::JOB_MANAGED_BY, on)).create(&managed);
        format!("{:?}", made.unwrap()).contains("managedBy")
    });
    assert_eq!(kept, [false, true]);
    let failed = job("1", "a", r#""failed":1"#);
    assert_eq!(
        refused_status(&job("1", "a", r#""failed":0"#), &failed),
        [false, true]
    );
}

fn refused_status(new: &str, old: &str) -> [bool; 2] {
    [false, true].map(|on| {
        let on = JOBS.on(with(gate::JOB_MANAGED_BY, on));
        !on.refused_update("status", new, old).is_empty()
    })
}

#[test]
fn the_status_keeps_what_its_gate_lets_it() {
    let gate = gate::DEPLOYMENT_REPLICA_SET_TERMINATING_REPLICAS;
    let deployment = |status: &str| {
        named(&format!(
            r#""spec":{{"selector":{{"matchLabels":{{"a":"b"}}}},{TEMPLATE}}},"status":{{{status}}}"#
        ))
    };
    let (new, old) = (deployment(r#""terminatingReplicas":3"#), deployment(""));
    let field = "terminatingReplicas";
    assert_eq!(
        is_kept(DEPLOYMENTS, "status", gate, &new, &old, field),
        [false, true]
    );
    assert_eq!(
        is_kept(DEPLOYMENTS, "status", gate, &new, &new, field),
        [true, true]
    );
    let node = |info: &str| named(&format!(r#""status":{{"nodeInfo":{{{info}}}}}"#));
    let (new, old) = (node(r#""runningInUserNamespace":false"#), node(""));
    let gate = gate::KUBELET_IN_USER_NAMESPACE;
    let field = "runningInUserNamespace";
    assert_eq!(
        is_kept(NODES, "status", gate, &new, &old, field),
        [false, true]
    );
    assert_eq!(
        is_kept(NODES, "status", gate, &new, &new, field),
        [true, true]
    );
    // While the gate is off, who writes a range writes its status.
    let range = |status: &str| {
        named(&format!(
            r#""spec":{{"cidrs":["10.0.0.0/24"]}},"status":{{{status}}}"#
        ))
    };
    let ready = r#""conditions":[{"type":"Ready","status":"True","reason":"r","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]"#;
    let gate = gate::SERVICE_CIDR_STATUS_FIELD_WIPING;
    assert_eq!(
        is_kept(RANGES, "", gate, &range(ready), &range(""), "Ready"),
        [true, false]
    );
}

#[test]
fn what_stays_as_it_is_depends_on_gates() {
    let volume = |zone: &str| {
        let body = named(&format!(
            r#""spec":{{"capacity":{{"storage":"1Gi"}},"accessModes":["ReadWriteOnce"],"local":{{"path":"/a"}},"nodeAffinity":{{"required":{{"nodeSelectorTerms":[{{"matchExpressions":[{{"key":"zone","operator":"In","values":["{zone}"]}}]}}]}}}}}}"#
        ));
        complete(VOLUMES, Gates::defaults(), &body)
    };
    let gate = gate::MUTABLE_PV_NODE_AFFINITY;
    let refused = [false, true].map(|on| {
        let on = VOLUMES.on(with(gate, on));
        !on.refused_update("", &volume("b"), &volume("a")).is_empty()
    });
    assert_eq!(refused, [true, false]);
    let set = named(&format!(
        r#""spec":{{"selector":{{"matchLabels":{{"a":"b"}}}},"updateStrategy":{{"type":"Recreate"}},{TEMPLATE}}}"#
    ));
    let gate = gate::STATEFUL_SET_RECREATE_STRATEGY;
    let set = complete(SETS, with(gate, true), &set);
    assert!(SETS.on(with(gate, true)).refused(&set).is_empty());
    let refused = SETS.on(with(gate, false)).refused(&set);
    assert!(
        refused[0].ends_with("must be 'RollingUpdate' or 'OnDelete'"),
        "{refused:?}"
    );
    assert!(
        SETS.on(with(gate, false))
            .refused_update("", &set, &set)
            .is_empty(),
        "it is one already"
    );
}

#[test]
fn addresses_of_old_fields_are_strict_while_the_gate_is_on() {
    let service = r#"{"metadata":{"name":"s","namespace":"n"},"spec":{"ports":[{"port":1}],"externalIPs":["010.0.0.1"],"type":"LoadBalancer",
        "loadBalancerSourceRanges":["10.0.0.1/8"]}}"#;
    let pod = r#"{"metadata":{"name":"p","namespace":"n"},"spec":{"containers":[{"name":"c","image":"i"}],"hostAliases":[{"ip":"::ffff:1.2.3.4","hostnames":["h"]}]}}"#;
    for (of, object, wrong) in [(SERVICES, service, 2), (PODS, pod, 1)] {
        let refused = |on| {
            of.on(with(gate::STRICT_IPCIDR_VALIDATION, on))
                .refused(object)
        };
        assert_eq!(refused(true).len(), wrong, "{:?}", refused(true));
        assert_eq!(refused(false), [""; 0]);
    }
    let bound = named(
        r#""spec":{"nodeName":"m","containers":[{"name":"c","image":"i"}]},"status":{"nominatedNodeName":"m"}"#,
    );
    let before = bound.replace(r#""nominatedNodeName":"m""#, "");
    let refused = [false, true].map(|on| {
        let on = PODS.on(with(gate::CLEARING_NOMINATED_NODE_NAME_AFTER_BINDING, on));
        !on.refused_update("status", &bound, &before).is_empty()
    });
    assert_eq!(refused, [false, true]);
}

#[test]
fn a_name_of_the_servers_own_manifests_is_refused_while_it_may_have_some_and_told_of_otherwise() {
    let hooks = r#"{"metadata":{"name":"a.static.k8s.io"},"webhooks":[]}"#;
    let warned = |gates, old: bool| {
        let object = json::parse(hooks.as_bytes()).expect("the test's JSON is valid");
        let resource = proto::catalogue::resources()
            .iter()
            .find(|r| (r.version, r.name) == ("v1", WEBHOOKS.2))
            .expect("it is a resource");
        let of = super::of(resource);
        (of.warnings)(gates, &object, old.then_some(&object)).len()
    };
    for on in [false, true] {
        let gates = with(gate::MANIFEST_BASED_ADMISSION_CONTROL_CONFIG, on);
        assert_eq!(WEBHOOKS.on(gates).refused(hooks).len(), usize::from(on));
        assert_eq!(warned(gates, false), usize::from(!on));
        assert_eq!(warned(gates, true), 1, "an old one is told of in any case");
    }
}
