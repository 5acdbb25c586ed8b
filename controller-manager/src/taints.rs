//! Taints of nodes: what tolerates them, and how controllers change them.

use component::client::{Client, Patch};
use k8s_openapi::api::core::v1::{Node, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use crate::error::Error;

pub const NO_EXECUTE: &str = "NoExecute";
pub const NO_SCHEDULE: &str = "NoSchedule";
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// How often a change is tried when others write at the same time.
const TRIES: u32 = 5;

/// A taint without a value.
#[must_use]
pub fn taint(key: &str, effect: &str) -> Taint {
    Taint {
        key: key.to_owned(),
        effect: effect.to_owned(),
        ..Taint::default()
    }
}

/// Whether two taints are the same one.
#[must_use]
pub fn matches(a: &Taint, b: &Taint) -> bool {
    a.key == b.key && a.effect == b.effect
}

/// The taints of a node.
#[must_use]
pub fn of(node: &Node) -> &[Taint] {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref());
    taints.unwrap_or_default()
}

/// The taints after some came and some went; none if that is what there is.
#[must_use]
pub fn changed(taints: &[Taint], add: &[Taint], remove: &[Taint]) -> Option<Vec<Taint>> {
    let stays = |t: &&Taint| !remove.iter().any(|r| matches(r, t));
    let mut next: Vec<Taint> = taints.iter().filter(stays).cloned().collect();
    for new in add {
        match next.iter_mut().find(|t| matches(t, new)) {
            // The time of adding stays with the taint that was added.
            Some(known)
                if known.value.as_deref().unwrap_or_default()
                    == new.value.as_deref().unwrap_or_default() => {}
            Some(known) => *known = new.clone(),
            None => next.push(new.clone()),
        }
    }
    (next != taints).then_some(next)
}

/// Changes the taints of a node; those that are added get the time. Says what the node is then, none if
/// it is gone.
///
/// # Errors
/// If the server refuses, or others write all the time.
pub async fn change(
    client: &Client,
    node: &Node,
    add: &[Taint],
    remove: &[Taint],
    now: Timestamp,
) -> Result<Option<Node>, Error> {
    let timed = |t: &Taint| Taint {
        time_added: Some(Time(now)),
        ..t.clone()
    };
    let add: Vec<Taint> = add.iter().map(timed).collect();
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let api = client.all::<Node>();
    let mut node = node.clone();
    let mut tried = 0;
    loop {
        let Some(taints) = changed(of(&node), &add, remove) else {
            return Ok(Some(node));
        };
        let patch = Patch::merge(&json!({
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "spec": {"taints": if taints.is_empty() { None } else { Some(taints) }},
        }))?;
        tried += 1;
        match api.patch(name, &patch).await {
            Ok(node) => return Ok(Some(node)),
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) if e.is_conflict() && tried < TRIES => match api.find(name).await? {
                Some(now) => node = now,
                None => return Ok(None),
            },
            Err(e) => return Err(e.into()),
        }
    }
}

/// Whether a toleration is for a taint. `compare` says whether the operators `Lt` and `Gt` are known.
#[must_use]
pub fn tolerates(toleration: &Toleration, taint: &Taint, compare: bool) -> bool {
    let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    if given(&toleration.effect).is_some_and(|e| e != taint.effect)
        || given(&toleration.key).is_some_and(|k| k != taint.key)
    {
        return false;
    }
    let wanted = toleration.value.as_deref().unwrap_or_default();
    let value = taint.value.as_deref().unwrap_or_default();
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => wanted == value,
        "Exists" => true,
        "Lt" if compare => ordered(value, wanted, |value, wanted| value < wanted),
        "Gt" if compare => ordered(value, wanted, |value, wanted| value > wanted),
        _ => false,
    }
}

/// Compares two numbers as they are written in the API: without leading zeros or a plus.
fn ordered(value: &str, wanted: &str, holds: impl Fn(i64, i64) -> bool) -> bool {
    let number = |text: &str| text.parse::<i64>().ok().filter(|n| n.to_string() == text);
    match (number(value), number(wanted)) {
        (Some(value), Some(wanted)) => holds(value, wanted),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toleration(key: &str, operator: &str, value: &str, effect: &str) -> Toleration {
        let text = |t: &str| Some(t.to_owned());
        Toleration {
            key: text(key),
            operator: text(operator),
            value: text(value),
            effect: text(effect),
            toleration_seconds: None,
        }
    }

    #[test]
    fn a_toleration_matches_by_key_value_and_effect() {
        let five = Taint {
            value: Some("5".into()),
            ..taint("k", NO_EXECUTE)
        };
        for (given, compare, expected) in [
            (toleration("", "Exists", "", ""), false, true),
            (toleration("k", "", "5", ""), false, true),
            (toleration("k", "Equal", "6", ""), false, false),
            (toleration("k", "Exists", "", NO_SCHEDULE), false, false),
            (toleration("k", "Lt", "6", ""), false, false),
            (toleration("k", "Lt", "6", ""), true, true),
            (toleration("k", "Gt", "4", ""), true, true),
            (toleration("k", "Gt", "04", ""), true, false),
        ] {
            assert_eq!(tolerates(&given, &five, compare), expected, "{given:?}");
        }
    }

    #[test]
    fn what_is_there_already_is_no_change() {
        let (a, b) = (taint("a", NO_EXECUTE), taint("b", NO_EXECUTE));
        let now = Taint {
            time_added: Some(Time(Timestamp::UNIX_EPOCH)),
            ..a.clone()
        };
        assert_eq!(
            changed(std::slice::from_ref(&a), &[now], std::slice::from_ref(&b)),
            None
        );
        assert_eq!(
            changed(
                std::slice::from_ref(&a),
                std::slice::from_ref(&b),
                std::slice::from_ref(&a)
            ),
            Some(vec![b])
        );
        assert_eq!(
            changed(std::slice::from_ref(&a), &[], std::slice::from_ref(&a)),
            Some(vec![])
        );
    }
}
