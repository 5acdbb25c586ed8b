//! Claims that a token only refers to (OpenID Connect Core 1.0, section 5.6.2): groups that are too
//! many for a token lie at an address that it names.
//!
//! Only the claim of the groups is looked up, as upstream does, and only if the token does not have
//! it. What comes is a token itself, of the same audiences, verified by the keys of who issued that.
//! Aggregated claims are not supported, upstream's neither.

use std::collections::HashMap;
use std::sync::Arc;

use component::recent::Recent;
use parking_lot::Mutex;
use serde::Deserialize;

use super::claims::{self, Claims};
use super::config::JwtSettings;
use super::provider::{Provider, Web};
use super::verify;

/// Issuers of such tokens whose keys are kept.
const ISSUERS: usize = 16;

#[derive(Deserialize)]
struct Source {
    #[serde(default)]
    endpoint: String,
    #[serde(default)]
    access_token: String,
}

/// Where such claims come from.
pub(super) struct Sources {
    web: Web,
    providers: Mutex<Recent<String, Arc<Provider>>>,
}

impl Sources {
    pub(super) fn new(web: Web) -> Self {
        Self {
            web,
            providers: Mutex::new(Recent::new(ISSUERS)),
        }
    }

    /// Puts the claim into the claims, if they refer to it.
    pub(super) async fn expand(
        &self,
        claims: &mut Claims,
        claim: &str,
        settings: &JwtSettings,
    ) -> Result<(), String> {
        let Some(source) = source(claims, claim)? else {
            return Ok(());
        };
        let token = Some(source.access_token.as_str()).filter(|t| !t.is_empty());
        let got = self.web.get(&source.endpoint, token).await;
        let (_, body) =
            got.map_err(|e| format!("while getting distributed claim {claim:?}: {e}"))?;
        let text = std::str::from_utf8(&body).map_err(|_| "the claim's token is no text")?;
        let token = text.trim();
        let issuer = claims::unverified_issuer(token)
            .filter(|issuer| !issuer.is_empty())
            .ok_or("the claim's token does not say who issued it")?;
        let provider = self.provider(&issuer);
        let found = verify(token, &provider, settings, &issuer).await;
        let found = found.map_err(|why| format!("verify distributed claim token: {why}"))?;
        let value = found.0.get(claim).cloned().ok_or_else(|| {
            let at = &source.endpoint;
            format!(
                "jwt returned by distributed claim endpoint {at:?} did not contain claim: {claim}"
            )
        })?;
        claims.0.insert(claim.to_owned(), value);
        Ok(())
    }

    fn provider(&self, issuer: &str) -> Arc<Provider> {
        let new = || Arc::new(Provider::new(issuer, None, self.web.clone(), None));
        Arc::clone(self.providers.lock().entry(&issuer.to_owned(), new))
    }
}

/// Where a claim is to be looked up; nowhere if it is there, or not referred to.
fn source(claims: &Claims, claim: &str) -> Result<Option<Source>, String> {
    if claims.0.contains_key(claim) {
        return Ok(None);
    }
    let Some(names) = claims.0.get("_claim_names") else {
        return Ok(None);
    };
    let names: HashMap<String, String> = serde_json::from_value(names.clone())
        .map_err(|e| format!("error parsing distributed claim names: {e}"))?;
    let sources = claims.0.get("_claim_sources").ok_or("no claim sources")?;
    let mut sources: HashMap<String, Source> = serde_json::from_value(sources.clone())
        .map_err(|e| format!("could not parse claim sources: {e}"))?;
    let Some(name) = names.get(claim) else {
        return Ok(None);
    };
    let source = sources.remove(name).ok_or_else(|| {
        format!("id token _claim_names contained a source {name} missing in _claims_sources")
    })?;
    // Without an address it may be an aggregated claim.
    Ok(Some(source).filter(|s| !s.endpoint.is_empty()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn endpoint(claims: Value) -> Result<Option<String>, String> {
        let Value::Object(claims) = claims else {
            unreachable!("the tests' claims are objects")
        };
        source(&Claims(claims), "groups").map(|s| s.map(|s| s.endpoint))
    }

    #[test]
    fn a_claim_that_is_there_is_not_looked_up() {
        let names = json!({"groups": "src"});
        let sources = json!({"src": {"endpoint": "https://h/groups", "access_token": "t"}});
        let both = json!({"_claim_names": names, "_claim_sources": sources});
        assert_eq!(endpoint(both), Ok(Some("https://h/groups".to_owned())));
        let there = json!({"groups": [], "_claim_names": names, "_claim_sources": sources});
        assert_eq!(endpoint(there), Ok(None));
        assert_eq!(endpoint(json!({"_claim_sources": sources})), Ok(None));
        let other = json!({"_claim_names": {"roles": "src"}, "_claim_sources": sources});
        assert_eq!(endpoint(other), Ok(None));
        let aggregated =
            json!({"_claim_names": names, "_claim_sources": {"src": {"JWT": "a.b.c"}}});
        assert_eq!(endpoint(aggregated), Ok(None));
    }

    #[test]
    fn a_reference_to_nothing_is_an_error() {
        let names = json!({"groups": "src"});
        for broken in [
            json!({"_claim_names": names}),
            json!({"_claim_names": names, "_claim_sources": {}}),
            json!({"_claim_names": names, "_claim_sources": []}),
            json!({"_claim_names": "src", "_claim_sources": {}}),
        ] {
            assert!(endpoint(broken.clone()).is_err(), "{broken}");
        }
    }
}
