use super::super::testing::Of;
use super::*;

const QUOTAS: Of = Of("", "v1", "resourcequotas");
const RANGES: Of = Of("", "v1", "limitranges");

fn object(spec: &str) -> String {
    format!(r#"{{"metadata":{{"name":"q","namespace":"n"}},"spec":{spec}}}"#)
}

#[test]
fn quotas_count_what_can_be_counted() {
    for (spec, errors) in [
        (
            r#"{"hard":{"pods":"4","requests.storage":"1Gi","count/a.b":"1","requests.hugepages-2Mi":"2Mi"}}"#,
            &[][..],
        ),
        (
            r#"{"hard":{"odd":"1","storage":"1","pods":"500m","x.io/y":"-1500m"}}"#,
            &[
                r#"spec.hard[odd]: Invalid value: "odd": must be a standard resource type or fully qualified"#,
                r#"spec.hard[odd]: Invalid value: "odd": must be a standard resource for quota"#,
                r#"spec.hard[pods]: Invalid value: "500m": must be an integer"#,
                r#"spec.hard[storage]: Invalid value: "storage": must be a standard resource for quota"#,
                r#"spec.hard[x.io/y]: Invalid value: "-1500m": must be greater than or equal to 0"#,
                r#"spec.hard[x.io/y]: Invalid value: "-1500m": must be an integer"#,
            ],
        ),
        (
            r#"{"hard":{"cpu":"1"},"scopes":["BestEffort","NotBestEffort","Odd"]}"#,
            &[
                r#"spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Odd"]: unsupported scope applied to resource"#,
                r#"spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Odd"]: unsupported scope"#,
                r#"spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Odd"]: conflicting scopes"#,
            ],
        ),
        (
            r#"{"scopeSelector":{"matchExpressions":[{"scopeName":"Terminating","operator":"In"},{"scopeName":"PriorityClass","operator":"Exists","values":["a"]}]}}"#,
            &[
                r#"spec.scopeSelector.matchExpressions.operator: Invalid value: "In": must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"#,
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
                r#"spec.scopeSelector.matchExpressions.values: Invalid value: ["a"]: must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"#,
            ],
        ),
    ] {
        assert_eq!(QUOTAS.refused(&object(spec)), errors, "{spec}");
    }
    let (old, new) = (
        object(r#"{"scopes":["BestEffort","Terminating"]}"#),
        object(r#"{"scopes":["Terminating","BestEffort"]}"#),
    );
    assert!(QUOTAS.refused_update("", &new, &old).is_empty());
    assert_eq!(
        QUOTAS.refused_update("", &object("{}"), &old),
        ["spec.scopes: Invalid value: null: field is immutable"]
    );
}

#[test]
fn limits_are_shown_apart() {
    let text = r#"{"status":{"hard":{"pods":"4","limits.cpu":"2","cpu":"1"},"used":{"pods":"1","cpu":"500m"}}}"#;
    let message = proto::catalogue::messages::core_v1::RESOURCE_QUOTA;
    let strict = proto::codec::json::Strictness::Strict;
    let decoded = proto::codec::json::decode(text.as_bytes(), message, strict);
    let quota = decoded.expect("the test's JSON is valid").value;
    let expected = (
        "cpu: 500m/1, pods: 1/4".to_owned(),
        "limits.cpu: 0/2".to_owned(),
    );
    assert_eq!(used(&quota), expected);
}

#[test]
fn limits_of_containers_stand_for_each_other() {
    let spec = r#"{"limits":[{"type":"Container","max":{"cpu":"2"},"min":{"memory":"1Mi"}}]}"#;
    let stored = RANGES.create(&object(spec)).expect("it is accepted");
    let limits = stored.at(&["spec", "limits"]).and_then(Value::as_list);
    let item = &limits.expect("there is one")[0];
    let cpu = |field| item.at(&[field, "cpu"]).and_then(Value::as_str);
    assert_eq!(
        (cpu("default"), cpu("defaultRequest")),
        (Some("2"), Some("2"))
    );
    assert!(item.at(&["defaultRequest", "memory"]).is_some());
}

#[test]
fn limits_are_in_their_order() {
    for (item, errors) in [
        (
            r#"{"type":"Pod","max":{"cpu":"1"},"min":{"cpu":"2"},"default":{"cpu":"1"}}"#,
            &[
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
                r#"spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1"#,
            ][..],
        ),
        (
            r#"{"type":"PersistentVolumeClaim","max":{"cpu":"1"}}"#,
            &[
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
            ],
        ),
        (
            r#"{"type":"Container","max":{"cpu":"2"},"min":{"cpu":"1"},"default":{"cpu":"3"},"defaultRequest":{"cpu":"500m"},"maxLimitRequestRatio":{"cpu":"4"}}"#,
            &[
                r#"spec.limits[0].defaultRequest[cpu]: Invalid value: "500m": min value 1 is greater than default request value 500m"#,
                r#"spec.limits[0].default[cpu]: Invalid value: "2": default value 3 is greater than max value 2"#,
                r#"spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "4": ratio 4 is greater than max/min = 2.000000"#,
            ],
        ),
        (
            r#"{"type":"Container","default":{"x.io/gpu":"2"},"defaultRequest":{"x.io/gpu":"1"}}"#,
            &[
                r#"spec.limits[0].defaultRequest[x.io/gpu]: Invalid value: "1": default value 2 must equal to defaultRequest value 1 in x.io/gpu"#,
            ],
        ),
        (
            r#"{"type":"Odd"}"#,
            &[
                r#"spec.limits[0].type: Invalid value: "Odd": must be a standard limit type or fully qualified"#,
            ],
        ),
    ] {
        let spec = format!(r#"{{"limits":[{item}]}}"#);
        assert_eq!(RANGES.refused(&object(&spec)), errors, "{spec}");
    }
}
