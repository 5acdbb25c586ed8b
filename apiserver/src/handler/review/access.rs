//! `SubjectAccessReview` and its kin: may somebody do this.

use proto::catalogue::{messages, names as n};
use proto::path::{FieldError, Show};
use proto::selector::{FieldSelector, LabelSelector};
use proto::view::authorization_v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use proto::view::{Node, View};
use proto::{Map, Value, codec, meta};
use resources::shown::Internal;
use resources::status::Failure;

use super::{texts, with_status};
use crate::auth::User;
use crate::authz::{Attributes, Authorizers, Decision};
use crate::chain::Exchange;

/// May the user in the review do this.
pub(super) async fn subject(x: &Exchange, object: Value) -> Result<Value, Failure> {
    let errors = problems(&object, Kind::Subject);
    answer(x, object, Kind::Subject, &errors).await
}

/// The same, about one namespace.
pub(super) async fn local(x: &Exchange, object: Value) -> Result<Value, Failure> {
    let errors = problems(&object, Kind::Local);
    answer(x, object, Kind::Local, &errors).await
}

/// May whoever asks do this.
pub(super) async fn own(x: &Exchange, object: Value) -> Result<Value, Failure> {
    let errors = problems(&object, Kind::Own);
    answer(x, object, Kind::Own, &errors).await
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Subject,
    Local,
    Own,
}

async fn answer(
    x: &Exchange,
    object: Value,
    of: Kind,
    errors: &[FieldError],
) -> Result<Value, Failure> {
    if !errors.is_empty() {
        return Err(Failure::invalid(super::AUTHORIZATION, "", "", errors));
    }
    let spec = SubjectAccessReview::of(Node::new(&object)).spec();
    let user = if of == Kind::Own {
        x.user.clone()
    } else {
        user(spec)
    };
    let status = decide(&x.server.authorizers, &user, spec).await;
    Ok(with_status(object, status))
}

fn user(spec: SubjectAccessReviewSpec<'_>) -> User {
    let extra = spec.extra().iter();
    User {
        name: spec.user().to_owned(),
        uid: spec.uid().to_owned(),
        groups: texts(spec.groups()),
        extra: extra
            .map(|(key, list)| {
                (
                    key.as_str().to_lowercase(),
                    texts(list.as_list().unwrap_or_default()),
                )
            })
            .collect(),
    }
}

async fn decide(
    authorizers: &Authorizers,
    user: &User,
    spec: SubjectAccessReviewSpec<'_>,
) -> Value {
    let (mut fields, mut labels, mut ignored) = (String::new(), String::new(), Vec::new());
    if let Some(resource) = spec.resource_attributes() {
        let both = [
            ("fieldSelector", field_selector(resource), &mut fields),
            ("labelSelector", label_selector(resource), &mut labels),
        ];
        for (name, selector, out) in both {
            *out = selector.text;
            if selector.broken {
                let partially = if out.is_empty() { "" } else { "partially " };
                ignored.push(format!(
                    "spec.resourceAttributes.{name} {partially}ignored due to parse error"
                ));
            }
        }
    }
    let asked = match (spec.resource_attributes(), spec.non_resource_attributes()) {
        (Some(resource), _) => about_resource(user, resource, &fields, &labels),
        (None, path) => about_path(user, path),
    };
    let outcome = authorizers.explain(&asked).await;
    let (decision, reason) = match outcome.decision {
        Decision::Allow => ("allowed", outcome.reason),
        Decision::Deny(reason) => ("denied", reason),
        Decision::NoOpinion(reason) => ("", reason),
    };
    let errors: Vec<String> = outcome.error.into_iter().chain(ignored).collect();
    let mut status = Value::object();
    status.set(&[n::ALLOWED], decision == "allowed");
    if decision == "denied" {
        status.set(&[n::DENIED], true);
    }
    for (name, text) in [
        (n::REASON, reason),
        (n::EVALUATION_ERROR, errors.join("; ")),
    ] {
        if !text.is_empty() {
            status.set(&[name], text);
        }
    }
    status
}

fn about_resource<'a>(
    user: &'a User,
    resource: ResourceAttributes<'a>,
    fields: &'a str,
    labels: &'a str,
) -> Attributes<'a> {
    Attributes {
        user,
        verb: resource.verb(),
        is_resource: true,
        group: resource.group(),
        version: if resource.version().is_empty() {
            "*"
        } else {
            resource.version()
        },
        resource: resource.resource(),
        subresource: resource.subresource(),
        namespace: resource.namespace(),
        name: resource.name(),
        path: "",
        field_selector: fields,
        label_selector: labels,
    }
}

fn about_path<'a>(user: &'a User, path: Option<NonResourceAttributes<'a>>) -> Attributes<'a> {
    Attributes {
        user,
        verb: path.map(|p| p.verb()).unwrap_or_default(),
        is_resource: false,
        group: "",
        version: "",
        resource: "",
        subresource: "",
        namespace: "",
        name: "",
        path: path.map(|p| p.path()).unwrap_or_default(),
        field_selector: "",
        label_selector: "",
    }
}

/// A selector as text. What cannot be understood is left out, which asks for more than was meant.
#[derive(Default)]
struct Selector {
    text: String,
    broken: bool,
}

impl Selector {
    fn raw(raw: &str, valid: bool) -> Self {
        Self {
            text: if valid { raw.to_owned() } else { String::new() },
            broken: !valid,
        }
    }

    fn of(terms: Vec<Option<String>>) -> Self {
        let broken = terms.iter().any(Option::is_none);
        Self {
            text: terms.into_iter().flatten().collect::<Vec<_>>().join(","),
            broken,
        }
    }
}

fn field_selector(resource: ResourceAttributes<'_>) -> Selector {
    let Some(selector) = resource.field_selector() else {
        return Selector::default();
    };
    if !selector.raw_selector().is_empty() {
        return Selector::raw(
            selector.raw_selector(),
            FieldSelector::parse(selector.raw_selector()).is_ok(),
        );
    }
    let term = |r: proto::view::meta_v1::FieldSelectorRequirement<'_>| {
        let [value] = r.values() else { return None };
        let value = value
            .as_str()?
            .replace('\\', "\\\\")
            .replace(',', "\\,")
            .replace('=', "\\=");
        match r.operator() {
            "In" => Some(format!("{}={value}", r.key())),
            "NotIn" => Some(format!("{}!={value}", r.key())),
            _ => None,
        }
    };
    Selector::of(selector.requirements().iter().map(term).collect())
}

fn label_selector(resource: ResourceAttributes<'_>) -> Selector {
    let Some(selector) = resource.label_selector() else {
        return Selector::default();
    };
    if !selector.raw_selector().is_empty() {
        return Selector::raw(
            selector.raw_selector(),
            LabelSelector::parse(selector.raw_selector()).is_ok(),
        );
    }
    let term = |r: proto::view::meta_v1::LabelSelectorRequirement<'_>| {
        let values = texts(r.values()).join(",");
        let text = match r.operator() {
            "In" => format!("{} in ({values})", r.key()),
            "NotIn" => format!("{} notin ({values})", r.key()),
            "Exists" if r.values().is_empty() => r.key().to_owned(),
            "DoesNotExist" if r.values().is_empty() => format!("!{}", r.key()),
            _ => return None,
        };
        LabelSelector::parse(&text).is_ok().then_some(text)
    };
    Selector::of(selector.requirements().iter().map(term).collect())
}

/// What is wrong with a review: upstream's `pkg/apis/authorization/validation`.
pub(super) fn problems(object: &Value, of: Kind) -> Vec<FieldError> {
    let spec = SubjectAccessReview::of(Node::new(object)).spec();
    let (resource, path) = (spec.resource_attributes(), spec.non_resource_attributes());
    let mut errors = Vec::new();
    if resource.is_some() == path.is_some() {
        let shown = path.map_or_else(|| "null".to_owned(), |p| Internal::of(p).show());
        let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.push(FieldError::new(
            proto::path::Reason::Invalid,
            "spec",
            shown,
            detail,
        ));
    }
    if of != Kind::Own && spec.user().is_empty() && spec.groups().is_empty() {
        errors.push(FieldError::invalid(
            "spec.user",
            "",
            "at least one of user or group must be specified",
        ));
    }
    if let Some(resource) = resource {
        selector_problems(resource, &mut errors);
    }
    let metadata = object.get(n::METADATA).and_then(Value::as_map);
    if metadata.is_some_and(|m| !is_bare(m, of == Kind::Local)) {
        let detail = if of == Kind::Local {
            "must be empty except for namespace"
        } else {
            "must be empty"
        };
        let mut shown = Vec::new();
        if let Some(metadata) = object.get(n::METADATA) {
            codec::json::encode(metadata, messages::meta_v1::OBJECT_META, &mut shown);
        }
        let shown = String::from_utf8_lossy(&shown).into_owned();
        errors.push(FieldError::new(
            proto::path::Reason::Invalid,
            "metadata",
            shown,
            detail,
        ));
    }
    if of == Kind::Local {
        if let Some(other) = resource
            .map(|r| r.namespace())
            .filter(|ns| *ns != meta::namespace(object))
        {
            errors.push(FieldError::invalid(
                "spec.resourceAttributes.namespace",
                other,
                "must match metadata.namespace",
            ));
        }
        if let Some(path) = path {
            let shown = Internal::of(path).show();
            let detail = "disallowed on this kind of request";
            errors.push(FieldError::new(
                proto::path::Reason::Invalid,
                "spec.nonResourceAttributes",
                shown,
                detail,
            ));
        }
    }
    errors
}

/// Whether metadata say nothing; managed fields do not count.
fn is_bare(metadata: &Map, with_namespace: bool) -> bool {
    let says_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Map(m) => m.is_empty(),
        Value::List(l) => l.is_empty(),
        Value::Int(i) => *i == 0,
        _ => false,
    };
    metadata.iter().all(|(name, value)| {
        let ignored = name.known() == Some(n::MANAGED_FIELDS)
            || with_namespace && name.known() == Some(n::NAMESPACE);
        ignored || says_nothing(value)
    })
}

fn selector_problems(resource: ResourceAttributes<'_>, errors: &mut Vec<FieldError>) {
    let fields = resource
        .field_selector()
        .map(|s| ("fieldSelector", s.raw_selector(), s.requirements().len()));
    let labels = resource
        .label_selector()
        .map(|s| ("labelSelector", s.raw_selector(), s.requirements().len()));
    for (name, raw, requirements) in [fields, labels].into_iter().flatten() {
        let at = format!("spec.resourceAttributes.{name}");
        match (raw.is_empty(), requirements) {
            (false, 1..) => {
                let detail = "may not specified at the same time as requirements";
                errors.push(FieldError::invalid(
                    format!("{at}.rawSelector"),
                    raw,
                    detail,
                ));
            }
            (true, 0) => {
                let detail =
                    format!("when {at} is specified, requirements or rawSelector is required");
                errors.push(FieldError::required(format!("{at}.requirements"), detail));
            }
            _ => {}
        }
    }
}
