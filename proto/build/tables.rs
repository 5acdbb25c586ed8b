//! Renders `tables.rs`: flat static arrays that refer to each other by 16-bit indexes, so that they
//! need no relocation and compile fast.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::facts::{
    Attributes, Facts, Field, GateSpec, Release, Resource, Shape, Storage, Subresource,
};
use crate::names::{Names, upper_snake};

/// What the renderers share.
pub(crate) struct Tables<'a> {
    facts: &'a Facts,
    names: &'a Names,
    /// Message ids by name.
    pub(crate) ids: BTreeMap<&'a str, usize>,
}

pub(crate) fn render(facts: &Facts, names: &Names) -> String {
    let tables = Tables::new(facts, names);
    let mut out = String::new();
    tables.names(&mut out);
    tables.messages(&mut out);
    tables.message_constants(&mut out);
    tables.kinds(&mut out);
    tables.resources(&mut out);
    tables.gates(&mut out);
    out
}

/// The module of a message in generated code, and its Go name: `core_v1` and `PodSpec`.
pub(crate) fn module_of(message: &str) -> (String, &str) {
    let (package, name) = message.rsplit_once('.').expect("a message has a package");
    (package.replace(['/', '.', '-'], "_"), name)
}

/// Messages by module, in order.
pub(crate) fn by_module<'a>(
    messages: impl IntoIterator<Item = &'a str>,
) -> BTreeMap<String, Vec<&'a str>> {
    let mut modules: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for message in messages {
        modules
            .entry(module_of(message).0)
            .or_default()
            .push(message);
    }
    modules
}

impl<'a> Tables<'a> {
    pub(crate) fn new(facts: &'a Facts, names: &'a Names) -> Self {
        let ids = facts
            .messages
            .keys()
            .enumerate()
            .map(|(i, name)| (name.as_str(), i))
            .collect();
        Self { facts, names, ids }
    }

    fn names(&self, out: &mut String) {
        list(
            out,
            "pub(crate) static NAMES: [&str; {}]",
            self.names.sorted.iter().map(|n| format!("{n:?}")),
        );
        let (seed, displacements, slots) = self.names.perfect_hash();
        line(out, &format!("pub(crate) const NAME_SEED: u64 = {seed};"));
        list(
            out,
            "pub(crate) static NAME_DISPLACEMENTS: [u16; {}]",
            displacements,
        );
        list(out, "pub(crate) static NAME_SLOTS: [u16; {}]", slots);
        line(out, "/// One constant for each JSON name of the catalogue.");
        line(out, "pub mod names {\nuse crate::name::NameId;");
        for name in &self.names.sorted {
            line(
                out,
                &format!(
                    "pub const {}: NameId = NameId({});",
                    self.names.constant(name),
                    self.names.id(name)
                ),
            );
        }
        line(out, "}");
    }

    /// Fields stand in the order of their messages; an index into them identifies a field.
    fn messages(&self, out: &mut String) {
        let mut rows = Vec::new();
        let (mut fields, mut flat, mut by_name, mut by_tag) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut extras = Extras::default();
        let first = self.first_fields();
        for (name, m) in &self.facts.messages {
            fields.extend(m.fields.iter().map(|f| self.field(f, &mut extras)));
            let mut own_flat = Vec::new();
            self.flatten(name, &first, &mut own_flat);
            let mut own_by_name: Vec<(u16, u16)> = own_flat
                .iter()
                .map(|(n, i)| (self.names.id(n), *i))
                .collect();
            own_by_name.sort_unstable();
            assert!(
                own_by_name.windows(2).all(|w| w[0].0 != w[1].0),
                "{name} has a field twice"
            );
            let mut own_by_tag: Vec<(u16, u16)> = m
                .fields
                .iter()
                .zip(first[name.as_str()]..)
                .map(|(f, i)| (f.tag, i))
                .filter(|(tag, _)| *tag != 0)
                .collect();
            own_by_tag.sort_unstable();
            assert!(
                own_by_tag.windows(2).all(|w| w[0].0 != w[1].0),
                "{name} has a tag twice"
            );
            let openapi = &m.openapi;
            rows.push(format!(
                "Message {{ name: {name:?}, openapi: {openapi:?}, flat: {}, by_name: {}, by_tag: {}, atomic: {} }}",
                append(&mut flat, own_flat.iter().map(|(_, i)| *i)),
                append(&mut by_name, own_by_name.iter().map(|(_, i)| *i)),
                append(&mut by_tag, own_by_tag.iter().map(|(_, i)| *i)),
                m.atomic,
            ));
        }
        list(out, "static MESSAGES: [Message; {}]", rows);
        line(
            out,
            &format!(
                "static FIELDS: [Field; {}] = {{ use {{Kind as K, Shape as S}}; [",
                fields.len()
            ),
        );
        fields.iter().for_each(|f| line(out, &format!("{f},")));
        line(out, "] };");
        list(out, "static FLAT: [u16; {}]", flat);
        list(out, "static BY_NAME: [u16; {}]", by_name);
        list(out, "static BY_TAG: [u16; {}]", by_tag);
        list(out, "static EXTRAS: [Extra; {}]", extras.rows);
    }

    /// The index of the first field of each message.
    fn first_fields(&self) -> BTreeMap<&'a str, u16> {
        let mut next = 0_u16;
        let mut first = BTreeMap::new();
        for (name, m) in &self.facts.messages {
            first.insert(name.as_str(), next);
            next += u16::try_from(m.fields.len()).expect("fewer fields than 65,536");
        }
        first
    }

    /// Names and indexes of the fields of a message with those of embedded structs in their place.
    fn flatten(&self, message: &str, first: &BTreeMap<&str, u16>, out: &mut Vec<(&'a str, u16)>) {
        for (f, i) in self.facts.messages[message]
            .fields
            .iter()
            .zip(first[message]..)
        {
            match &f.name {
                Some(name) => out.push((name, i)),
                None => self.flatten(&f.kind, first, out),
            }
        }
    }

    fn field(&self, f: &Field, extras: &mut Extras) -> String {
        let shape = match f.shape {
            Shape::One => "One",
            Shape::List => "List",
            Shape::Map => "Map",
        };
        // An embedded struct has no name of its own; 0 stands in its place.
        let name = f.name.as_ref().map_or(0, |n| self.names.id(n));
        let (tag, kind, flags) = (f.tag, self.kind(f), flags(f));
        let extra = extras.of(&f.attributes, self.names);
        format!(
            "Field{{name:NameId({name}),tag:{tag},shape:S::{shape},kind:{kind},flags:Flags({flags}),extra:{extra}}}"
        )
    }

    fn kind(&self, f: &Field) -> String {
        if let Some(message) = f.message() {
            return format!("K::Message(MsgId({}))", self.ids[message]);
        }
        let name = match f.kind.as_str() {
            "string" => "String",
            "bool" => "Bool",
            "int32" => "Int32",
            "int64" => "Int64",
            "float64" => "Float64",
            "bytes" => "Bytes",
            "time" => "Time",
            "microtime" => "MicroTime",
            "quantity" => "Quantity",
            "int-or-string" => "IntOrString",
            "raw" => "RawExtension",
            "fields" => "FieldsV1",
            "json" => "Json",
            "strings" => "Strings",
            "schema-or-bool" => "SchemaOrBool",
            "schema-or-array" => "SchemaOrArray",
            "schema-or-strings" => "SchemaOrStrings",
            other => panic!("no kind {other}"),
        };
        format!("K::{name}")
    }

    fn message_constants(&self, out: &mut String) {
        line(
            out,
            "/// One constant for each message, by Go package.\npub mod messages {",
        );
        for (module, messages) in by_module(self.facts.messages.keys().map(String::as_str)) {
            line(
                out,
                &format!("pub mod {module} {{\nuse crate::catalogue::MsgId;"),
            );
            for message in messages {
                let constant = upper_snake(module_of(message).1);
                line(
                    out,
                    &format!(
                        "pub const {constant}: MsgId = MsgId({});",
                        self.ids[message]
                    ),
                );
            }
            line(out, "}");
        }
        line(out, "}");
    }

    fn kinds(&self, out: &mut String) {
        let row = |(group, version, kind, message): &(String, String, String, String)| {
            format!("({group:?}, {version:?}, {kind:?}, {})", self.id(message))
        };
        list(
            out,
            "static KINDS: [(&str, &str, &str, MsgId); {}]",
            self.facts.kinds.iter().map(row),
        );
    }

    fn id(&self, message: &str) -> String {
        let id = self
            .ids
            .get(message)
            .unwrap_or_else(|| panic!("no message {message}"));
        format!("MsgId({id})")
    }

    fn optional_id(&self, message: Option<&String>) -> String {
        message.map_or("None".to_owned(), |m| format!("Some({})", self.id(m)))
    }

    fn resources(&self, out: &mut String) {
        list(
            out,
            "static RESOURCES: &[Resource; {}]",
            self.facts.resources.iter().map(|r| self.resource(r)),
        );
    }

    fn resource(&self, r: &Resource) -> String {
        let Resource {
            group,
            version,
            name,
            kind,
            singular,
            namespaced,
            on,
            verbs,
            short,
            categories,
            reset,
            ..
        } = r;
        let columns = r.columns.iter().map(|c| {
            let (name, kind, format, priority) = (&c.name, &c.kind, &c.format, c.priority);
            format!("Column {{ name: {name:?}, kind: {kind:?}, format: {format:?}, priority: {priority} }}")
        });
        let gc = match r.gc.as_str() {
            "background" => "Background",
            "orphan" => "Orphan",
            "unsupported" => "Unsupported",
            other => panic!("no garbage collection policy {other}"),
        };
        format!(
            "Resource {{ group: {group:?}, version: {version:?}, name: {name:?}, singular: {singular:?}, kind: {kind:?}, \
             short_names: &{short:?}, categories: &{categories:?}, namespaced: {namespaced}, on_by_default: {on}, \
             verbs: &{verbs:?}, message: {message}, list: {list}, storage: {storage}, subresources: &[{subs}], \
             columns: &[{columns}], field_labels: &{labels:?}, flags: ResourceFlags({flags}), gc: GcPolicy::{gc}, \
             ttl_seconds: {ttl:?}, reset_fields: &{reset:?}, introduced: {introduced}, removed: {removed} }}",
            message = self.id(&r.message),
            list = self.optional_id(r.list.as_ref()),
            storage = r
                .storage
                .as_ref()
                .map_or("None".to_owned(), |s| self.storage(s)),
            subs = join(r.subresources.iter().map(|s| self.subresource(s))),
            columns = join(columns),
            labels = r.labels,
            flags = r.flags.iter().map(|f| resource_flag(f)).sum::<u32>(),
            ttl = r.ttl,
            introduced = release(r.introduced),
            removed = optional(r.removed),
        )
    }

    fn storage(&self, s: &Storage) -> String {
        let Storage {
            group,
            version,
            message,
            json,
            prefix,
            former,
        } = s;
        let message = self.id(message);
        let former = former.iter().map(|f| {
            let (until, version, message) = (release(f.until), &f.version, self.id(&f.message));
            format!("Former {{ until: {until}, version: {version:?}, message: {message} }}")
        });
        format!(
            "Some(Storage {{ group: {group:?}, version: {version:?}, message: {message}, json: {json}, prefix: {prefix:?}, \
             former: &[{former}] }})",
            former = join(former),
        )
    }

    fn subresource(&self, s: &Subresource) -> String {
        let Subresource {
            name,
            group,
            version,
            kind,
            message,
            verbs,
            reset,
        } = s;
        let message = self.optional_id(message.as_ref());
        format!(
            "Subresource {{ name: {name:?}, group: {group:?}, version: {version:?}, kind: {kind:?}, message: {message}, \
             verbs: &{verbs:?}, reset_fields: &{reset:?} }}"
        )
    }

    fn gates(&self, out: &mut String) {
        let gates = &self.facts.gates;
        let id = |name: &String| {
            let i = gates.iter().position(|g| g.name == *name);
            let i = i.unwrap_or_else(|| panic!("no gate {name}"));
            u8::try_from(i).expect("a set of gates has 256 places")
        };
        let rows = gates.iter().map(|g| {
            let name = &g.name;
            let history = join(g.history.iter().map(spec));
            let needs = join(g.needs.iter().map(|other| format!("GateId({})", id(other))));
            format!("Gate {{ name: {name:?}, history: &[{history}], needs: &[{needs}] }}")
        });
        list(out, "static GATES: &[Gate; {}]", rows);
        line(out, "/// One constant for each feature gate.");
        line(out, "pub mod gate {\nuse super::GateId;");
        for gate in gates {
            let (name, id) = (upper_snake(&gate.name), id(&gate.name));
            line(out, &format!("pub const {name}: GateId = GateId({id});"));
        }
        line(out, "}");
    }
}

fn spec(spec: &GateSpec) -> String {
    let stage = match spec.stage.as_str() {
        "alpha" => "Alpha",
        "beta" => "Beta",
        "stable" => "Stable",
        "deprecated" => "Deprecated",
        other => panic!("no stage {other}"),
    };
    let GateSpec { on, locked, .. } = spec;
    let (since, min) = (release(spec.since), optional(spec.min_compatibility));
    format!(
        "GateSpec {{ since: {since}, min_compatibility: {min}, stage: GateStage::{stage}, default: {on}, locked: {locked} }}"
    )
}

fn release((major, minor): Release) -> String {
    format!("Release::new({major}, {minor})")
}

fn optional(of: Option<Release>) -> String {
    of.map_or("None".to_owned(), |of| format!("Some({})", release(of)))
}

/// The rows of `EXTRAS`; equal ones are shared.
#[derive(Default)]
struct Extras {
    rows: Vec<String>,
    places: BTreeMap<String, usize>,
}

impl Extras {
    /// One more than the index of the row, 0 if there is nothing to say.
    fn of(&mut self, a: &Attributes, names: &Names) -> usize {
        let Attributes {
            keys,
            patch_key,
            go_type,
            default,
            enumeration,
            ..
        } = a;
        let texts = [patch_key, go_type, default];
        if keys.is_empty() && texts.iter().all(|text| text.is_none()) && enumeration.is_empty() {
            return 0;
        }
        let id = |name: &String| format!("NameId({})", names.id(name));
        let keys = join(keys.iter().map(id));
        let patch_key = patch_key
            .as_ref()
            .map_or("None".to_owned(), |k| format!("Some({})", id(k)));
        let row = format!(
            "Extra {{ list_keys: &[{keys}], patch_key: {patch_key}, go_type: {go_type:?}, default: {default:?}, enumeration: &{enumeration:?} }}"
        );
        if let Some(place) = self.places.get(&row) {
            return *place;
        }
        self.rows.push(row.clone());
        self.places.insert(row, self.rows.len());
        self.rows.len()
    }
}

/// The bits of `catalogue::Flags`.
fn flags(f: &Field) -> u32 {
    let a = &f.attributes;
    let list = |kind| a.list.as_deref() == Some(kind);
    let patch = |strategy: &str| a.patch.iter().any(|p| p == strategy);
    let known = ["set", "map", "atomic"];
    assert!(
        a.list.as_deref().is_none_or(|l| known.contains(&l)),
        "list type {:?}",
        a.list
    );
    let bits = [
        f.pointer,
        a.omit_empty,
        a.omit_zero,
        f.name.is_none() && f.tag != 0,
        a.required,
        list("set"),
        list("map"),
        list("atomic"),
        a.map_atomic,
        patch("merge"),
        patch("retainKeys"),
        patch("replace"),
        f.element_pointer,
    ];
    bits.iter()
        .zip(0..)
        .map(|(bit, i)| u32::from(*bit) << i)
        .sum()
}

/// The bits of `catalogue::ResourceFlags`.
fn resource_flag(name: &str) -> u32 {
    match name {
        "create-on-update" => 1,
        "unconditional-update" => 1 << 1,
        "graceful" => 1 << 2,
        "return-deleted" => 1 << 3,
        other => panic!("no flag {other}"),
    }
}

/// Appends `items` to a table and returns the range they got.
fn append(table: &mut Vec<u16>, items: impl Iterator<Item = u16>) -> String {
    let from = table.len();
    table.extend(items);
    format!("({from}, {})", table.len())
}

fn join(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// A static array; `{}` in `head` becomes its length.
fn list<T: ToString>(out: &mut String, head: &str, items: impl IntoIterator<Item = T>) {
    let items: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    let head = head.replace("{}", &items.len().to_string());
    let open = if head.contains(": &[") { "&[" } else { "[" };
    let _ = writeln!(out, "{head} = {open}\n{}\n];", items.join(",\n"));
}
