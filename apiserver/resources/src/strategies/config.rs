//! Config maps, secrets and service accounts.
//!
//! Upstream: `pkg/registry/core/{configmap,secret,serviceaccount}`,
//! `ValidateConfigMap`, `ValidateSecret` and their updates in `pkg/apis/core/validation`.

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, FieldError, Named, Spot};
use proto::view::core_v1::{ConfigMap, Secret};
use proto::view::{Node, View};
use proto::{Map, Value, meta};

use crate::declarative::NO_OPTIONS;
use crate::rules;
use crate::strategy::Strategy;
use crate::table::age;
use crate::warnings::Warnings;

mod pair;
#[cfg(test)]
mod tests;

/// The most that a config map or a secret may hold.
const MAX_SIZE: usize = 1024 * 1024;

pub static CONFIG_MAP: Strategy = Strategy {
    declarative: Some(NO_OPTIONS),
    validate: |_, object, e| config_map(object, e),
    validate_update: |_, new, old, e| {
        immutable_data(new, old, &[n::DATA, n::BINARY_DATA], e);
        meta::validate_object_meta(new, true, names::subdomain_name, e);
        config_map(new, e);
    },
    cells: Some(|object, now| {
        let count = |name| object.get(name).and_then(Value::as_map).map_or(0, Map::len);
        let data = i64::try_from(count(n::DATA) + count(n::BINARY_DATA)).unwrap_or(i64::MAX);
        vec![
            meta::name(object).into(),
            data.into(),
            age(meta::creation_timestamp(object), now).into(),
        ]
    }),
    ..Strategy::DEFAULT
};

fn size(value: &Value) -> usize {
    match value {
        Value::String(s) => s.len(),
        Value::Bytes(b) => b.len(),
        _ => 0,
    }
}

fn data_keys(e: &mut Errors<'_>, map: &Map, at: Spot<'_>) -> usize {
    let mut total = 0;
    for (key, value) in map.iter() {
        e.invalid_each(
            at.key(key.as_str()),
            key.as_str(),
            names::config_map_key_problems(key.as_str()),
        );
        total += size(value);
    }
    total
}

fn config_map(object: &Value, e: &mut Errors<'_>) {
    let view = ConfigMap::of(Node::new(object));
    let at = Spot::of(view);
    let mut total = 0;
    for (key, value) in view.data().iter() {
        e.invalid_each(
            at.field(n::DATA).key(key.as_str()),
            key.as_str(),
            names::config_map_key_problems(key.as_str()),
        );
        if view.binary_data().contains(key) {
            e.invalid(
                at.field(n::DATA).key(key.as_str()),
                key.as_str(),
                "duplicate of key present in binaryData",
            );
        }
        total += size(value);
    }
    total += data_keys(e, view.binary_data(), at.field(n::BINARY_DATA));
    if total > MAX_SIZE {
        // Upstream names the object itself; this is how a path without a name looks.
        e.push(FieldError::too_long("[]", MAX_SIZE));
    }
}

/// What is immutable stays so, with its data.
fn immutable_data(new: &Value, old: &Value, fields: &[proto::NameId], e: &mut Errors<'_>) {
    let is = |v: &Value| {
        v.get(n::IMMUTABLE)
            .and_then(Value::as_bool)
            .unwrap_or(false)
    };
    if !is(old) {
        return;
    }
    let at = Spot::node(new);
    if !is(new) {
        e.forbidden(
            at.field(n::IMMUTABLE),
            "field is immutable when `immutable` is set",
        );
    }
    // Here, unlike elsewhere, upstream tells empty from absent.
    let get = |v: &'_ Value, field| v.get(field).filter(|v| !v.is_null()).cloned();
    for field in fields {
        if get(new, *field) != get(old, *field) {
            e.forbidden(
                at.field(*field),
                "field is immutable when `immutable` is set",
            );
        }
    }
}

pub static SECRET: Strategy = Strategy {
    declarative: Some(NO_OPTIONS),
    // `stringData` is for writing: it goes over `data`.
    default: |_, object| {
        let Some(Value::Map(texts)) = object.remove(&[n::STRING_DATA]) else {
            return;
        };
        let data = object.ensure(&[n::DATA]).make_map();
        for (key, value) in texts {
            let bytes = value.as_str().unwrap_or_default().as_bytes();
            *data.entry(&key) = Value::Bytes(bytes.into());
        }
    },
    prepare_update: |_, new, old| {
        if Secret::of(Node::new(new)).r#type().is_empty()
            && let Some(kind) = old.get(n::TYPE).cloned()
        {
            new.set(&[n::TYPE], kind);
        }
    },
    warnings: |_, object, _| {
        let view = Secret::of(Node::new(object));
        let data = |key| match view.data().get(key) {
            Some(Value::Bytes(bytes) | Value::Raw(bytes)) => &bytes[..],
            _ => &[],
        };
        match view.r#type() {
            "kubernetes.io/tls" => pair::problem(data("tls.crt"), data("tls.key")),
            _ => None,
        }
        .into_iter()
        .collect()
    },
    validate: |_, object, e| secret(object, e),
    validate_update: |_, new, old, e| {
        let (now, was) = (Secret::of(Node::new(new)), Secret::of(Node::new(old)));
        if now.r#type() != was.r#type() {
            let at = Spot::of(now).field(n::TYPE);
            e.invalid(at, Named(now.r#type()), rules::IMMUTABLE);
        }
        immutable_data(new, old, &[n::DATA], e);
        meta::validate_object_meta(new, true, names::subdomain_name, e);
        secret(new, e);
    },
    cells: Some(|object, now| {
        let view = Secret::of(Node::new(object));
        let data = i64::try_from(view.data().len()).unwrap_or(i64::MAX);
        vec![
            meta::name(object).into(),
            view.r#type().into(),
            data.into(),
            age(meta::creation_timestamp(object), now).into(),
        ]
    }),
    ..Strategy::DEFAULT
};

fn secret(object: &Value, e: &mut Errors<'_>) {
    let view = Secret::of(Node::new(object));
    let at = Spot::of(view);
    let total = data_keys(e, view.data(), at.field(n::DATA));
    if total > MAX_SIZE {
        e.too_long(at.field(n::DATA), MAX_SIZE);
    }
    let needs = |e: &mut Errors<'_>, key: &'static str| {
        if !view.data().contains(key) {
            e.required(at.field(n::DATA).key(key), "");
        }
    };
    match view.r#type() {
        "kubernetes.io/service-account-token"
            if meta::annotation(object, "kubernetes.io/service-account.name")
                .is_none_or(str::is_empty) =>
        {
            let metadata = object.get(n::METADATA).unwrap_or(object);
            e.required(
                Spot::node(metadata)
                    .field(n::ANNOTATIONS)
                    .key("kubernetes.io/service-account.name"),
                "",
            );
        }
        "kubernetes.io/dockerconfigjson" => {
            needs(e, ".dockerconfigjson");
            json(e, view, ".dockerconfigjson");
        }
        "kubernetes.io/dockercfg" => {
            needs(e, ".dockercfg");
            json(e, view, ".dockercfg");
        }
        "kubernetes.io/basic-auth"
            if !view.data().contains("username") && !view.data().contains("password") =>
        {
            needs(e, "username");
            needs(e, "password");
        }
        "kubernetes.io/ssh-auth"
            if view
                .data()
                .get("ssh-privatekey")
                .is_none_or(|v| size(v) == 0) =>
        {
            e.required(at.field(n::DATA).key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            needs(e, "tls.crt");
            needs(e, "tls.key");
        }
        _ => {}
    }
}

fn json(e: &mut Errors<'_>, view: Secret<'_>, key: &'static str) {
    let Some(Value::Bytes(bytes)) = view.data().get(key) else {
        return;
    };
    let kind = match proto::codec::json::parse(bytes) {
        Err(error) => Err(error.to_string()),
        Ok(Value::Map(_) | Value::Null) => return,
        Ok(Value::List(_)) => Ok("array"),
        Ok(Value::String(_)) => Ok("string"),
        Ok(Value::Bool(_)) => Ok("bool"),
        Ok(_) => Ok("number"),
    };
    let why = kind.map_or_else(
        |why| why,
        |kind| {
            format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
        },
    );
    e.invalid(
        Spot::of(view).field(n::DATA).key(key),
        "<secret contents redacted>",
        why,
    );
}

pub static SERVICE_ACCOUNT: Strategy = Strategy {
    declarative: Some(NO_OPTIONS),
    warnings: |_, object, old| {
        const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
        let has = |object| meta::annotation(object, ENFORCE).is_some();
        let mut w = Warnings::new(object);
        if has(object) && !old.is_some_and(has) {
            w.push(format!("metadata.annotations[{ENFORCE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"));
        }
        w.into_vec()
    },
    prepare_create: |_, object| name_secrets_only(object),
    prepare_update: |_, new, _| name_secrets_only(new),
    cells: Some(|object, now| {
        vec![
            meta::name(object).into(),
            age(meta::creation_timestamp(object), now).into(),
        ]
    }),
    ..Strategy::DEFAULT
};

/// A service account refers to its secrets by name alone.
fn name_secrets_only(account: &mut Value) {
    let Some(secrets) = account.get_mut(n::SECRETS).and_then(Value::as_list_mut) else {
        return;
    };
    for secret in secrets.iter_mut().filter_map(Value::as_map_mut) {
        secret.retain(|field, _| field.as_str() == "name");
    }
}
