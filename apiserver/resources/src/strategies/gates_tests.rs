//! Objects where gates are not as they are by default: what is kept of them, and what is wrong with them.

use proto::catalogue::{GateId, Gates, Release, gate};
use proto::codec::json;

use super::testing::Of;

const PODS: Of = Of("", "v1", "pods");
const LEASES: Of = Of("coordination.k8s.io", "v1", "leases");
const SCALERS: Of = Of("autoscaling", "v2", "horizontalpodautoscalers");
const SETS: Of = Of("apps", "v1", "statefulsets");
const DRIVERS: Of = Of("storage.k8s.io", "v1", "csidrivers");
const CLAIMS: Of = Of("", "v1", "persistentvolumeclaims");

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
