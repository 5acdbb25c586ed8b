//! The system namespaces. Upstream: `pkg/controlplane/controller/systemnamespaces`.

use std::time::Duration;

use proto::Value;
use proto::catalogue::names as n;

use super::{Hook, Own};

const NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "default"];

pub(super) const HOOK: Hook = Hook {
    name: "start-system-namespaces-controller",
    once: |server| Box::pin(async move { ensure(&server).await }),
    keep: Some((Duration::from_secs(60), |server| {
        Box::pin(async move { ensure(&server).await })
    })),
    end: None,
};

async fn ensure(
    server: &std::sync::Arc<crate::server::Server>,
) -> Result<(), resources::status::Failure> {
    for name in NAMESPACES {
        // A namespace is created in itself, as far as admission is concerned.
        let mut object = Value::object();
        object.set(&[n::METADATA, n::NAME], name);
        Own::new(server, "", "namespaces", name)?
            .create_if_absent(object)
            .await?;
    }
    Ok(())
}
