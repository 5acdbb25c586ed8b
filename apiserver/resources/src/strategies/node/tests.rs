use proto::codec::json;

use super::super::testing::Of;

const NODES: Of = Of("", "v1", "nodes");

fn node(rest: &str) -> String {
    format!(r#"{{"metadata":{{"name":"n"}},{rest}}}"#)
}

#[test]
fn taints_are_valid_and_different() {
    assert_eq!(
        NODES.refused(&node(
            r#""spec":{"taints":[{"key":"a","value":"v","effect":"NoSchedule"},{"key":"a","value":"w","effect":"NoSchedule"},
            {"key":"b","value":"-","effect":"<x>"},{"key":"c","effect":""}]}"#
        )),
        [
            r#"metadata.taints[1]: Duplicate value: {"Key":"a","Value":"w","Effect":"NoSchedule","TimeAdded":null}: taints must be unique by key and effect pair"#,
            r#"metadata.taints[2].value: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"#,
            r#"metadata.taints[2].effect: Unsupported value: "\u003cx\u003e": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#,
            "metadata.taints[3].effect: Required value",
        ]
    );
}

#[test]
fn amounts_ranges_and_features_are_valid() {
    assert_eq!(
        NODES.refused(&node(
            r#""spec":{"podCIDRs":["10.0.0.0/24","10.0.1.0/24"]},
            "status":{"capacity":{"pods":"-1","cpu":"100m"},"allocatable":{"pods":"1500m"},"declaredFeatures":["B","a","A/b"]}"#
        )),
        [
            r#"status.capacity.pods: Invalid value: "-1": must be greater than or equal to 0"#,
            r#"status.allocatable.pods: Invalid value: "1500m": must be an integer"#,
            r#"status.declaredFeatures[1]: Invalid value: "a": invalid feature name "a": must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"#,
            r#"status.declaredFeatures[2]: Invalid value: "A/b": list must be sorted alphabetically"#,
            r#"spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.0.1.0/24"]: may specify no more than one CIDR for each IP family"#,
        ]
    );
}

#[test]
fn what_the_cloud_said_stays() {
    let old =
        node(r#""spec":{"podCIDR":"10.0.0.0/24","podCIDRs":["10.0.0.0/24"],"providerID":"p"}"#);
    let changed = |from: &str, to: &str| NODES.refused_update("", &old.replace(from, to), &old);
    assert_eq!(
        changed(r#""providerID":"p""#, r#""providerID":"q""#),
        ["spec.providerID: Invalid value: null: field cannot be modified once set"]
    );
    assert_eq!(
        changed(r#","providerID":"p""#, ""),
        ["spec.providerID: Invalid value: null: field cannot be cleared once set"]
    );
    assert_eq!(
        changed("10.0.0.0", "10.0.1.0"),
        [
            r#"spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid"#
        ]
    );
    let twice = node(
        r#""spec":{"providerID":"p"},"status":{"addresses":[{"type":"Hostname","address":"a"},{"type":"Hostname","address":"a"}]}"#,
    );
    let once = node(r#""spec":{"providerID":"p"}"#);
    assert_eq!(
        NODES.refused_update("status", &twice, &once),
        [r#"status.addresses[1]: Duplicate value: {"Type":"Hostname","Address":"a"}"#]
    );
}

#[test]
fn what_is_off_is_dropped() {
    let new = node(
        r#""spec":{"configSource":{"configMap":{"name":"a"}},"podPreemptionPolicy":{"disableResizePreemption":["a"]},"unschedulable":true}"#,
    );
    let stored = NODES.create(&new).expect("it is accepted");
    let spec = stored.get("spec").and_then(proto::Value::as_map);
    assert_eq!(spec.map(proto::Map::len), Some(1), "{stored:?}");
}

#[test]
fn the_one_range_is_the_first_of_all() {
    let stored = |ranges: &str| {
        let node = NODES.create(&node(&format!(r#""spec":{{{ranges}}}"#)));
        node.expect("a range is fine").get("spec").cloned()
    };
    let both = json::parse(br#"{"podCIDR":"10.0.0.0/24","podCIDRs":["10.0.0.0/24"]}"#).ok();
    for ranges in [
        r#""podCIDR":"10.0.0.0/24""#,
        r#""podCIDRs":["10.0.0.0/24"]"#,
        r#""podCIDR":"10.0.0.0/24","podCIDRs":["10.0.1.0/24","fd00::/64"]"#,
    ] {
        assert_eq!(stored(ranges), both, "{ranges}");
    }
}

#[test]
fn what_can_be_used_is_what_is_there_for_who_reads_it() {
    let read = |status: &str| {
        let mut object = json::parse(status.as_bytes()).unwrap();
        (super::NODE.default)(proto::catalogue::Gates::defaults(), &mut object);
        object.at(&["status", "allocatable", "cpu"]).cloned()
    };
    let cpu = |text: &str| Some(proto::Value::from(text));
    assert_eq!(read(r#"{"status":{"capacity":{"cpu":"2"}}}"#), cpu("2"));
    let less = r#"{"status":{"capacity":{"cpu":"2"},"allocatable":{"cpu":"1"}}}"#;
    assert_eq!(read(less), cpu("1"));
}
