use super::super::testing::Of;
use super::*;

const ENDPOINTS: Of = Of("", "v1", "endpoints");
const SLICES: Of = Of("discovery.k8s.io", "v1", "endpointslices");

fn object(rest: &str) -> String {
    format!(r#"{{"metadata":{{"name":"e","namespace":"n"}},{rest}}}"#)
}

#[test]
fn endpoints_have_addresses_that_can_be_reached() {
    let bad = object(
        r#""subsets":[{},{"addresses":[{"ip":"127.0.0.1","hostname":"A.","nodeName":"-"}],"ports":[{"port":0},{"name":"p","port":1,"protocol":"X"}]}]"#,
    );
    let told = ENDPOINTS.refused(&bad);
    let fields: Vec<&str> = told
        .iter()
        .map(|e| e.split(": ").next().unwrap_or_default())
        .collect();
    assert_eq!(
        fields,
        [
            "subsets[0]",
            "subsets[1].addresses[0].hostname",
            "subsets[1].addresses[0].nodeName",
            "subsets[1].addresses[0].ip",
            "subsets[1].ports[0].name",
            "subsets[1].ports[0].port",
            "subsets[1].ports[1].protocol",
        ]
    );
    // Older servers took more; what they took stays.
    let complete = bad.replace(r#""port":0"#, r#""port":0,"protocol":"TCP""#);
    assert!(
        ENDPOINTS
            .refused_update("", &complete, &complete)
            .is_empty()
    );
}

#[test]
fn slices_are_of_one_type() {
    for (rest, errors) in [
        (
            r#""addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"]}],"ports":[{"port":1}]"#,
            &[][..],
        ),
        (
            r#""addressType":"IPv4","endpoints":[{"addresses":["fd00::1","10.0.0.01"]},{"addresses":[]}]"#,
            &[
                r#"endpoints[0].addresses: Invalid value: "fd00::1": must be an IPv4 address"#,
                r#"endpoints[0].addresses[1]: Invalid value: "10.0.0.01": must not have leading 0s"#,
                "endpoints[1].addresses: Required value",
            ],
        ),
        (
            r#""addressType":"IPv6","endpoints":[{"addresses":["FD00::1"],"hints":{"forZones":[{"name":"a"},{"name":"a"}]}}]"#,
            &[
                r#"endpoints[0].addresses[0]: Invalid value: "FD00::1": must be in canonical form ("fd00::1")"#,
                r#"endpoints[0].hints.forZones[1].name: Duplicate value: "a""#,
            ],
        ),
        (
            r#""addressType":"FQDN","endpoints":[{"addresses":["a","a.example."]}]"#,
            &[
                r#"endpoints[0].addresses[0]: Invalid value: "a": should be a domain with at least two segments separated by dots"#,
            ],
        ),
        (
            r#""addressType":"X","endpoints":[],"ports":[{"port":1},{"port":2,"protocol":"X"}]"#,
            &[
                r#"ports[1].name: Duplicate value: """#,
                r#"ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP""#,
                r#"addressType: Unsupported value: "X": supported values: "FQDN", "IPv4", "IPv6""#,
            ],
        ),
    ] {
        assert_eq!(SLICES.refused(&object(rest)), errors, "{rest}");
    }
}

/// What is declared is not asked again of what stays; upstream's older rules ask.
#[test]
fn a_type_that_is_wrong_is_so_after_an_update() {
    let slice = object(r#""addressType":"X","endpoints":[]"#);
    assert_eq!(
        SLICES.refused_update("", &slice, &slice),
        [r#"addressType: Unsupported value: "X": supported values: "FQDN", "IPv4", "IPv6""#]
    );
}

#[test]
fn a_topology_names_the_node_once_more() {
    let of = |rest: &str| {
        object(&format!(
            r#""addressType":"IPv4","endpoints":[{{"addresses":["10.0.0.1"]{rest}}}]"#
        ))
    };
    let topology = r#","deprecatedTopology":{"kubernetes.io/hostname":"node"}"#;
    let first = |stored: &Value| {
        let endpoints = stored.get("endpoints").and_then(Value::as_list);
        endpoints.expect("there is one")[0].clone()
    };
    let created = first(&SLICES.create(&of(topology)).expect("it is accepted"));
    assert_eq!(
        (created.get("deprecatedTopology"), created.get("nodeName")),
        (None, None)
    );
    let new = of(topology).replace("10.0.0.1", "10.0.0.2");
    let updated = SLICES.update("", &new, &of(topology));
    let updated = first(&updated.expect("it is accepted"));
    assert_eq!(
        updated.get("nodeName").and_then(Value::as_str),
        Some("node")
    );
}
