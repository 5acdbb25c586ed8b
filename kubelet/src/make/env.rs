//! A container's environment: upstream's `makeEnvironmentVariables`.
//!
//! What `envFrom` gives is overridden by `env`, which overrides what the services give. A reference
//! `$(NAME)` sees what stands before it, and the services.

pub(crate) mod file;
mod services;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector, Secret,
    Service,
};
use proto::quantity::Quantity;

use super::{NodeFacts, expand, is_static, spec};
use crate::volume::{Allocatable, ObjectError, Objects, PodVolumes, downward};

/// Why a container has no environment: the message of its `CreateContainerConfigError`.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    /// The pod has to wait: without them programs would not find the API server.
    #[error("services have not yet been read at least once, cannot construct envvars")]
    ServicesUnread,
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    Key {
        key: String,
        kind: &'static str,
        namespace: String,
        name: String,
    },
    #[error("unsupported pod version: {0}")]
    Version(String),
    #[error("field label not supported: {0}")]
    Label(String),
    #[error(transparent)]
    Downward(#[from] downward::Error),
    #[error("failed to find node object, expected a node")]
    NoAddress,
    #[error(transparent)]
    File(#[from] file::Error),
}

/// Whose environment it is, and what it is made from.
pub struct Environment<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub facts: &'a NodeFacts,
    pub pod_ips: &'a [IpAddr],
    pub objects: &'a dyn Objects,
    /// All services of the cluster; `None` until they were read once.
    pub services: Option<&'a [Arc<Service>]>,
    /// For `fileKeyRef`.
    pub volumes: &'a PodVolumes,
}

/// The variables of a container, by name.
///
/// # Errors
/// In upstream's words. Trying again is right: what is missing may come.
pub async fn environment(of: Environment<'_>) -> Result<Vec<(String, String)>, Error> {
    let services = match of.services {
        Some(services) => services,
        None if is_static(of.pod) => &[],
        None => return Err(Error::ServicesUnread),
    };
    let namespace = of.pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = spec(of.pod).enable_service_links.unwrap_or(true);
    let services = services::variables(services, namespace, links);
    let mut maker = Maker {
        of: &of,
        namespace,
        services,
        config_maps: BTreeMap::new(),
        secrets: BTreeMap::new(),
        made: BTreeMap::new(),
    };
    maker.env_from().await?;
    maker.env().await?;
    let mut all = maker.services;
    all.extend(maker.made);
    Ok(all.into_iter().collect())
}

struct Maker<'a> {
    of: &'a Environment<'a>,
    namespace: &'a str,
    services: BTreeMap<String, String>,
    /// Read once per container, so that its variables are of one version.
    config_maps: BTreeMap<String, Option<Arc<ConfigMap>>>,
    secrets: BTreeMap<String, Option<Arc<Secret>>>,
    made: BTreeMap<String, String>,
}

impl Maker<'_> {
    async fn env_from(&mut self) -> Result<(), Error> {
        for from in self.of.container.env_from.iter().flatten() {
            let prefix = from.prefix.as_deref().unwrap_or_default();
            if let Some(source) = &from.config_map_ref {
                let map = self.config_map(&source.name, source.optional).await?;
                let data = map.iter().filter_map(|map| map.data.as_ref()).flatten();
                let named = data.map(|(key, value)| (format!("{prefix}{key}"), value.clone()));
                self.made.extend(named);
            } else if let Some(source) = &from.secret_ref {
                let secret = self.secret(&source.name, source.optional).await?;
                let data = secret.iter().filter_map(|s| s.data.as_ref()).flatten();
                let named = data.map(|(key, value)| (format!("{prefix}{key}"), text(&value.0)));
                self.made.extend(named);
            }
        }
        Ok(())
    }

    async fn env(&mut self) -> Result<(), Error> {
        for variable in self.of.container.env.iter().flatten() {
            let given = variable.value.as_deref().unwrap_or_default();
            let value = match &variable.value_from {
                Some(from) if given.is_empty() => self.sourced(from).await?,
                _ => {
                    let find = |name: &str| {
                        let value = self.made.get(name).or_else(|| self.services.get(name));
                        value.map(String::as_str)
                    };
                    Some(expand::known(given, find))
                }
            };
            if let Some(value) = value {
                self.made.insert(variable.name.clone(), value);
            }
        }
        Ok(())
    }

    /// The value, or nothing if it may be missing and is.
    async fn sourced(&mut self, from: &EnvVarSource) -> Result<Option<String>, Error> {
        if let Some(field) = &from.field_ref {
            self.field(field).map(Some)
        } else if let Some(resource) = &from.resource_field_ref {
            self.resource(resource).map(Some)
        } else if let Some(source) = &from.config_map_key_ref {
            let map = self.config_map(&source.name, source.optional).await?;
            let Some(map) = map else { return Ok(None) };
            let value = map.data.as_ref().and_then(|data| data.get(&source.key));
            let key = ("ConfigMap", source.name.as_str(), source.key.as_str());
            self.found(value.cloned(), source.optional, key)
        } else if let Some(source) = &from.secret_key_ref {
            let secret = self.secret(&source.name, source.optional).await?;
            let Some(secret) = secret else {
                return Ok(None);
            };
            let value = secret.data.as_ref().and_then(|data| data.get(&source.key));
            let key = ("Secret", source.name.as_str(), source.key.as_str());
            self.found(value.map(|value| text(&value.0)), source.optional, key)
        } else if let Some(source) = &from.file_key_ref {
            Ok(file::value(source, self.of.volumes).await?)
        } else {
            Ok(Some(String::new()))
        }
    }

    fn found(
        &self,
        value: Option<String>,
        optional: Option<bool>,
        (kind, name, key): (&'static str, &str, &str),
    ) -> Result<Option<String>, Error> {
        if value.is_some() || optional == Some(true) {
            return Ok(value);
        }
        Err(Error::Key {
            key: key.to_owned(),
            kind,
            namespace: self.namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    async fn config_map(
        &mut self,
        name: &str,
        optional: Option<bool>,
    ) -> Result<Option<Arc<ConfigMap>>, Error> {
        if let Some(Some(known)) = self.config_maps.get(name) {
            return Ok(Some(Arc::clone(known)));
        }
        let read = self.of.objects.config_map(self.namespace, name).await;
        let read = or_missing(read, optional)?;
        self.config_maps.insert(name.to_owned(), read.clone());
        Ok(read)
    }

    async fn secret(
        &mut self,
        name: &str,
        optional: Option<bool>,
    ) -> Result<Option<Arc<Secret>>, Error> {
        if let Some(Some(known)) = self.secrets.get(name) {
            return Ok(Some(Arc::clone(known)));
        }
        let read = self.of.objects.secret(self.namespace, name).await;
        let read = or_missing(read, optional)?;
        self.secrets.insert(name.to_owned(), read.clone());
        Ok(read)
    }

    fn field(&self, field: &ObjectFieldSelector) -> Result<String, Error> {
        let Environment { pod, facts, .. } = self.of;
        match field.api_version.as_deref() {
            None | Some("v1" | "") => {}
            Some(other) => return Err(Error::Version(other.to_owned())),
        }
        let text = |value: &Option<String>| Ok(value.clone().unwrap_or_default());
        let path = field.field_path.as_str();
        match path {
            "spec.nodeName" | "spec.host" => text(&spec(pod).node_name),
            "spec.serviceAccountName" => text(&spec(pod).service_account_name),
            "status.hostIP" => facts
                .host_ips
                .first()
                .map(ToString::to_string)
                .ok_or(Error::NoAddress),
            "status.hostIPs" if facts.host_ips.is_empty() => Err(Error::NoAddress),
            "status.hostIPs" => Ok(joined(&facts.host_ips)),
            "status.podIP" => Ok(self
                .pod_ips()
                .first()
                .map(ToString::to_string)
                .unwrap_or_default()),
            "status.podIPs" => Ok(joined(&self.pod_ips())),
            _ if path.starts_with("metadata.") => Ok(downward::field(pod, path)?),
            _ => Err(Error::Label(path.to_owned())),
        }
    }

    /// One address of each family, that of the node's first.
    fn pod_ips(&self) -> Vec<IpAddr> {
        let first = self.of.facts.host_ips.first();
        let primary_is_v4 = first.is_none_or(IpAddr::is_ipv4);
        let of_family = |v4: bool| {
            let mut all = self.of.pod_ips.iter();
            all.find(|ip| ip.is_ipv4() == v4).copied()
        };
        let primary = of_family(primary_is_v4);
        primary
            .into_iter()
            .chain(of_family(!primary_is_v4))
            .collect()
    }

    fn resource(&self, selector: &ResourceFieldSelector) -> Result<String, Error> {
        let Environment { pod, facts, .. } = self.of;
        let node = pod_allocatable(pod, &facts.allocatable);
        match selector.container_name.as_deref() {
            None | Some("") => Ok(downward::resource_of(self.of.container, selector, &node)?),
            Some(_) => Ok(downward::resource(pod, selector, &node)?),
        }
    }
}

/// What a container may use at most if it does not say: the node's, or its pod's limits.
fn pod_allocatable(pod: &Pod, node: &Allocatable) -> Allocatable {
    let mut all = node.clone();
    let limits = spec(pod).resources.as_ref().and_then(|r| r.limits.as_ref());
    for name in ["cpu", "memory"] {
        let limit = limits.and_then(|limits| limits.get(name));
        let limit = limit.filter(|q| {
            q.0.parse::<Quantity>()
                .is_ok_and(|amount| !amount.is_zero())
        });
        if let (Some(limit), Some(amount)) = (limit, all.get_mut(name)) {
            *amount = limit.clone();
        }
    }
    all
}

fn or_missing<T>(
    read: Result<T, ObjectError>,
    optional: Option<bool>,
) -> Result<Option<T>, ObjectError> {
    match read {
        Ok(object) => Ok(Some(object)),
        Err(ObjectError::NotFound { .. }) if optional == Some(true) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Bytes that are no text are replaced, as on their way through upstream's runtimes.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn joined(ips: &[IpAddr]) -> String {
    let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
    ips.join(",")
}

#[cfg(test)]
mod tests;
