//! Names and limits that claims, classes and slices share: `pkg/apis/resource/validation`.
//!
//! What declarative validation finds as well is marked: where it finds it, upstream drops these errors.

use proto::Value;
use proto::meta::names;
use proto::path::{Errors, Spot};

use crate::rules;

const LONGEST_DRIVER: usize = 63;
const LONGEST_POOL: usize = 253;
const LONGEST_ID: usize = 32;
/// A domain, a slash and an identifier.
pub(super) const LONGEST_KEY: usize = LONGEST_DRIVER + 1 + LONGEST_ID;

/// `ValidateCSIDriverName`, which drivers of devices follow, too.
pub(super) fn driver(e: &mut Errors<'_>, at: Spot<'_>, name: &str) {
    if name.is_empty() {
        return e.required(at, "");
    }
    if name.len() > LONGEST_DRIVER {
        e.too_long(at, LONGEST_DRIVER);
    }
    e.invalid_each(
        at,
        name,
        names::dns_subdomain_problems(&name.to_lowercase()),
    );
}

/// Subdomains between slashes.
pub(super) fn pool(e: &mut Errors<'_>, at: Spot<'_>, name: &str) {
    if name.is_empty() {
        return e.required(at, "");
    }
    if name.len() > LONGEST_POOL {
        e.too_long(at, LONGEST_POOL);
    }
    for part in name.split('/') {
        e.invalid_each(at, part, names::dns_subdomain_problems(part));
    }
}

/// Names of devices, requests and counters.
pub(super) fn label(e: &mut Errors<'_>, at: Spot<'_>, name: &str) {
    e.invalid_each(at, name, names::dns_label_problems(name));
}

/// A domain, which may be left out, and an identifier of the language C.
pub(super) fn qualified(e: &mut Errors<'_>, at: Spot<'_>, name: &str) {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [id] => identifier(e, at, id),
        [domain, id] => {
            if domain.is_empty() {
                e.invalid(at, "", "the domain must not be empty");
            } else {
                driver(e, at, domain);
            }
            if id.is_empty() {
                e.invalid(at, "", "the name must not be empty");
            } else {
                identifier(e, at, id);
            }
        }
        _ => {}
    }
}

/// The same with its domain.
pub(super) fn fully_qualified(e: &mut Errors<'_>, at: Spot<'_>, name: &str) {
    qualified(e, at, name);
    if !name.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        e.invalid(at, name, detail);
    }
}

fn identifier(e: &mut Errors<'_>, at: Spot<'_>, id: &str) {
    if id.len() > LONGEST_ID {
        e.too_long(at, LONGEST_ID);
    }
    e.invalid_each(at, id, names::c_identifier_problems(id));
}

/// A UUID in the form of RFC 4122, in lower case.
pub(super) fn uid(e: &mut Errors<'_>, at: Spot<'_>, uid: &str) {
    match uuid::Uuid::try_parse(uid) {
        Err(error) => e.invalid(at, uid, format!("error validating uid: {error}")),
        Ok(parsed) if parsed.hyphenated().to_string() != uid => {
            let detail = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters";
            e.invalid(at, uid, detail);
        }
        Ok(_) => {}
    }
}

/// Whether a list is no longer than it may be. Of one that is, nothing else is told.
pub(super) fn fits(e: &mut Errors<'_>, at: Spot<'_>, length: usize, most: usize) -> bool {
    if length > most {
        e.too_many(at, length, most);
    }
    length <= most
}

/// Keys that are too long to be shown lose their middle.
pub(super) fn shortened(key: &str, longest: usize) -> String {
    const DOTS: &str = "...";
    if key.len() <= longest {
        return key.to_owned();
    }
    let left = longest - DOTS.len();
    let bytes = key.as_bytes();
    let (head, tail) = (&bytes[..left.div_ceil(2)], &bytes[key.len() - left / 2..]);
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(head) + DOTS + &text(tail)
}

/// A value of a label, if one is given.
pub(super) fn label_value(e: &mut Errors<'_>, at: Spot<'_>, value: &str) {
    e.invalid_each(at, value, names::label_value_problems(value));
}

/// A JSON object of a limited size.
pub(super) fn object(e: &mut Errors<'_>, at: Spot<'_>, raw: &[u8], stored: bool) {
    const LARGEST: usize = 10 << 10;
    const HIDDEN: &str = "<value omitted>";
    if raw.is_empty() {
        return e.required(at, "");
    }
    if !stored && raw.len() > LARGEST {
        return e.too_long(at, LARGEST);
    }
    match proto::codec::json::parse(raw) {
        Err(error) => {
            let detail = format!("error parsing data as JSON: {error}");
            e.invalid(at, HIDDEN, detail);
        }
        Ok(Value::Null) => e.required(at, ""),
        Ok(Value::Map(_)) => {}
        Ok(_) => e.invalid(at, HIDDEN, "must be a valid JSON object"),
    }
}

/// Conditions that make a device ready for a pod, and those that say it never will be (KEP-5007).
pub(super) fn bindings(e: &mut Errors<'_>, holder: proto::view::Node<'_>) {
    use proto::catalogue::names as n;
    const MOST: usize = 4;
    let at = |field| Spot::node(holder.value()).field(field);
    let fields = [n::BINDING_CONDITIONS, n::BINDING_FAILURE_CONDITIONS];
    for field in fields {
        let items = holder.items(field);
        if items.len() > MOST {
            e.covered(|e| e.too_many(at(field), items.len(), MOST));
            continue;
        }
        for item in items {
            let text = item.as_str().unwrap_or_default();
            e.invalid_each(Spot::node(item), text, names::label_key_problems(text));
        }
    }
    let [ready, failed] = fields.map(|field| holder.items(field));
    for items in [ready, failed] {
        for (i, item) in items.iter().enumerate() {
            let (at, text) = (Spot::node(item), item.as_str().unwrap_or_default());
            if items[..i].contains(item) {
                e.duplicate(at, text);
            }
            if std::ptr::eq(items, failed) && ready.contains(item) {
                let detail = "bindingFailureConditions must not overlap with bindingConditions";
                e.invalid(at, text, detail);
            }
        }
    }
    let shown = |field| rules::json(holder.get(field));
    if ready.is_empty() && !failed.is_empty() {
        let detail = "bindingConditions are required to use bindingFailureConditions";
        e.invalid(at(fields[0]), shown(fields[0]), detail);
    }
    if failed.is_empty() && !ready.is_empty() {
        let detail = "bindingFailureConditions are required to use bindingConditions";
        e.invalid(at(fields[1]), shown(fields[1]), detail);
    }
}
