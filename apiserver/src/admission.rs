//! Admission: what may change or refuse a write after it is authorized.
//!
//! A table of plugins in upstream's order. On a write all that change objects run first, then all that
//! only look. Plugins read caches; what they do not find there they look up once live. Webhooks and
//! policies take their places in the same table.

use std::future::Future;
use std::pin::Pin;

use proto::catalogue::Resource;
use proto::{Value, meta};
use resources::status::Failure;

use crate::auth::User;
use crate::server::{Server, read_failure};

mod amounts;
mod certificates;
mod default_tolerations;
mod limit_ranger;
mod namespace_lifecycle;
mod network;
mod node_restriction;
mod owner_references;
mod pod_security;
mod pods;
mod priority;
mod quota;
mod runtime_class;
mod service_account;
mod storage;
mod taint_nodes;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// A write, as plugins see it.
pub struct Attributes<'a> {
    pub operation: Operation,
    pub resource: &'static Resource,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// The object as it would be stored; for subresources with a body of their own, that body. None
    /// for deletes.
    pub object: Option<&'a mut Value>,
    /// The object as it is; none for creates.
    pub old: Option<&'a Value>,
    pub user: &'a User,
    pub dry_run: bool,
    /// Texts that are sent to the client as warnings.
    pub warnings: &'a mut Vec<String>,
}

impl Attributes<'_> {
    /// Whether the write is about this resource (and no subresource of it).
    #[must_use]
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.subresource.is_empty() && self.is_any(group, resource)
    }

    /// Whether the write is about this resource or a subresource of it.
    #[must_use]
    pub fn is_any(&self, group: &str, resource: &str) -> bool {
        self.resource.group == group && self.resource.name == resource
    }

    /// A refusal in the words that upstream's plugins share. An object without a name is called by
    /// what its name will begin with.
    #[must_use]
    pub fn forbid(&self, why: &str) -> Failure {
        let name = match (self.name, self.object.as_deref()) {
            ("", Some(object)) if !meta::generate_name(object).is_empty() => {
                meta::generate_name(object)
            }
            ("", Some(_)) => "Unknown",
            (name, _) => name,
        };
        Failure::forbidden(self.resource.group, self.resource.name, name, why)
    }

    /// The key of a namespaced object in the namespace of the write.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.namespace)
    }
}

/// One object as etcd has it now, where the cache may not be new enough.
///
/// # Errors
/// If it cannot be read, or nothing serves the resource.
async fn newest(
    server: &Server,
    group: &str,
    resource: &str,
    key: &str,
) -> Result<Option<Value>, Failure> {
    let endpoint = server
        .registry
        .any_version(group, resource)
        .ok_or_else(Failure::no_such_resource)?;
    let entry = endpoint
        .collection
        .get(key, store::At::Latest)
        .await
        .map_err(read_failure)?;
    entry
        .map(|e| resources::object::from_body(&e.body, &endpoint.hub))
        .transpose()
}

/// The objects of a resource in one namespace, from the cache.
fn in_namespace(server: &Server, group: &str, resource: &str, namespace: &str) -> Vec<Value> {
    let Some(endpoint) = server.registry.any_version(group, resource) else {
        return Vec::new();
    };
    let Ok((entries, _)) = endpoint.collection.snapshot() else {
        return Vec::new();
    };
    let prefix = format!("{namespace}/");
    entries
        .prefix(&prefix)
        .filter_map(|e| resources::object::from_body(&e.body, &endpoint.hub).ok())
        .collect()
}

pub type Outcome<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;
/// A plugin's function: the server with its caches, and the write.
pub type Step = for<'a> fn(&'a Server, &'a mut Attributes<'_>) -> Outcome<'a>;

pub struct Plugin {
    /// The name in `--enable-admission-plugins`.
    pub name: &'static str,
    pub on_by_default: bool,
    pub mutate: Option<Step>,
    pub validate: Option<Step>,
}

/// Upstream's order (`pkg/kubeapiserver/options/plugins.go`).
pub const PLUGINS: &[Plugin] = &[
    Plugin {
        name: "AlwaysAdmit",
        on_by_default: false,
        mutate: None,
        validate: None,
    },
    namespace_lifecycle::PLUGIN,
    namespace_lifecycle::EXISTS,
    pods::ANTI_AFFINITY,
    limit_ranger::PLUGIN,
    service_account::PLUGIN,
    node_restriction::PLUGIN,
    taint_nodes::PLUGIN,
    pods::ALWAYS_PULL,
    pod_security::PLUGIN,
    priority::PLUGIN,
    default_tolerations::PLUGIN,
    pods::EXTENDED_RESOURCES,
    storage::DEFAULT_CLASS,
    storage::IN_USE_PROTECTION,
    owner_references::PLUGIN,
    storage::CLAIM_RESIZE,
    runtime_class::PLUGIN,
    certificates::APPROVAL,
    certificates::SIGNING,
    certificates::ATTEST,
    certificates::SUBJECT,
    network::DEFAULT_INGRESS_CLASS,
    network::DENY_EXTERNAL_IPS,
    pods::TOPOLOGY_LABELS,
    quota::PLUGIN,
    Plugin {
        name: "AlwaysDeny",
        on_by_default: false,
        mutate: None,
        validate: Some(|_, write| {
            Box::pin(std::future::ready(Err(
                write.forbid("admission control is denying all modifications")
            )))
        }),
    },
];

/// The plugins that run in this server, in order, and what they remember between writes.
pub struct Chain {
    plugins: Vec<&'static Plugin>,
    doomed: namespace_lifecycle::Doomed,
    quotas: quota::Locks,
}

impl Chain {
    /// The default set with the flags' changes; an unknown name is an error.
    pub fn new(enable: &[String], disable: &[String]) -> Result<Self, String> {
        for name in enable.iter().chain(disable) {
            if !PLUGINS.iter().any(|p| p.name == name) {
                return Err(format!("unknown admission plugin {name:?}"));
            }
        }
        let on = |p: &&Plugin| {
            (p.on_by_default && !disable.iter().any(|d| d == p.name))
                || enable.iter().any(|e| e == p.name)
        };
        Ok(Self {
            plugins: PLUGINS.iter().filter(on).collect(),
            doomed: namespace_lifecycle::Doomed::default(),
            quotas: quota::Locks::default(),
        })
    }

    pub async fn mutate(&self, server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
        for step in self.plugins.iter().filter_map(|p| p.mutate) {
            step(server, write).await?;
        }
        Ok(())
    }

    pub async fn validate(
        &self,
        server: &Server,
        write: &mut Attributes<'_>,
    ) -> Result<(), Failure> {
        for step in self.plugins.iter().filter_map(|p| p.validate) {
            step(server, write).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_switch_plugins_on_and_off() {
        let chain = Chain::new(&["NodeRestriction".into()], &["Priority".into()]).unwrap();
        let has = |name: &str| chain.plugins.iter().any(|p| p.name == name);
        assert!(
            has("NodeRestriction")
                && has("NamespaceLifecycle")
                && !has("Priority")
                && !has("AlwaysPullImages")
        );
        assert!(Chain::new(&["Nonsense".into()], &[]).is_err());
    }
}
