//! What a verified token says, and whose it is. Pure.
//!
//! Errors are in upstream's words (`apiserver/plugin/pkg/authenticator/token/oidc`, `go-oidc`).

use component::serving::User;
use proto::path::quote;
use serde_json::{Map, Value};

use super::config::{JwtSettings, Mapping};

/// How far ahead the clocks of issuers may be.
const LEEWAY: i64 = 60;
/// Google leaves the scheme out.
const GOOGLE: &str = "https://accounts.google.com";
const GOOGLE_BARE: &str = "accounts.google.com";
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The claims of a token.
#[derive(Clone, Debug)]
pub struct Claims(pub Map<String, Value>);

/// The issuer as configurations name it.
fn issuer(claim: &str) -> &str {
    if claim == GOOGLE_BARE { GOOGLE } else { claim }
}

/// Who a token says has issued it; nothing of it was verified.
#[must_use]
pub fn unverified_issuer(token: &str) -> Option<String> {
    let payload = super::jws::unverified_payload(token)?;
    let claims: Claims = Claims::read(&payload)?;
    match claims.0.get("iss") {
        Some(Value::String(text)) => Some(issuer(text).to_owned()),
        None => Some(String::new()),
        Some(_) => None,
    }
}

impl Claims {
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok().map(Self)
    }

    /// Whether the token is of this issuer, for one of the audiences, and good now.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check(&self, of: &str, audiences: &[String], now: i64) -> Result<(), String> {
        let given = match self.0.get("iss") {
            Some(Value::String(text)) => text.as_str(),
            _ => "",
        };
        if given != of && !(of == GOOGLE && given == GOOGLE_BARE) {
            return Err(format!(
                "id token issued by a different provider, expected {} got {}",
                quote(of),
                quote(given)
            ));
        }
        let given = texts(self.0.get("aud").unwrap_or(&Value::Null)).unwrap_or_default();
        if !audiences.iter().any(|a| given.contains(a)) {
            return Err(format!("expected audience in {audiences:?} got {given:?}"));
        }
        // A token that does not say when it ends has ended.
        match self.time("exp")? {
            Some(exp) if exp >= now => {}
            exp => {
                let exp = exp.map_or_else(|| "none".to_owned(), proto::time::print_time);
                return Err(format!("token is expired (Token Expiry: {exp})"));
            }
        }
        match self.time("nbf")? {
            Some(nbf) if nbf > now.saturating_add(LEEWAY) => Err(format!(
                "current time {} before the nbf (not before) time: {}",
                proto::time::print_time(now),
                proto::time::print_time(nbf)
            )),
            _ => Ok(()),
        }
    }

    /// Seconds since 1970, whole ones.
    fn time(&self, name: &str) -> Result<Option<i64>, String> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => {
                #[allow(clippy::cast_possible_truncation, reason = "the cast saturates")]
                let whole = |f: f64| f as i64;
                let seconds = number.as_i64().or_else(|| number.as_f64().map(whole));
                Ok(seconds.map(|s| s.clamp(0, MAX_TIME)))
            }
            Some(_) => Err(format!("failed to unmarshal claims: {name} is no number")),
        }
    }

    fn text(&self, claim: &str) -> Result<&str, String> {
        match self.0.get(claim) {
            None => Err("claim not present".to_owned()),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err("the value is no string".to_owned()),
        }
    }

    /// The user, if the token has all that is required of it.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn user(&self, settings: &JwtSettings) -> Result<User, String> {
        let mut user = User {
            name: self.username(&settings.username)?,
            ..User::default()
        };
        if let Some(groups) = &settings.groups {
            user.groups = self.groups(groups)?;
        }
        if let Some(claim) = &settings.uid {
            let uid = self.text(claim);
            user.uid = uid
                .map_err(|e| format!("parse uid claim {}: {e}", quote(claim)))?
                .to_owned();
        }
        if let Some(Value::String(jti)) = self.0.get("jti").filter(|j| j.as_str() != Some("")) {
            user.extra
                .insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={jti}")]);
        }
        for (claim, wanted) in &settings.required {
            if !self.0.contains_key(claim) {
                return Err(format!("required claim {claim} not present in ID token"));
            }
            let given = self
                .text(claim)
                .map_err(|e| format!("parse claim {claim}: {e}"))?;
            if given != wanted {
                return Err(format!(
                    "required claim {claim} value does not match. Got = {given}, want = {wanted}"
                ));
            }
        }
        Ok(user)
    }

    fn username(&self, mapping: &Mapping) -> Result<String, String> {
        let claim = mapping.claim.as_str();
        let name = self
            .text(claim)
            .map_err(|e| format!("parse username claims {}: {e}", quote(claim)))?;
        if claim == "email" {
            match self.0.get("email_verified") {
                None | Some(Value::Bool(true)) => {}
                Some(Value::Bool(false)) => return Err("email not verified".to_owned()),
                Some(_) => {
                    return Err("parse 'email_verified' claim: the value is no boolean".to_owned());
                }
            }
        }
        // Stricter than upstream, which does so for expressions only: nobody is called nothing.
        if name.is_empty() {
            return Err(format!("username claim {} is empty", quote(claim)));
        }
        Ok(format!("{}{name}", mapping.prefix))
    }

    fn groups(&self, mapping: &Mapping) -> Result<Vec<String>, String> {
        let Some(value) = self.0.get(&mapping.claim) else {
            return Ok(Vec::new());
        };
        let groups = texts(value).ok_or_else(|| {
            let claim = quote(&mapping.claim);
            format!("parse groups claim {claim}: the value is no string and no list of strings")
        })?;
        let prefix = &mapping.prefix;
        Ok(groups.into_iter().map(|g| format!("{prefix}{g}")).collect())
    }
}

/// The year 9999: later times cannot be printed.
const MAX_TIME: i64 = 253_402_300_799;

/// A string or a list of strings.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(many) => many.iter().map(|v| v.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
