//! Schemas and objects of custom resources: what upstream's API server makes of them, and what we do.
//!
//! `hack/go/kubernetes/structural` asks upstream what `structural/cases.json` has; its answers are kept beside
//! it (`hack/structural --record`). Where upstream's order is random, ours may be any.

use std::fmt::Write;
use std::io::Read;

use proto::codec::json::Strictness;
use proto::path::FieldError;
use proto::{Map, MsgId, Value};
use resources::structural::{Additional, Malformed, Schema, Topology, coerce_root_metadata};

const CASES: &[u8] = include_bytes!("structural/cases.json");
const ANSWERS: &[u8] = include_bytes!("structural/answers.jsonl.gz");

struct Case<'a> {
    name: &'a str,
    schema: &'a Value,
    root: bool,
    at: &'a str,
    /// Each value with the one that it replaces, if it is an update.
    values: Vec<(Value, Option<Value>)>,
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or("")
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_list).unwrap_or(&[])
}

fn is_set(value: &Value, field: &str) -> bool {
    value.get(field).and_then(Value::as_bool) == Some(true)
}

fn case<'a>(case: &'a Value, lists: &Value) -> Case<'a> {
    let schema = case.get("schema").expect("a schema");
    let spec = is_set(case, "spec");
    let whole = |value: &Value| {
        if !spec {
            return value.clone();
        }
        let mut object = Value::object();
        object.set(&["apiVersion"], "g/v1");
        object.set(&["kind"], "K");
        object.set(&["spec"], value.clone());
        object
    };
    let mut values: Vec<_> = list(case, "values")
        .iter()
        .map(|pair| {
            let pair = pair.as_list().expect("a list");
            (whole(&pair[0]), pair.get(1).map(whole))
        })
        .collect();
    for value in list(lists, text(case, "list")) {
        values.push((whole(value), None));
    }
    for value in list(case, "spread") {
        let properties = schema.get("properties").and_then(Value::as_map);
        let names = properties.expect("properties").iter();
        let all: Map = names.map(|(n, _)| (n.clone(), value.clone())).collect();
        values.push((Value::Map(all), None));
    }
    Case {
        name: text(case, "name"),
        schema,
        root: !is_set(case, "part"),
        at: text(case, "at"),
        values,
    }
}

/// What differs, as lines.
struct Report<'a> {
    of: String,
    answer: &'a Value,
    out: String,
}

impl Report<'_> {
    fn differs(&mut self, what: &str, theirs: &dyn std::fmt::Debug, ours: &dyn std::fmt::Debug) {
        let _ = writeln!(
            self.out,
            "{} {what}\n  upstream: {theirs:?}\n  ours:     {ours:?}",
            self.of
        );
    }

    fn errors(&mut self, what: &str, found: &[FieldError]) {
        let mut ours: Vec<String> = found.iter().map(show).collect();
        let theirs = self.answer.get(what).cloned().unwrap_or_default();
        if is_set(&theirs, "any") {
            ours.sort();
        }
        let theirs: Vec<&str> = list(&theirs, "errors")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        if theirs != ours {
            self.differs(what, &theirs, &ours);
        }
    }

    fn texts(&mut self, what: &str, ours: &[String]) {
        let theirs = list(self.answer, what).iter().filter_map(Value::as_str);
        let theirs: Vec<&str> = theirs.collect();
        if theirs != ours {
            self.differs(what, &theirs, &ours);
        }
    }

    fn text(&mut self, what: &str, ours: &str) {
        let theirs = text(self.answer, what);
        if theirs != ours {
            self.differs(what, &theirs, &ours);
        }
    }

    fn object(&mut self, what: &str, ours: &Value, original: &Value) {
        let theirs = self.answer.get(what).unwrap_or(original);
        if theirs != ours {
            let theirs = theirs.clone();
            self.differs(what, &theirs, ours);
        }
    }
}

fn show(error: &FieldError) -> String {
    format!("{} {error}", error.reason.code())
}

/// The defaults of a schema by their places.
fn defaults(at: &str, schema: &Schema, into: &mut Map) {
    if let Some(default) = schema.default_value() {
        into.insert(at, default.clone());
    }
    if let Some(items) = schema.items() {
        defaults(&format!("{at}[]"), items, into);
    }
    if let Additional::Schema(additional) = schema.additional() {
        defaults(&format!("{at}.*"), additional, into);
    }
    for (name, property) in schema.properties() {
        defaults(&format!("{at}.{name}"), property, into);
    }
}

fn topology(at: &str, schema: &Schema, found: &mut Vec<FieldError>) {
    let rules = Topology {
        atomic_sets: true,
        keys_are_set: true,
    };
    found.extend(schema.validate_topology(at, rules));
    if let Some(items) = schema.items() {
        topology(&format!("{at}.items"), items, found);
    }
    if let Additional::Schema(additional) = schema.additional() {
        topology(&format!("{at}.additionalProperties"), additional, found);
    }
    for (name, property) in schema.properties() {
        topology(&format!("{at}.properties[{name}]"), property, found);
    }
    for (name, nested) in [
        ("allOf", schema.all_of()),
        ("anyOf", schema.any_of()),
        ("oneOf", schema.one_of()),
    ] {
        for (i, nested) in nested.iter().enumerate() {
            topology(&format!("{at}.{name}[{i}]"), nested, found);
        }
    }
    if let Some(not) = schema.not() {
        topology(&format!("{at}.not"), not, found);
    }
}

fn of_schema(case: &Case<'_>, answer: &Value) -> String {
    let mut report = Report {
        of: case.name.to_owned(),
        answer,
        out: String::new(),
    };
    let schema = match Schema::new(case.schema) {
        Ok(schema) => schema,
        Err(why) => {
            if why != text(answer, "new") {
                report.differs("new", &text(answer, "new"), &why);
            }
            return report.out;
        }
    };
    if answer.get("new").is_some() {
        report.differs("new", &text(answer, "new"), &"none");
        return report.out;
    }
    report.errors("structure", &schema.validate_structure("schema"));
    match schema.validate_defaults("schema", case.root, true) {
        Ok(errors) => report.errors("defaults", &errors),
        Err(why) => report.differs("defaults", &"none", &why),
    }
    let mut found = Vec::new();
    topology(
        "spec.versions[0].schema.openAPIV3Schema",
        &schema,
        &mut found,
    );
    report.errors("lists", &found);
    let (mut before, mut after) = (Map::new(), Map::new());
    defaults("", &schema, &mut before);
    let mut pruned = schema.clone();
    let after = match pruned.prune_defaults() {
        Ok(()) => {
            defaults("", &pruned, &mut after);
            Value::Map(after)
        }
        Err(why) => why.into(),
    };
    report.object("pruned", &after, &Value::Map(before));
    let mut out = report.out;
    let answers = list(answer, "values");
    assert_eq!(answers.len(), case.values.len(), "{}", case.name);
    for ((value, old), answer) in case.values.iter().zip(answers) {
        out.push_str(&of_value(case, &schema, value, old.as_ref(), answer));
    }
    out
}

fn of_value(
    case: &Case<'_>,
    schema: &Schema,
    value: &Value,
    old: Option<&Value>,
    answer: &Value,
) -> String {
    let mut shown = Vec::new();
    proto::codec::json::write(value, &mut shown);
    let mut report = Report {
        of: format!("{}: {}", case.name, String::from_utf8_lossy(&shown)),
        answer,
        out: String::new(),
    };
    let (at, root) = (case.at, case.root);

    let mut pruned = value.clone();
    let unknown = schema.prune_telling(&mut pruned, root);
    report.texts("unknown", &unknown);
    report.object("pruned", &pruned, value);
    let mut silently = value.clone();
    schema.prune(&mut silently, root);
    assert_eq!(silently, pruned, "{}", report.of);

    let mut coerced = value.clone();
    match schema.coerce_metadata(&mut coerced, at, root, Malformed::Refuse) {
        Ok(strangers) => {
            report.texts("strangers", &strangers);
            report.object("coerced", &coerced, value);
        }
        Err(refused) => {
            report.text("refused", &show(&refused));
            let mut dropped = value.clone();
            let done = schema.coerce_metadata(&mut dropped, at, root, Malformed::Drop);
            assert!(done.is_ok(), "{}", report.of);
            report.object("dropped", &dropped, value);
        }
    }
    if answer.get("refused").is_some() && coerced != *value {
        report.differs("refused", &text(answer, "refused"), &"none");
    }

    let mut metadata = value.clone();
    match coerce_root_metadata(&mut metadata, Malformed::Refuse) {
        Ok(unknown) => report.texts("rootUnknown", &unknown),
        Err(why) => {
            report.text("rootRefused", &why);
            let why = coerce_root_metadata(&mut metadata, Malformed::Drop).err();
            report.text("rootFailed", &why.unwrap_or_default());
        }
    }
    report.object("root", &metadata, value);

    let mut nulls = value.clone();
    schema.prune_nulls(&mut nulls);
    report.object("nulls", &nulls, value);
    let mut defaulted = value.clone();
    schema.default(&mut defaulted);
    report.object("defaulted", &defaulted, value);

    report.errors("errors", &schema.validate(value, at));
    if let Some(old) = old {
        report.errors("update", &schema.validate_update(value, old, at));
    }
    report.errors("lists", &schema.validate_lists(value, at));
    report.errors("metadata", &schema.validate_metadata(value, at, root));
    report.out
}

fn decoded(schema: &Value) -> Value {
    let mut json = Vec::new();
    proto::codec::json::write(schema, &mut json);
    let message = MsgId::find("apiextensions/v1.JSONSchemaProps").expect("a message");
    let decoded = proto::codec::json::decode(&json, message, Strictness::Lenient);
    decoded.expect("schemas of the right types").value
}

#[test]
fn schemas_do_what_they_do_upstream() {
    let mut answers = String::new();
    flate2::read::GzDecoder::new(ANSWERS)
        .read_to_string(&mut answers)
        .expect("the answers are text");
    let asked = proto::codec::json::parse(CASES).expect("the cases are JSON");
    let lists = asked.get("lists").expect("lists");
    let cases = list(&asked, "cases");
    assert!(cases.len() > 300);
    assert_eq!(answers.lines().count(), cases.len());
    let (mut values, mut differ) = (0, Vec::new());
    for (line, asked) in answers.lines().zip(cases) {
        let case = case(asked, lists);
        let answer = proto::codec::json::parse(line.as_bytes()).expect("an answer is JSON");
        assert_eq!(text(&answer, "name"), case.name);
        values += case.values.len();
        let mut difference = of_schema(&case, &answer);
        // As it stands in a definition that was decoded.
        let decoded = decoded(case.schema);
        if difference.is_empty() {
            let case = Case {
                schema: &decoded,
                ..case
            };
            difference = of_schema(&case, &answer);
        }
        if !difference.is_empty() {
            differ.push(difference);
        }
    }
    assert!(values > 4_000, "only {values} values were asked");
    let shown: usize = std::env::var("STRUCTURAL_SHOW").map_or(10, |n| n.parse().unwrap_or(10));
    let first: String = differ.iter().take(shown).map(String::as_str).collect();
    assert!(
        differ.is_empty(),
        "{} of {} cases differ\n{first}",
        differ.len(),
        cases.len()
    );
}
