//! Expressions that read claims of tokens, and those that judge the user that was made of them: what
//! they can use, and what becomes of their values. Pure.
//!
//! Upstream: `apiserver/pkg/authentication/cel`, and `newClaimsValue`, `newUserInfoValue` and
//! `convertCELValueToStringList` of `apiserver/plugin/pkg/authenticator/token/oidc`.

use std::sync::LazyLock;

use cel::{Activation, Environment, Fields, Outcome, Schema, Type, Value, Version};
use component::serving::User;
use proto::path::FieldError;
use proto::{Map, Value as Tree};
use serde_json::Value as Json;

use crate::expression::Expression;

const CLAIMS: &str = "claims";
const USER: &str = "user";
const USER_TYPE: &str = "kubernetes.UserInfo";

/// For expressions over `claims`, of which nothing is known.
static OF_CLAIMS: LazyLock<Environment> = LazyLock::new(|| {
    Environment::new(Version::STORED)
        .with_variable(CLAIMS, Type::map(Type::String, Type::Any))
        .with_escaped_names()
});

/// For expressions over `user`.
static OF_USERS: LazyLock<Environment> = LazyLock::new(|| {
    let text = || Schema::of(Type::String);
    let texts = || Schema::list(text());
    let fields = [
        ("username", text()),
        ("uid", text()),
        ("groups", texts()),
        ("extra", Schema::map(texts())),
    ];
    Environment::new(Version::STORED)
        .with_schema(USER, &Schema::object(USER_TYPE, fields))
        .with_escaped_names()
});

/// What makes a part of a user of claims. What it gives shows when it is evaluated.
pub(super) fn mapping(text: &str, at: &str) -> Result<Expression, FieldError> {
    Expression::compile(&OF_CLAIMS, text, at)
}

/// What has to hold of claims.
pub(super) fn claim_rule(text: &str, at: &str) -> Result<Expression, FieldError> {
    rule(&OF_CLAIMS, text, at)
}

/// What has to hold of the user.
pub(super) fn user_rule(text: &str, at: &str) -> Result<Expression, FieldError> {
    rule(&OF_USERS, text, at)
}

fn rule(environment: &Environment, text: &str, at: &str) -> Result<Expression, FieldError> {
    let expression = Expression::compile(environment, text, at)?;
    if *expression.gives() != Type::Bool {
        return Err(FieldError::invalid(at, text, "must evaluate to bool"));
    }
    Ok(expression)
}

/// Whether an expression over claims reads this one by its name, as `claims.name` or `claims.?name`.
pub(super) fn reads(expression: &Expression, claim: &str) -> bool {
    let selections = OF_CLAIMS.selections(expression.text());
    selections
        .iter()
        .any(|s| s.of.as_deref() == Some(CLAIMS) && *s.field == *claim)
}

/// The one variable that an expression has.
pub(super) struct Given {
    name: &'static str,
    type_name: &'static str,
    fields: Map,
}

impl Given {
    pub(super) fn claims(claims: &serde_json::Map<String, Json>) -> Self {
        Self {
            name: CLAIMS,
            type_name: "kubernetes.claims",
            fields: map(claims),
        }
    }

    pub(super) fn user(user: &User) -> Self {
        let mut extra = Map::new();
        for (key, values) in &user.extra {
            extra.insert(key.as_str(), values.clone());
        }
        let mut fields = Map::new();
        fields.insert("username", user.name.as_str());
        fields.insert("uid", user.uid.as_str());
        fields.insert("groups", user.groups.clone());
        fields.insert("extra", extra);
        Self {
            name: USER,
            type_name: USER_TYPE,
            fields,
        }
    }
}

impl Activation for Given {
    fn get(&self, name: &str) -> Option<Outcome<'_>> {
        (name == self.name).then(|| Ok(Value::lazy(self)))
    }
}

impl Fields for Given {
    fn get(&self, name: &str) -> Option<Outcome<'_>> {
        self.fields.get(name).map(|field| Ok(Value::of(field)))
    }

    fn names(&self) -> Vec<Box<str>> {
        let names = self.fields.iter().map(|(name, _)| name.as_str());
        names.map(Into::into).collect()
    }

    fn type_name(&self) -> &str {
        self.type_name
    }
}

fn map(of: &serde_json::Map<String, Json>) -> Map {
    let mut all = Map::new();
    for (name, value) in of {
        all.insert(name.as_str(), tree(value));
    }
    all
}

/// Numbers are doubles: Go's JSON knows no others.
fn tree(json: &Json) -> Tree {
    match json {
        Json::Null => Tree::Null,
        Json::Bool(b) => Tree::Bool(*b),
        Json::Number(number) => Tree::Float(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Tree::from(text.as_str()),
        Json::Array(list) => Tree::List(list.iter().map(tree).collect()),
        Json::Object(of) => Tree::Map(map(of)),
    }
}

/// A string or a list of them, without those that are empty; nothing is none. What `split` gives is a list
/// like any other; upstream refuses that one, unless something was made of it.
///
/// # Errors
/// If the value is something else.
pub(super) fn texts(value: &Value<'_>) -> Result<Vec<String>, String> {
    const WRONG: &str = "expression must return a string or a list of strings";
    let mut all = match value {
        Value::Null => Vec::new(),
        Value::String(text) => vec![text.to_string()],
        Value::List(list) => {
            let texts = list.iter().map(|item| match item {
                Ok(Value::String(text)) => Ok(text.to_string()),
                _ => Err(WRONG.to_owned()),
            });
            texts.collect::<Result<_, _>>()?
        }
        _ => return Err(WRONG.to_owned()),
    };
    all.retain(|text| !text.is_empty());
    Ok(all)
}
