use proto::catalogue::{Gates, gate};

use crate::strategies::testing::Of;

const CLASSES: Of = Of("resource.k8s.io", "v1", "deviceclasses");
const CLAIMS: Of = Of("resource.k8s.io", "v1", "resourceclaims");
const TEMPLATES: Of = Of("resource.k8s.io", "v1", "resourceclaimtemplates");

fn class(expression: &str) -> String {
    let expression = proto::path::quote(expression);
    format!(
        r#"{{"metadata":{{"name":"c"}},"spec":{{"selectors":[{{"cel":{{"expression":{expression}}}}}]}}}}"#
    )
}

/// A claim with one request, and constraints.
fn claim(request: &str, constraints: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"c","namespace":"n"}},"spec":{{"devices":{{"requests":[{{"name":"r",{request}}}],"constraints":[{constraints}]}}}}}}"#
    )
}

const COSTLY: &str = "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, device.attributes.all(d, a + b == c + d))))";

#[test]
fn selectors_are_compiled_and_may_not_cost_too_much() {
    let at = "spec.selectors[0].cel.expression";
    let long = format!("device.driver == '{}'", "x".repeat(10 << 10));
    for (expression, wanted) in [
        ("device.driver == 'd' && device.attributes['d'].a", None),
        ("device.allowMultipleAllocations", None),
        (
            "device.driver",
            Some(
                r#"Invalid value: "device.driver": must evaluate to bool or the unknown type, not string"#,
            ),
        ),
        (
            "device.x",
            Some(
                "Invalid value: \"device.x\": compilation failed: ERROR: <input>:1:7: undefined field 'x'\n | device.x\n | ......^",
            ),
        ),
        (COSTLY, Some("Forbidden: too complex, exceeds cost limit")),
        (&long, Some("Too long: may not be more than 10240 bytes")),
    ] {
        let wanted: Vec<String> = wanted.map(|w| format!("{at}: {w}")).into_iter().collect();
        assert_eq!(CLASSES.refused(&class(expression)), wanted);
    }
    let off = Gates::defaults().with(gate::DRA_CONSUMABLE_CAPACITY, false);
    let told = CLASSES
        .on(off)
        .refused(&class("device.allowMultipleAllocations"));
    assert!(
        told[0].contains("undefined field 'allowMultipleAllocations'"),
        "{told:?}"
    );
}

#[test]
fn selectors_that_are_stored_stay_valid_until_one_changes() {
    let (old, new) = (class("device.old"), class("device.new"));
    assert!(CLASSES.refused_update("", &old, &old).is_empty());
    let told = CLASSES.refused_update("", &new, &old);
    assert!(told[0].contains("undefined field 'new'"), "{told:?}");
    let more = old.replace(
        r#""selectors":["#,
        r#""selectors":[{"cel":{"expression":"true"}},"#,
    );
    let told = CLASSES.refused_update("", &more, &old);
    assert!(
        told[0].starts_with("spec.selectors[1].cel.expression"),
        "{told:?}"
    );
}

#[test]
fn every_request_of_claims_and_templates_is_looked_at() {
    let exactly = r#""exactly":{"deviceClassName":"c","selectors":[{"cel":{"expression":"1"}}]}"#;
    let wrong =
        r#"cel.expression: Invalid value: "1": must evaluate to bool or the unknown type, not int"#;
    let at = "spec.devices.requests[0]";
    assert_eq!(
        CLAIMS.refused(&claim(exactly, "")),
        [format!("{at}.exactly.selectors[0].{wrong}")]
    );
    let one = r#""firstAvailable":[{"name":"s","deviceClassName":"c","selectors":[{"cel":{"expression":"1"}}]}]"#;
    assert_eq!(
        CLAIMS.refused(&claim(one, "")),
        [format!("{at}.firstAvailable[0].selectors[0].{wrong}")]
    );
    let template = format!(
        r#"{{"metadata":{{"name":"t","namespace":"n"}},"spec":{{"spec":{{"devices":{{"requests":[{{"name":"r",{exactly}}}]}}}}}}}}"#
    );
    assert_eq!(
        TEMPLATES.refused(&template),
        [format!("spec.{at}.exactly.selectors[0].{wrong}")]
    );
}

/// What is wrong with attributes that a request derives, where that is possible.
fn derived(attributes: &[(&str, &str)], constraints: &str) -> Vec<String> {
    let attributes: Vec<String> = { attributes.iter() }
        .map(|(name, expression)| {
            let expression = proto::path::quote(expression);
            format!(r#"{{"name":"{name}","expression":{expression}}}"#)
        })
        .collect();
    let attributes = attributes.join(",");
    let request = format!(
        r#""firstAvailable":[{{"name":"s","deviceClassName":"c","derivedAttributes":[{attributes}]}}]"#
    );
    let gates = Gates::defaults().with(gate::DRA_DERIVED_ATTRIBUTES, true);
    CLAIMS.on(gates).refused(&claim(&request, constraints))
}

#[test]
fn derived_attributes_are_scalars_that_a_constraint_is_about() {
    let at = "spec.devices.requests[0].firstAvailable[0].derivedAttributes";
    let unused = "must be referenced by at least one matchAttribute or distinctAttribute constraint targeting this request";
    for about in ["", r#""requests":["r"],"#, r#""requests":["r/s"],"#] {
        for field in ["matchAttribute", "distinctAttribute"] {
            let constraint = format!(r#"{{{about}"{field}":"a.b/c"}}"#);
            assert_eq!(derived(&[("a.b/c", "1")], &constraint), [""; 0]);
            assert_eq!(
                derived(&[("a.b/d", "1")], &constraint),
                [format!("{at}[0].name: Invalid value: \"a.b/d\": {unused}")]
            );
        }
    }
    let both = r#"{"matchAttribute":"a.b/c"},{"matchAttribute":"a.b/d"}"#;
    assert_eq!(
        derived(&[("a.b/c", "device.attributes"), ("a.b/c", "x")], both),
        [
            format!(
                "{at}[0].expression: Invalid value: \"device.attributes\": must evaluate to a primitive scalar (string, \
                 integer, boolean, semver), not map(string, map(string, google.protobuf.Any))"
            ),
            format!(
                "{at}[1].expression: Invalid value: \"x\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'x' \
                 (in container '')\n | x\n | ^"
            ),
            format!("{at}[1]: Duplicate value: \"a.b/c\""),
        ]
    );
    let told = derived(&[("a.b/c", COSTLY)], both);
    let whole = "spec.devices: Forbidden: too complex, total cost of derived attribute CEL expressions in the claim exceeds cost limit";
    assert_eq!(
        told,
        [
            format!("{at}[0].expression: Forbidden: too complex, exceeds cost limit"),
            whole.to_owned(),
        ]
    );
    // Each of them is cheap enough, both together are not.
    let half = "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, a == b && b == c)))";
    let told = derived(&[("a.b/c", half), ("a.b/d", half)], both);
    assert!(told.iter().all(|told| *told == whole), "{told:?}");
}
