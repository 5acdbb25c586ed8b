//! The issuer of the cluster's tokens: its keys are in files, or a plugin has them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use component::Supervisor;
use component::metrics::Metrics;
use serde_json::json;

use super::external::External;
use super::keys::{Signer, VerifyingKey, jwk, read_public_keys, read_signer, verifying};
use super::{Claims, Invalid, LEEWAY, legacy};
use crate::config::tokens::{Signing, Tokens};

/// How long others may believe keys in files; upstream's figure.
const KEYS_STAY: Duration = Duration::from_secs(3600);

/// Who a token says has signed it, unverified.
fn issuer_of(token: &str) -> Option<String> {
    let claims = token.split('.').nth(1)?;
    let json = URL_SAFE_NO_PAD.decode(claims).ok()?;
    Some(serde_json::from_slice::<Claims>(&json).ok()?.iss)
}

/// The header of a token, unverified.
fn header_of(token: &str) -> Option<serde_json::Value> {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
    serde_json::from_slice(&header).ok()
}

/// Signs and verifies the cluster's tokens.
pub struct Issuer {
    keys: Keys,
    config: Tokens,
}

enum Keys {
    Files {
        signer: Signer,
        /// The first is the signer's.
        verify: Arc<[VerifyingKey]>,
    },
    Plugin(Arc<External>),
}

impl Issuer {
    /// Reads the keys, or asks the plugin for them, which must be there.
    ///
    /// # Errors
    /// If there are none, or the plugin does not fit what the flags say.
    pub async fn open(
        config: &Tokens,
        tasks: &Supervisor,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let issuer = match &config.signing {
            Signing::Key(path) => Self::with_key(config, path)?,
            Signing::Plugin(socket) => {
                let (plugin, longest) = External::open(socket, tasks, metrics).await?;
                Self {
                    keys: Keys::Plugin(plugin),
                    config: config.clone().bounded(longest)?,
                }
            }
        };
        issuer.config.warn();
        Ok(issuer)
    }

    /// Signs with the key of a file.
    ///
    /// # Errors
    /// If it or another key cannot be read.
    pub fn with_key(config: &Tokens, path: &Path) -> anyhow::Result<Self> {
        let (signer, spki) = read_signer(path)?;
        let mut verify = vec![verifying(&spki)?];
        for path in &config.key_files {
            for spki in read_public_keys(path)? {
                let key = verifying(&spki)?;
                if !verify.iter().any(|k| k.id == key.id) {
                    verify.push(key);
                }
            }
        }
        Ok(Self {
            keys: Keys::Files {
                signer,
                verify: verify.into(),
            },
            config: config.clone(),
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
    ///
    /// # Errors
    /// Why it is not signed.
    pub async fn sign(&self, claims: &Claims) -> Result<String, String> {
        let encode = |v: &serde_json::Value| URL_SAFE_NO_PAD.encode(v.to_string());
        let claims = serde_json::to_value(claims).map_err(|e| e.to_string())?;
        let claims = encode(&claims);
        match &self.keys {
            Keys::Plugin(plugin) => plugin.sign(&claims).await,
            Keys::Files { signer, verify } => {
                let id = verify.first().map_or("", |key| key.id.as_str());
                let header = json!({"alg": signer.algorithm(), "kid": id});
                let text = format!("{}.{claims}", encode(&header));
                let signature = URL_SAFE_NO_PAD.encode(signer.sign(text.as_bytes())?);
                Ok(format!("{text}.{signature}"))
            }
        }
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

    /// Asks the plugin for its keys, if there is one and it may have another since: before a token is
    /// verified.
    pub async fn learn(&self, token: &str) {
        let Keys::Plugin(plugin) = &self.keys else {
            return;
        };
        let header = header_of(token);
        let id = header.as_ref().and_then(|h| h["kid"].as_str());
        plugin.learn(id.unwrap_or_default()).await;
    }

    /// The keys that verify.
    fn keys(&self) -> Arc<[VerifyingKey]> {
        match &self.keys {
            Keys::Files { verify, .. } => Arc::clone(verify),
            Keys::Plugin(plugin) => plugin.keys(),
        }
    }

    /// How long others may believe the published keys.
    #[must_use]
    pub fn keys_stay(&self) -> Duration {
        match &self.keys {
            Keys::Files { .. } => KEYS_STAY,
            Keys::Plugin(plugin) => plugin.keys_stay(),
        }
    }

    /// The claims of a token whose signature is right, as JSON.
    fn signed(&self, token: &str) -> Result<Vec<u8>, Invalid> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Invalid::Malformed)?;
        let (_, body) = signed.split_once('.').ok_or(Invalid::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Invalid::Malformed);
        let header = header_of(signed).ok_or(Invalid::Malformed)?;
        // What must be understood is not (RFC 7515, 4.1.11).
        if header.get("crit").is_some() {
            return Err(Invalid::Signature);
        }
        let (algorithm, id) = (
            header["alg"].as_str().unwrap_or_default(),
            header["kid"].as_str(),
        );
        let signature = decode(signature)?;
        let keys = self.keys();
        let mut candidates = keys
            .iter()
            .filter(|k| k.algorithm == algorithm && id.is_none_or(|id| id == k.id));
        if !candidates.any(|k| k.verifies(signed.as_bytes(), &signature)) {
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
    ///
    /// # Errors
    /// Why it is not good.
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
    ///
    /// # Errors
    /// Why it is not good.
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
        let keys = self.keys();
        let told = keys.iter().filter(|key| !key.hidden);
        let keys: Vec<serde_json::Value> = told.filter_map(jwk).collect();
        json!({ "keys": keys })
    }
}
