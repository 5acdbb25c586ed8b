use super::*;
use serde_json::{Value, json};

const WINDOW: Duration = Duration::from_secs(300);

fn bounds(current: i32) -> Bounds {
    Bounds {
        current,
        least: 2,
        most: 100,
    }
}

fn behavior(value: Value) -> HorizontalPodAutoscalerBehavior {
    proto::typed::from_json_value(value).unwrap()
}

fn reasons(limited: Limited) -> (i32, &'static str, bool, &'static str) {
    let (is, (reason, _)) = limited.limited;
    (limited.desired, limited.able.0, is, reason)
}

#[test]
fn a_target_shrinks_to_the_highest_recommendation_of_late() {
    let start = Instant::now();
    let mut history = History::default();
    history.begin(10, start);
    let mut at = |after: u64, desired| {
        let now = start + Duration::from_secs(after);
        reasons(history.plain(bounds(10), desired, WINDOW, now))
    };
    let (stable, ready, range) = (
        "ScaleDownStabilized",
        "ReadyForNewScale",
        "DesiredWithinRange",
    );
    assert_eq!(at(10, 4), (10, stable, false, range));
    assert_eq!(at(200, 6), (10, stable, false, range));
    assert_eq!(at(301, 3), (6, stable, false, range));
    assert_eq!(at(501, 3), (3, ready, false, range));
    assert_eq!(at(900, 1), (2, ready, true, "TooFewReplicas"));
}

#[test]
fn a_target_without_behaviour_doubles_at_most() {
    let of = |current, desired| {
        reasons(History::default().plain(bounds(current), desired, WINDOW, Instant::now()))
    };
    assert_eq!(of(10, 50), (20, "ReadyForNewScale", true, "ScaleUpLimit"));
    assert_eq!(of(1, 50).0, 4);
    assert_eq!(
        of(80, 150),
        (100, "ReadyForNewScale", true, "TooManyReplicas")
    );
}

#[test]
fn the_behaviours_windows_hold_both_ways() {
    let rules = behavior(json!({
        "scaleUp": {"stabilizationWindowSeconds": 60, "policies": [{"type": "Pods", "value": 50, "periodSeconds": 60}]},
        "scaleDown": {"stabilizationWindowSeconds": 120, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 60}]},
    }));
    let start = Instant::now();
    let mut history = History::default();
    let mut at = |after: u64, current, desired| {
        let now = start + Duration::from_secs(after);
        reasons(history.with_behavior(&rules, bounds(current), desired, WINDOW, now))
    };
    assert_eq!(at(0, 10, 10).0, 10);
    // Ten was enough a moment ago.
    assert_eq!(
        at(30, 10, 20),
        (10, "ScaleUpStabilized", false, "DesiredWithinRange")
    );
    assert_eq!(at(61, 10, 20).0, 20);
    // Twenty were needed a moment ago.
    assert_eq!(
        at(100, 20, 5),
        (20, "ScaleDownStabilized", false, "DesiredWithinRange")
    );
    assert_eq!(
        at(182, 20, 5),
        (5, "ReadyForNewScale", false, "DesiredWithinRange")
    );
}

#[test]
fn what_was_done_in_a_period_counts_against_its_rate() {
    let rules = behavior(json!({
        "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 60}, {"type": "Percent", "value": 10, "periodSeconds": 60}]},
        "scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Min", "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 60}, {"type": "Percent", "value": 10, "periodSeconds": 60}]},
    }));
    let start = Instant::now();
    let mut history = History::default();
    let limited = history.with_behavior(&rules, bounds(10), 50, WINDOW, start);
    assert_eq!(
        reasons(limited),
        (14, "ReadyForNewScale", true, "ScaleUpLimit")
    );
    history.scaled(&rules, 10, 14, start);
    let soon = start + Duration::from_secs(30);
    let limited = history.with_behavior(&rules, bounds(14), 50, WINDOW, soon);
    assert_eq!(limited.desired, 14, "four in this minute already");
    let later = start + Duration::from_secs(60);
    let limited = history.with_behavior(&rules, bounds(14), 50, WINDOW, later);
    assert_eq!(limited.desired, 18);
    // The smaller change of 4 and of 10 %.
    let limited = history.with_behavior(&rules, bounds(20), 2, WINDOW, later);
    assert_eq!(
        reasons(limited),
        (18, "ReadyForNewScale", true, "ScaleDownLimit")
    );
}

#[test]
fn a_direction_can_be_disabled() {
    let rules = behavior(json!({
        "scaleUp": {"stabilizationWindowSeconds": 0},
        "scaleDown": {"selectPolicy": "Disabled", "stabilizationWindowSeconds": 0},
    }));
    let limited = History::default().with_behavior(&rules, bounds(9), 3, WINDOW, Instant::now());
    assert_eq!(
        reasons(limited),
        (9, "ReadyForNewScale", true, "ScaleDownLimit")
    );
}
