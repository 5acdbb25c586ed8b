//! Bootstrap tokens: `id.secret`, where a secret in `kube-system` has both.
//!
//! A node that joins has nothing else. What such a token may do is little: its user is in
//! `system:bootstrappers` and in groups whose names begin so. Upstream:
//! `plugin/pkg/auth/authenticator/token/bootstrap`, `cluster-bootstrap/token/api`.

use proto::catalogue::names as n;
use proto::{Value, meta, time};
use resources::status::Failure;
use subtle::ConstantTimeEq;

use super::User;
use super::service_account::now;
use crate::server::Server;

const NAMESPACE: &str = "kube-system";
const NAME_PREFIX: &str = "bootstrap-token-";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const USER_PREFIX: &str = "system:bootstrap:";
const GROUP: &str = "system:bootstrappers";
const ID: &str = "token-id";
const SECRET: &str = "token-secret";
const EXPIRATION: &str = "expiration";
const USAGE: &str = "usage-bootstrap-authentication";
const GROUPS: &str = "auth-extra-groups";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

/// The user of a token; none if it is no bootstrap token, or not good.
///
/// # Errors
/// If the secret cannot be read.
pub async fn user(server: &Server, token: &str) -> Result<Option<User>, Failure> {
    let Some((id, secret)) = parse(token) else {
        return Ok(None);
    };
    let name = format!("{NAME_PREFIX}{id}");
    let Some(object) = server.lookup("", "secrets", NAMESPACE, &name).await? else {
        tracing::debug!(secret = name, "There is no secret of a bootstrap token");
        return Ok(None);
    };
    Ok(match judge(&object, id, secret, now()) {
        Ok(user) => Some(user),
        Err(why) => {
            tracing::debug!(secret = name, why, "A bootstrap token was refused");
            None
        }
    })
}

/// Id and secret of a token.
fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| {
        let mut bytes = text.bytes();
        bytes.all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
    };
    let good = id.len() == ID_LENGTH && secret.len() == SECRET_LENGTH && plain(id) && plain(secret);
    good.then_some((id, secret))
}

/// Whose a token is, as its secret is now. Pure.
fn judge(object: &Value, id: &str, secret: &str, now: i64) -> Result<User, &'static str> {
    if meta::is_deleting(object) {
        return Err("it is being deleted");
    }
    if object.get(n::TYPE).and_then(Value::as_str) != Some(TYPE) {
        return Err("it has another type");
    }
    let held = data(object, SECRET);
    if held.len() != secret.len() || !bool::from(held.ct_eq(secret.as_bytes())) {
        return Err("it has another token-secret");
    }
    if data(object, ID) != id.as_bytes() {
        return Err("it has another token-id");
    }
    match std::str::from_utf8(data(object, EXPIRATION)) {
        Ok("") => {}
        Ok(text) => match time::parse_time(text) {
            Ok((at, nanos)) if (at, nanos) > (now, 0) => {}
            Ok(_) => return Err("it has expired"),
            Err(_) => return Err("its expiration is no time"),
        },
        Err(_) => return Err("its expiration is no time"),
    }
    if data(object, USAGE) != b"true" {
        return Err("it is not for authentication");
    }
    Ok(User {
        name: format!("{USER_PREFIX}{id}"),
        groups: groups(data(object, GROUPS))?,
        ..User::default()
    })
}

fn data<'a>(object: &'a Value, key: &str) -> &'a [u8] {
    match object.get(n::DATA).and_then(|data| data.get(key)) {
        Some(Value::Bytes(bytes)) => bytes,
        _ => &[],
    }
}

/// The group of all, and those named, sorted, each once.
fn groups(named: &[u8]) -> Result<Vec<String>, &'static str> {
    let named = std::str::from_utf8(named).map_err(|_| "its groups are no text")?;
    let mut groups = vec![GROUP.to_owned()];
    for group in named.split(',').filter(|_| !named.is_empty()) {
        if !is_group(group) {
            return Err("it names a group that bootstrap tokens may not be in");
        }
        groups.push(group.to_owned());
    }
    groups.sort();
    groups.dedup();
    Ok(groups)
}

/// `system:bootstrappers:` and up to 256 of `a-z`, `0-9`, `:` and `-`, the last a letter or digit.
fn is_group(name: &str) -> bool {
    const LONGEST: usize = 256;
    let Some(rest) = name.strip_prefix(GROUP).and_then(|r| r.strip_prefix(':')) else {
        return false;
    };
    let plain = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase();
    let last = rest.bytes().last().is_some_and(plain);
    let all = rest.bytes().all(|b| plain(b) || matches!(b, b':' | b'-'));
    rest.len() <= LONGEST && last && all
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use proto::catalogue::messages::core_v1;
    use proto::codec::json::{self, Strictness};

    use super::*;

    const NOW: i64 = 1_772_323_200;

    fn secret(kind: &str, data: &[(&str, &str)]) -> Value {
        let data: serde_json::Map<_, _> = { data.iter() }
            .map(|(k, v)| ((*k).to_owned(), BASE64_STANDARD.encode(v).into()))
            .collect();
        let text = serde_json::json!({"type": kind, "data": data}).to_string();
        let decoded = json::decode(text.as_bytes(), core_v1::SECRET, Strictness::Strict);
        decoded.unwrap().value
    }

    const GOOD: [(&str, &str); 3] = [
        (ID, "abcdef"),
        (SECRET, "0123456789abcdef"),
        (USAGE, "true"),
    ];

    /// The good secret with one thing else.
    fn with(key: &'static str, value: &'static str) -> Value {
        let mut data = GOOD.to_vec();
        data.retain(|(k, _)| *k != key);
        data.push((key, value));
        secret(TYPE, &data)
    }

    fn judged(object: &Value) -> Result<User, &'static str> {
        judge(object, "abcdef", "0123456789abcdef", NOW)
    }

    #[test]
    fn a_token_has_six_and_sixteen_plain_characters() {
        assert_eq!(
            parse("abcdef.0123456789abcdef"),
            Some(("abcdef", "0123456789abcdef"))
        );
        for bad in [
            "",
            "abcdef",
            "abcdef.",
            "abcdef.0123456789abcde",
            "abcdef.0123456789abcdefg",
            "Abcdef.0123456789abcdef",
            "abcde/.0123456789abcdef",
            "abcdef.0123456789abcdef\n",
            "abcdef.0123456789.bcdef",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_user_is_a_bootstrapper_and_in_the_groups_named() {
        let user = judged(&secret(TYPE, &GOOD)).unwrap();
        assert_eq!(
            (user.name.as_str(), user.groups),
            ("system:bootstrap:abcdef", vec![GROUP.to_owned()])
        );
        let more = "system:bootstrappers:b:1,system:bootstrappers:a,system:bootstrappers:a";
        let user = judged(&with(GROUPS, more)).unwrap();
        let wanted = [GROUP, "system:bootstrappers:a", "system:bootstrappers:b:1"];
        assert_eq!(user.groups, wanted);
        assert!(judged(&with(EXPIRATION, "2026-03-01T00:00:01Z")).is_ok());
    }

    #[test]
    fn a_secret_that_is_not_just_right_lets_nobody_in() {
        let mut refused = vec![
            secret("Opaque", &GOOD),
            with(SECRET, "0123456789abcdee"),
            with(SECRET, ""),
            with(ID, "abcdeg"),
            with(USAGE, "false"),
            with(USAGE, "True"),
            with(EXPIRATION, "2026-03-01T00:00:00Z"),
            with(EXPIRATION, "soon"),
        ];
        for group in [
            "system:masters",
            "system:bootstrappers:",
            "system:bootstrappers:a-",
            "system:bootstrappers:A",
            "system:bootstrappersx:a",
            "system:bootstrappers:a,",
        ] {
            refused.push(with(GROUPS, group));
        }
        for object in &refused {
            assert!(judged(object).is_err(), "{object:?}");
        }
    }
}
