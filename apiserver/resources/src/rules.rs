//! The small rules that validation is made of: one line each where they are used.
//!
//! A rule takes the errors, the view and the field that it is about, and what it needs to know. Texts
//! are upstream's (`apimachinery/pkg/api/validation`, `pkg/apis/core/validation`).

use cel::admission::Invalid;
use proto::catalogue::names as n;
use proto::meta::{address, names};
use proto::path::{Errors, Named, Reason, Show, Spot};
use proto::quantity::Quantity;
use proto::view::core_v1::VolumeHealthCondition;
use proto::view::{IntOrStr, List, View};
use proto::{Map, NameId, Value};

use super::resource_names;

/// The object of the field's name must have been left as it was.
pub const IMMUTABLE: &str = "field is immutable";
/// Upstream's text for numbers that count something.
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// A string that must be given; says whether it is.
pub fn required<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, field: NameId) -> bool {
    let there = view
        .node()
        .get(field)
        .is_some_and(|v| v.as_str() != Some(""));
    if !there {
        e.required(Spot::of(view).field(field), "");
    }
    there
}

/// A string that, if given, must be one of a list.
pub fn one_of<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, field: NameId, allowed: &[&str]) {
    shown_one_of(e, view, field, allowed, |text| text);
}

/// The same, with what is shown of another one.
fn shown_one_of<'a, V: View<'a>, S: Show + 'a>(
    e: &mut Errors<'_>,
    view: V,
    field: NameId,
    allowed: &[&str],
    shown: impl FnOnce(&'a str) -> S,
) {
    let text = view.node().str(field);
    if !text.is_empty() && !allowed.contains(&text) {
        e.not_supported(Spot::of(view).field(field), shown(text), allowed);
    }
}

/// A string that must be given and one of a list.
pub fn required_one_of<'a, V: View<'a>>(
    e: &mut Errors<'_>,
    view: V,
    field: NameId,
    allowed: &[&str],
) {
    if required(e, view, field) {
        one_of(e, view, field, allowed);
    }
}

/// A number that, if given, must not be negative.
pub fn not_negative<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, field: NameId) {
    if let Some(number) = view.node().opt_int(field)
        && number < 0
    {
        e.invalid(Spot::of(view).field(field), number, NOT_NEGATIVE);
    }
}

/// A number that, if given, must be positive.
pub fn positive<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, field: NameId) {
    if let Some(number) = view.node().opt_int(field)
        && number < 1
    {
        e.invalid(
            Spot::of(view).field(field),
            number,
            "must be greater than 0",
        );
    }
}

/// Reports every text of a check on a string.
pub fn each<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, field: NameId, problems: Vec<String>) {
    let text = view.node().str(field);
    for problem in problems {
        e.invalid(Spot::of(view).field(field), text, problem);
    }
}

/// A port number from 1 to 65535.
pub fn port<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, field: NameId) {
    let number = view.node().int(field);
    for problem in names::port_number_problems(number) {
        e.invalid(Spot::of(view).field(field), number, problem);
    }
}

/// A port number or the name of one.
pub fn port_or_name<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, field: NameId) {
    let at = || Spot::of(view).field(field);
    match view.node().int_or_string(field) {
        Some(IntOrStr::Str(text)) => names::port_name_problems(text)
            .into_iter()
            .for_each(|p| e.invalid(at(), text, p)),
        Some(IntOrStr::Int(number)) => names::port_number_problems(number)
            .into_iter()
            .for_each(|p| e.invalid(at(), number, p)),
        None => names::port_number_problems(0)
            .into_iter()
            .for_each(|p| e.invalid(at(), 0_i64, p)),
    }
}

/// What two versions of a field must have in common: everything.
pub fn immutable<'a, V: View<'a>>(e: &mut Errors<'_>, new: V, old: V, field: NameId) {
    let (now, was) = (new.node().get(field), old.node().get(field));
    if !same(now, was) {
        match now {
            Some(value) => e.invalid(Spot::of(new).field(field), value, IMMUTABLE),
            None => e.invalid(Spot::of(new).field(field), &Value::Null, IMMUTABLE),
        }
    }
}

/// The same of several fields, where declarative rules say it too.
pub fn immutable_fields(e: &mut Errors<'_>, new: &Value, old: &Value, fields: &[NameId]) {
    e.covered(|e| {
        for field in fields {
            let (now, was) = (new.get(*field), old.get(*field));
            if !same(now, was) {
                let at = Spot::node(new).field(*field);
                match now {
                    Some(now) => e.invalid(at, now, IMMUTABLE),
                    None if was.is_some_and(|was| was.as_str().is_some()) => {
                        e.invalid(at, "", IMMUTABLE);
                    }
                    None => e.invalid(at, &Value::Null, IMMUTABLE),
                }
            }
        }
    });
}

/// Equality as upstream's semantic one: absent and empty are the same.
#[must_use]
pub fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b || (empty(a) && empty(b)),
        (Some(v), None) | (None, Some(v)) => empty(v),
        (None, None) => true,
    }
}

fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::List(l) => l.is_empty(),
        Value::Map(m) => m.is_empty(),
        _ => false,
    }
}

/// Label keys and values of a map such as `spec.selector` or `spec.nodeSelector`.
pub fn labels(e: &mut Errors<'_>, map: &Map, at: Spot<'_>) {
    for (key, value) in map.iter() {
        for problem in names::label_key_problems(key.as_str()) {
            e.invalid(at, key.as_str(), problem);
        }
        let value = value.as_str().unwrap_or_default();
        for problem in names::label_value_problems(value) {
            e.invalid(at, value, problem);
        }
    }
}

/// Annotations outside an object's own metadata, such as a template's.
pub fn annotations(e: &mut Errors<'_>, map: &Map, at: Spot<'_>) {
    const MAX: usize = 256 * 1024;
    let mut size = 0;
    for (key, value) in map.iter() {
        // The case of a key does not matter here.
        e.invalid_each(
            at,
            key.as_str(),
            names::label_key_problems(&key.as_str().to_lowercase()),
        );
        size += key.as_str().len() + value.as_str().map_or(0, str::len);
    }
    if size > MAX {
        e.too_long(at, MAX);
    }
}

/// A value that is printed already.
pub struct Printed(pub String);

impl Show for Printed {
    fn show(&self) -> String {
        self.0.clone()
    }
}

/// What is behind a pointer or in a slice, as Go prints it: as JSON, which for strings is not `%q`.
#[must_use]
pub fn json(value: Option<&Value>) -> Printed {
    Printed(match value {
        None => "null".into(),
        Some(Value::String(text)) => Named(text).show(),
        Some(value) => value.show(),
    })
}

/// [`one_of`] for a field whose Go type is a string with a name of its own.
pub fn named_one_of<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, field: NameId, allowed: &[&str]) {
    shown_one_of(e, view, field, allowed, Named);
}

/// [`required_one_of`] for a field whose Go type is a string with a name of its own.
pub fn required_named_one_of<'a, V: View<'a>>(
    e: &mut Errors<'_>,
    view: V,
    field: NameId,
    allowed: &[&str],
) {
    if required(e, view, field) {
        named_one_of(e, view, field, allowed);
    }
}

/// The texts of a list.
pub fn texts(items: &[Value]) -> impl Iterator<Item = &str> + Clone {
    items.iter().map(|v| v.as_str().unwrap_or_default())
}

/// Addresses of a field that predates strict forms (KEP-4858): those that were there may stay.
pub fn legacy_ip(e: &mut Errors<'_>, at: Spot<'_>, value: &str, old: &[&str]) -> bool {
    let problems = if old.contains(&value) {
        Vec::new()
    } else {
        address::legacy_ip_problems(value, e.lax_addresses)
    };
    let valid = problems.is_empty();
    e.invalid_each(at, value, problems);
    valid
}

/// An object's annotation.
#[must_use]
pub fn annotation<'a>(object: &'a Value, key: &'a str) -> Spot<'a> {
    Spot::node(object)
        .field(proto::catalogue::names::METADATA)
        .field(proto::catalogue::names::ANNOTATIONS)
        .key(key)
}

/// A string of a named type that must be one of a list, given or not.
pub fn known(e: &mut Errors<'_>, at: Spot<'_>, value: &str, allowed: &[&str]) {
    if !allowed.contains(&value) {
        e.not_supported(at, Named(value), allowed);
    }
}

/// A string of a named type that must be given and one of a list.
pub fn choice(e: &mut Errors<'_>, at: Spot<'_>, value: &str, allowed: &[&str]) {
    if value.is_empty() {
        e.required(at, "");
    } else {
        known(e, at, value, allowed);
    }
}

/// The path of something that upstream calls by another name than the field has.
pub fn beside(e: &mut Errors<'_>, at: Spot<'_>, tail: &str) -> String {
    e.path(at) + tail
}

/// `IsNodeAllocatableResourceName`: what a node has of its own and devices may take.
pub fn node_allocatable<'s>(e: &mut Errors<'_>, at: impl Into<Spot<'s>>, name: &str) {
    if !matches!(name, "cpu" | "memory") && !name.starts_with("hugepages-") {
        e.invalid(at, name, "must be a node allocatable resource name");
    }
}

/// `validateVolumeHealthConditions`: reasons may be left out.
pub fn health(e: &mut Errors<'_>, conditions: List<'_, VolumeHealthCondition<'_>>) {
    for condition in conditions {
        let reason = condition.reason();
        if !reason.is_empty() {
            let problems = names::condition_reason_problems(reason);
            each(e, condition, n::REASON, problems);
        }
    }
}

/// A quantity that is given has at least this sign: 1 is positive, 0 not negative.
pub fn sign<'a>(e: &mut Errors<'_>, of: impl View<'a>, field: NameId, least: i32, detail: &str) {
    let amount = of.node().opt_str(field).map(str::parse::<Quantity>);
    if let Some(Ok(amount)) = amount
        && amount.signum() < least
    {
        e.invalid(Spot::of(of).field(field), amount.to_string(), detail);
    }
}

/// What a check finds about a part of another object, or of none: only whether it finds anything counts.
pub fn breaks(check: impl FnOnce(&mut Errors<'_>)) -> bool {
    const NONE: &Value = &Value::Null;
    let mut errors = Errors::new(NONE);
    check(&mut errors);
    !errors.is_empty()
}

/// `validateResourceName`: a name of a resource that Kubernetes knows, or one with a prefix.
pub fn resource_name(e: &mut Errors<'_>, at: Spot<'_>, name: &str) -> bool {
    let mut problems = names::label_key_problems(name);
    if problems.is_empty() && !name.contains('/') && !resource_names::is_standard(name) {
        problems.push("must be a standard resource type or fully qualified".into());
    }
    let valid = problems.is_empty();
    e.invalid_each(at, Named(name), problems);
    valid
}

/// `ValidateResourceQuantityValue`: not negative, and whole where things are counted.
pub fn resource_amount(e: &mut Errors<'_>, at: Spot<'_>, name: &str, amount: &Value) {
    let text = amount.as_str().unwrap_or_default();
    let Ok(quantity) = text.parse::<Quantity>() else {
        return;
    };
    if quantity.signum() < 0 {
        e.invalid(at, text, NOT_NEGATIVE);
    }
    if resource_names::is_integer(name) && quantity.milli_value() % 1000 != 0 {
        e.invalid(at, text, "must be an integer");
    }
}

/// `ValidateContainerResourceName`: a resource that a container may ask for.
pub fn container_resource_name(e: &mut Errors<'_>, at: Spot<'_>, name: &str) {
    resource_name(e, at, name);
    let problem = if !name.contains('/') {
        (!resource_names::is_standard_of_containers(name))
            .then_some("must be a standard resource for containers")
    } else {
        (!resource_names::is_native(name) && !resource_names::is_extended(name))
            .then_some("doesn't follow extended resource name standard")
    };
    if let Some(problem) = problem {
        e.invalid(at, Named(name), problem);
    }
}

/// `IsDomainPrefixedPath`: a subdomain and a path of a URL (RFC 3986), such as `acme.io/foo`.
pub fn domain_prefixed_path(e: &mut Errors<'_>, at: Spot<'_>, text: &str) {
    if text.is_empty() {
        return e.required(at, "");
    }
    let (host, path) = text.split_once('/').unwrap_or_default();
    if host.is_empty() || path.is_empty() {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return e.invalid(at, text, detail);
    }
    e.invalid_each(at, host, names::dns_subdomain_problems(host));
    let of_paths = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !path.bytes().all(of_paths) {
        let format = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
        e.invalid(at, path, names::regex("Invalid path", format, &[]));
    }
}

/// An expression that does not compile.
pub fn uncompiled(e: &mut Errors<'_>, at: Spot<'_>, shown: &str, invalid: Invalid) {
    if invalid.internal {
        e.add(Reason::Internal, at, String::new(), invalid.detail);
    } else {
        e.invalid(at, shown, invalid.detail);
    }
}
