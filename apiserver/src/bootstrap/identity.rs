//! This server's identity: a lease in `kube-system` that it renews and takes with it, and the removal
//! of those that nobody renews any more. Upstream: `pkg/controlplane/apiserver/server.go` (KEP-1965),
//! `component-helpers/apimachinery/lease/controller.go`.

use std::sync::Arc;
use std::time::Duration;

use proto::catalogue::names as n;
use proto::{Value, meta, time};
use resources::clock::{self, Clock};
use resources::status::Failure;

use super::{Hook, Own};
use crate::config::Config;
use crate::server::Server;

/// Upstream's `IdentityLeaseRenewIntervalPeriod` and `IdentityLeaseDurationSeconds`.
const INTERVAL: Duration = Duration::from_secs(10);
const SECONDS: i64 = 3600;
pub(crate) const NAMESPACE: &str = "kube-system";
/// Where others find this server with requests that they cannot serve (KEP-4020).
const PEER: &str = "kubernetes.io/peer-advertise-address";
const LABEL: &str = "apiserver.kubernetes.io/identity";
const SERVER: &str = "kube-apiserver";

/// None while `APIServerIdentity` is off.
pub(super) fn hooks(config: &Config) -> &'static [&'static Hook] {
    match config.features.enabled("APIServerIdentity") {
        true => &[HOOK],
        false => &[],
    }
}

const HOOK: &Hook = &Hook {
    name: "start-kube-apiserver-identity-lease-controller",
    once: |server| {
        Box::pin(async move {
            // The lease of the process before this one says what is not true any more.
            remove(&server).await?;
            renew(&server).await
        })
    },
    keep: Some((INTERVAL, |server| {
        Box::pin(async move {
            renew(&server).await?;
            collect(&server).await
        })
    })),
    end: Some(|server| Box::pin(async move { remove(&server).await })),
};

async fn remove(server: &Arc<Server>) -> Result<(), Failure> {
    Own::new(server, "coordination.k8s.io", "leases", NAMESPACE)?
        .delete(&server.identity.lease)
        .await
}

async fn renew(server: &Arc<Server>) -> Result<(), Failure> {
    let id = server.identity.clone();
    let host = id.host.clone();
    let config = &server.config;
    let (host_of_peer, port) = config.peers.address(config);
    let peer = match host_of_peer.contains(':') {
        true => format!("[{host_of_peer}]:{port}"),
        false => format!("{host_of_peer}:{port}"),
    };
    Own::new(server, "coordination.k8s.io", "leases", NAMESPACE)?
        .ensure(&id.lease, |object| {
            let clock = Clock::now();
            object.set(&[n::METADATA, n::NAMESPACE], NAMESPACE);
            let labels = object.ensure(&[n::METADATA, n::LABELS]).make_map();
            labels.insert(LABEL, SERVER);
            labels.insert("kubernetes.io/hostname", host.as_str());
            if config.peers.enabled {
                let annotations = object.ensure(&[n::METADATA, n::ANNOTATIONS]).make_map();
                annotations.insert(PEER, peer.as_str());
            }
            object.set(&[n::SPEC, n::HOLDER_IDENTITY], id.holder.as_str());
            object.set(&[n::SPEC, n::LEASE_DURATION_SECONDS], SECONDS);
            object.set(
                &[n::SPEC, n::RENEW_TIME],
                time::print_micro_time(clock.seconds, clock.nanos),
            );
        })
        .await
}

/// The name of a server's lease and who holds it, if the lease is one.
pub(crate) fn of_server(lease: &Value) -> Option<(String, String)> {
    let label = lease.at(&[n::METADATA, n::LABELS])?.get(LABEL)?;
    let holder = lease.at(&[n::SPEC, n::HOLDER_IDENTITY])?.as_str()?;
    (label.as_str() == Some(SERVER)).then(|| (meta::name(lease).to_owned(), holder.to_owned()))
}

/// Removes the leases of servers that are gone for longer than their leases last.
async fn collect(server: &Arc<Server>) -> Result<(), Failure> {
    let now = clock::seconds();
    let own = Own::new(server, "coordination.k8s.io", "leases", NAMESPACE)?;
    for lease in server.objects("coordination.k8s.io", "leases") {
        let labelled = lease
            .at(&[n::METADATA, n::LABELS])
            .and_then(|l| l.get(LABEL))
            .is_some();
        let renewed = lease
            .at(&[n::SPEC, n::RENEW_TIME])
            .and_then(Value::as_str)
            .and_then(time::unix_of);
        let lasts = lease
            .at(&[n::SPEC, n::LEASE_DURATION_SECONDS])
            .and_then(Value::as_int)
            .unwrap_or(SECONDS);
        let expired = renewed.is_none_or(|(seconds, _)| seconds + lasts < now);
        if meta::namespace(&lease) == NAMESPACE && labelled && expired {
            own.delete(meta::name(&lease)).await?;
        }
    }
    Ok(())
}
