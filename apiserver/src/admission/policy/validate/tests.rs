use proto::view::Node;

use super::super::testing::policy_with;
use super::*;

fn compiled(spec: &str) -> Policy<Validating> {
    Policy::compile(&policy_with("p", spec))
}

fn evaluation(outcome: Result<Got, &str>) -> Evaluation<Got> {
    Evaluation {
        outcome: outcome.map_err(str::to_owned),
        took: Duration::ZERO,
    }
}

#[test]
fn a_failed_validation_is_told_in_the_best_words_there_are() {
    let of = |fields: &str, given: Option<Result<Got, &str>>| {
        let spec = format!(
            r#""validations":[{{"expression":" object.a ",{fields}"reason":"Forbidden"}}]"#
        );
        let policy = compiled(&spec);
        let given = given.map(evaluation);
        let decision = decide(
            &policy,
            &policy.body.validations[0],
            evaluation(Ok(Got::Other)),
            Ok(given.as_ref()),
        );
        assert!(decision.denies && !decision.failed && decision.reason == Reason::Forbidden);
        decision.message
    };
    let text = |text: &str| Some(Ok(Got::Text(text.to_owned())));
    let message = r#""message":"no","#;
    assert_eq!(of("", None), "failed expression: object.a");
    assert_eq!(of(message, None), "no");
    assert_eq!(of(message, text(" why ")), "why");
    for unfit in [
        text("  "),
        text("a\nb"),
        text(&"x".repeat(5121)),
        Some(Err("wrong")),
        Some(Ok(Got::Null)),
    ] {
        assert_eq!(of(message, unfit), "no");
    }
}

#[test]
fn what_the_conformance_tests_write_compiles() {
    let policy = compiled(
        r#""variables":[{"name":"replicas","expression":"object.spec.replicas"},{"name":"oddReplicas","expression":"variables.replicas % 2 == 1"}],
        "validations":[
            {"expression":"object.spec.replicas > 1","messageExpression":"'wants replicas > 1, got ' + object.spec.replicas"},
            {"expression":"namespaceObject.metadata.name == 'x'"},
            {"expression":"variables.replicas > 1"},
            {"expression":"variables.oddReplicas"}
        ]"#,
    );
    for validation in &policy.body.validations {
        let message = validation.message_expression.iter();
        for expression in message.chain([&validation.expression]) {
            let invalid = expression.program.as_ref().err();
            assert_eq!(invalid, None, "{}", expression.text);
        }
    }
}

#[test]
fn the_failure_policy_decides_over_what_cannot_be_evaluated() {
    for (policy, denies) in [("Fail", true), ("Ignore", false)] {
        let spec = format!(r#""failurePolicy":"{policy}","validations":[{{"expression":"true"}}]"#);
        let policy = compiled(&spec);
        let validation = &policy.body.validations[0];
        let failed = decide(&policy, validation, evaluation(Err("why")), Ok(None));
        assert_eq!(
            (failed.denies, failed.failed, failed.message.as_str()),
            (denies, true, "why")
        );
        let costly = decide(
            &policy,
            validation,
            evaluation(Ok(Got::True)),
            Err("too much"),
        );
        assert_eq!(
            (costly.denies, costly.message.as_str()),
            (denies, "failed messageExpression: too much")
        );
        assert_eq!(note(&policy, "k", evaluation(Err("why"))).is_some(), denies);
    }
}

#[test]
fn values_of_annotations_are_told_once_and_short() {
    let mut notes = Notes::default();
    notes.add("k".to_owned(), "a".to_owned());
    notes.add("k".to_owned(), "a".to_owned());
    notes.add("k".to_owned(), "ä".repeat(MOST_VALUE));
    let values = &notes.0[0].1;
    assert_eq!(
        (notes.0.len(), values[0].as_str(), values[1].len()),
        (1, "a", MOST_VALUE)
    );
}

#[test]
fn failures_are_recorded_as_upstream_writes_them() {
    let failed = |index| Failed {
        message: "a < \"b\"".to_owned(),
        policy: "p".to_owned(),
        binding: "b".to_owned(),
        index,
        actions: vec![Action::Warn, Action::Audit],
    };
    assert_eq!(
        failures(&[failed(1)]),
        r#"[{"message":"a \u003c \"b\"","policy":"p","binding":"b","expressionIndex":1,"validationActions":["Warn","Audit"]}]"#
    );
    let many: Vec<_> = (0..60).map(failed).collect();
    let shown = codec::json::parse(failures(&many).as_bytes()).unwrap();
    assert_eq!(
        Node::new(&shown).value().as_list().map(<[Value]>::len),
        Some(50)
    );
}
