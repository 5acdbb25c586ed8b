use super::*;

fn budget(status: &str) -> Value {
    let text = format!("{{metadata: {{name: b, generation: 2}}, status: {status}}}");
    codec::yaml::parse(text.as_bytes()).unwrap().value
}

fn refusal(status: &str) -> (u16, String, Option<u32>, String) {
    let failure = reduced(&budget(status), "p", "2026-01-01T00:00:00Z").unwrap_err();
    let status = failure.to_value();
    let causes = status.at(&["details", "causes"]).unwrap();
    let cause = causes.as_list().unwrap()[0].get("message").unwrap();
    (
        failure.code(),
        failure.message().to_owned(),
        failure.retry_after(),
        cause.as_str().unwrap().to_owned(),
    )
}

#[test]
fn a_budget_pays_with_one_disruption_and_remembers_the_pod() {
    let now = "2026-01-01T00:00:00Z";
    let first = reduced(
        &budget("{observedGeneration: 2, disruptionsAllowed: 2}"),
        "p",
        now,
    )
    .unwrap();
    assert_eq!(number(&first, n::DISRUPTIONS_ALLOWED), 1);
    assert_eq!(first.at(&["status", "conditions"]), None);
    let second = reduced(&first, "q", now).unwrap();
    assert_eq!(number(&second, n::DISRUPTIONS_ALLOWED), 0);
    let pods = second.at(&["status", "disruptedPods"]).unwrap();
    assert_eq!(pods.as_map().unwrap().len(), 2);
    let condition = meta::find_condition(
        second.at(&["status", "conditions"]).unwrap(),
        "DisruptionAllowed",
    );
    assert_eq!(
        condition.unwrap().get("reason"),
        Some(&Value::from("InsufficientPods"))
    );
    assert!(reduced(&second, "r", now).is_err());
}

#[test]
fn a_budget_says_why_it_refuses() {
    let stale = refusal("{observedGeneration: 1, disruptionsAllowed: 5}");
    assert_eq!((stale.0, stale.2), (429, Some(10)));
    assert_eq!(
        stale.3,
        "The disruption budget b is still being processed by the server."
    );
    let none = refusal("{observedGeneration: 2, currentHealthy: 1, desiredHealthy: 2}");
    assert_eq!((none.0, none.1.as_str(), none.2), (429, REFUSAL, None));
    assert_eq!(
        none.3,
        "The disruption budget b needs 2 healthy pods and has 1 currently"
    );
    let failed = refusal(
        "{observedGeneration: 2, conditions: [{type: DisruptionAllowed, status: 'False', reason: SyncFailed, message: m}]}",
    );
    assert_eq!(
        failed.3,
        "The disruption budget b does not allow evicting pods currently because it failed sync: m"
    );
    let negative = refusal("{observedGeneration: 2, disruptionsAllowed: -1}");
    assert_eq!(negative.0, 403);
}

#[test]
fn pods_that_are_not_ready_may_go_where_the_budget_has_enough() {
    assert!(!spares_unhealthy(&budget("{}")));
    assert!(spares_unhealthy(&budget(
        "{currentHealthy: 2, desiredHealthy: 2}"
    )));
    assert!(!spares_unhealthy(&budget(
        "{currentHealthy: 1, desiredHealthy: 2}"
    )));
}
