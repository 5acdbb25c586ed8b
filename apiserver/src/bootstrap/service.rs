//! The service `default/kubernetes`, its endpoints, and the leases by which servers know of each other.
//!
//! Every server keeps a key `masterleases/<address>` alive in etcd; the endpoints are the addresses
//! whose keys live. Upstream: `pkg/controlplane/controller/kubernetesservice`,
//! `pkg/controlplane/reconcilers/lease.go`.

use std::net::IpAddr;
use std::sync::Arc;

use proto::Value;
use proto::catalogue::names as n;
use resources::status::Failure;

use super::{Hook, Own, alive};
use crate::server::Server;

/// Below the etcd prefix.
const LEASES: &str = "masterleases/";
const NAME: &str = "kubernetes";
const NAMESPACE: &str = "default";

pub(super) const HOOK: Hook = Hook {
    name: "bootstrap-controller",
    once: |server| Box::pin(async move { reconcile(&server).await }),
    keep: Some((alive::INTERVAL, |server| {
        Box::pin(async move { reconcile(&server).await })
    })),
    end: Some(|server| Box::pin(async move { leave(&server).await })),
};

async fn reconcile(server: &Arc<Server>) -> Result<(), Failure> {
    service(server).await?;
    if !server.config.reconcile_endpoints {
        return Ok(());
    }
    renew(server).await?;
    let addresses = alive(server).await?;
    if addresses.is_empty() {
        return Err(Failure::internal(
            "no API server is listed in the store although this one just renewed its key",
        ));
    }
    endpoints(server, &addresses).await?;
    slice(server, &addresses).await
}

/// Takes this server out of the endpoints, unless it is the last one: clients that find none would
/// wait, those that find it are refused at once.
async fn leave(server: &Arc<Server>) -> Result<(), Failure> {
    if !server.config.reconcile_endpoints {
        return Ok(());
    }
    alive::remove(server, &key(server)).await?;
    let others = alive(server).await?;
    if others.is_empty() {
        return Ok(());
    }
    endpoints(server, &others).await?;
    slice(server, &others).await
}

async fn service(server: &Arc<Server>) -> Result<(), Failure> {
    let Some(range) = server.config.service_ranges.first() else {
        return Ok(());
    };
    let Some(address) = range.hosts().next() else {
        return Ok(());
    };
    let mut object = Value::object();
    object.set(&[n::METADATA, n::NAME], NAME);
    object.set(&[n::METADATA, n::NAMESPACE], NAMESPACE);
    let labels = object.ensure(&[n::METADATA, n::LABELS]).make_map();
    labels.insert("component", "apiserver");
    labels.insert("provider", "kubernetes");
    let mut port = Value::object();
    port.set(&[n::NAME], "https");
    port.set(&[n::PROTOCOL], "TCP");
    port.set(&[n::PORT], 443);
    port.set(&[n::TARGET_PORT], i64::from(server.config.listen.port()));
    object.set(&[n::SPEC, n::PORTS], vec![port]);
    object.set(&[n::SPEC, n::CLUSTER_IP], address.to_string());
    object.set(&[n::SPEC, n::IP_FAMILY_POLICY], "SingleStack");
    object.set(&[n::SPEC, n::SESSION_AFFINITY], "None");
    object.set(&[n::SPEC, n::TYPE], "ClusterIP");
    object.set(&[n::STATUS], Value::object());
    Own::new(server, "", "services", NAMESPACE)?
        .create_if_absent(object)
        .await
        .map(drop)
}

/// Keeps this server's key alive.
async fn renew(server: &Arc<Server>) -> Result<(), Failure> {
    alive::renew(server, &key(server), |object| {
        let mut subset = Value::object();
        let mut own = Value::object();
        own.set(&[n::IP], server.config.advertise.to_string());
        subset.set(&[n::ADDRESSES], vec![own]);
        object.set(&[n::SUBSETS], vec![subset]);
    })
    .await
}

fn key(server: &Server) -> String {
    format!("{LEASES}{}", server.config.advertise)
}

/// The addresses whose keys live.
async fn alive(server: &Arc<Server>) -> Result<Vec<IpAddr>, Failure> {
    let stored = server
        .store
        .raw()
        .list(LEASES)
        .await
        .map_err(Failure::internal)?;
    let mut addresses: Vec<IpAddr> = stored
        .iter()
        .filter_map(|s| {
            let object = alive::decode(&s.value)?;
            let subset = object
                .get(n::SUBSETS)?
                .as_list()?
                .first()?
                .get(n::ADDRESSES)?
                .as_list()?
                .first()?
                .clone();
            subset.get(n::IP)?.as_str()?.parse().ok()
        })
        .collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

/// The endpoints with exactly these addresses.
async fn endpoints(server: &Arc<Server>, addresses: &[IpAddr]) -> Result<(), Failure> {
    let port = server.config.listen.port();
    Own::new(server, "", "endpoints", NAMESPACE)?
        .ensure(NAME, |object| {
            object.set(&[n::METADATA, n::NAMESPACE], NAMESPACE);
            let labels = object.ensure(&[n::METADATA, n::LABELS]).make_map();
            labels.insert("endpointslice.kubernetes.io/skip-mirror", "true");
            let mut subset = Value::object();
            let one = |address: &IpAddr| {
                let mut v = Value::object();
                v.set(&[n::IP], address.to_string());
                v
            };
            subset.set(
                &[n::ADDRESSES],
                addresses.iter().map(one).collect::<Vec<_>>(),
            );
            let mut https = Value::object();
            https.set(&[n::NAME], "https");
            https.set(&[n::PORT], i64::from(port));
            https.set(&[n::PROTOCOL], "TCP");
            subset.set(&[n::PORTS], vec![https]);
            object.set(&[n::SUBSETS], vec![subset]);
        })
        .await
}

async fn slice(server: &Arc<Server>, addresses: &[IpAddr]) -> Result<(), Failure> {
    let own = Own::new(server, "discovery.k8s.io", "endpointslices", NAMESPACE)?;
    let family = if addresses.iter().all(IpAddr::is_ipv6) {
        "IPv6"
    } else {
        "IPv4"
    };
    let fitting: Vec<&IpAddr> = addresses
        .iter()
        .filter(|a| a.is_ipv6() == (family == "IPv6"))
        .collect();
    // The family of a slice cannot change.
    if own
        .get(NAME)
        .await?
        .is_some_and(|old| old.get(n::ADDRESS_TYPE).and_then(Value::as_str) != Some(family))
    {
        own.delete(NAME).await?;
    }
    let port = server.config.listen.port();
    own.ensure(NAME, |object| {
        object.set(&[n::METADATA, n::NAMESPACE], NAMESPACE);
        object
            .ensure(&[n::METADATA, n::LABELS])
            .make_map()
            .insert("kubernetes.io/service-name", NAME);
        object.set(&[n::ADDRESS_TYPE], family);
        let one = |address: &&IpAddr| {
            let mut v = Value::object();
            v.set(&[n::ADDRESSES], vec![address.to_string()]);
            v.set(&[n::CONDITIONS, n::READY], true);
            v
        };
        object.set(&[n::ENDPOINTS], fitting.iter().map(one).collect::<Vec<_>>());
        let mut https = Value::object();
        https.set(&[n::NAME], "https");
        https.set(&[n::PORT], i64::from(port));
        https.set(&[n::PROTOCOL], "TCP");
        object.set(&[n::PORTS], vec![https]);
    })
    .await
}
