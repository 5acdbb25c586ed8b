//! What extension servers and other daemons need to know to trust this one's clients: the ConfigMap
//! `kube-system/extension-apiserver-authentication`. Upstream:
//! `pkg/controlplane/controller/clusterauthenticationtrust`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proto::catalogue::names as n;
use resources::status::Failure;

use super::{Hook, Own};
use crate::server::Server;

pub(super) const HOOK: Hook = Hook {
    name: "start-cluster-authentication-info-controller",
    once: |server| Box::pin(async move { ensure(&server).await }),
    // The files may have been replaced.
    keep: Some((Duration::from_secs(60), |server| {
        Box::pin(async move { ensure(&server).await })
    })),
    end: None,
};

async fn ensure(server: &Arc<Server>) -> Result<(), Failure> {
    let mut data: Vec<(&str, String)> = Vec::new();
    if let Some(path) = &server.config.client_ca {
        data.push(("client-ca-file", read(path)?));
    }
    if let Some(proxy) = &server.config.request_header {
        data.push(("requestheader-client-ca-file", read(&proxy.ca)?));
        for (key, list) in [
            ("requestheader-allowed-names", &proxy.allowed_names),
            ("requestheader-extra-headers-prefix", &proxy.extra_prefixes),
            ("requestheader-group-headers", &proxy.group),
            ("requestheader-uid-headers", &proxy.uid),
            ("requestheader-username-headers", &proxy.username),
        ] {
            // Who tells no uid by a header says nothing of it: older readers know no such key.
            if key != "requestheader-uid-headers" || !list.is_empty() {
                data.push((key, serde_json::to_string(list).map_err(Failure::internal)?));
            }
        }
    }
    Own::new(server, "", "configmaps", "kube-system")?
        .ensure("extension-apiserver-authentication", |object| {
            object.set(&[n::METADATA, n::NAMESPACE], "kube-system");
            let there = object.ensure(&[n::DATA]).make_map();
            for (key, value) in &data {
                there.insert(*key, value.as_str());
            }
        })
        .await
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| Failure::internal(format!("{}: {e}", path.display())))
}
