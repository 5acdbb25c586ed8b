//! The system priority classes. Upstream: `pkg/apis/scheduling/helpers.go`.

use proto::Value;
use proto::catalogue::names as n;

use super::{Hook, Own};

/// Name, value and description.
const CLASSES: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

pub(super) const HOOK: Hook = Hook {
    name: "scheduling/bootstrap-system-priority-classes",
    once: |server| {
        Box::pin(async move {
            let own = Own::new(&server, "scheduling.k8s.io", "priorityclasses", "")?;
            for (name, value, description) in CLASSES {
                let mut object = Value::object();
                object.set(&[n::METADATA, n::NAME], name);
                object.set(&[n::VALUE], value);
                object.set(&[n::DESCRIPTION], description);
                own.create_if_absent(object).await?;
            }
            Ok(())
        })
    },
    keep: None,
    end: None,
};
