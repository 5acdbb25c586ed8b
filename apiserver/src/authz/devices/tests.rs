use proto::codec::json::{self, Strictness};

use super::*;

fn claim(fields: &str) -> Value {
    let text = format!("{{{fields}}}");
    json::decode(
        text.as_bytes(),
        messages::RESOURCE_CLAIM,
        Strictness::Strict,
    )
    .expect("the test's JSON is valid")
    .value
}

fn status(text: &str) -> Value {
    claim(&format!(r#""status":{text}"#))
}

fn view(claim: &Value) -> ResourceClaimStatus<'_> {
    ResourceClaim::of(Node::new(claim)).status()
}

#[test]
fn administration_is_found_where_it_is_asked_for_and_where_it_is_given() {
    let plain = r#"{"name":"a","exactly":{"deviceClassName":"c"}}"#;
    let admin = r#"{"name":"b","exactly":{"deviceClassName":"c","adminAccess":true}}"#;
    let asks = |requests: &str| {
        let claim = claim(&format!(
            r#""spec":{{"devices":{{"requests":[{requests}]}}}}"#
        ));
        requested(ResourceClaim::of(Node::new(&claim)).spec())
    };
    assert_eq!(asks(plain), None);
    assert_eq!(
        asks(&format!("{plain},{admin}")).as_deref(),
        Some("spec.devices.requests[1].adminAccess")
    );
    let gives = |admin: &str| {
        let claim = status(&format!(
            r#"{{"allocation":{{"devices":{{"results":[{{"request":"a","driver":"d","pool":"p","device":"x"{admin}}}]}}}}}}"#
        ));
        granted(view(&claim))
    };
    assert_eq!(gives(""), None);
    assert_eq!(gives(r#","adminAccess":false"#), None);
    assert_eq!(
        gives(r#","adminAccess":true"#).as_deref(),
        Some("status.allocation.devices.results[0].adminAccess")
    );
}

#[test]
fn a_claim_is_bound_when_its_allocation_or_its_users_change() {
    let allocated = r#""allocation":{"devices":{"results":[{"request":"a","driver":"d","pool":"p","device":"x"}]}}"#;
    let user = r#""reservedFor":[{"resource":"pods","name":"p","uid":"u"}]"#;
    let report = r#""devices":[{"driver":"d","pool":"p","device":"x"}]"#;
    let changes = |new: &str, old: &str| {
        let (new, old) = (status(&format!("{{{new}}}")), status(&format!("{{{old}}}")));
        bound(view(&new), view(&old))
    };
    assert!(changes(allocated, ""));
    assert!(changes("", allocated));
    assert!(changes(&format!("{allocated},{user}"), allocated));
    assert!(!changes(&format!("{allocated},{report}"), allocated));
    assert!(!changes(allocated, allocated));
    assert!(!changes("", r#""reservedFor":[]"#));
}

#[test]
fn drivers_report_what_is_added_changed_and_taken_away() {
    let report = |driver: &str, data: &str| {
        format!(
            r#"{{"driver":"{driver}","pool":"p","device":"x","networkData":{{"interfaceName":"{data}"}}}}"#
        )
    };
    let drivers = |new: &[String], old: &[String]| -> Vec<String> {
        let of = |reports: &[String]| status(&format!(r#"{{"devices":[{}]}}"#, reports.join(",")));
        let (new, old) = (of(new), of(old));
        let drivers = reporting(view(&new), view(&old));
        drivers.into_iter().map(str::to_owned).collect()
    };
    let (a, b) = (report("a", "eth0"), report("b", "eth0"));
    assert_eq!(drivers(std::slice::from_ref(&a), &[]), ["a"]);
    assert_eq!(
        drivers(&[a.clone(), b.clone()], std::slice::from_ref(&a)),
        ["b"]
    );
    assert_eq!(
        drivers(std::slice::from_ref(&b), &[a.clone(), b.clone()]),
        ["a"]
    );
    assert_eq!(
        drivers(&[b.clone(), report("a", "eth1")], &[a.clone(), b.clone()]),
        ["a"]
    );
    assert_eq!(drivers(&[b.clone(), a.clone()], &[a, b]), [""; 0]);
}

#[test]
fn only_an_account_bound_to_the_node_of_the_claim_is_on_it() {
    let user = |name: &str, nodes: &[&str]| User {
        name: name.to_owned(),
        extra: [(
            NODE_NAME.to_owned(),
            nodes.iter().map(|&n| n.to_owned()).collect(),
        )]
        .into(),
        ..User::default()
    };
    let account = "system:serviceaccount:drivers:gpu";
    assert!(is_on(&user(account, &["n1"]), "n1"));
    for (name, nodes, node) in [
        (account, &["n1"][..], "n2"),
        (account, &["n1", "n1"], "n1"),
        (account, &[], "n1"),
        (account, &[""], ""),
        ("system:node:n1", &["n1"], "n1"),
        ("system:serviceaccount:drivers", &["n1"], "n1"),
        ("system:serviceaccount:drivers:gpu:x", &["n1"], "n1"),
    ] {
        assert!(!is_on(&user(name, nodes), node), "{name} {nodes:?} {node}");
    }
    let selects = |term: &str| {
        let claim = status(&format!(
            r#"{{"allocation":{{"nodeSelector":{{"nodeSelectorTerms":[{term}]}}}}}}"#
        ));
        view(&claim)
            .allocation()
            .and_then(node_of)
            .map(str::to_owned)
    };
    let by_name = r#"{"matchFields":[{"key":"metadata.name","operator":"In","values":["n1"]}]}"#;
    assert_eq!(selects(by_name).as_deref(), Some("n1"));
    assert_eq!(selects(&format!("{by_name},{by_name}")), None);
    assert_eq!(selects(&by_name.replace("In", "NotIn")), None);
    assert_eq!(
        selects(&by_name.replace("[\"n1\"]", "[\"n1\",\"n2\"]")),
        None
    );
}
