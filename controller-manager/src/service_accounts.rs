//! The account `default` in every namespace (`serviceaccount-controller`).
//!
//! Source: `pkg/controller/serviceaccount/serviceaccounts_controller.go`.

use std::sync::Arc;

use component::controller::Next;
use component::informer::{Event, Key, Lister};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::context::Context;
use crate::error::Error;

const ACCOUNT: &str = "default";

struct Accounts {
    cx: Context,
    accounts: Lister<ServiceAccount>,
    namespaces: Lister<Namespace>,
}

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("serviceaccount");
    let (accounts, namespaces) = (cx.informer::<ServiceAccount>(), cx.informer::<Namespace>());
    let this = Arc::new(Accounts {
        cx: cx.clone(),
        accounts: accounts.lister(),
        namespaces: namespaces.lister(),
    });
    let wake = queue.clone();
    accounts.subscribe(move |key, event| {
        if matches!(event, Event::Deleted(_)) {
            wake.add(Key::new("", key.namespace()));
        }
    });
    let wake = queue.clone();
    namespaces.subscribe(move |key, event| {
        if !matches!(event, Event::Deleted(_)) {
            wake.add(key.clone());
        }
    });
    cx.run(1, &queue, move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    });
    Ok(())
}

/// Whether objects can be created in a namespace.
#[must_use]
pub fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|s| s.phase.as_deref());
    phase == Some("Active")
}

impl Accounts {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let namespace = self.namespaces.by_key(key);
        let there = self.accounts.get(key.name(), ACCOUNT).is_some();
        if there || !namespace.is_some_and(|n| is_active(&n)) {
            return Ok(Next::Done);
        }
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(ACCOUNT.to_owned()),
                namespace: Some(key.name().to_owned()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        let api = self
            .cx
            .client()
            .await?
            .namespaced::<ServiceAccount>(key.name());
        match api.create(&account).await {
            Err(e) if !e.is_already_exists() && !e.is_namespace_terminating() => Err(e.into()),
            _ => Ok(Next::Done),
        }
    }
}
