//! Resource quotas. Upstream: `pkg/registry/core/resourcequota`, `pkg/printers/internalversion`.

use proto::Value;
use proto::quantity::Quantity;
use proto::view::core_v1::ResourceQuota;
use proto::view::{Node, View};

use crate::registry::strategy::Strategy;
use crate::registry::warnings::Warnings;
use crate::table::row;

pub static RESOURCE_QUOTA: Strategy = Strategy {
    generation: false,
    warnings: |object, old| match old {
        None => requests_above_limits(object),
        Some(_) => Vec::new(),
    },
    cells: Some(|object, now| {
        let (requests, limits) = used(object);
        row(object, now, [requests.into(), limits.into()])
    }),
    ..Strategy::WITH_STATUS
};

/// A quota on requests that is above the one on limits, to which it can never come.
fn requests_above_limits(quota: &Value) -> Vec<String> {
    const NAMES: [&str; 4] = ["cpu", "memory", "storage", "ephemeral-storage"];
    let hard = ResourceQuota::of(Node::new(quota)).spec().hard();
    let amount =
        |name: &str| -> Option<Quantity> { hard.get(name).and_then(Value::as_str)?.parse().ok() };
    let mut w = Warnings::new(quota);
    for name in NAMES {
        let (mut request_name, limit_name) = (format!("requests.{name}"), format!("limits.{name}"));
        let mut request = amount(&request_name);
        if request.is_none() && matches!(name, "cpu" | "memory") {
            name.clone_into(&mut request_name);
            request = amount(name);
        }
        if let (Some(request), Some(limit)) = (request, amount(&limit_name))
            && request > limit
        {
            w.push(format!(
                "ResourceQuota {request_name} ({request}) should be less than {limit_name} ({limit})"
            ));
        }
    }
    w.into_vec()
}

/// What is used of what is allowed, apart for limits and everything else.
fn used(quota: &Value) -> (String, String) {
    let status = ResourceQuota::of(Node::new(quota)).status();
    let mut all: Vec<(&str, &str)> = status
        .hard()
        .iter()
        .map(|(name, hard)| (name.as_str(), hard.as_str().unwrap_or_default()))
        .collect();
    all.sort_unstable();
    let show = |limits: bool| {
        let of = all
            .iter()
            .filter(|(n, _)| n.starts_with("limits.") == limits);
        let shown = of.map(|(name, hard)| {
            let used = status.used().get(*name).and_then(Value::as_str);
            format!("{name}: {}/{hard}", used.unwrap_or("0"))
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    (show(false), show(true))
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::core_v1;
    use proto::codec::json::{self, Strictness};

    use super::*;

    #[test]
    fn limits_are_shown_apart() {
        let text = r#"{"status":{"hard":{"pods":"4","limits.cpu":"2","cpu":"1"},"used":{"pods":"1","cpu":"500m"}}}"#;
        let decoded = json::decode(text.as_bytes(), core_v1::RESOURCE_QUOTA, Strictness::Strict);
        let quota = decoded.expect("the test's JSON is valid").value;
        let expected = (
            "cpu: 500m/1, pods: 1/4".to_owned(),
            "limits.cpu: 0/2".to_owned(),
        );
        assert_eq!(used(&quota), expected);
    }
}
