//! What a verified token says, and whose it is. Pure.
//!
//! Errors are in upstream's words (`apiserver/plugin/pkg/authenticator/token/oidc`, `go-oidc`).

use component::serving::User;
use proto::path::quote;
use serde_json::{Map, Value};

use super::config::{Mapped, Mapping, Mappings, Rule};
use super::expressions::{Given, texts as texts_of};
use crate::expression::Expression;

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

    /// The user, if the token has all that is required of it, in upstream's order (`AuthenticateToken`).
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn user(&self, mappings: &Mappings) -> Result<User, String> {
        let none = Map::new();
        let read = mappings.read_claims();
        let given = Given::claims(if read { &self.0 } else { &none });
        let mut user = User {
            name: self.name(&mappings.username, &given)?,
            ..User::default()
        };
        user.groups = match &mappings.groups {
            None => Vec::new(),
            Some(Mapped::Claim(mapping)) => self.groups(mapping)?,
            Some(Mapped::Expression(expression)) => { expression.evaluate(&given) }
                .and_then(|value| texts_of(&value))
                .map_err(|e| format!("error evaluating group claim expression: {e}"))?,
        };
        user.uid = match &mappings.uid {
            None => String::new(),
            Some(Mapped::Claim(Mapping { claim, .. })) => self
                .text(claim)
                .map_err(|e| format!("parse uid claim {}: {e}", quote(claim)))?
                .to_owned(),
            Some(Mapped::Expression(expression)) => text(expression, &given, "uid")?,
        };
        self.extra(&mut user, mappings, &given)?;
        self.required(&mappings.required)?;
        holds(&mappings.claim_rules, &given)
            .map_err(|e| format!("error evaluating claim validation expression: {e}"))?;
        if !mappings.user_rules.is_empty() {
            holds(&mappings.user_rules, &Given::user(&user))
                .map_err(|e| format!("error evaluating user info validation rule: {e}"))?;
        }
        Ok(user)
    }

    fn name(&self, mapped: &Mapped, given: &Given) -> Result<String, String> {
        let expression = match mapped {
            Mapped::Claim(mapping) => return self.username(mapping),
            Mapped::Expression(expression) => expression,
        };
        let name = text(expression, given, "username")?;
        if name.is_empty() {
            return Err("empty username via CEL expression is not allowed".to_owned());
        }
        Ok(name)
    }

    fn extra(&self, user: &mut User, mappings: &Mappings, given: &Given) -> Result<(), String> {
        if let Some(Value::String(jti)) = self.0.get("jti").filter(|j| j.as_str() != Some("")) {
            user.extra
                .insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={jti}")]);
        }
        let evaluated = { mappings.extra.iter() }
            .map(|(key, expression)| Ok((key, expression, expression.evaluate(given)?)))
            .collect::<Result<Vec<_>, String>>()?;
        for (key, expression, value) in evaluated {
            let values = texts_of(&value).map_err(|e| {
                let expression = expression.text();
                format!("error evaluating extra claim expression: {expression}: {e}")
            })?;
            if !values.is_empty() {
                user.extra.insert(key.clone(), values);
            }
        }
        Ok(())
    }

    fn required(&self, required: &[(String, String)]) -> Result<(), String> {
        for (claim, wanted) in required {
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
        Ok(())
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

/// What an expression gives, which must be a string.
fn text(expression: &Expression, given: &Given, part: &str) -> Result<String, String> {
    let value = expression.evaluate(given);
    let text = value.and_then(|value| match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(format!("{part} claim expression must return a string")),
    });
    text.map_err(|e| format!("error evaluating {part} claim expression: {e}"))
}

/// Whether all rules hold. All are evaluated before one is looked at.
fn holds(rules: &[Rule], given: &Given) -> Result<(), String> {
    let evaluated = { rules.iter() }
        .map(|rule| Ok((rule, rule.expression.evaluate(given)?.as_bool())))
        .collect::<Result<Vec<_>, String>>()?;
    for (rule, holds) in evaluated {
        match holds {
            Some(true) => {}
            Some(false) => {
                let (expression, message) = (rule.expression.text(), &rule.message);
                return Err(format!(
                    "validation expression '{expression}' failed: {message}"
                ));
            }
            None => return Err("validation expression must return a boolean".to_owned()),
        }
    }
    Ok(())
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
