//! Finds what was taken and never given back, and what is used and was never taken.
//!
//! Runs in every server, every three minutes as upstream's repair loops do; all it does is idempotent.
//! Something that looks leaked is given back only when it was seen leaked twice: a service may be about
//! to be written.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use proto::catalogue::names as n;
use proto::{Value, meta};
use resources::options::WriteOptions;

use super::addresses::object;
use super::families;
use super::ports::Bits;
use super::{cluster_ips, health_port, node_ports};
use crate::registry::generic::Write;
use crate::server::Server;

/// Upstream's `repairInterval`.
pub const INTERVAL: Duration = Duration::from_secs(180);

/// What looked leaked the last time.
#[derive(Default)]
pub struct Suspects {
    addresses: HashSet<String>,
    ports: HashSet<u16>,
}

/// Repairs until the process ends.
pub async fn run(server: Arc<Server>) {
    let mut suspects = Suspects::default();
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        round(&server, &mut suspects).await;
    }
}

/// One round.
pub async fn round(server: &Arc<Server>, suspects: &mut Suspects) {
    let services = server.objects("", "services");
    addresses(server, &services, suspects).await;
    ports(server, &services, suspects).await;
}

async fn addresses(server: &Arc<Server>, services: &[Value], suspects: &mut Suspects) {
    let used: HashSet<String> = services
        .iter()
        .flat_map(cluster_ips)
        .filter(|ip| ip != "None" && !ip.is_empty())
        .collect();
    let allocated = server.objects("networking.k8s.io", "ipaddresses");
    let names: HashSet<&str> = allocated.iter().map(meta::name).collect();
    let mut leaked = HashSet::new();
    for address in &allocated {
        let ours = address
            .at(&[n::METADATA, n::LABELS])
            .and_then(|l| l.get("ipaddress.kubernetes.io/managed-by"))
            .and_then(Value::as_str);
        let name = meta::name(address);
        if ours == Some("ipallocator.k8s.io") && !used.contains(name) {
            if suspects.addresses.contains(name) {
                tracing::info!(address = name, "releasing a cluster IP that no service has");
                if let Ok(ip) = name.parse() {
                    server.allocators.addresses.release(server, ip).await;
                }
            } else {
                leaked.insert(name.to_owned());
            }
        }
    }
    suspects.addresses = leaked;
    for service in services {
        for (ip, family) in cluster_ips(service).iter().zip(families::of(service)) {
            if let (false, Ok(address)) = (names.contains(ip.as_str()), ip.parse()) {
                restore(server, object(service, address, family)).await;
            }
        }
    }
}

async fn restore(server: &Arc<Server>, object: Value) {
    let Some(endpoint) = server
        .registry
        .any_version("networking.k8s.io", "ipaddresses")
    else {
        return;
    };
    let user = crate::auth::loopback();
    let write = Write::new(server, endpoint, &user, "", "kube-apiserver");
    let name = meta::name(&object).to_owned();
    match write.create(object, &WriteOptions::default()).await {
        Ok(_) => tracing::info!(address = name, "recorded a cluster IP that a service has"),
        Err(failure) if failure.reason() == "AlreadyExists" => {}
        Err(failure) => {
            tracing::warn!(error = %failure, address = name, "a cluster IP could not be recorded")
        }
    }
}

async fn ports(server: &Arc<Server>, services: &[Value], suspects: &mut Suspects) {
    let allocator = &server.allocators.ports;
    let mut used: HashSet<u16> = services.iter().flat_map(node_ports).collect();
    used.extend(services.iter().filter_map(health_port));
    let mut leaked = HashSet::new();
    let known = &suspects.ports;
    let seen = parking_lot::Mutex::new(&mut leaked);
    let outcome = allocator
        .replace(&server.store, |bits: &Bits| {
            let mut next = bits.clone();
            for port in &used {
                if let Some(bit) = allocator.bit(*port) {
                    next.set(bit, true);
                }
            }
            for bit in bits.iter() {
                let Some(port) = allocator.port(bit).filter(|p| !used.contains(p)) else {
                    continue;
                };
                if known.contains(&port) {
                    next.set(bit, false);
                } else {
                    seen.lock().insert(port);
                }
            }
            next
        })
        .await;
    if let Err(error) = outcome {
        tracing::warn!(%error, "node ports could not be repaired");
    }
    suspects.ports = leaked;
}
