use super::*;

fn parse(text: &str) -> Value {
    proto::codec::json::parse(text.as_bytes()).unwrap()
}

#[test]
fn whoever_asks_for_devices_asks_for_one_unless_more_are_named() {
    let counted = |request: &str| {
        let text = format!(r#"{{"spec":{{"devices":{{"requests":[{request}]}}}}}}"#);
        let mut claim = parse(&text);
        (RESOURCE_CLAIM.default)(proto::catalogue::Gates::defaults(), &mut claim);
        let requests = claim.at(&[n::SPEC, n::DEVICES, n::REQUESTS]);
        requests.and_then(Value::as_list).unwrap()[0].clone()
    };
    for (request, wanted) in [
        (
            r#"{"exactly":{}}"#,
            r#"{"exactly":{"allocationMode":"ExactCount","count":1}}"#,
        ),
        (
            r#"{"exactly":{"allocationMode":"All"}}"#,
            r#"{"exactly":{"allocationMode":"All"}}"#,
        ),
        (
            r#"{"firstAvailable":[{"count":3},{"count":0}]}"#,
            r#"{"firstAvailable":[{"count":3,"allocationMode":"ExactCount"},
                {"count":1,"allocationMode":"ExactCount"}]}"#,
        ),
        (
            r#"{"deviceClassName":"c"}"#,
            r#"{"deviceClassName":"c","allocationMode":"ExactCount","count":1}"#,
        ),
        (r#"{"deviceClassName":""}"#, r#"{"deviceClassName":""}"#),
    ] {
        assert_eq!(counted(request), parse(wanted), "{request}");
    }
}

#[test]
fn a_taint_that_does_not_say_since_when_is_new() {
    let mut slice = parse(
        r#"{"spec":{"devices":[
            {"taints":[{"key":"a"},{"key":"b","timeAdded":"2020-01-01T00:00:00Z"}]},
            {"basic":{"taints":[{"key":"c"}]}}]}}"#,
    );
    (RESOURCE_SLICE.default)(proto::catalogue::Gates::defaults(), &mut slice);
    let devices = slice.at(&[n::SPEC, n::DEVICES]).and_then(Value::as_list);
    let devices = devices.unwrap();
    let ages: Vec<_> = [&devices[0], devices[1].get(n::BASIC).unwrap()]
        .into_iter()
        .flat_map(|d| d.get(n::TAINTS).and_then(Value::as_list).unwrap())
        .map(|t| t.get(n::TIME_ADDED).and_then(Value::as_str).unwrap())
        .collect();
    assert_eq!(ages[1], "2020-01-01T00:00:00Z");
    assert!(ages[0] > ages[1] && ages[2] > ages[1], "{ages:?}");
}

use super::super::testing::Of;

const CLAIMS: Of = Of("resource.k8s.io", "v1", "resourceclaims");
const SLICES: Of = Of("resource.k8s.io", "v1", "resourceslices");
const RULES: Of = Of("resource.k8s.io", "v1", "devicetaintrules");
const CLASSES: Of = Of("resource.k8s.io", "v1", "deviceclasses");
const TEMPLATES: Of = Of("resource.k8s.io", "v1", "resourceclaimtemplates");

fn named(rest: &str) -> String {
    format!(r#"{{"metadata":{{"name":"x","namespace":"n"}},{rest}}}"#)
}

fn of_cluster(rest: &str) -> String {
    format!(r#"{{"metadata":{{"name":"x"}},{rest}}}"#)
}

fn devices(devices: &str) -> String {
    named(&format!(r#""spec":{{"devices":{devices}}}"#))
}

const EXACTLY: &str = r#""exactly":{"deviceClassName":"c"}"#;

#[test]
fn a_claim_says_what_it_needs() {
    for (of, errors) in [
        (format!(r#"{{"requests":[{{"name":"r",{EXACTLY}}}]}}"#), &[][..]),
        (
            format!(r#"{{"requests":[{{{EXACTLY},"name":"r"}},{{"name":"r",{EXACTLY}}}]}}"#),
            &[r#"spec.devices.requests[1]: Duplicate value: {"name":"r","exactly":{"deviceClassName":"c","allocationMode":"ExactCount","count":1}}"#],
        ),
        (
            r#"{"requests":[{"name":"r"}]}"#.into(),
            &["spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"],
        ),
        (
            r#"{"requests":[{"name":"r","exactly":{"deviceClassName":"","allocationMode":"All","count":2}}]}"#.into(),
            &[
                "spec.devices.requests[0].exactly.deviceClassName: Required value",
                "spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'",
            ],
        ),
        (
            format!(r#"{{"requests":[{{"name":"r",{EXACTLY}}}],"constraints":[{{"requests":["s"],"matchAttribute":"x"}},{{}}]}}"#),
            &[
                "spec.devices.constraints[0].requests[0]: Invalid value: \"s\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
                "spec.devices.constraints[1]: Required value: exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
                "spec.devices.constraints[0].matchAttribute: Invalid value: \"x\": a fully qualified name must be a domain and a name separated by a slash",
            ],
        ),
        (
            format!(r#"{{"requests":[{{"name":"r",{EXACTLY}}}],"config":[{{"opaque":{{"driver":"d","parameters":[]}}}},{{}}]}}"#),
            &[
                "spec.devices.config[0].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
                "spec.devices.config[1].opaque: Required value",
            ],
        ),
    ] {
        assert_eq!(CLAIMS.refused(&devices(&of)), errors, "{of}");
    }
}

#[test]
fn a_claim_and_its_template_do_not_change() {
    let of = |name: &str| format!(r#"{{"requests":[{{"name":"{name}",{EXACTLY}}}]}}"#);
    assert_eq!(
        CLAIMS.refused_update("", &devices(&of("a")), &devices(&of("b"))),
        ["spec: Invalid value: null: field is immutable"]
    );
    // An empty part that may be left out is not the same as none.
    let more = of("a").replace(r#""deviceClassName""#, r#""capacity":{},"deviceClassName""#);
    assert_eq!(
        CLAIMS.refused_update("", &devices(&more), &devices(&of("a"))),
        ["spec: Invalid value: null: field is immutable"]
    );
    let template = |name: &str| named(&format!(r#""spec":{{"spec":{{"devices":{}}}}}"#, of(name)));
    let told = TEMPLATES.refused_update("", &template("a"), &template("b"));
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("spec: Invalid value: {") && told[0].ends_with(": field is immutable")
    );
}

fn allocated(status: &str) -> String {
    named(&format!(
        r#""spec":{{"devices":{{"requests":[{{"name":"r","exactly":{{"deviceClassName":"c","allocationMode":"ExactCount","count":1}}}}]}}}},"status":{status}"#
    ))
}

const RESULT: &str = r#""allocation":{"devices":{"results":[{"request":"r","driver":"d","pool":"p","device":"e"}]}}"#;

#[test]
fn an_allocation_is_of_what_was_asked_for() {
    let none = allocated("{}");
    let status =
        format!(r#"{{{RESULT},"reservedFor":[{{"resource":"pods","name":"p","uid":"u"}}]}}"#);
    assert!(
        CLAIMS
            .refused_update("status", &allocated(&status), &none)
            .is_empty()
    );
    let other = RESULT.replace(r#""request":"r""#, r#""request":"s""#);
    assert_eq!(
        CLAIMS
            .refused_update("status", &allocated(&format!("{{{other}}}")), &none)
            .len(),
        1
    );
    let reserved = r#"{"reservedFor":[{"resource":"pods","name":"","uid":"u"}]}"#;
    assert_eq!(
        CLAIMS.refused_update("status", &allocated(reserved), &none),
        [
            "status.reservedFor[0].name: Required value",
            "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
        ]
    );
    let moved = RESULT.replace(r#""device":"e""#, r#""device":"f""#);
    assert_eq!(
        CLAIMS.refused_update(
            "status",
            &allocated(&format!("{{{moved}}}")),
            &allocated(&format!("{{{RESULT}}}"))
        ),
        ["status.allocation: Invalid value: null: field cannot be modified once set"]
    );
}

#[test]
fn devices_that_are_given_back_are_forgotten() {
    let device = r#""devices":[{"driver":"d","pool":"p","device":"e"}]"#;
    let (old, new) = (
        allocated(&format!("{{{RESULT},{device}}}")),
        allocated(&format!("{{{device}}}")),
    );
    let stored = CLAIMS.update("status", &new, &old).unwrap();
    assert_eq!(stored.at(&[n::STATUS, n::DEVICES]), None);
}

fn slice(rest: &str) -> String {
    of_cluster(&format!(
        r#""spec":{{"driver":"d","pool":{{"name":"p","resourceSliceCount":1}},{rest}}}"#
    ))
}

#[test]
fn a_slice_says_where_its_devices_are() {
    for (rest, errors) in [
        (r#""nodeName":"a""#, &[][..]),
        (
            r#""devices":[]"#,
            &[
                "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
            ],
        ),
        (
            r#""nodeName":"a","allNodes":true"#,
            &[
                r#"spec: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set"#,
            ],
        ),
        (
            r#""allNodes":true,"devices":[{"name":"e","attributes":{"some.key/a-b":{"string":"s"}}},{"name":"e","nodeName":"a","bindingConditions":["k"]}]"#,
            &[
                r#"spec.devices[0].attributes: Invalid value: "a-b": a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')"#,
                "spec.devices[1]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
                "spec.devices[1].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions",
                r#"spec.devices[1]: Duplicate value: "e""#,
            ],
        ),
    ] {
        assert_eq!(SLICES.refused(&slice(rest)), errors, "{rest}");
    }
}

#[test]
fn what_is_shared_is_asked_for_in_steps() {
    let policy = |policy: &str| {
        slice(&format!(
            r#""allNodes":true,"devices":[{{"name":"e","allowMultipleAllocations":true,"capacity":{{"key":{{"value":"10Gi","requestPolicy":{policy}}}}}}}]"#
        ))
    };
    for (of, errors) in [
        (
            r#"{"default":"1Gi","validRange":{"min":"1Gi","max":"4Gi","step":"1Gi"}}"#,
            &[][..],
        ),
        (
            r#"{"validValues":["1Gi"]}"#,
            &[
                "spec.devices[0].capacity[key].requestPolicy.default: Required value: required when validValues is defined",
            ],
        ),
        (
            r#"{"default":"3Gi","validValues":["2Gi","1Gi"]}"#,
            &[
                r#"spec.devices[0].capacity[key].requestPolicy.validValues[1]: Invalid value: "1Gi": values must be sorted in ascending order"#,
                r#"spec.devices[0].capacity[key].requestPolicy.validValues: Invalid value: "3Gi": default value is not valid according to the requestPolicy"#,
            ],
        ),
        (
            r#"{"default":"1536Mi","validRange":{"min":"1Gi","step":"1Gi"}}"#,
            &[
                r#"spec.devices[0].capacity[key].requestPolicy.validRange.step: Invalid value: "1536Mi": value is not a multiple of a given step (1Gi) from (1Gi)"#,
            ],
        ),
    ] {
        assert_eq!(SLICES.refused(&policy(of)), errors, "{of}");
    }
}

#[test]
fn fields_behind_gates_that_are_off_are_dropped() {
    let new = slice(
        r#""allNodes":true,"skipNodeOperations":["*"],"partitionTypeAttribute":"a.b/c","devices":[{"name":"e","attributes":{"k":{"string":"s","ints":[1]}}}]"#,
    );
    let stored = SLICES.create(&new).unwrap();
    let spec = stored.get(n::SPEC).unwrap();
    assert!(
        spec.get(n::SKIP_NODE_OPERATIONS).is_none()
            && spec.get(n::PARTITION_TYPE_ATTRIBUTE).is_none()
    );
    let text = format!("{:?}", spec.get(n::DEVICES));
    assert!(text.contains("\"s\"") && !text.contains("ints"), "{text}");
}

#[test]
fn a_taint_has_an_effect() {
    let rule = |taint: &str| {
        of_cluster(&format!(
            r#""spec":{{"deviceSelector":{{"driver":"d"}},"taint":{taint}}}"#
        ))
    };
    assert!(
        RULES
            .refused(&rule(r#"{"key":"k","effect":"None"}"#))
            .is_empty()
    );
    assert_eq!(
        RULES.refused(&rule(r#"{"key":"k","effect":"x"}"#)),
        [
            r#"spec.taint.effect: Unsupported value: "x": supported values: "NoExecute", "NoSchedule", "None""#
        ]
    );
    let (old, new) = (
        rule(r#"{"key":"k","effect":"None","timeAdded":"2020-01-01T00:00:00Z"}"#),
        rule(r#"{"key":"k","effect":"NoExecute","timeAdded":"2020-01-01T00:00:00Z"}"#),
    );
    let stored = RULES.update("", &new, &old).unwrap();
    let added = stored
        .at(&[n::SPEC, n::TAINT, n::TIME_ADDED])
        .and_then(Value::as_str);
    assert_eq!(
        added,
        Some("2026-01-01T00:00:00Z"),
        "it is as old as its effect"
    );
}

#[test]
fn a_class_has_a_long_name() {
    let told = CLASSES.refused(r#"{"metadata":{"name":"A"},"spec":{"extendedResourceName":"x"}}"#);
    assert_eq!(told.len(), 2);
    assert!(
        told[0].starts_with("metadata.name: ")
            && told[1].starts_with("spec.extendedResourceName: ")
    );
}
