//! Tokens that lie in secrets: they have no time and no audience, and are good as long as their secret
//! has them.
//!
//! When one was last used is a label of its secret, for the controller that removes unused ones.
//! Upstream: `pkg/serviceaccount/legacy.go`.

use std::sync::Arc;

use proto::catalogue::names as n;
use proto::{Value, meta, time};
use resources::status::Failure;
use serde::Deserialize;

use super::{Invalid, now, of_account};
use crate::auth::User;
use crate::bootstrap::Own;
use crate::server::Server;

/// Who signs them, whatever the cluster's issuer is.
pub const ISSUER: &str = "kubernetes/serviceaccount";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Of a secret's data.
const TOKEN: &str = "token";
const DAY: i64 = 24 * 3600;

/// What a token says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Claims {
    #[serde(default)]
    pub iss: String,
    #[serde(default)]
    pub sub: String,
    #[serde(default, deserialize_with = "super::audiences")]
    pub aud: Vec<String>,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace", default)]
    pub namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name", default)]
    pub account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid", default)]
    pub uid: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name", default)]
    pub secret: String,
}

impl Claims {
    /// Whether everything is there and fits together.
    fn check(&self) -> Result<(), Invalid> {
        for (claim, given) in [
            ("sub", &self.sub),
            ("namespace", &self.namespace),
            ("secretName", &self.secret),
            ("serviceAccountName", &self.account),
            ("serviceAccountUID", &self.uid),
        ] {
            if given.is_empty() {
                return Err(Invalid::Missing(claim));
            }
        }
        if super::named(&self.sub) != Some((self.namespace.as_str(), self.account.as_str())) {
            return Err(Invalid::Malformed);
        }
        Ok(())
    }
}

/// The user of verified claims, if secret and account are still there, and what the client should be
/// warned of.
pub async fn user(
    server: &Arc<Server>,
    token: &str,
    claims: &Claims,
) -> Result<(User, Vec<String>), Invalid> {
    claims.check()?;
    let mut warnings = Vec::new();
    if server.tokens.config().lookup {
        let (secret, account) = current(server, claims).await?;
        let verdict = judge(token, claims, secret.as_ref(), account.as_ref());
        // An invalid token, too, says by its use that somebody still has it.
        if matches!(verdict, Ok(_) | Err(Invalid::Marked { .. }))
            && let Some(secret) = &secret
            && let Err(error) = note_use(server, secret).await
        {
            let secret = meta::name(secret);
            tracing::warn!(secret, %error, "The use of a token in a secret is not written down");
        }
        warnings = verdict?;
    }
    Ok((
        of_account(&claims.namespace, &claims.account, &claims.uid),
        warnings,
    ))
}

async fn current(
    server: &Server,
    claims: &Claims,
) -> Result<(Option<Value>, Option<Value>), Invalid> {
    let unreadable = |f: Failure| Invalid::Unreadable(f.message().to_owned());
    let space = &claims.namespace;
    let secret = server.lookup("", "secrets", space, &claims.secret).await;
    let account = server
        .lookup("", "serviceaccounts", space, &claims.account)
        .await;
    Ok((secret.map_err(unreadable)?, account.map_err(unreadable)?))
}

/// Whether a token is good, as its secret and its account are now; what to warn of. Pure.
fn judge(
    token: &str,
    claims: &Claims,
    secret: Option<&Value>,
    account: Option<&Value>,
) -> Result<Vec<String>, Invalid> {
    let revoked = |why: &str| Err(Invalid::Revoked(why.to_owned()));
    let Some(secret) = secret.filter(|s| !meta::is_deleting(s)) else {
        return revoked("the secret does not exist");
    };
    let held = match secret.get(n::DATA).and_then(|data| data.get(TOKEN)) {
        Some(Value::Bytes(held)) => &held[..],
        _ => &[],
    };
    if held != token.as_bytes() {
        return revoked("the secret has another token");
    }
    let Some(account) = account.filter(|a| !meta::is_deleting(a)) else {
        return revoked("the service account does not exist");
    };
    if meta::uid(account) != claims.uid {
        return revoked("the service account is another one of that name");
    }
    if meta::label(secret, INVALID_SINCE).is_some_and(|since| !since.is_empty()) {
        return Err(Invalid::Marked {
            secret: format!("{}/{}", claims.namespace, claims.secret),
            account: format!("{}/{}", claims.namespace, claims.account),
            label: INVALID_SINCE,
        });
    }
    let listed = account.get(n::SECRETS).and_then(Value::as_list);
    let is_own = |r: &Value| r.get(n::NAME).and_then(Value::as_str) == Some(&claims.secret);
    if listed.is_some_and(|all| all.iter().any(is_own)) {
        let text = "Use tokens from the TokenRequest API or manually created secret-based tokens \
                    instead of auto-generated secret-based tokens.";
        return Ok(vec![text.to_owned()]);
    }
    Ok(Vec::new())
}

/// The day in UTC, as `YYYY-MM-DD`.
#[must_use]
pub fn day(seconds: i64) -> String {
    time::print_time(seconds).chars().take(10).collect()
}

/// Writes the day into the secret's label, once a day. Clocks of servers may differ by one.
async fn note_use(server: &Arc<Server>, secret: &Value) -> Result<(), Failure> {
    let (today, tomorrow) = (day(now()), day(now() + DAY));
    let last = meta::label(secret, LAST_USED);
    if last.is_some_and(|last| last == today || last == tomorrow) {
        return Ok(());
    }
    let secrets = Own::new(server, "", "secrets", meta::namespace(secret))?;
    let uid = meta::uid(secret);
    let mark = |secret: &mut Value| {
        if meta::uid(secret) == uid {
            meta::set_label(secret, LAST_USED, &today);
        }
    };
    secrets.update(meta::name(secret), mark).await
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::core_v1;
    use proto::codec::json::{self, Strictness};

    use super::*;

    fn claims() -> Claims {
        Claims {
            iss: ISSUER.into(),
            sub: "system:serviceaccount:n:a".into(),
            aud: vec![],
            namespace: "n".into(),
            account: "a".into(),
            uid: "u".into(),
            secret: "s".into(),
        }
    }

    fn secret(metadata: &str) -> Value {
        // "t" in base64.
        let text = format!(r#"{{"metadata":{metadata},"data":{{"token":"dA=="}}}}"#);
        let decoded = json::decode(text.as_bytes(), core_v1::SECRET, Strictness::Strict);
        decoded.expect("the test's JSON is valid").value
    }

    fn account(text: &str) -> Value {
        let decoded = json::decode(
            text.as_bytes(),
            core_v1::SERVICE_ACCOUNT,
            Strictness::Strict,
        );
        decoded.expect("the test's JSON is valid").value
    }

    #[test]
    fn a_token_is_good_as_long_as_its_secret_and_account_are() {
        let (of, here) = (secret("{}"), account(r#"{"metadata":{"uid":"u"}}"#));
        let verdict = |secret: Option<&Value>, account: Option<&Value>| {
            judge("t", &claims(), secret, account)
        };
        assert_eq!(verdict(Some(&of), Some(&here)), Ok(vec![]));
        assert!(matches!(
            judge("other", &claims(), Some(&of), Some(&here)),
            Err(Invalid::Revoked(_))
        ));
        let going = secret(r#"{"deletionTimestamp":"2026-01-01T00:00:00Z"}"#);
        let another = account(r#"{"metadata":{"uid":"v"}}"#);
        let leaving =
            account(r#"{"metadata":{"uid":"u","deletionTimestamp":"2026-01-01T00:00:00Z"}}"#);
        for (secret, account) in [
            (None, Some(&here)),
            (Some(&going), Some(&here)),
            (Some(&of), None),
            (Some(&of), Some(&another)),
            (Some(&of), Some(&leaving)),
        ] {
            assert!(matches!(verdict(secret, account), Err(Invalid::Revoked(_))));
        }
        let marked =
            secret(r#"{"labels":{"kubernetes.io/legacy-token-invalid-since":"2026-01-01"}}"#);
        assert!(matches!(
            verdict(Some(&marked), Some(&here)),
            Err(Invalid::Marked { .. })
        ));
        let generated = account(r#"{"metadata":{"uid":"u"},"secrets":[{"name":"s"}]}"#);
        let warnings = verdict(Some(&of), Some(&generated));
        assert_eq!(warnings.map(|w| w.len()), Ok(1));
    }

    #[test]
    fn all_claims_are_there_and_fit() {
        assert_eq!(claims().check(), Ok(()));
        let other = Claims {
            sub: "system:serviceaccount:n:b".into(),
            ..claims()
        };
        assert_eq!(other.check(), Err(Invalid::Malformed));
        let torn = Claims {
            secret: String::new(),
            ..claims()
        };
        assert_eq!(torn.check(), Err(Invalid::Missing("secretName")));
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(1_772_323_199), "2026-02-28");
        assert_eq!(day(1_772_323_200), "2026-03-01");
    }
}
