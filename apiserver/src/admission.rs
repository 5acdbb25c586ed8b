//! Admission: what may change or refuse a write after it is authorized.
//!
//! A table of plugins in upstream's order. On a write all that change objects run first, then all that
//! only look. Plugins read caches; what they do not find there they look up once live. Webhooks and
//! policies take their places in the same table.

use std::future::Future;
use std::pin::Pin;

use proto::Value;
use proto::catalogue::Resource;

use crate::auth::User;
use crate::server::Server;
use crate::status::Failure;

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

    /// A refusal in the words that upstream's plugins share.
    #[must_use]
    pub fn forbid(&self, why: &str) -> Failure {
        Failure::forbidden(self.resource.group, self.resource.name, self.name, why)
    }
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
pub const PLUGINS: &[Plugin] = &[];

/// The plugins that run in this server, by their places in [`PLUGINS`].
pub struct Chain(Vec<&'static Plugin>);

impl Chain {
    /// The default set with the flags' changes; an unknown name is an error.
    pub fn new(enable: &[String], disable: &[String]) -> Result<Self, String> {
        for name in enable.iter().chain(disable) {
            if !PLUGINS.iter().any(|p| p.name == name) {
                return Err(format!("unknown admission plugin {name:?}"));
            }
        }
        let on = |p: &&Plugin| (p.on_by_default && !disable.iter().any(|d| d == p.name)) || enable.iter().any(|e| e == p.name);
        Ok(Self(PLUGINS.iter().filter(on).collect()))
    }

    pub async fn mutate(&self, server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
        for step in self.0.iter().filter_map(|p| p.mutate) {
            step(server, write).await?;
        }
        Ok(())
    }

    pub async fn validate(&self, server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
        for step in self.0.iter().filter_map(|p| p.validate) {
            step(server, write).await?;
        }
        Ok(())
    }
}
