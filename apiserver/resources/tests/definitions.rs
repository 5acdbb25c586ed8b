//! Definitions of custom resources: what upstream's API server makes of them, and what we do.
//!
//! `hack/go/kubernetes/structural` asks upstream what `definitions/cases.json` has; its answers are kept beside it
//! (`hack/structural --record`). Where upstream's order is random, ours may be any.

use std::fmt::Write;
use std::io::Read;

use component::serving::User;
use proto::catalogue::{Gates, messages};
use proto::codec::json;
use proto::codec::json::Strictness;
use proto::{Map, MsgId, Value};
use resources::rehearsal::{Outcome, Rehearsal};
use resources::status::Failure;
use resources::{Cx, defaults, strategies};

const CASES: &[u8] = include_bytes!("definitions/cases.json");
const ANSWERS: &[u8] = include_bytes!("definitions/answers.jsonl.gz");

const SERVED: MsgId = messages::apiextensions_v1::CUSTOM_RESOURCE_DEFINITION;
const STORED: MsgId = messages::apiextensions_v1beta1::CUSTOM_RESOURCE_DEFINITION;

fn parse(text: &[u8]) -> Value {
    json::parse(text).expect("the file is JSON")
}

fn written(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    json::write(value, &mut out);
    out
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or("")
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_list).unwrap_or(&[])
}

/// The seed of a case, changed as the case says.
fn changed(case: &Value, seed: &Value) -> Value {
    let mut object = seed.clone();
    for change in list(case, "set") {
        let change = change.as_list().expect("a change is a pair");
        let path = change[0].as_str().expect("a path is a text");
        let path = path.replace('@', "spec/versions/0/schema/openAPIV3Schema");
        let path: Vec<&str> = path.split('/').collect();
        put(&mut object, &path, &change[1]);
    }
    object
}

fn put(object: &mut Value, path: &[&str], value: &Value) {
    let Some((step, rest)) = path.split_first() else {
        *object = value.clone();
        return;
    };
    let gone = value.is_null() && rest.is_empty();
    match object {
        Value::List(items) => {
            let i: usize = step.parse().expect("a place in a list is a number");
            if gone && i < items.len() {
                items.remove(i);
                return;
            }
            if i == items.len() {
                items.push(Value::Null);
            }
            put(&mut items[i], rest, value);
        }
        other => {
            let map = other.make_map();
            if gone {
                map.remove(*step);
            } else {
                put(map.entry(*step), rest, value);
            }
        }
    }
}

/// The same where the resource is served.
fn served(mut object: Value) -> Value {
    let mut condition = Map::new();
    condition.insert("type", "Established");
    condition.insert("status", "True");
    condition.insert("lastTransitionTime", "2026-01-01T00:00:00Z");
    object.set(&["status", "conditions"], vec![Value::Map(condition)]);
    object
}

fn labeled(mut object: Value) -> Value {
    object.set(&["metadata", "labels", "more"], "yes");
    object
}

/// A definition as it lies in etcd.
fn stored(object: &Value) -> Vec<u8> {
    let decoded = json::decode(&written(object), SERVED, Strictness::Lenient);
    let resource = proto::catalogue::resources().iter();
    let resource = { resource }
        .find(|r| r.name == "customresourcedefinitions")
        .expect("the catalogue has it");
    let (strategy, gates) = (strategies::of(resource), Gates::defaults());
    let object = decoded.expect("definitions of the right types").value;
    let hub = defaults::into_hub(gates, strategy, SERVED, STORED, object);
    let mut hub = hub.expect("versions of one kind");
    hub.remove(&["apiVersion"]);
    hub.set(&["metadata", "generation"], 1);
    let mut out = Vec::new();
    json::encode(&hub, STORED, &mut out);
    out
}

/// What ours says.
struct Ours(Rehearsal);

impl Ours {
    fn run(&self, of: impl FnOnce(&Rehearsal, &Cx<'_>) -> Result<Outcome, Failure>) -> Told {
        let user = User::default();
        let cx = Cx {
            user: &user,
            namespace: "",
            now: "2026-01-01T00:00:00Z",
            now_seconds: 1_767_225_600,
            dry_run: false,
            gates: Gates::defaults(),
            allow_privileged: true,
            objections: &[],
        };
        match of(&self.0, &cx) {
            Ok(outcome) => {
                let mut warnings = outcome.warnings.clone();
                warnings.sort();
                Told {
                    errors: Vec::new(),
                    warnings,
                    object: parse(&outcome.json()),
                }
            }
            Err(failure) => {
                let causes = failure.details().causes.iter();
                let told = causes.map(|c| format!("{} {}: {}", c.reason, c.field, c.message));
                let mut errors: Vec<String> = told.collect();
                if errors.is_empty() {
                    errors.push(failure.message().to_owned());
                }
                Told {
                    errors,
                    warnings: Vec::new(),
                    object: Value::Null,
                }
            }
        }
    }

    fn create(&self, new: &Value) -> Told {
        self.run(|rehearsal, cx| rehearsal.create(cx, "u", &written(new)))
    }

    fn update(&self, part: &str, new: &Value, old: &Value) -> Told {
        let (new, old) = (written(new), stored(old));
        self.run(|rehearsal, cx| rehearsal.update(cx, part, &new, &old))
    }
}

struct Told {
    errors: Vec<String>,
    warnings: Vec<String>,
    object: Value,
}

/// What differs, as lines.
fn compare(what: &str, mut ours: Told, theirs: &Value, out: &mut String) {
    let texts = |field| -> Vec<&str> {
        let items = list(theirs, field).iter();
        items.filter_map(Value::as_str).collect()
    };
    let mut differs = |what: &str, theirs: &dyn std::fmt::Debug, ours: &dyn std::fmt::Debug| {
        let _ = writeln!(
            out,
            "{what}\n  upstream: {theirs:#?}\n  ours:     {ours:#?}"
        );
    };
    if theirs.get("any").and_then(Value::as_bool) == Some(true) {
        ours.errors.sort();
    }
    if texts("errors") != ours.errors {
        return differs(what, &texts("errors"), &ours.errors);
    }
    if texts("warnings") != ours.warnings {
        differs(
            &format!("{what}, warnings"),
            &texts("warnings"),
            &ours.warnings,
        );
    }
    let object = theirs.get("object").cloned().unwrap_or_default();
    if object != ours.object {
        let shown = |value: &Value| String::from_utf8_lossy(&written(value)).into_owned();
        differs(
            &format!("{what}, stored"),
            &shown(&object),
            &shown(&ours.object),
        );
    }
}

#[test]
fn definitions_become_what_they_become_upstream() {
    let mut answers = String::new();
    flate2::read::GzDecoder::new(ANSWERS)
        .read_to_string(&mut answers)
        .expect("the answers are text");
    let asked = parse(CASES);
    let cases = list(&asked, "cases");
    assert!(cases.len() > 400);
    assert_eq!(answers.lines().count(), cases.len());
    let rehearsal = Rehearsal::of("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let ours = Ours(rehearsal.expect("definitions are stored"));
    let mut differ = Vec::new();
    for (line, case) in answers.lines().zip(cases) {
        let (answer, name) = (parse(line.as_bytes()), text(case, "name"));
        assert_eq!(text(&answer, "name"), name);
        let seed = asked.get("seeds").and_then(|s| s.get(text(case, "seed")));
        let seed = seed.expect("a case has a seed");
        let new = changed(case, seed);
        let mut out = String::new();
        let mut compare = |what: &str, told: &dyn Fn() -> Told| {
            if let Some(theirs) = answer.get(what) {
                compare(&format!("{name}: {what}"), told(), theirs, &mut out);
            }
        };
        compare("create", &|| ours.create(&new));
        compare("update", &|| ours.update("", &new, seed));
        compare("served", &|| ours.update("", &new, &served(seed.clone())));
        let kept = || ours.update("", &labeled(new.clone()), &served(new.clone()));
        compare("kept", &kept);
        compare("back", &|| ours.update("", seed, &served(new.clone())));
        let part = || ours.update(text(case, "part"), &new, &served(seed.clone()));
        compare("part", &part);
        if !out.is_empty() {
            differ.push(out);
        }
    }
    let shown = std::env::var("DEFINITIONS_SHOW").map_or(10, |n| n.parse().unwrap_or(10));
    let first: String = differ.iter().take(shown).map(String::as_str).collect();
    assert!(
        differ.is_empty(),
        "{} of {} cases differ\n{first}",
        differ.len(),
        cases.len()
    );
}
