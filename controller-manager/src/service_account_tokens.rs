//! Secrets with tokens of service accounts (`serviceaccount-token-controller`): filled when people make
//! them, removed with their account.
//!
//! Source: `pkg/controller/serviceaccount/tokens_controller.go`.

use std::fmt;
use std::sync::Arc;

use anyhow::Context as _;
use component::client::Client;
use component::controller::Next;
use component::informer::{Event, Index, Key, Lister};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions};

use crate::context::Context;
use crate::error::Error;
use crate::keys::{Form, SigningKey};
use crate::root_ca;
use crate::update::update;

mod token;

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// What the queue holds.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Work {
    /// An account came or went.
    Account(Key),
    Secret(Key),
    /// A secret went that an account may refer to.
    Gone {
        secret: Key,
        account: String,
    },
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(key) | Self::Secret(key) | Self::Gone { secret: key, .. } => key.fmt(f),
        }
    }
}

struct Tokens {
    client: Client,
    accounts: Lister<ServiceAccount>,
    secrets: Lister<Secret>,
    by_account: Index,
    key: SigningKey,
    authority: String,
}

/// Starts the controller, if there is a key to sign with.
///
/// # Errors
/// If key or authority cannot be used.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let config = cx.config().service_account.clone();
    let path = &config.service_account_key_file;
    if path.is_empty() {
        tracing::info!("No key to sign tokens with, secrets of service accounts are not filled");
        return Ok(());
    }
    let text = std::fs::read(path).with_context(|| format!("cannot read {path}"))?;
    let key = SigningKey::read(&text, Form::Fixed).with_context(|| path.clone())?;
    let queue = cx.queue::<Work>("serviceaccount_tokens_service");
    let (accounts, secrets) = (cx.informer::<ServiceAccount>(), cx.informer::<Secret>());
    let by_account = secrets.index("service account", |secret| {
        let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
        let account = account(secret).map(|name| Key::new(namespace, name).as_str().to_owned());
        account.into_iter().collect()
    });
    let this = Arc::new(Tokens {
        client: cx.root_client().clone(),
        accounts: accounts.lister(),
        secrets: secrets.lister(),
        by_account,
        key,
        authority: root_ca::authority(cx)?,
    });
    let wake = queue.clone();
    accounts.subscribe(move |key, event| match event {
        Event::Updated { old, new } if old.metadata.uid == new.metadata.uid => {}
        _ => wake.add(Work::Account(key.clone())),
    });
    let wake = queue.clone();
    secrets.subscribe(move |key, event| match (event, account(event.object())) {
        (_, None) => {}
        (Event::Deleted(_), Some(account)) => wake.add(Work::Gone {
            secret: key.clone(),
            account: account.to_owned(),
        }),
        _ => wake.add(Work::Secret(key.clone())),
    });
    cx.run(config.concurrent_sa_token_syncs, &queue, move |work| {
        let this = Arc::clone(&this);
        async move {
            match work {
                Work::Account(key) => this.account(&key).await,
                Work::Secret(key) => this.secret(&key).await,
                Work::Gone { secret, account } => this.unlink(&secret, &account).await,
            }
        }
    });
    Ok(())
}

/// The account that a secret is for, if it is one for tokens.
fn account(secret: &Secret) -> Option<&str> {
    if secret.type_.as_deref() != Some(TYPE) {
        return None;
    }
    let name = secret.metadata.annotations.as_ref()?.get(ACCOUNT_NAME)?;
    (!name.is_empty()).then_some(name)
}

/// Whether a secret means this very account.
fn is_for(secret: &Secret, account: &ServiceAccount) -> bool {
    let annotations = secret.metadata.annotations.as_ref();
    let uid = annotations
        .and_then(|a| a.get(ACCOUNT_UID))
        .filter(|u| !u.is_empty());
    uid.is_none_or(|uid| Some(uid) == account.metadata.uid.as_ref())
}

impl Tokens {
    /// An account changed: its secrets are looked at.
    async fn account(&self, key: &Key) -> Result<Next, Error> {
        let mut results = Vec::new();
        for secret in self.secrets.indexed(self.by_account, key.as_str()) {
            results.push(self.look(&secret).await);
        }
        Error::all(results).map(|_| Next::Done)
    }

    async fn secret(&self, key: &Key) -> Result<Next, Error> {
        match self.secrets.by_key(key).filter(|s| account(s).is_some()) {
            Some(secret) => self.look(&secret).await,
            None => Ok(Next::Done),
        }
    }

    async fn look(&self, secret: &Secret) -> Result<Next, Error> {
        let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
        let name = account(secret).unwrap_or_default();
        let cached = self
            .accounts
            .get(namespace, name)
            .filter(|a| is_for(secret, a));
        if let Some(account) = cached {
            return self.fill(secret, &account).await;
        }
        // The cache may not have it yet: only the server knows that there is no account.
        let live = self.client.namespaced::<ServiceAccount>(namespace);
        match live.find(name).await?.filter(|a| is_for(secret, a)) {
            Some(account) => self.fill(secret, &account).await,
            None => self.remove(secret).await,
        }
    }

    async fn fill(&self, secret: &Secret, account: &ServiceAccount) -> Result<Next, Error> {
        let wanted = filled(secret, account, &self.authority, || {
            token::token(&self.key, account, secret)
        });
        let wanted = wanted.map_err(|e| Error::Unusable(e.to_string()))?;
        let Some(wanted) = wanted else {
            return Ok(Next::Done);
        };
        let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
        let api = self.client.namespaced::<Secret>(namespace);
        match update(&api, "", secret, &wanted).await {
            // Its change wakes this again.
            Err(e) if !e.is_conflict() && !e.is_not_found() => Err(e.into()),
            _ => Ok(Next::Done),
        }
    }

    async fn remove(&self, secret: &Secret) -> Result<Next, Error> {
        let options = DeleteOptions {
            preconditions: Some(Preconditions {
                uid: secret.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteOptions::default()
        };
        let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        let api = self.client.namespaced::<Secret>(namespace);
        match api.delete(name, &options).await {
            Err(e) if !e.is_not_found() && !e.is_conflict() => Err(e.into()),
            _ => Ok(Next::Done),
        }
    }

    /// Takes the reference to a secret out of its account.
    async fn unlink(&self, secret: &Key, account: &str) -> Result<Next, Error> {
        let refers = |account: &ServiceAccount| {
            let secrets = account.secrets.as_deref().unwrap_or_default();
            secrets
                .iter()
                .any(|s| s.name.as_deref() == Some(secret.name()))
        };
        let cached = self.accounts.get(secret.namespace(), account);
        if !cached.is_some_and(|a| refers(&a)) || self.secrets.by_key(secret).is_some() {
            return Ok(Next::Done);
        }
        let api = self.client.namespaced::<ServiceAccount>(secret.namespace());
        let Some(live) = api.find(account).await?.filter(refers) else {
            return Ok(Next::Done);
        };
        let mut next = live.clone();
        if let Some(secrets) = &mut next.secrets {
            secrets.retain(|s| s.name.as_deref() != Some(secret.name()));
        }
        match update(&api, "", &live, &next).await {
            Err(e) if e.is_not_found() => Ok(Next::Done),
            done => Ok(done.map(|_| Next::Done)?),
        }
    }
}

/// The secret with all that belongs into it; none if it is there.
fn filled<E>(
    secret: &Secret,
    account: &ServiceAccount,
    authority: &str,
    token: impl FnOnce() -> Result<String, E>,
) -> Result<Option<Secret>, E> {
    let has = |key: &str| secret.data.as_ref().and_then(|d| d.get(key));
    let empty = |key: &str| has(key).is_none_or(|v| v.0.is_empty());
    let needs_authority =
        !authority.is_empty() && has("ca.crt").is_none_or(|v| v.0 != authority.as_bytes());
    if !needs_authority && !empty("namespace") && !empty("token") {
        return Ok(None);
    }
    let mut next = secret.clone();
    let data = next.data.get_or_insert_default();
    let mut put = |key: &str, value: &str| {
        data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec()));
    };
    if needs_authority {
        put("ca.crt", authority);
    }
    if empty("namespace") {
        put(
            "namespace",
            secret.metadata.namespace.as_deref().unwrap_or_default(),
        );
    }
    if empty("token") {
        put("token", &token()?);
    }
    let annotations = next.metadata.annotations.get_or_insert_default();
    let name = account.metadata.name.clone().unwrap_or_default();
    annotations.insert(ACCOUNT_NAME.to_owned(), name);
    let uid = account.metadata.uid.clone().unwrap_or_default();
    annotations.insert(ACCOUNT_UID.to_owned(), uid);
    Ok(Some(next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_secret_gets_what_it_lacks_and_keeps_what_it_has() {
        let account: ServiceAccount =
            proto::typed::from_json_value(json!({"metadata": {"name": "a", "uid": "u"}})).unwrap();
        let secret: Secret = proto::typed::from_json_value(json!({
            "metadata": {"name": "s", "namespace": "ns", "annotations": {ACCOUNT_NAME: "a"}}, "type": TYPE
        }))
        .unwrap();
        assert_eq!(super::account(&secret), Some("a"));
        let made = |secret: &Secret| {
            filled(secret, &account, "pem", || Ok::<_, ()>("t".to_owned())).unwrap()
        };
        let full = made(&secret).unwrap();
        let data = full.data.clone().unwrap();
        assert_eq!(data["token"].0, b"t");
        assert_eq!(data["namespace"].0, b"ns");
        assert_eq!(data["ca.crt"].0, b"pem");
        assert_eq!(
            full.metadata.annotations.as_ref().unwrap()[ACCOUNT_UID],
            "u"
        );
        assert_eq!(made(&full), None);
        assert!(is_for(&full, &account));
        let other: ServiceAccount =
            proto::typed::from_json_value(json!({"metadata": {"name": "a", "uid": "v"}})).unwrap();
        assert!(!is_for(&full, &other) && is_for(&secret, &other));
    }
}
