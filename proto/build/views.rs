//! Renders `views.rs`: a newtype per message with one accessor and one constant per field.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::facts::{Facts, Field, Shape};
use crate::names::{Names, upper_snake};
use crate::tables::{by_module, module_of};

/// Groups whose kinds the API server speaks without serving them as resources.
const BESIDE: &[&str] = &[
    "*",
    "admission.k8s.io/v1",
    "apidiscovery.k8s.io/v2",
    "audit.k8s.io/v1",
    "meta.k8s.io/v1",
];

pub(crate) fn render(facts: &Facts, names: &Names) -> String {
    let mut out = String::from(HEAD);
    for (module, messages) in by_module(reached(facts)) {
        let _ = writeln!(
            out,
            "{ALLOW}\npub mod {module} {{\nuse crate::{{catalogue::names as n, view as v}};"
        );
        let _ = writeln!(out, "use crate::catalogue::messages::{module} as m;");
        let _ = writeln!(out, "views! {{");
        for message in &messages {
            let name = module_of(message).1;
            let _ = writeln!(out, "{name} {}", upper_snake(name));
        }
        let _ = writeln!(out, "}}");
        for message in messages {
            render_view(&mut out, facts, names, message);
        }
        let _ = writeln!(out, "}}");
    }
    out
}

/// For `JSONSchemaProps::not` and the like.
const ALLOW: &str =
    "#[allow(clippy::should_implement_trait, reason = \"accessors bear the names of fields\")]";

const HEAD: &str = "
macro_rules! views {
    ($($name:ident $message:ident)*) => {$(
        #[derive(Clone, Copy, Debug)]
        pub struct $name<'a>(v::Node<'a>);
        impl<'a> v::View<'a> for $name<'a> {
            const MESSAGE: crate::catalogue::MsgId = m::$message;
            #[inline]
            fn of(node: v::Node<'a>) -> Self {
                Self(node)
            }
            #[inline]
            fn node(self) -> v::Node<'a> {
                self.0
            }
        }
    )*};
}
";

/// Every message that what is served by default, or stored, holds.
fn reached(facts: &Facts) -> BTreeSet<&str> {
    let mut versions: BTreeSet<String> = BESIDE.iter().map(|v| (*v).to_owned()).collect();
    let version = |group: &str, version: &str| match group {
        "" | "*" => version.to_owned(),
        _ => format!("{group}/{version}"),
    };
    versions.extend(
        facts
            .resources
            .iter()
            .filter(|r| r.on)
            .map(|r| version(&r.group, &r.version)),
    );
    let mut open: Vec<&str> = Vec::new();
    open.extend(
        facts
            .resources
            .iter()
            .filter_map(|r| r.storage.as_ref())
            .map(|s| s.message.as_str()),
    );
    open.extend(
        facts
            .kinds
            .iter()
            .filter(|k| versions.contains(&version(&k.0, &k.1)))
            .map(|k| k.3.as_str()),
    );
    // The schema inside the unions of a CRD's schema, which are kinds of their own.
    open.push("apiextensions/v1.JSONSchemaProps");
    let mut seen = BTreeSet::new();
    while let Some(message) = open.pop() {
        if seen.insert(message) {
            open.extend(
                facts.messages[message]
                    .fields
                    .iter()
                    .filter_map(Field::message),
            );
        }
    }
    seen
}

fn render_view(out: &mut String, facts: &Facts, names: &Names, message: &str) {
    let mut fields = BTreeMap::new();
    flatten(facts, message, &mut fields);
    if fields.is_empty() {
        return;
    }
    let module = module_of(message).0;
    let _ = writeln!(out, "impl<'a> {}<'a> {{", module_of(message).1);
    for (name, field) in fields {
        let constant = names.constant(name);
        let accessor = names.accessor(name);
        let (returns, call) = access(field, &module);
        let _ = writeln!(out, "pub const {constant}: crate::NameId = n::{constant};");
        let _ = writeln!(
            out,
            "#[inline]\n#[must_use]\npub fn {accessor}(self) -> {returns} {{ self.0.{call}(n::{constant}) }}"
        );
    }
    let _ = writeln!(out, "}}");
}

/// The fields by name, with those of embedded structs.
fn flatten<'a>(facts: &'a Facts, message: &str, out: &mut BTreeMap<&'a str, &'a Field>) {
    for field in &facts.messages[message].fields {
        match &field.name {
            Some(name) => {
                out.insert(name, field);
            }
            None => flatten(facts, &field.kind, out),
        }
    }
}

/// What the accessor of a field returns, and the function of `Node` that gets it.
fn access(field: &Field, module: &str) -> (String, &'static str) {
    let view = |message: &str| {
        let (of, name) = module_of(message);
        if of == module {
            format!("{name}<'a>")
        } else {
            format!("v::{of}::{name}<'a>")
        }
    };
    let fixed = |returns: &str, call| (returns.to_owned(), call);
    match (field.shape, field.message(), field.pointer) {
        (Shape::Map, _, _) => fixed("&'a v::Map", "dict"),
        (Shape::List, Some(message), _) => {
            let (of, name) = module_of(message);
            let item = if of == module {
                name.to_owned()
            } else {
                format!("v::{of}::{name}")
            };
            (format!("v::List<'a, {item}<'a>>"), "list")
        }
        (Shape::List, None, _) => fixed("&'a [v::Value]", "items"),
        (Shape::One, Some(message), true) => (format!("Option<{}>", view(message)), "opt_message"),
        (Shape::One, Some(message), false) => (view(message), "message"),
        (Shape::One, None, pointer) => match (field.kind.as_str(), pointer) {
            ("string", false) => fixed("&'a str", "str"),
            ("string", true) | ("time" | "microtime" | "quantity", _) => {
                fixed("Option<&'a str>", "opt_str")
            }
            ("bool", false) => fixed("bool", "bool"),
            ("bool", true) => fixed("Option<bool>", "opt_bool"),
            ("int32" | "int64", false) => fixed("i64", "int"),
            ("int32" | "int64", true) => fixed("Option<i64>", "opt_int"),
            ("float64", true) => fixed("Option<f64>", "opt_float"),
            ("int-or-string", _) => fixed("Option<v::IntOrStr<'a>>", "int_or_string"),
            ("bytes" | "raw" | "fields" | "json", _) => fixed("Option<&'a [u8]>", "opt_bytes"),
            ("strings", _) => fixed("&'a [v::Value]", "items"),
            ("schema-or-bool" | "schema-or-array" | "schema-or-strings", _) => {
                fixed("Option<&'a v::Value>", "get")
            }
            (kind, _) => panic!("no accessor for {kind}"),
        },
    }
}
