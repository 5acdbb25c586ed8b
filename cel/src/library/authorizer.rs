//! Asking what a user may: `apiserver/pkg/cel/library/authz.go`.

use proto::meta::names;

use super::{Functions, opaque, overloads, text};
use crate::error::Error;
use crate::value::{Asked, Check, Checked, Decision, Opaque, Outcome, Value};

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
    overloads!(f;
        method "path" "authorizer_path" "authorizer, string -> pathCheck" |a| {
            let path = text(a, 1)?;
            if path.trim().is_empty() {
                return Err(Error::new("path must not be empty"));
            }
            let check = Check {
                path: Some(path.into()),
                ..Check::default()
            };
            begin(asked(a)?, check, Opaque::PathCheck)
        };
        method "group" "authorizer_group" "authorizer, string -> groupCheck" |a| {
            let check = Check {
                group: text(a, 1)?.into(),
                ..Check::default()
            };
            begin(asked(a)?, check, Opaque::GroupCheck)
        };
        method "serviceAccount" "authorizer_serviceaccount" "authorizer, string, string -> authorizer"
            service_account;
        method "resource" "groupcheck_resource" "groupCheck, string -> resourceCheck" |a| {
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
        };
    );
    let mut narrow = |name, id, body| {
        f.method(name, id, "resourceCheck, string -> resourceCheck", body);
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
    overloads!(f;
        method "check" "pathcheck_check" "pathCheck, string -> decision" check;
        method "check" "resourcecheck_check" "resourceCheck, string -> decision" check;
        method "errored" "decision_errored" "decision -> bool"
            |a| Ok(Value::Bool(decision(a)?.error.is_some()));
        method "error" "decision_error" "decision -> string"
            |a| Ok(Value::owned(decision(a)?.error.as_deref().unwrap_or("")));
        method "allowed" "decision_allowed" "decision -> bool"
            |a| Ok(Value::Bool(decision(a)?.allowed));
        method "reason" "decision_reason" "decision -> string"
            |a| Ok(Value::owned(&*decision(a)?.reason));
    );
}

pub(super) fn add_selectors(f: &mut Functions) {
    overloads!(f;
        method "fieldSelector" "authorizer_fieldselector" "resourceCheck, string -> resourceCheck"
            |a| with(a, |check, text| check.field_selector = text);
        method "labelSelector" "authorizer_labelselector" "resourceCheck, string -> resourceCheck"
            |a| with(a, |check, text| check.label_selector = text);
    );
}

fn begin<'a>(asked: Asked<'a>, check: Check, make: fn(Checked<'a>) -> Opaque<'a>) -> Outcome<'a> {
    let check = Check {
        service_account: asked.service_account,
        ..check
    };
    let authorizer = asked.authorizer;
    Ok(Value::opaque(make(Checked { authorizer, check })))
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
    match checked.authorizer.authorize(&check) {
        Some(decision) => Ok(Value::opaque(Opaque::Decision(decision))),
        None => Err(Error::Undecided(Box::new(check))),
    }
}
