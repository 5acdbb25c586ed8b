//! Tokens of service accounts: signing them, and telling whose they are.
//!
//! A token is a JWT signed with the cluster's key. Beside its time it is bound to its account and often
//! to a pod, a node or a secret: it is good only while those exist with the same UID, which is looked
//! up in the caches at every use. Tokens of the old kind are in [`legacy`]. Upstream:
//! `pkg/serviceaccount` (`claims.go`, `jwt.go`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use component::serving::User;
use proto::{Value, meta};
use ring::rand::SystemRandom;
use ring::signature::RSA_PKCS1_SHA256;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub(crate) use self::keys::pem_blocks;
use self::keys::{Signer, VerifyingKey, jwk, key_id, read_public_keys, read_signer, verifying};
use crate::config::Tokens;
use crate::server::Server;

mod keys;
pub mod legacy;

pub const USER_PREFIX: &str = "system:serviceaccount:";
const ALL: &str = "system:serviceaccounts";
/// In the extras of a user: the node of the pod that its token is bound to.
pub const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// Old clients that never read their token again get a year (`--service-account-extend-token-expiration`).
pub const EXTENDED: Duration = Duration::from_secs(365 * 24 * 3600);
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

/// Who a token says has signed it, unverified.
fn issuer_of(token: &str) -> Option<String> {
    let claims = token.split('.').nth(1)?;
    let json = URL_SAFE_NO_PAD.decode(claims).ok()?;
    Some(serde_json::from_slice::<Claims>(&json).ok()?.iss)
}

/// Signs and verifies the cluster's tokens.
pub struct Issuer {
    signer: Signer,
    id: String,
    keys: Vec<VerifyingKey>,
    config: Tokens,
    random: SystemRandom,
}

impl Issuer {
    /// Reads the keys.
    pub fn new(config: &Tokens) -> anyhow::Result<Self> {
        let path = config
            .signing_key_file
            .as_deref()
            .context("--service-account-signing-key-file is required")?;
        let (signer, spki) = read_signer(path)?;
        let mut keys = vec![verifying(&spki)?];
        for path in &config.key_files {
            for spki in read_public_keys(path)? {
                let key = verifying(&spki)?;
                if !keys.iter().any(|k| k.id == key.id) {
                    keys.push(key);
                }
            }
        }
        Ok(Self {
            signer,
            id: key_id(&spki),
            keys,
            config: config.clone(),
            random: SystemRandom::new(),
        })
    }

    /// The first issuer, which signs.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.config.issuers[0]
    }

    #[must_use]
    pub fn audiences(&self) -> &[String] {
        &self.config.audiences
    }

    #[must_use]
    pub fn config(&self) -> &Tokens {
        &self.config
    }

    /// The signed token of these claims.
    pub fn sign(&self, claims: &Claims) -> Result<String, String> {
        let algorithm = match &self.signer {
            Signer::Rsa(_) => "RS256",
            Signer::Ecdsa(_, algorithm) => algorithm,
        };
        let header = json!({"alg": algorithm, "kid": self.id});
        let encode = |v: &serde_json::Value| URL_SAFE_NO_PAD.encode(v.to_string());
        let claims = serde_json::to_value(claims).map_err(|e| e.to_string())?;
        let text = format!("{}.{}", encode(&header), encode(&claims));
        let signature = match &self.signer {
            Signer::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(
                    &RSA_PKCS1_SHA256,
                    &self.random,
                    text.as_bytes(),
                    &mut signature,
                )
                .map_err(|e| e.to_string())?;
                signature
            }
            Signer::Ecdsa(key, _) => key
                .sign(&self.random, text.as_bytes())
                .map_err(|e| e.to_string())?
                .as_ref()
                .to_vec(),
        };
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Whether a bearer token claims to be one of ours: only then a wrong one is an error.
    #[must_use]
    pub fn is_ours(&self, token: &str) -> bool {
        issuer_of(token)
            .is_some_and(|issuer| self.config.issuers.contains(&issuer) || issuer == legacy::ISSUER)
    }

    /// Whether a token says that it is one of those in secrets.
    #[must_use]
    pub fn is_legacy(&self, token: &str) -> bool {
        issuer_of(token).as_deref() == Some(legacy::ISSUER)
    }

    /// The claims of a token whose signature is right, as JSON.
    fn signed(&self, token: &str) -> Result<Vec<u8>, Invalid> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Invalid::Malformed)?;
        let (header, body) = signed.split_once('.').ok_or(Invalid::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Invalid::Malformed);
        let header: serde_json::Value =
            serde_json::from_slice(&decode(header)?).map_err(|_| Invalid::Malformed)?;
        let (algorithm, id) = (
            header["alg"].as_str().unwrap_or_default(),
            header["kid"].as_str(),
        );
        let signature = decode(signature)?;
        let mut candidates = self
            .keys
            .iter()
            .filter(|k| k.algorithm == algorithm && id.is_none_or(|id| id == k.id));
        if !candidates.any(|k| k.key.verify(signed.as_bytes(), &signature).is_ok()) {
            return Err(Invalid::Signature);
        }
        decode(body)
    }

    /// What a token is for of what is wanted.
    fn shared(&self, given: Vec<String>, wanted: &[String]) -> Result<Vec<String>, Invalid> {
        let shared: Vec<String> = given
            .iter()
            .filter(|a| wanted.contains(a))
            .cloned()
            .collect();
        if shared.is_empty() {
            let wanted = wanted.to_vec();
            return Err(Invalid::Audience { given, wanted });
        }
        Ok(shared)
    }

    /// The claims of a token in a secret, which is for this server, and the audiences that it shares
    /// with those wanted.
    pub fn verify_legacy(
        &self,
        token: &str,
        wanted: &[String],
    ) -> Result<(legacy::Claims, Vec<String>), Invalid> {
        let json = self.signed(token)?;
        let claims: legacy::Claims =
            serde_json::from_slice(&json).map_err(|_| Invalid::Malformed)?;
        if claims.iss != legacy::ISSUER {
            return Err(Invalid::Signature);
        }
        let given = if claims.aud.is_empty() {
            self.config.audiences.clone()
        } else {
            claims.aud.clone()
        };
        Ok((claims, self.shared(given, wanted)?))
    }

    /// The claims of a token whose signature and times are right and which is for one of `wanted`;
    /// the audiences that it shares with them come back as well.
    pub fn verify(
        &self,
        token: &str,
        wanted: &[String],
        now: i64,
    ) -> Result<(Claims, Vec<String>), Invalid> {
        let json = self.signed(token)?;
        let claims: Claims = serde_json::from_slice(&json).map_err(|_| Invalid::Malformed)?;
        if !self.config.issuers.contains(&claims.iss) {
            return Err(Invalid::Signature);
        }
        if claims.exp.saturating_add(LEEWAY) < now {
            return Err(Invalid::Expired);
        }
        if claims.nbf.saturating_sub(LEEWAY) > now {
            return Err(Invalid::NotYet);
        }
        let shared = self.shared(claims.aud.clone(), wanted)?;
        Ok((claims, shared))
    }

    /// The published keys, as a JSON Web Key Set.
    #[must_use]
    pub fn key_set(&self) -> serde_json::Value {
        let keys: Vec<serde_json::Value> = self.keys.iter().filter_map(jwk).collect();
        json!({ "keys": keys })
    }
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

/// A service account as a user.
fn of_account(namespace: &str, name: &str, uid: &str) -> User {
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
