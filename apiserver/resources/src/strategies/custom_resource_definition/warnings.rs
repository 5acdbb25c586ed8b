//! What the author of a definition is warned of: formats that nobody knows, and sets of what is no scalar. Of a
//! definition that changes, what is new of it.

use std::collections::{BTreeSet, HashSet};

use proto::Value;

use super::props::{self, Props};
use crate::structural::{Kind, Schema};

pub(super) fn of(object: &Value, old: Option<&Value>) -> Vec<String> {
    let new_of = |found: fn(&Value) -> Vec<String>| {
        let old: HashSet<String> = old.map(found).unwrap_or_default().into_iter().collect();
        let mut found = found(object);
        found.retain(|text| !old.contains(text));
        found
    };
    let mut all = new_of(formats);
    all.append(&mut new_of(sets));
    all
}

fn each(object: &Value, see: &mut dyn FnMut(Props<'_>)) {
    for schema in props::all(props::spec(object)) {
        schema.any(&mut |schema| {
            see(schema);
            false
        });
    }
}

fn formats(object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    each(object, &mut |schema| {
        let format = schema.text("format");
        if !format.is_empty() && Schema::is_unknown_format(Kind::of(schema.kind()).as_ref(), format)
        {
            let format = proto::path::quote(format);
            found.push(format!("unrecognized format {format}"));
        }
    });
    found
}

fn sets(object: &Value) -> Vec<String> {
    let mut found = BTreeSet::new();
    each(object, &mut |schema| {
        let kind = schema.schema("items").map_or("", |items| items.kind());
        let is_set = schema.opt_text("x-kubernetes-list-type") == Some("set");
        if is_set && matches!(kind, "object" | "array") {
            found.insert(format!(
                "x-kubernetes-list-type: set for items of type \"{kind}\" is not supported by server-side apply or CEL validation rules"
            ));
        }
    });
    found.into_iter().collect()
}
