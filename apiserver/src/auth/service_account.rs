//! Tokens of service accounts: signing them, and telling whose they are.
//!
//! A token is a JWT signed with the cluster's key. Beside its time it is bound to its account and often
//! to a pod, a node or a secret: it is good only while those exist with the same UID, which is looked
//! up in the caches at every use. A plugin may have the key instead ([`external`]). Tokens of the old kind
//! are in [`legacy`]. Upstream:
//! `pkg/serviceaccount` (`claims.go`, `jwt.go`).

use std::time::{SystemTime, UNIX_EPOCH};

use component::serving::User;
use proto::{Value, meta};
use serde::{Deserialize, Serialize};

pub use self::issuer::Issuer;
pub(crate) use self::keys::pem_blocks;
use crate::server::Server;

mod external;
mod issuer;
pub(crate) mod keys;
pub mod legacy;

pub const USER_PREFIX: &str = "system:serviceaccount:";
const ALL: &str = "system:serviceaccounts";
/// In the extras of a user: the node of the pod that its token is bound to.
pub const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// Tokens asked for a little over an hour are the ones that upstream's admission projects into pods.
pub const PROJECTED_SECONDS: i64 = 3607;
/// How far clocks may differ; upstream's leeway is a minute.
const LEEWAY: i64 = 60;

/// A reference to what a token is bound to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    pub name: String,
    pub uid: String,
}

/// The claim `kubernetes.io`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Private {
    #[serde(default)]
    pub namespace: String,
    #[serde(default)]
    pub serviceaccount: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// What a token says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    #[serde(default)]
    pub iss: String,
    #[serde(default)]
    pub sub: String,
    #[serde(default, deserialize_with = "audiences")]
    pub aud: Vec<String>,
    #[serde(default)]
    pub exp: i64,
    #[serde(default)]
    pub nbf: i64,
    #[serde(default)]
    pub iat: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    #[serde(rename = "kubernetes.io", default)]
    pub private: Private,
}

/// One audience may stand without a list.
fn audiences<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(d)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Why a token does not tell who somebody is.
#[derive(thiserror::Error, Debug, PartialEq)]
pub enum Invalid {
    #[error("the token is malformed")]
    Malformed,
    #[error("no key verifies the token's signature")]
    Signature,
    #[error("service account token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("token audiences {given:?} is invalid for the target audiences {wanted:?}")]
    Audience {
        given: Vec<String>,
        wanted: Vec<String>,
    },
    #[error("service account token has been invalidated: {0}")]
    Revoked(String),
    #[error("{0} claim is missing")]
    Missing(&'static str),
    #[error(
        "the token in secret {secret} for service account {account} has been marked invalid. Use tokens from the \
         TokenRequest API or manually created secret-based tokens, or remove the '{label}' label from the secret to \
         temporarily allow use of this token"
    )]
    Marked {
        secret: String,
        account: String,
        label: &'static str,
    },
    #[error("the objects that the token is bound to cannot be read: {0}")]
    Unreadable(String),
}

/// The user of verified claims, if everything that the token is bound to is still there.
pub async fn user(server: &Server, claims: &Claims) -> Result<User, Invalid> {
    let private = &claims.private;
    let namespace = private.namespace.as_str();
    let account = bound(
        server,
        "serviceaccounts",
        namespace,
        &private.serviceaccount,
    )
    .await?;
    if account.is_none() {
        return Err(Invalid::Revoked(
            "the service account does not exist".into(),
        ));
    }
    let mut extra = std::collections::BTreeMap::new();
    let mut add = |key: &str, value: String| {
        extra.insert(key.to_owned(), vec![value]);
    };
    if let Some(secret) = &private.secret
        && bound(server, "secrets", namespace, secret).await?.is_none()
    {
        return Err(Invalid::Revoked("the secret does not exist".into()));
    }
    if let Some(pod) = &private.pod {
        if bound(server, "pods", namespace, pod).await?.is_none() {
            return Err(Invalid::Revoked("the pod does not exist".into()));
        }
        add("authentication.kubernetes.io/pod-name", pod.name.clone());
        add("authentication.kubernetes.io/pod-uid", pod.uid.clone());
    }
    if let Some(node) = &private.node {
        // A token of a pod outlives its node's object; one bound to the node alone does not.
        if private.pod.is_none() && bound(server, "nodes", "", node).await?.is_none() {
            return Err(Invalid::Revoked("the node does not exist".into()));
        }
        add(NODE_NAME, node.name.clone());
        add("authentication.kubernetes.io/node-uid", node.uid.clone());
    }
    if !claims.jti.is_empty() {
        add(
            "authentication.kubernetes.io/credential-id",
            format!("JTI={}", claims.jti),
        );
    }
    let account = &private.serviceaccount;
    Ok(User {
        extra,
        ..of_account(namespace, &account.name, &account.uid)
    })
}

/// What is recorded of the use of a token that its pod should have replaced.
#[must_use]
pub fn stale(claims: &Claims, now: i64) -> Option<(&'static str, String)> {
    let after = claims.private.warnafter.filter(|after| *after != 0)?;
    let late = now.saturating_sub(after);
    let text = format!(
        "subject: {}, seconds after warning threshold: {late}",
        claims.sub
    );
    (late > 0).then_some(("authentication.k8s.io/stale-token", text))
}

/// A service account as a user.
pub(crate) fn of_account(namespace: &str, name: &str, uid: &str) -> User {
    User {
        name: format!("{USER_PREFIX}{namespace}:{name}"),
        uid: uid.to_owned(),
        groups: groups(namespace),
        ..User::default()
    }
}

/// The groups of a namespace's service accounts.
#[must_use]
pub fn groups(namespace: &str) -> Vec<String> {
    vec![ALL.into(), format!("{ALL}:{namespace}")]
}

/// Namespace and name of a user that is called as service accounts are.
#[must_use]
pub fn named(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix(USER_PREFIX)?.split_once(':')
}

/// The object that a token is bound to, if it is there with the same UID and, when it is being
/// deleted, not for longer than clocks may differ.
async fn bound(
    server: &Server,
    resource: &str,
    namespace: &str,
    to: &Reference,
) -> Result<Option<Value>, Invalid> {
    let object = server
        .lookup("", resource, namespace, &to.name)
        .await
        .map_err(|f| Invalid::Unreadable(f.message().to_owned()))?;
    let Some(object) = object else {
        return Ok(None);
    };
    if meta::uid(&object) != to.uid {
        return Ok(None);
    }
    let deleted = meta::deletion_timestamp(&object).and_then(proto::time::unix_of);
    Ok(match deleted {
        Some((at, _)) if at + LEEWAY < now() => None,
        _ => Some(object),
    })
}

#[cfg(test)]
mod tests;
