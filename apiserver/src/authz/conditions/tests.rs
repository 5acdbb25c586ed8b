use super::*;
use crate::auth::User;

fn user() -> User {
    User {
        name: "ann".into(),
        uid: String::new(),
        groups: vec!["dev".into()],
        extra: [("k".to_owned(), vec!["v".to_owned()])].into(),
    }
}

fn read(conditions: &[&str]) -> Result<Conditions, String> {
    let mut errors = Vec::new();
    let read = Conditions::read(conditions.iter().copied(), "at", &mut errors);
    if errors.is_empty() {
        Ok(read)
    } else {
        Err(proto::path::aggregate(&errors))
    }
}

/// Whether conditions hold of Ann's list of pods.
fn hold(conditions: &[&str]) -> Result<bool, String> {
    let user = user();
    let asked = Attributes {
        namespace: "ns",
        field_selector: "spec.nodeName=n",
        label_selector: "a,b in (x,y)",
        ..Attributes::about(&user, "list", "", "v1", "pods")
    };
    let counted = Counted::register(&Metrics::new());
    read(conditions)?.hold(&asked, "hook", &counted)
}

#[test]
fn conditions_see_the_question_as_a_review_has_it() {
    for good in [
        "request.user == 'ann' && request.uid == '' && request.groups == ['dev']",
        "request.extra['k'] == ['v'] && !('other' in request.extra)",
        "has(request.resourceAttributes) && !has(request.nonResourceAttributes)",
        "request.resourceAttributes.namespace == 'ns' && request.resourceAttributes.verb == 'list'",
        // What is empty is there.
        "request.resourceAttributes.group == '' && request.resourceAttributes.name == ''",
        "request.resourceAttributes.fieldSelector.requirements[0].key == 'spec.nodeName'",
        "request.resourceAttributes.fieldSelector.requirements[0].values == ['n']",
        "request.resourceAttributes.labelSelector.requirements.exists(r, r.operator == 'Exists' && r.values == [])",
        "request.resourceAttributes.?labelSelector.requirements[1].values.orValue([]) == ['x', 'y']",
        "!has(request.resourceAttributes.fieldSelector.rawSelector)",
        // Selectors that nobody reads are not there.
        "dyn(request.resourceAttributes).size() == 7",
    ] {
        assert_eq!(hold(&[good]), Ok(true), "{good}");
    }
    let user = user();
    let path = Attributes {
        is_resource: false,
        path: "/metrics",
        ..Attributes::about(&user, "get", "", "", "")
    };
    let condition = "!has(request.resourceAttributes) && request.nonResourceAttributes.path == '/metrics' \
                     && request.nonResourceAttributes.verb == 'get'";
    let counted = Counted::register(&Metrics::new());
    assert_eq!(
        read(&[condition]).unwrap().hold(&path, "hook", &counted),
        Ok(true)
    );
}

#[test]
fn one_condition_that_does_not_hold_decides_whatever_is_wrong_with_others() {
    let (yes, no) = ("request.user == 'ann'", "request.user == 'bob'");
    let (a, b) = (
        "request.extra['a'][0] == 'x'",
        "request.extra['b'][0] == 'x'",
    );
    let wrong = |key: &str| {
        format!(
            "cel evaluation error: expression 'request.extra['{key}'][0] == 'x'' resulted in error: no such key: {key}"
        )
    };
    assert_eq!(hold(&[]), Ok(true));
    assert_eq!(hold(&[yes]), Ok(true));
    assert_eq!(hold(&[yes, no]), Ok(false));
    assert_eq!(hold(&[a, no]), Ok(false));
    assert_eq!(hold(&[a, yes]), Err(wrong("a")));
    assert_eq!(
        hold(&[a, yes, b]),
        Err(format!("[{}, {}]", wrong("a"), wrong("b")))
    );
}

#[test]
fn a_condition_that_costs_too_much_is_none() {
    let long = "[1,2,3,4,5,6,7,8,9,0]";
    let all = |inner: &str| format!("{long}.all(x, {inner})");
    let deep = all(&all(&all(&all(&all(&all("x >= 0"))))));
    let told = hold(&[&deep]).unwrap_err();
    assert!(
        told.ends_with("operation cancelled: actual cost limit exceeded"),
        "{told}"
    );
}

#[test]
fn conditions_give_bools_and_differ() {
    let many: Vec<String> = (0..65).map(|i| format!("{i} == 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (conditions, wanted) in [
        (
            &["true", "true"][..],
            "at[1].expression: Duplicate value: \"true\"",
        ),
        (&[" "], "at[0].expression: Required value"),
        (
            &["request"],
            "at[0].expression: Invalid value: \"request\": must evaluate to bool but got kubernetes.SubjectAccessReviewSpec",
        ),
        (
            &["request.user"],
            "at[0].expression: Invalid value: \"request.user\": must evaluate to bool but got string",
        ),
        (
            &["request.nope == 1"],
            "at[0].expression: Invalid value: \"request.nope == 1\": compilation failed: ERROR: <input>:1:8: undefined field 'nope'\n | request.nope == 1\n | .......^",
        ),
        (&many, "at: Too many: 65: must have at most 64 items"),
    ] {
        assert_eq!(read(conditions).unwrap_err(), wanted);
    }
}

#[test]
fn exclusions_and_failures_are_counted_by_webhook() {
    let metrics = Metrics::new();
    let counted = Counted::register(&metrics);
    let user = user();
    let asked = Attributes::about(&user, "get", "", "v1", "pods");
    for conditions in [
        &["request.user == 'bob'"][..],
        &["request.extra['a'][0] == 'x'", "request.user == 'bob'"],
        &["request.extra['a'][0] == 'x'"],
        &["true"],
    ] {
        let _ = read(conditions).unwrap().hold(&asked, "hook", &counted);
    }
    let text = metrics.answer("").1;
    let labels = "{type=\"Webhook\",name=\"hook\"}";
    for line in [
        format!("apiserver_authorization_match_condition_exclusions_total{labels} 2"),
        format!("apiserver_authorization_match_condition_evaluation_errors_total{labels} 2"),
        format!("apiserver_authorization_match_condition_evaluation_seconds_count{labels} 4"),
    ] {
        assert!(text.contains(&line), "{line}: {text}");
    }
}
