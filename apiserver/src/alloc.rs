//! Cluster IPs and node ports of services.
//!
//! A cluster IP belongs to the service that created its `IPAddress` object: creation decides, so two
//! servers never hand out one address twice. Node ports are bits of one shared object that is changed
//! by compare-and-swap. What a write takes is given back if the write does not happen; what is lost
//! between the two is found by [`repair`].
//!
//! Upstream: `pkg/registry/core/service/storage/alloc.go`, `.../ipallocator`, `.../portallocator`.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use proto::catalogue::names as n;
use proto::path::{FieldError, Reason};
use proto::{Value, meta};
use resources::status::Failure;
use resources::strategies::service;

use crate::config::Config;
use crate::registry::hooks::{Finish, Hooks};
use crate::server::Server;

pub mod addresses;
pub mod families;
pub mod ports;
pub mod repair;

use addresses::Addresses;
use families::Family;
use ports::{PortError, Ports};

/// What services are given from.
pub struct Allocators {
    pub addresses: Addresses,
    pub ports: Ports,
}

impl Allocators {
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            addresses: Addresses::new(&config.service_ranges),
            ports: Ports::new(config.node_ports),
        }
    }
}

/// The hooks of the service strategy.
pub struct Services;
pub static SERVICE: Services = Services;

impl Hooks for Services {
    fn begin<'a>(
        &'a self,
        server: &'a std::sync::Arc<Server>,
        new: Option<&'a mut Value>,
        old: Option<&'a Value>,
        dry_run: bool,
    ) -> Pin<Box<dyn Future<Output = Result<Box<dyn Finish>, Failure>> + Send + 'a>> {
        Box::pin(async move {
            let mut taken = Taken {
                server: server.clone(),
                dry_run,
                ..Taken::empty(server)
            };
            let outcome = match (new, old) {
                (Some(new), old) => taken.allocate(new, old).await,
                (None, Some(old)) => {
                    taken.release_all(old);
                    Ok(())
                }
                (None, None) => Ok(()),
            };
            match outcome {
                Ok(()) => Ok(Box::new(taken) as Box<dyn Finish>),
                Err(failure) => {
                    Box::new(taken).finish(false).await;
                    Err(failure)
                }
            }
        })
    }
}

/// What one write took, and what it will give back if it succeeds.
struct Taken {
    server: std::sync::Arc<Server>,
    dry_run: bool,
    addresses: Vec<IpAddr>,
    ports: Vec<u16>,
    release_addresses: Vec<IpAddr>,
    release_ports: Vec<u16>,
}

impl Finish for Taken {
    fn finish(self: Box<Self>, success: bool) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            if self.dry_run {
                return;
            }
            let (addresses, ports) = if success {
                (&self.release_addresses, &self.release_ports)
            } else {
                (&self.addresses, &self.ports)
            };
            for address in addresses {
                self.server
                    .allocators
                    .addresses
                    .release(&self.server, *address)
                    .await;
            }
            if let Err(error) = self
                .server
                .allocators
                .ports
                .release(&self.server.store, ports)
                .await
            {
                // The repair loop finds them.
                tracing::warn!(%error, ?ports, "node ports could not be released");
            }
        })
    }
}

impl Taken {
    fn empty(server: &std::sync::Arc<Server>) -> Self {
        Self {
            server: server.clone(),
            dry_run: false,
            addresses: Vec::new(),
            ports: Vec::new(),
            release_addresses: Vec::new(),
            release_ports: Vec::new(),
        }
    }

    async fn allocate(&mut self, new: &mut Value, old: Option<&Value>) -> Result<(), Failure> {
        service::link(new, old);
        let configured = self.server.allocators.addresses.families();
        families::complete(new, old, &configured)?;
        self.cluster_ips(new, old).await?;
        self.node_ports(new, old).await
    }

    /// A deleted service gives back all that it has.
    fn release_all(&mut self, old: &Value) {
        self.release_addresses = cluster_ips(old)
            .iter()
            .filter_map(|ip| ip.parse().ok())
            .collect();
        self.release_ports = node_ports(old);
        self.release_ports.extend(health_port(old));
    }

    async fn cluster_ips(&mut self, new: &mut Value, old: Option<&Value>) -> Result<(), Failure> {
        if let Some(old) = old {
            if families::unchanged_prefer_dual_stack(new, old) {
                return Ok(());
            }
            let (was_name, is_name) = (
                type_of(old) == "ExternalName",
                type_of(new) == "ExternalName",
            );
            if !was_name && is_name {
                self.release_addresses = cluster_ips(old)
                    .iter()
                    .filter_map(|ip| ip.parse().ok())
                    .collect();
                return Ok(());
            }
            if !was_name && !is_name {
                return self.second_family(new, old).await;
            }
        }
        if type_of(new) == "ExternalName" || is_headless(new) {
            return Ok(());
        }
        let wanted = families::of(new);
        let mut ips = cluster_ips(new);
        ips.resize(wanted.len(), String::new());
        for (family, ip) in wanted.iter().zip(ips.iter_mut()) {
            self.take(new, *family, ip).await?;
        }
        families::set_cluster_ips(new, &ips);
        Ok(())
    }

    /// A service that becomes dual stack gets a second address, one that ceases to be gives it back.
    async fn second_family(&mut self, new: &mut Value, old: &Value) -> Result<(), Failure> {
        if is_headless(old) {
            return Ok(());
        }
        let (before, after) = (families::of(old), families::of(new));
        if before.len() == 1 && after.len() == 2 {
            let mut ips = cluster_ips(new);
            ips.resize(2, String::new());
            self.take(new, after[1], &mut ips[1]).await?;
            families::set_cluster_ips(new, &ips);
        } else if before.len() == 2 && after.len() == 1 {
            self.release_addresses = cluster_ips(old)
                .get(1)
                .and_then(|ip| ip.parse().ok())
                .into_iter()
                .collect();
        }
        Ok(())
    }

    /// One address: the one asked for, or any.
    async fn take(
        &mut self,
        service: &Value,
        family: Family,
        ip: &mut String,
    ) -> Result<(), Failure> {
        let addresses = &self.server.allocators.addresses;
        let shown = list_text(&cluster_ips(service));
        let asked = ip.clone();
        let result = if asked.is_empty() {
            addresses
                .any(&self.server, service, family, self.dry_run)
                .await
        } else {
            match asked.parse() {
                Ok(address) => {
                    addresses
                        .exactly(&self.server, service, family, address, self.dry_run)
                        .await
                }
                Err(_) => {
                    return Err(Failure::internal(format!(
                        "failed to parse service IP {asked:?}"
                    )));
                }
            }
        };
        match result {
            Ok(address) => {
                *ip = address.to_string();
                self.addresses.push(address);
                Ok(())
            }
            Err(addresses::Error::Full) if asked.is_empty() => {
                let name = meta::name(service);
                Err(Failure::internal(format!(
                    "failed to allocate a serviceIP for Service {name:?}: range is full"
                )))
            }
            Err(error) => {
                let detail = if asked.is_empty() {
                    format!("failed to allocate IP: {error}")
                } else {
                    format!("failed to allocate IP {asked}: {error}")
                };
                Err(invalid(service, "spec.clusterIPs", shown, detail))
            }
        }
    }

    async fn node_ports(&mut self, new: &mut Value, old: Option<&Value>) -> Result<(), Failure> {
        let had = old.map(node_ports).unwrap_or_default();
        if has_node_ports(new) {
            self.assign_ports(new, old.is_some(), &had).await?;
            let kept = node_ports(new);
            self.release_ports
                .extend(had.iter().filter(|p| !kept.contains(p)));
        } else if old.is_some_and(has_node_ports) {
            self.release_ports.extend(&had);
        }
        self.health_check_port(new, old).await
    }

    async fn assign_ports(
        &mut self,
        new: &mut Value,
        update: bool,
        had: &[u16],
    ) -> Result<(), Failure> {
        let may_take = type_of(new) == "NodePort"
            || new
                .at(&[n::SPEC, n::ALLOCATE_LOAD_BALANCER_NODE_PORTS])
                .and_then(Value::as_bool)
                .unwrap_or(true);
        let ports: Vec<(i64, i64)> = service_ports(new)
            .iter()
            .map(|p| (number(p, n::PORT), number(p, n::NODE_PORT)))
            .collect();
        let mut by_port: Vec<(i64, i64)> = Vec::new();
        for (i, (port, asked)) in ports.iter().copied().enumerate() {
            if asked == 0 && !may_take {
                continue;
            }
            // TCP and UDP of one service port share a node port, unless they ask for different ones.
            let shared = by_port
                .iter()
                .find(|(p, _)| *p == port)
                .map(|(_, np)| *np)
                .filter(|_| !update);
            let wanted = if asked != 0 || update {
                asked
            } else {
                ports
                    .iter()
                    .find(|(p, np)| *p == port && *np != 0)
                    .map_or(0, |(_, np)| *np)
            };
            let got = match shared {
                Some(np) if asked == 0 || asked == np => np,
                _ if wanted != 0 => {
                    self.take_port(new, i, wanted, had).await?;
                    wanted
                }
                _ => i64::from(self.any_port().await.map_err(|e| {
                    Failure::internal(format!("failed to allocate a nodePort: {e}"))
                })?),
            };
            by_port.push((port, got));
            if let Some(item) = new
                .at_mut(&[n::SPEC, n::PORTS])
                .and_then(Value::as_list_mut)
                .and_then(|l| l.get_mut(i))
            {
                item.set(&[n::NODE_PORT], got);
            }
        }
        Ok(())
    }

    async fn take_port(
        &mut self,
        service: &Value,
        i: usize,
        port: i64,
        had: &[u16],
    ) -> Result<(), Failure> {
        let field = format!("spec.ports[{i}].nodePort");
        let out = || PortError::NotInRange(self.server.allocators.ports.range_text());
        let number = u16::try_from(port)
            .map_err(|_| invalid(service, &field, port.to_string(), out().to_string()))?;
        if had.contains(&number) || self.ports.contains(&number) {
            return Ok(());
        }
        self.exact_port(number)
            .await
            .map_err(|e| invalid(service, &field, port.to_string(), e.to_string()))
    }

    async fn exact_port(&mut self, port: u16) -> Result<(), PortError> {
        self.server
            .allocators
            .ports
            .take(&self.server.store, port, self.dry_run)
            .await?;
        self.ports.push(port);
        Ok(())
    }

    async fn any_port(&mut self) -> Result<u16, PortError> {
        let port = self
            .server
            .allocators
            .ports
            .take_any(&self.server.store, &self.ports, self.dry_run)
            .await?;
        self.ports.push(port);
        Ok(port)
    }

    async fn health_check_port(
        &mut self,
        new: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Failure> {
        let (needed, needs) = (old.is_some_and(needs_health_port), needs_health_port(new));
        if needed && !needs {
            self.release_ports.extend(old.and_then(health_port));
        }
        if needed || !needs {
            return Ok(());
        }
        let failed = |e: PortError, port: i64| {
            Failure::internal(format!(
                "failed to allocate requested HealthCheck NodePort {port}: {e}"
            ))
        };
        let asked = new
            .at(&[n::SPEC, n::HEALTH_CHECK_NODE_PORT])
            .and_then(Value::as_int)
            .unwrap_or(0);
        match u16::try_from(asked) {
            Ok(0) => {
                let port = self.any_port().await.map_err(|e| failed(e, 0))?;
                new.set(&[n::SPEC, n::HEALTH_CHECK_NODE_PORT], i64::from(port));
                Ok(())
            }
            Ok(port) => self.exact_port(port).await.map_err(|e| failed(e, asked)),
            Err(_) => Err(failed(
                PortError::NotInRange(self.server.allocators.ports.range_text()),
                asked,
            )),
        }
    }
}

fn number(port: &Value, name: proto::NameId) -> i64 {
    port.get(name).and_then(Value::as_int).unwrap_or(0)
}

fn service_ports(service: &Value) -> &[Value] {
    service
        .at(&[n::SPEC, n::PORTS])
        .and_then(Value::as_list)
        .unwrap_or_default()
}

fn type_of(service: &Value) -> &str {
    service
        .at(&[n::SPEC, n::TYPE])
        .and_then(Value::as_str)
        .unwrap_or("ClusterIP")
}

fn is_headless(service: &Value) -> bool {
    cluster_ips(service).first().is_some_and(|ip| ip == "None")
}

/// `spec.clusterIPs`.
fn cluster_ips(service: &Value) -> Vec<String> {
    let items = service
        .at(&[n::SPEC, n::CLUSTER_IPS])
        .and_then(Value::as_list)
        .unwrap_or_default();
    items
        .iter()
        .filter_map(|v| v.as_str().map(str::to_owned))
        .collect()
}

fn has_node_ports(service: &Value) -> bool {
    matches!(type_of(service), "NodePort" | "LoadBalancer")
}

/// The node ports of a service, each once.
#[must_use]
pub fn node_ports(service: &Value) -> Vec<u16> {
    let mut ports: Vec<u16> = service_ports(service)
        .iter()
        .filter_map(|p| u16::try_from(number(p, n::NODE_PORT)).ok())
        .filter(|p| *p != 0)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// A load balancer that sends traffic only to local endpoints asks nodes whether they have any.
fn needs_health_port(service: &Value) -> bool {
    let policy = service
        .at(&[n::SPEC, n::EXTERNAL_TRAFFIC_POLICY])
        .and_then(Value::as_str);
    type_of(service) == "LoadBalancer" && policy == Some("Local")
}

/// The health-check port that a service holds.
#[must_use]
pub fn health_port(service: &Value) -> Option<u16> {
    let port = service
        .at(&[n::SPEC, n::HEALTH_CHECK_NODE_PORT])
        .and_then(Value::as_int)?;
    needs_health_port(service)
        .then(|| u16::try_from(port).ok())
        .flatten()
        .filter(|p| *p != 0)
}

/// A list of strings as upstream prints it in errors.
fn list_text(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|i| proto::path::quote(i)).collect();
    if quoted.is_empty() {
        "null".into()
    } else {
        format!("[{}]", quoted.join(","))
    }
}

fn invalid(service: &Value, field: &str, value: String, detail: String) -> Failure {
    let error = FieldError {
        reason: Reason::Invalid,
        field: field.into(),
        value,
        detail,
    };
    Failure::invalid("", "Service", meta::name(service), &[error])
}
