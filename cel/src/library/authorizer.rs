//! Asking what a user may: `apiserver/pkg/cel/library/authz.go`.

use proto::meta::names;

use super::{Functions, opaque, text};
use crate::error::Error;
use crate::types::Type;
use crate::value::{Asked, Check, Checked, Decision, Opaque, Outcome, Value};

fn authorizer_type() -> Type {
    Type::object("kubernetes.authorization.Authorizer")
}
fn path_type() -> Type {
    Type::object("kubernetes.authorization.PathCheck")
}
fn group_type() -> Type {
    Type::object("kubernetes.authorization.GroupCheck")
}
fn resource_type() -> Type {
    Type::object("kubernetes.authorization.ResourceCheck")
}
fn decision_type() -> Type {
    Type::object("kubernetes.authorization.Decision")
}

fn asked<'a>(args: &[Value<'a>]) -> Result<Asked<'a>, Error> {
    match opaque(args, 0)? {
        Opaque::Authorizer(asked) => Ok(asked.clone()),
        _ => Err(Error::no_such_overload()),
    }
}

fn decision<'v>(args: &'v [Value<'_>]) -> Result<&'v Decision, Error> {
    match opaque(args, 0)? {
        Opaque::Decision(decision) => Ok(decision),
        _ => Err(Error::no_such_overload()),
    }
}

pub(super) fn add(f: &mut Functions) {
    use Type::String;
    f.method(
        "path",
        "authorizer_path",
        [authorizer_type(), String],
        path_type(),
        |a| {
            let path = text(a, 1)?;
            if path.trim().is_empty() {
                return Err(Error::new("path must not be empty"));
            }
            let check = Check {
                path: Some(path.into()),
                ..Check::default()
            };
            begin(asked(a)?, check, Opaque::PathCheck)
        },
    );
    f.method(
        "group",
        "authorizer_group",
        [authorizer_type(), String],
        group_type(),
        |a| {
            let check = Check {
                group: text(a, 1)?.into(),
                ..Check::default()
            };
            begin(asked(a)?, check, Opaque::GroupCheck)
        },
    );
    f.method(
        "serviceAccount",
        "authorizer_serviceaccount",
        [authorizer_type(), String, String],
        authorizer_type(),
        service_account,
    );
    f.method(
        "resource",
        "groupcheck_resource",
        [group_type(), String],
        resource_type(),
        |a| {
            let resource = text(a, 1)?;
            if resource.trim().is_empty() {
                return Err(Error::new("resource must not be empty"));
            }
            match opaque(a, 0)? {
                Opaque::GroupCheck(group) => {
                    let mut checked = group.clone();
                    checked.check.resource = resource.into();
                    Ok(Value::opaque(Opaque::ResourceCheck(checked)))
                }
                _ => Err(Error::no_such_overload()),
            }
        },
    );
    let mut narrow = |name, id, body| {
        f.method(name, id, [resource_type(), String], resource_type(), body);
    };
    narrow("subresource", "resourcecheck_subresource", |a| {
        with(a, |check, text| check.subresource = text)
    });
    narrow("namespace", "resourcecheck_namespace", |a| {
        with(a, |check, text| check.namespace = text)
    });
    narrow("name", "resourcecheck_name", |a| {
        with(a, |check, text| check.name = text)
    });
    f.method(
        "check",
        "pathcheck_check",
        [path_type(), String],
        decision_type(),
        check,
    );
    f.method(
        "check",
        "resourcecheck_check",
        [resource_type(), String],
        decision_type(),
        check,
    );
    let of = || [decision_type()];
    f.method("errored", "decision_errored", of(), Type::Bool, |a| {
        Ok(Value::Bool(decision(a)?.error.is_some()))
    });
    f.method("error", "decision_error", of(), String, |a| {
        Ok(Value::owned(decision(a)?.error.as_deref().unwrap_or("")))
    });
    f.method("allowed", "decision_allowed", of(), Type::Bool, |a| {
        Ok(Value::Bool(decision(a)?.allowed))
    });
    f.method("reason", "decision_reason", of(), String, |a| {
        Ok(Value::owned(&*decision(a)?.reason))
    });
}

pub(super) fn add_selectors(f: &mut Functions) {
    let of = || [resource_type(), Type::String];
    f.method(
        "fieldSelector",
        "authorizer_fieldselector",
        of(),
        resource_type(),
        |a| with(a, |check, text| check.field_selector = text),
    );
    f.method(
        "labelSelector",
        "authorizer_labelselector",
        of(),
        resource_type(),
        |a| with(a, |check, text| check.label_selector = text),
    );
}

fn begin<'a>(asked: Asked<'a>, check: Check, make: fn(Checked<'a>) -> Opaque<'a>) -> Outcome<'a> {
    let check = Check {
        service_account: asked.service_account.clone(),
        ..check
    };
    Ok(Value::opaque(make(Checked { asked, check })))
}

fn service_account<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let asked = asked(args)?;
    let (namespace, name) = (text(args, 1)?, text(args, 2)?);
    if !names::subdomain_name(name, false).is_empty() {
        return Err(Error::new("Invalid service account name"));
    }
    if !names::label_name(namespace, false).is_empty() {
        return Err(Error::new("Invalid service account namespace"));
    }
    Ok(Value::opaque(Opaque::Authorizer(Asked {
        service_account: Some((namespace.into(), name.into())),
        ..asked
    })))
}

/// The same check with one thing more.
fn with<'a>(args: &[Value<'a>], set: fn(&mut Check, Box<str>)) -> Outcome<'a> {
    match opaque(args, 0)? {
        Opaque::ResourceCheck(checked) => {
            let mut checked = checked.clone();
            set(&mut checked.check, text(args, 1)?.into());
            Ok(Value::opaque(Opaque::ResourceCheck(checked)))
        }
        _ => Err(Error::no_such_overload()),
    }
}

fn check<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (Opaque::PathCheck(checked) | Opaque::ResourceCheck(checked)) = opaque(args, 0)? else {
        return Err(Error::no_such_overload());
    };
    let check = Check {
        verb: text(args, 1)?.into(),
        ..checked.check.clone()
    };
    match checked.asked.authorizer.authorize(&check) {
        Some(decision) => Ok(Value::opaque(Opaque::Decision(decision))),
        None => Err(Error::Undecided(Box::new(check))),
    }
}
