//! Conditions as most statuses have them. Pure. Source: `k8s.io/apimachinery/pkg/api/meta/conditions.go`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// A condition.
#[must_use]
pub fn made(kind: &str, is: bool, reason: &str, message: &str, now: Timestamp) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: if is { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: Time(now),
        observed_generation: None,
    }
}

/// Whether a condition is there and true.
#[must_use]
pub fn is_true(all: Option<&Vec<Condition>>, kind: &str) -> bool {
    let mut all = all.into_iter().flatten();
    all.any(|c| c.type_ == kind && c.status == "True")
}

/// Sets a condition. The time of its last transition stays if the status does.
pub fn set(all: &mut Vec<Condition>, new: Condition) {
    match all.iter_mut().find(|c| c.type_ == new.type_) {
        None => all.push(new),
        Some(old) => {
            let since = if old.status == new.status {
                old.last_transition_time.clone()
            } else {
                new.last_transition_time.clone()
            };
            *old = Condition {
                last_transition_time: since,
                ..new
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut all = Vec::new();
        set(&mut all, made("Ready", true, "A", "", at(1)));
        set(&mut all, made("Ready", true, "B", "", at(2)));
        assert_eq!(
            (all[0].reason.as_str(), all[0].last_transition_time.0),
            ("B", at(1))
        );
        assert!(is_true(Some(&all), "Ready") && !is_true(Some(&all), "Other"));
        set(&mut all, made("Ready", false, "C", "", at(3)));
        assert_eq!((all.len(), all[0].last_transition_time.0), (1, at(3)));
        assert!(!is_true(Some(&all), "Ready"));
    }
}
