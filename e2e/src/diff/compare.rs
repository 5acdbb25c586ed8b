//! What is different between two servers' answers to one case. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::case::{Case, OF, Step};
use super::later;
use super::seen::Seen;
use super::value::{self, differences, list, text};

/// One difference, with what it is counted under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub area: String,
    /// A path without indices, a header, or what was special about the request.
    pub place: String,
    pub kind: String,
    /// The case and the number of its request, counted from 1.
    pub case: String,
    pub step: usize,
    pub about: String,
    pub ours: String,
    pub theirs: String,
}

/// Compares as far as the two did the same: after another status of a write, what follows is another story.
pub fn compare(case: &Case, ours: &[Seen], theirs: &[Seen]) -> Vec<Found> {
    let mut all = Vec::new();
    for (index, step) in case.steps.iter().enumerate() {
        let (Some(a), Some(b)) = (ours.get(index), theirs.get(index)) else {
            break;
        };
        let told = |found: Told| Found {
            area: case.area.clone(),
            place: found.place,
            kind: found.kind,
            case: case.name.clone(),
            step: index + 1,
            about: step.about.clone(),
            ours: found.ours,
            theirs: found.theirs,
        };
        let same = a.is_success() == b.is_success();
        all.extend(answers(step, a, b).into_iter().map(told));
        if !same && !step.cleanup && (step.writes() || step.label.is_some()) {
            break;
        }
    }
    all
}

struct Told {
    place: String,
    kind: String,
    ours: String,
    theirs: String,
}

fn answers(step: &Step, ours: &Seen, theirs: &Seen) -> Vec<Told> {
    if ours.status != theirs.status {
        return vec![statuses(step, ours, theirs)];
    }
    let mut all = events(ours, theirs);
    all.extend(headers(ours, theirs));
    if ours.body["kind"] == "Status" && theirs.body["kind"] == "Status" && !ours.is_success() {
        all.extend(refusals(&ours.body, &theirs.body));
        return all;
    }
    let bodies = differences(&ours.body, &theirs.body);
    let same = bodies.is_empty();
    all.extend(bodies.into_iter().map(|of| told(&of, step)));
    if same {
        all.extend(stored(ours, theirs));
    }
    all
}

/// Another status: what was special about the request is where to look.
fn statuses(step: &Step, ours: &Seen, theirs: &Seen) -> Told {
    let say = |seen: &Seen| match (seen.status, seen.reason()) {
        (0, _) => "no answer".to_owned(),
        (status, "") => status.to_string(),
        (status, reason) => format!("{status} {reason}"),
    };
    let show = |seen: &Seen| format!("{} {}", say(seen), message(&seen.body));
    let place = step
        .about
        .split_once(OF)
        .map_or(&*step.about, |(field, _)| field);
    Told {
        place: place.to_owned(),
        kind: format!("{} instead of {}", say(ours), say(theirs)),
        ours: show(ours),
        theirs: show(theirs),
    }
}

fn message(body: &Value) -> String {
    let said = match body {
        Value::String(text) => text.as_str(),
        other => text(&other["message"]),
    };
    said.chars().take(300).collect()
}

fn headers(ours: &Seen, theirs: &Seen) -> Vec<Told> {
    let names = ours.headers.keys().chain(theirs.headers.keys());
    let names: BTreeSet<&String> = names.collect();
    let mut all = Vec::new();
    for name in names {
        let [a, b] = [ours, theirs].map(|of| of.headers.get(name));
        let kind = match (a, b) {
            (a, b) if a == b => continue,
            (None, _) => "header missing",
            (_, None) => "header extra",
            _ => "header",
        };
        let show = |of: Option<&String>| of.cloned().unwrap_or_else(|| "none".to_owned());
        all.push(Told {
            place: name.clone(),
            kind: kind.to_owned(),
            ours: show(a),
            theirs: show(b),
        });
    }
    all
}

/// Two refusals of one status: causes by field and reason; the words only where all else is the same.
fn refusals(ours: &Value, theirs: &Value) -> Vec<Told> {
    let [mut a, mut b] = [ours, theirs].map(causes);
    let all = a.len() + b.len();
    for of in [&mut a, &mut b] {
        of.retain(|(field, _), _| !later::is_expression(field));
    }
    // What is said as a whole says what was left out as well, and what is said of one field in the order of Go's maps.
    let told = |of: &Value| list(&of["details"]["causes"]).len();
    let whole = all == a.len() + b.len() && told(ours) == a.len();
    let mut all = Vec::new();
    for (cause, said) in &b {
        let place = value::pattern(&cause.0);
        let told = |kind: String, ours: Option<&String>| Told {
            place: place.clone(),
            kind,
            ours: ours.cloned().unwrap_or_else(|| "none".to_owned()),
            theirs: said.clone(),
        };
        match a.get(cause) {
            None => all.push(told(format!("cause missing: {}", cause.1), None)),
            Some(own) if own != said => all.push(told("cause's text".to_owned(), Some(own))),
            _ => {}
        }
    }
    for (cause, said) in a.iter().filter(|(cause, _)| !b.contains_key(*cause)) {
        all.push(Told {
            place: value::pattern(&cause.0),
            kind: format!("cause extra: {}", cause.1),
            ours: said.clone(),
            theirs: "none".to_owned(),
        });
    }
    let (ours_said, theirs_said) = (ours, theirs);
    let [mut ours, mut theirs] = [ours.clone(), theirs.clone()];
    let order = [&ours, &theirs].map(|of| {
        let causes = list(&of["details"]["causes"]).iter();
        causes
            .map(|cause| text(&cause["field"]).to_owned())
            .collect::<Vec<_>>()
    });
    for status in [&mut ours, &mut theirs] {
        if let Some(details) = status.get_mut("details").and_then(Value::as_object_mut) {
            details.remove("causes");
        }
    }
    let words =
        [&mut ours, &mut theirs].map(|of| of.as_object_mut().and_then(|of| of.remove("message")));
    let rest = differences(&ours, &theirs);
    all.extend(rest.iter().map(plain));
    let chance = order[0] != order[1] && siblings(ours_said) == siblings(theirs_said);
    if whole && !chance && all.is_empty() && words[0] != words[1] {
        let [ours, theirs] = words.map(|of| message(&serde_json::json!({"message": of})));
        let kind = if order[0] == order[1] {
            format!("text like {}", alike(&theirs))
        } else {
            "order of causes".to_owned()
        };
        all.push(Told {
            place: ".message".to_owned(),
            kind,
            ours,
            theirs,
        });
    }
    all
}

/// Causes without the last names of their fields: where a field is one of several that may not be there together, or a key of a
/// map, Go's maps say which comes first.
fn siblings(status: &Value) -> Vec<(&str, String)> {
    let all = list(&status["details"]["causes"]).iter();
    all.map(|cause| {
        let field = text(&cause["field"]);
        let message = text(&cause["message"]);
        match field.rsplit_once('[').filter(|_| field.ends_with(']')) {
            // The message has the key too.
            Some((map, _)) => (map, alike(message)),
            None => {
                let parent = field.rsplit_once('.').map_or("", |(parent, _)| parent);
                (parent, message.to_owned())
            }
        }
    })
    .collect()
}

/// What messages of one kind have in common: names, numbers and what stands in quotes are left out.
fn alike(message: &str) -> String {
    let mut out = String::new();
    for (index, part) in message.split('"').enumerate() {
        if index % 2 == 1 {
            out.push_str("\"…\"");
            continue;
        }
        let words = part.split(' ').map(|word| {
            let path = word.len() > 1 && word.contains(['.', '[', '/']);
            if path && !word.ends_with(['.', ':', ',']) {
                "…".to_owned()
            } else {
                word.replace(|of: char| of.is_ascii_digit(), "0")
            }
        });
        out.push_str(&words.collect::<Vec<_>>().join(" "));
    }
    out.chars().take(90).collect()
}

/// What is said of each field for each reason.
fn causes(status: &Value) -> BTreeMap<(String, String), String> {
    let mut all: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for cause in list(&status["details"]["causes"]) {
        let key = (
            text(&cause["field"]).to_owned(),
            text(&cause["reason"]).to_owned(),
        );
        all.entry(key).or_default().push(text(&cause["message"]));
    }
    let told = |(key, mut said): (_, Vec<&str>)| {
        said.sort_unstable();
        (key, said.join("; "))
    };
    all.into_iter().map(told).collect()
}

/// What was recorded of the request.
fn events(ours: &Seen, theirs: &Seen) -> Vec<Told> {
    let [ours, theirs] = [ours, theirs].map(|of| {
        let all = of.events.iter();
        Value::Object(
            all.map(|(stage, event)| (stage.clone(), event.clone()))
                .collect(),
        )
    });
    let told = |of: &value::Difference| Told {
        kind: format!("recorded: {}", of.kind),
        ..plain(of)
    };
    differences(&ours, &theirs).iter().map(told).collect()
}

fn stored(ours: &Seen, theirs: &Seen) -> Vec<Told> {
    let [a, b] = [ours, theirs].map(|of| {
        let all = of
            .stored
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()));
        Value::Object(all.collect())
    });
    let [keys_a, keys_b] = [&ours.stored, &theirs.stored].map(|of| of.keys().collect::<Vec<_>>());
    if keys_a != keys_b {
        let [ours, theirs] = [keys_a, keys_b].map(|keys| format!("{keys:?}"));
        return vec![Told {
            place: "key".to_owned(),
            kind: "stored".to_owned(),
            ours,
            theirs,
        }];
    }
    let of_values = keys_a
        .iter()
        .flat_map(|key| differences(&a[key.as_str()], &b[key.as_str()]));
    of_values
        .map(|of| Told {
            kind: format!("stored: {}", of.kind),
            ..plain(&of)
        })
        .collect()
}

fn plain(of: &value::Difference) -> Told {
    Told {
        place: value::pattern(&of.path),
        kind: of.kind.to_string(),
        ours: of.ours.clone(),
        theirs: of.theirs.clone(),
    }
}

/// Schemas are maps of names: those of paths, of kinds and of fields do not make places of their own.
fn told(of: &value::Difference, step: &Step) -> Told {
    let mut told = plain(of);
    if step.is_of_schemas() {
        told.place = schema_place(&told.place);
        told.ours = format!("{}: {}", of.path, told.ours);
    }
    told
}

/// `.components.schemas.io.k8s.api.core.v1.Pod.properties.spec.default` without the names.
fn schema_place(path: &str) -> String {
    const WORDS: &[&str] = &[
        "additionalProperties",
        "allOf",
        "components",
        "consumes",
        "content",
        "default",
        "enum",
        "format",
        "info",
        "items",
        "operationId",
        "parameters",
        "produces",
        "properties",
        "required",
        "responses",
        "schema",
        "schemas",
        "tags",
        "type",
        "get",
        "put",
        "post",
        "patch",
        "delete",
        "options",
        "head",
        "paths",
        "definitions",
        "requestBody",
        "security",
    ];
    let mut out = String::new();
    let mut named = false;
    for part in path.split('.').skip(1) {
        let word = part.trim_end_matches("[]");
        let known = WORDS.contains(&word) || word.starts_with("x-") || word.starts_with('$');
        if known {
            out.push('.');
            out.push_str(part);
            named = false;
        } else if !named {
            out.push_str(".*");
            named = true;
        }
    }
    out
}

#[cfg(test)]
mod tests;
