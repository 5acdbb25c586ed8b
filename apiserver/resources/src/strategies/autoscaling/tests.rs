use proto::Value;
use proto::catalogue::messages::autoscaling_v2;
use proto::codec::json::{self, Strictness};

use super::super::testing::Of;
use super::*;

const AUTOSCALERS: Of = Of("autoscaling", "v2", "horizontalpodautoscalers");
const TARGET: &str = r#""scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"d"}"#;

fn autoscaler(rest: &str) -> String {
    format!(r#"{{"metadata":{{"name":"h","namespace":"n"}},"spec":{{{TARGET}{rest}}}}}"#)
}

#[test]
fn bounds_and_metrics_are_valid() {
    for (rest, errors) in [
        (r#","maxReplicas":1"#, &[][..]),
        (
            "",
            &[
                "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
                "spec.maxReplicas: Required value",
            ],
        ),
        (
            r#","maxReplicas":1,"minReplicas":2"#,
            &["spec.maxReplicas: Invalid value: 1: must be greater than or equal to `minReplicas`"],
        ),
        (
            r#","maxReplicas":1,"minReplicas":0"#,
            &[
                "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
            ],
        ),
        (
            r#","maxReplicas":1,"metrics":[{"type":"Pods","external":{"metric":{"name":"a/b"},"target":{"type":"Value"}},"resource":{"name":"cpu","target":{"type":"Value"}}}]"#,
            &[
                r#"spec.metrics[0].external.metric.name: Invalid value: "a/b": may not contain '/'"#,
                "spec.metrics[0].external.target.averageValue: Required value: must set either a target value for metric or a per-pod target",
                "spec.metrics[0].pods: Required value: must populate information for the given metric source",
                "spec.metrics[0].external: Forbidden: must populate the given metric source only",
                "spec.metrics[0].resource: Forbidden: must populate the given metric source only",
            ],
        ),
        (
            r#","maxReplicas":1,"behavior":{"scaleUp":{"policies":[],"stabilizationWindowSeconds":3601,"selectPolicy":"X"},"scaleDown":{"policies":[{"type":"X","periodSeconds":1801}]}}"#,
            &[
                "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
                r#"spec.behavior.scaleUp.selectPolicy: Unsupported value: "X": supported values: "Disabled", "Max", "Min""#,
                "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy",
                r#"spec.behavior.scaleDown.policies[0].type: Unsupported value: "X": supported values: "Percent", "Pods""#,
                "spec.behavior.scaleDown.policies[0].value: Invalid value: 0: must be greater than zero",
                "spec.behavior.scaleDown.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
            ],
        ),
    ] {
        assert_eq!(AUTOSCALERS.refused(&autoscaler(rest)), errors, "{rest}");
    }
}

#[test]
fn a_reference_that_stays_is_not_looked_at_again() {
    let old = autoscaler(r#","maxReplicas":1"#).replace("apps/v1", "v1");
    assert_eq!(
        AUTOSCALERS.refused(&old),
        [
            r#"spec.scaleTargetRef.apiVersion: Invalid value: "v1": apiVersion must specify API group"#
        ]
    );
    let new = old.replace(r#""maxReplicas":1"#, r#""maxReplicas":2"#);
    assert!(AUTOSCALERS.refused_update("", &new, &old).is_empty());
    let renamed = old.replace("Deployment", "Other");
    assert_eq!(AUTOSCALERS.refused_update("", &renamed, &old).len(), 1);
    let controller = old.replace("Deployment", "ReplicationController");
    assert!(AUTOSCALERS.refused(&controller).is_empty());
}

#[test]
fn what_is_not_said_has_defaults() {
    let stored = |rest: &str| {
        let body = autoscaler(&format!(r#","maxReplicas":3{rest}"#));
        let stored = AUTOSCALERS.create(&body).expect("it is accepted");
        stored.get("spec").cloned().expect("it has one")
    };
    let spec = stored("");
    let target = spec.at(&["metrics"]).and_then(Value::as_list);
    let target = target.and_then(|m| m[0].at(&["resource", "target", "averageUtilization"]));
    assert_eq!(target.and_then(Value::as_int), Some(80));
    assert_eq!(spec.get("minReplicas").and_then(Value::as_int), Some(1));
    assert_eq!(spec.get("behavior"), None);
    let spec = stored(r#","behavior":{"scaleUp":{"selectPolicy":"Min"}}"#);
    let at = |way: &[&str]| spec.at(way).cloned();
    assert_eq!(
        at(&["behavior", "scaleUp", "selectPolicy"]),
        Some("Min".into())
    );
    let window = ["behavior", "scaleUp", "stabilizationWindowSeconds"];
    assert_eq!(at(&window), Some(0.into()));
    let policies = |way| {
        let policies = spec.at(&["behavior", way, "policies"]);
        policies.and_then(Value::as_list).map_or(0, <[Value]>::len)
    };
    assert_eq!((policies("scaleUp"), policies("scaleDown")), (2, 1));
}

#[test]
fn metrics_are_shown_with_their_targets() {
    let text = r#"{"metadata":{"name":"h"},
        "spec":{"scaleTargetRef":{"kind":"Deployment","name":"d"},"minReplicas":2,"maxReplicas":9,"metrics":[
            {"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":80}}},
            {"type":"Pods","pods":{"metric":{"name":"m"},"target":{"type":"AverageValue","averageValue":"10"}}},
            {"type":"External","external":{"metric":{"name":"m"},"target":{"type":"Value","value":"5"}}}]},
        "status":{"currentReplicas":3,"currentMetrics":[
            {"type":"Resource","resource":{"name":"cpu","current":{"averageUtilization":42}}}]}}"#;
    let message = autoscaling_v2::HORIZONTAL_POD_AUTOSCALER;
    let object = json::decode(text.as_bytes(), message, Strictness::Strict)
        .expect("the test's JSON is valid")
        .value;
    let cells = AUTOSCALER.cells.expect("autoscalers have cells")(&object, 0);
    let text = |i: usize| cells[i].as_str().unwrap_or_default();
    assert_eq!(text(1), "Deployment/d");
    assert_eq!(text(2), "cpu: 42%/80%, <unknown>/10 + 1 more...");
    assert_eq!(text(3), "2");
    assert_eq!((cells[4].as_int(), cells[5].as_int()), (Some(9), Some(3)));
    let empty = AUTOSCALER.cells.expect("autoscalers have cells")(&Value::object(), 0);
    assert_eq!(empty[2].as_str(), Some("<none>"));
}
