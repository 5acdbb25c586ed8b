//! Encryption at rest: what stands between stored objects and etcd.
//!
//! The file of `--encryption-provider-config` names providers for resources, with wildcards
//! ([`config`]). A provider and its keys mark what they write by a prefix ([`Choice`]), and the first
//! whose prefix a value has opens it; a value that the first key of the first provider did not write is
//! stale, and is written anew by the next update ([`store::Transformer`]). Keys are in the file
//! ([`cipher`]), or a plugin has them ([`kms`]); whoever needs the plugin waits for it, and nobody else.
//! The envelopes are upstream's byte for byte (`apiserver/pkg/storage/value`), so that servers of both
//! kinds share one etcd.
//!
//! A file that changes takes effect once all its plugins are well ([`reload`]).
//!
//! What is kept beside objects (allocations of addresses and ports, leases of servers) is not encrypted,
//! here as upstream: no resource of the API stands for it.

use std::sync::Arc;

use bytes::Bytes;
use component::Supervisor;
use component::features::Features;
use component::metrics::Metrics;
use component::serving::Health;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use proto::path::FieldError;
use store::Transformer;
use store::entry::{Opened, TransformError};

use crate::config::EncryptionConfig;
use crate::plugin::NOT_GRPC;

pub(crate) mod choice;
pub(crate) mod cipher;
pub(crate) mod config;
pub(crate) mod kms;
mod metrics;
mod reload;

use choice::{Choice, Identity, Layer, Opening};
use config::Means;
use kms::{KmsMetrics, Plugin, Probing, Refused};
use metrics::{Counted, OfResource as Counts};
use reload::Current;

/// Why a configuration cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Read(#[from] std::io::Error),
    #[error(transparent)]
    File(#[from] component::config::Unplaced),
    #[error("{}", proto::path::aggregate(.0))]
    Invalid(Vec<FieldError>),
    /// What nothing is wrong with and is not used all the same.
    #[error("error while building transformers: {0}")]
    Unused(&'static str),
    #[error("health check for new transformers failed: {0}")]
    Ill(String),
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
struct Rules {
    of: Vec<(GroupResource, Choice)>,
    /// The plugins among the providers.
    plugins: Vec<Plugin>,
    /// The same, once they are asked how they are.
    probing: Vec<Probing>,
}

impl Rules {
    /// The providers of a resource: those of the resource itself, of its group, or of all. None if
    /// nobody names it.
    fn of(&self, group: &str, resource: &str) -> Option<&Choice> {
        let named = |group: &str, resource: &str| {
            let found = self.of.iter().find(|(of, _)| of.is(group, resource));
            found.map(|(_, choice)| choice)
        };
        named(group, resource)
            .or_else(|| named(group, "*"))
            .or_else(|| named("*", "*"))
    }
}

/// The encryption that a server was told to use; cheap to clone.
#[derive(Clone)]
pub struct Encryption {
    current: Arc<Current>,
    counted: Counted,
}

impl Encryption {
    /// Reads the configuration and asks its plugins how they are; those that are not there may come
    /// later. `server` is this server's identity.
    ///
    /// # Errors
    /// If it cannot be read or used. Later, if it is to be read again, the old one stays in use then,
    /// and the failure is logged.
    pub async fn load(
        given: &EncryptionConfig,
        features: &Features,
        tasks: &Supervisor,
        metrics: &Metrics,
        server: &str,
    ) -> Result<Self, Error> {
        let means = Means {
            kms: KmsMetrics::register(metrics, server),
            kms_v1: features.enabled("KMSv1"),
        };
        Ok(Self {
            current: Current::open(given, means, tasks, metrics, server).await?,
            counted: Counted::register(metrics),
        })
    }

    /// What stands between the objects of a resource and etcd; `group` is the one that they are
    /// stored in. Also for resources that the file does not name: a later one may, and what is
    /// encrypted must not be taken for an object.
    #[must_use]
    pub fn of(&self, group: &'static str, resource: &'static str) -> Arc<dyn Transformer> {
        Arc::new(OfResource {
            current: Arc::clone(&self.current),
            counts: self.counted.of(group, resource),
            group,
            resource,
        })
    }

    /// Asks the plugins how they are; the health check tells.
    pub async fn ask(&self) {
        self.current.ask().await;
    }

    /// `/healthz` and `/readyz` tell of plugins, if there are any or may be.
    pub fn checks(&self, health: &Health) {
        if !self.current.may_have_plugins() {
            return;
        }
        let current = Arc::clone(&self.current);
        let Some(count) = current.told_apart() else {
            return health.healthy("kms-providers", move || current.found());
        };
        for i in 0..count {
            let current = Arc::clone(&current);
            health.healthy(&reload::name(i), move || current.found_of(i));
        }
    }
}

struct OfResource {
    current: Arc<Current>,
    counts: Counts,
    group: &'static str,
    resource: &'static str,
}

impl Transformer for OfResource {
    fn open<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
    ) -> BoxFuture<'a, Result<Opened, TransformError>> {
        let rules = self.current.rules();
        let Some(choice) = rules.of(self.group, self.resource) else {
            let opened = Identity.open(key, &value).and_then(Opening::at_once);
            return ready(opened).boxed();
        };
        let started = self.counts.start();
        let (asked, opening) = choice.open_by(key, &value);
        for by in asked.refused.iter().copied() {
            self.counts.opened(Some(by), started, Err(NOT_GRPC));
        }
        match opening {
            Ok(Opening::Open(opened)) => {
                self.counts.opened(asked.opened, started, Ok(()));
                ready(Ok(opened)).boxed()
            }
            Err(refusal) => {
                if asked.refused.is_empty() {
                    self.counts.opened(None, started, Err(NOT_GRPC));
                }
                ready(Err(refusal)).boxed()
            }
            Ok(Opening::Locked(locked)) => {
                let by = asked.opened.cloned();
                let open = async move {
                    let opened = locked.open(key).await;
                    let outcome = opened.as_ref().map(|_| ()).map_err(Refused::code);
                    self.counts.opened(by.as_ref(), started, outcome);
                    opened.map_err(|refused| refused.error)
                };
                open.boxed()
            }
        }
    }

    fn seal<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, TransformError>> {
        let rules = self.current.rules();
        let Some(choice) = rules.of(self.group, self.resource) else {
            return ready(Ok(value)).boxed();
        };
        let (started, mut sealed) = (self.counts.start(), Vec::new());
        if let Some((marked, fresh)) = choice.fresh() {
            let by = marked.clone();
            let seal = async move {
                sealed.extend_from_slice(&by.prefix);
                let done = match fresh.await {
                    Ok(layer) => layer.seal(key, &value, &mut sealed).map_err(Refused::from),
                    Err(refused) => Err(refused),
                };
                let outcome = done.as_ref().copied().map_err(Refused::code);
                self.counts.sealed(Some(&by), started, outcome);
                done.map(|()| Bytes::from(sealed)).map_err(|r| r.error)
            };
            return seal.boxed();
        }
        let done = choice.seal(key, &value, &mut sealed);
        let outcome = done.as_ref().copied().map_err(|_| NOT_GRPC);
        self.counts.sealed(choice.first(), started, outcome);
        ready(done.map(|()| Bytes::from(sealed))).boxed()
    }
}

#[cfg(test)]
mod tests;
