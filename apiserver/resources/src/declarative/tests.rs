use proto::Value;
use proto::codec::json;
use proto::path::Errors;

use super::*;

fn parse(text: &str) -> Value {
    json::parse(text.as_bytes()).expect("JSON")
}

/// What the rules of a type say of an object, and of what an update makes of it.
fn told(of: &str, new: &str, old: Option<&str>) -> Vec<String> {
    told_with(Gates::defaults(), of, new, old)
}

fn told_with(gates: Gates, of: &str, new: &str, old: Option<&str>) -> Vec<String> {
    let (new, old) = (parse(new), old.map(parse));
    let mut errors = Errors::new(&new);
    let message = MsgId::find(of).expect("a message");
    validate(gates, message, &new, old.as_ref(), NO_OPTIONS, &mut errors);
    errors.into_vec().iter().map(ToString::to_string).collect()
}

const CLAIM: &str = "resource/v1.ResourceClaim";

fn claim(requests: &str) -> String {
    format!(r#"{{"spec":{{"devices":{{"requests":{requests}}}}}}}"#)
}

#[test]
fn all_rules_of_the_catalogue_are_read() {
    let table = table::get();
    assert!(table.roots.len() > 100 && table.types.len() > table.roots.len());
    for root in &table.roots {
        assert!(MsgId::find(root).is_some(), "{root} is a message");
    }
}

#[test]
fn lists_have_limits_and_keys() {
    let request =
        r#"{"name":"a","exactly":{"deviceClassName":"c","allocationMode":"ExactCount","count":1}}"#;
    assert!(told(CLAIM, &claim(&format!("[{request}]")), None).is_empty());
    let twice = told(CLAIM, &claim(&format!("[{request},{request}]")), None);
    assert_eq!(twice.len(), 1);
    assert!(
        twice[0].starts_with("spec.devices.requests[1]: Duplicate value: {"),
        "{twice:?}"
    );
    let many = vec![request; 33].join(",");
    assert_eq!(
        told(CLAIM, &claim(&format!("[{many}]")), None),
        ["spec.devices.requests: Too many: 33: must have at most 32 items"],
        "what follows is not looked at"
    );
}

#[test]
fn what_an_update_keeps_is_not_looked_at_again() {
    let bad = claim(r#"[{"name":"a","exactly":{"deviceClassName":"c","allocationMode":"x"}}]"#);
    let told_new = told(CLAIM, &bad, None);
    assert_eq!(
        told_new,
        [
            r#"spec.devices.requests[0].exactly.allocationMode: Unsupported value: "x": supported values: "All", "ExactCount""#
        ]
    );
    assert!(told(CLAIM, &bad, Some(&bad)).is_empty());
    assert_eq!(
        told(CLAIM, &claim("[]"), Some(&bad)),
        ["spec: Invalid value: null: field is immutable"]
    );
}

#[test]
fn rules_that_are_beta_are_enforced_while_their_gate_is_on() {
    let off = Gates::defaults().with(gate::DECLARATIVE_VALIDATION_BETA, false);
    let claim = claim(r#"[{"name":"a","exactly":{"deviceClassName":"c","allocationMode":"x"}}]"#);
    assert_eq!(told(CLAIM, &claim, None).len(), 1);
    assert_eq!(told_with(off, CLAIM, &claim, None), [""; 0]);
}

#[test]
fn parts_depend_on_a_type() {
    const LEVEL: &str = "flowcontrol/v1.PriorityLevelConfiguration";
    for (spec, errors) in [
        (r#"{"type":"Exempt"}"#, &[][..]),
        (r#"{"type":"Limited"}"#, &["spec.limited: Required value"]),
        (
            r#"{"type":"Exempt","limited":{"limitResponse":{"type":"Reject"}}}"#,
            &["spec.limited: Forbidden"],
        ),
        (r#"{"type":""}"#, &["spec.type: Required value"]),
        (
            r#"{"type":"Limited","limited":{"limitResponse":{"type":"Reject","queuing":{}}}}"#,
            &["spec.limited.limitResponse.queuing: Forbidden"],
        ),
    ] {
        let object = format!(r#"{{"spec":{spec}}}"#);
        assert_eq!(told(LEVEL, &object, None), errors, "{spec}");
        assert!(told(LEVEL, &object, Some(&object)).is_empty(), "{spec}");
    }
}

#[test]
fn unions_have_one_member() {
    const SLICE: &str = "resource/v1.ResourceSlice";
    let slice = |attribute: &str| {
        format!(
            r#"{{"spec":{{"devices":[{{"name":"d","attributes":{{"some-key":{attribute}}}}}]}}}}"#
        )
    };
    assert!(told(SLICE, &slice(r#"{"bool":false}"#), None).is_empty());
    let all = "`int`, `bool`, `string`, `version`, `ints`, `bools`, `strings`, `versions`";
    let at = "spec.devices[0].attributes[some-key]: Invalid value:";
    assert_eq!(
        told(SLICE, &slice("{}"), None),
        [format!(r#"{at} "": must specify one of: {all}"#)]
    );
    assert_eq!(
        told(SLICE, &slice(r#"{"int":1,"string":"s"}"#), None),
        [format!(
            r#"{at} "{{int, string}}": must specify exactly one of: {all}"#
        )]
    );
}

#[test]
fn of_some_elements_of_a_list_there_is_at_most_one() {
    const REQUEST: &str = "certificates/v1.CertificateSigningRequest";
    let both = r#"{"status":{"conditions":[{"type":"Approved"},{"type":"Denied"}]}}"#;
    assert_eq!(
        told(REQUEST, both, None),
        [
            r#"status.conditions: Invalid value: "{conditions[{\"type\": \"Approved\"}], conditions[{\"type\": \"Denied\"}]}": must specify at most one of: `conditions[{"type": "Approved"}]`, `conditions[{"type": "Denied"}]`"#
        ]
    );
    assert!(told(REQUEST, both, Some(both)).is_empty());
}

#[test]
fn options_decide_whether_a_field_may_be() {
    let slice = parse(r#"{"spec":{"partitionTypeAttribute":"x"}}"#);
    let found = |options: Options| {
        let mut errors = Errors::new(&slice);
        let message = MsgId::find("resource/v1.ResourceSlice").expect("a message");
        validate(
            Gates::defaults(),
            message,
            &slice,
            None,
            options,
            &mut errors,
        );
        let texts: Vec<String> = errors.into_vec().iter().map(ToString::to_string).collect();
        texts
    };
    assert_eq!(
        found(NO_OPTIONS),
        ["spec.partitionTypeAttribute: Forbidden"]
    );
    assert_eq!(
        found(|_, _, _| vec!["DRAPartitionableDevicesType"]),
        [
            r#"spec.partitionTypeAttribute: Invalid value: "x": a fully qualified name must be a domain and a name separated by a slash"#
        ]
    );
}

#[test]
fn formats_say_what_is_wrong() {
    let findings = |name: &str, text: &str| {
        let format = formats::find(name).expect("a format");
        format(text).len()
    };
    for (name, good, bad) in [
        (
            "uuid",
            "0123abcd-0000-4000-8000-00000000000f",
            "0123ABCD-0000-4000-8000-00000000000f",
        ),
        ("resource-pool-name", "a/b.c", "a//b"),
        ("resource-fully-qualified-name", "a.b/c_d", "a.b/c-d"),
        (
            "extended-resource-name",
            "example.com/gpu",
            "kubernetes.io/gpu",
        ),
        ("long-name-caseless", "A.b", "a_b"),
    ] {
        assert_eq!(findings(name, good), 0, "{name}");
        assert_eq!(findings(name, bad), 1, "{name}");
    }
}
