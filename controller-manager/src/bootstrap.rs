//! Tokens with which machines join a cluster: signing what they are told
//! (`bootstrap-signer-controller`), and removing tokens in time (`token-cleaner-controller`).
//!
//! Source: `pkg/controller/bootstrap`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use component::controller::Next;
use component::informer::{Event, Informer, Key, Lister, Selection};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions};
use k8s_openapi::jiff::Timestamp;
use ring::hmac;
use serde_json::json;

use crate::context::Context;
use crate::error::Error;
use crate::update::differ;

const TYPE: &str = "bootstrap.kubernetes.io/token";
const SECRETS: &str = "kube-system";
const PREFIX: &str = "bootstrap-token-";
const INFO: (&str, &str) = ("kube-public", "cluster-info");
const CONFIG: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";

/// The secrets that are tokens.
fn tokens(cx: &Context) -> Informer<Secret> {
    cx.informer_of::<Secret>(Selection {
        namespace: SECRETS.to_owned(),
        fields: format!("type={TYPE}"),
        labels: String::new(),
    })
}

fn data<'s>(secret: &'s Secret, key: &str) -> &'s str {
    let value = secret.data.as_ref().and_then(|d| d.get(key));
    value
        .and_then(|v| std::str::from_utf8(&v.0).ok())
        .unwrap_or_default()
}

/// When a token ends; what is no time ended long ago. None: never.
fn end(secret: &Secret) -> Option<Timestamp> {
    match data(secret, "expiration") {
        "" => None,
        text => Some(text.parse().unwrap_or(Timestamp::UNIX_EPOCH)),
    }
}

/// A token's id and secret, if it may be signed with.
fn signing(secret: &Secret, now: Timestamp) -> Option<(&str, &str)> {
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let (id, value) = (data(secret, "token-id"), data(secret, "token-secret"));
    let named = name.strip_prefix(PREFIX).is_some_and(|n| n == id)
        && id.len() == 6
        && id
            .bytes()
            .all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    let usable = named
        && !value.is_empty()
        && end(secret).is_none_or(|end| end > now)
        && data(secret, "usage-bootstrap-signing") == "true";
    usable.then_some((id, value))
}

/// A detached signature (RFC 7515, appendix F) of the content.
fn sign(content: &str, id: &str, secret: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "kid": id}).to_string());
    let text = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes()));
    format!("{header}..{signature}")
}

/// The map with the signatures of all tokens; none if there is nothing to sign.
fn signed(info: &ConfigMap, secrets: &[Arc<Secret>], now: Timestamp) -> Option<ConfigMap> {
    let mut wanted = info.clone();
    let data: &mut BTreeMap<_, _> = wanted.data.as_mut()?;
    let content = data.get(CONFIG)?.clone();
    data.retain(|key, _| !key.starts_with(SIGNATURE));
    for (id, secret) in secrets.iter().filter_map(|s| signing(s, now)) {
        data.insert(format!("{SIGNATURE}{id}"), sign(&content, id, secret));
    }
    Some(wanted)
}

/// Starts the controller that signs.
///
/// # Errors
/// None.
pub fn start_signer(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("bootstrap_signer_queue");
    let secrets = tokens(cx);
    let infos = cx.informer_of::<ConfigMap>(Selection {
        namespace: INFO.0.to_owned(),
        fields: format!("metadata.name={}", INFO.1),
        labels: String::new(),
    });
    let key = Key::new(INFO.0, INFO.1);
    let (wake, own) = (queue.clone(), key.clone());
    infos.subscribe(move |_, event| {
        if !matches!(event, Event::Deleted(_)) {
            wake.add(own.clone());
        }
    });
    let wake = queue.clone();
    secrets.subscribe(move |_, _| wake.add(key.clone()));
    let (context, infos, secrets) = (cx.clone(), infos.lister(), secrets.lister());
    cx.run(1, &queue, move |key| {
        let (cx, infos, secrets) = (context.clone(), infos.clone(), secrets.clone());
        async move { reconcile_info(&cx, &infos, &secrets, &key).await }
    });
    Ok(())
}

async fn reconcile_info(
    cx: &Context,
    infos: &Lister<ConfigMap>,
    secrets: &Lister<Secret>,
    key: &Key,
) -> Result<Next, Error> {
    let Some(info) = infos.by_key(key) else {
        return Ok(Next::Done);
    };
    let Some(wanted) = signed(&info, &secrets.list(), cx.now()) else {
        return Ok(Next::Done);
    };
    if differ(&*info, &wanted)? {
        let api = cx.client().await?.namespaced::<ConfigMap>(key.namespace());
        match api.replace(&wanted).await {
            // Its change wakes this again.
            Err(e) if !e.is_conflict() && !e.is_not_found() => return Err(e.into()),
            _ => {}
        }
    }
    Ok(Next::Done)
}

/// Starts the controller that removes tokens whose time is over.
///
/// # Errors
/// None.
pub fn start_cleaner(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("token_cleaner");
    let secrets = tokens(cx);
    let wake = queue.clone();
    secrets.subscribe(move |key, event| {
        if !matches!(event, Event::Deleted(_)) {
            wake.add(key.clone());
        }
    });
    let (context, secrets) = (cx.clone(), secrets.lister());
    cx.run(1, &queue, move |key| {
        let (cx, secrets) = (context.clone(), secrets.clone());
        async move {
            let secret = secrets.by_key(&key);
            let Some((secret, end)) = secret.and_then(|s| end(&s).map(|end| (s, end))) else {
                return Ok(Next::Done);
            };
            match Duration::try_from(end.duration_since(cx.now())) {
                Ok(left) if !left.is_zero() => Ok(Next::After(left)),
                _ => remove(&cx, &secret).await,
            }
        }
    });
    Ok(())
}

async fn remove(cx: &Context, secret: &Secret) -> Result<Next, Error> {
    let options = DeleteOptions {
        preconditions: Some(Preconditions {
            uid: secret.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteOptions::default()
    };
    let api = cx.client().await?.namespaced::<Secret>(SECRETS);
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    match api.delete(name, &options).await {
        Err(e) if !e.is_conflict() && !e.is_not_found() => Err(e.into()),
        _ => Ok(Next::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    fn token(id: &str, fields: &[(&str, &str)]) -> Arc<Secret> {
        let mut secret = Secret::default();
        secret.metadata.name = Some(format!("{PREFIX}{id}"));
        let all = [
            ("token-id", id),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-signing", "true"),
        ];
        let all = all.iter().chain(fields);
        secret.data = Some(
            all.map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec())))
                .collect(),
        );
        Arc::new(secret)
    }

    #[test]
    fn the_map_has_the_signatures_of_the_tokens_that_are_good() {
        let info: ConfigMap = proto::typed::from_json_value(json!({
            "metadata": {"name": "cluster-info"}, "data": {"kubeconfig": "content", "jws-kubeconfig-gone00": "old"}
        }))
        .unwrap();
        let secrets = [
            token("abcdef", &[]),
            token("ended0", &[("expiration", "2020-01-01T00:00:00Z")]),
            token("other0", &[("usage-bootstrap-signing", "false")]),
        ];
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let wanted = signed(&info, &secrets, now).unwrap();
        let data = wanted.data.as_ref().unwrap();
        assert_eq!(data.len(), 2);
        assert!(
            data["jws-kubeconfig-abcdef"].starts_with("eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..")
        );
        assert_eq!(signed(&wanted, &secrets, now), Some(wanted.clone()));
    }

    #[test]
    fn a_time_that_cannot_be_read_is_over() {
        assert_eq!(
            end(&token("abcdef", &[("expiration", "soon")])),
            Some(Timestamp::UNIX_EPOCH)
        );
        assert_eq!(end(&token("abcdef", &[])), None);
    }
}
