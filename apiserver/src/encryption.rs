//! Encryption at rest: what stands between stored objects and etcd.
//!
//! The file of `--encryption-provider-config` names providers for resources, with wildcards
//! ([`config`]). A provider and its keys mark what they write by a prefix ([`Choice`]), and the first
//! whose prefix a value has opens it; a value that the first key of the first provider did not write is
//! stale, and is written anew by the next update ([`store::Transformer`]). The envelopes are upstream's
//! byte for byte (`apiserver/pkg/storage/value`), so that servers of both kinds share one etcd.
//!
//! What is kept beside objects (allocations of addresses and ports, leases of servers) is not encrypted,
//! here as upstream: no resource of the API stands for it.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use component::files::FromFiles;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use proto::path::FieldError;
use store::Transformer;
use store::entry::{Opened, TransformError};

use crate::config::EncryptionConfig;

mod choice;
mod cipher;
mod config;

use choice::{Choice, Identity, Layer};

/// Why a configuration cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    File(#[from] component::config::Error),
    #[error("{file}: {}", proto::path::aggregate(.errors))]
    Invalid {
        file: PathBuf,
        errors: Vec<FieldError>,
    },
}

/// A resource as the configuration names it; `*` stands for any.
#[derive(Clone, PartialEq, Eq, Debug)]
struct GroupResource {
    group: String,
    resource: String,
}

impl GroupResource {
    /// `resource` or `resource.group`; `*.` is every resource of the core group.
    fn parse(text: &str) -> Self {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        Self {
            group: group.to_owned(),
            resource: resource.to_owned(),
        }
    }

    fn is(&self, group: &str, resource: &str) -> bool {
        self.group == group && self.resource == resource
    }
}

impl std::fmt::Display for GroupResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.group.as_str(), self.resource.as_str()) {
            ("", "*") => f.write_str("*."),
            ("", resource) => f.write_str(resource),
            (group, resource) => write!(f, "{resource}.{group}"),
        }
    }
}

/// What a file says, ready for use: the providers of each resource that it names.
#[derive(Default)]
struct Rules(Vec<(GroupResource, Choice)>);

impl Rules {
    /// The providers of a resource: those of the resource itself, of its group, or of all.
    fn of(&self, group: &str, resource: &str) -> &dyn Layer {
        let named = |group: &str, resource: &str| {
            let found = self.0.iter().find(|(of, _)| of.is(group, resource));
            found.map(|(_, choice)| choice as &dyn Layer)
        };
        named(group, resource)
            .or_else(|| named(group, "*"))
            .or_else(|| named("*", "*"))
            .unwrap_or(&Identity)
    }
}

/// The encryption that a server was told to use.
pub struct Encryption {
    rules: Arc<Source>,
}

enum Source {
    Fixed(Rules),
    Reloaded(FromFiles<Rules>),
}

impl Encryption {
    /// Reads the configuration.
    ///
    /// # Errors
    /// If it cannot be read or used. Later, if it is to be read again, the old one stays in use then,
    /// and the failure is logged.
    pub fn load(given: &EncryptionConfig) -> Result<Self, Error> {
        let file = given.file.clone();
        let rules = if given.reload {
            Source::Reloaded(FromFiles::new(vec![file.clone()], move || {
                config::load(&file)
            })?)
        } else {
            Source::Fixed(config::load(&file)?)
        };
        Ok(Self {
            rules: Arc::new(rules),
        })
    }

    /// What stands between the objects of a resource and etcd; `group` is the one that they are
    /// stored in. Also for resources that the file does not name: a later one may, and what is
    /// encrypted must not be taken for an object.
    #[must_use]
    pub fn of(&self, group: &'static str, resource: &'static str) -> Arc<dyn Transformer> {
        Arc::new(OfResource {
            rules: self.rules.clone(),
            group,
            resource,
        })
    }
}

struct OfResource {
    rules: Arc<Source>,
    group: &'static str,
    resource: &'static str,
}

impl OfResource {
    fn with<T>(&self, f: impl FnOnce(&dyn Layer) -> T) -> T {
        match &*self.rules {
            Source::Fixed(rules) => f(rules.of(self.group, self.resource)),
            Source::Reloaded(files) => f(files.current().of(self.group, self.resource)),
        }
    }
}

impl Transformer for OfResource {
    fn open<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
    ) -> BoxFuture<'a, Result<Opened, TransformError>> {
        ready(self.with(|layer| layer.open(key, &value))).boxed()
    }

    fn seal<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, TransformError>> {
        let mut sealed = Vec::new();
        let done = self.with(|layer| layer.seal(key, &value, &mut sealed));
        ready(done.map(|()| Bytes::from(sealed))).boxed()
    }
}

#[cfg(test)]
mod tests;
