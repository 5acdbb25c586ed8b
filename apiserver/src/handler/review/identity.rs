//! `TokenReview` and `SelfSubjectReview`.

use proto::Value;
use proto::catalogue::names as n;
use proto::view::authentication_v1::TokenReview;
use proto::view::{Node, View};
use resources::status::Failure;

use super::{set_texts, texts, with_status};
use crate::auth::User;
use crate::chain::Exchange;

/// Whose a token is.
pub(super) async fn token(x: &Exchange, object: Value) -> Result<Value, Failure> {
    let spec = TokenReview::of(Node::new(&object)).spec();
    if spec.token().is_empty() {
        return Err(Failure::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let asked = texts(spec.audiences());
    let audiences = if asked.is_empty() {
        x.server.tokens.audiences()
    } else {
        &asked
    };
    let mut status = Value::object();
    let tokens = &x.server.authenticators.tokens;
    match tokens.review(&x.server, spec.token(), audiences).await {
        Ok(verified) => {
            status.set(&[n::AUTHENTICATED], true);
            status.set(&[n::USER], user_info(&verified.user.authenticated()));
            set_texts(&mut status, n::AUDIENCES, &verified.audiences);
        }
        Err(refused) => {
            // What was sent beside that stays.
            status = object.get(n::STATUS).cloned().unwrap_or_default();
            status.set(&[n::AUTHENTICATED], false);
            status.set(&[n::ERROR], refused.to_string());
        }
    }
    Ok(with_status(object, status))
}

/// Who is asking.
pub(super) fn own(x: &Exchange, mut object: Value) -> Value {
    let now = resources::clock::Clock::now().text;
    let mut metadata = Value::object();
    metadata.set(&[n::CREATION_TIMESTAMP], now);
    object.set(&[n::METADATA], metadata);
    let mut status = Value::object();
    status.set(&[n::USER_INFO], user_info(&x.user));
    with_status(object, status)
}

fn user_info(user: &User) -> Value {
    let mut info = Value::object();
    info.set(&[n::USERNAME], user.name.as_str());
    if !user.uid.is_empty() {
        info.set(&[n::UID], user.uid.as_str());
    }
    set_texts(&mut info, n::GROUPS, &user.groups);
    if !user.extra.is_empty() {
        let extra = info.ensure(&[n::EXTRA]).make_map();
        for (key, values) in &user.extra {
            let values: Vec<Value> = values.iter().map(|v| v.as_str().into()).collect();
            extra.insert(key.as_str(), values);
        }
    }
    info
}
