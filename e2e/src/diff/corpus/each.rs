//! What is asked about each kind, as files of requests say (`e2e/diff/each/*.http`): of bodies, updates, patches, deletions and
//! subresources.

use std::path::Path;

use serde_json::{Value, json};

use super::super::case::{Body, Case, Step, merge, name};
use super::super::resource::Resource;
use super::super::script::REMOVE;
use super::source::{Seed, Source};
use super::target::Target;

/// Below the files of requests.
const DIR: &str = "each";
/// The file for every subresource that can be read; others are called after a verb or a subresource.
const EVERY_SUBRESOURCE: &str = "sub";
/// These answer by opening a stream, or by passing on.
const STREAMS: &[&str] = &["attach", "exec", "log", "portforward", "proxy"];
/// What stands for the seed in a body.
const OBJECT: &str = "object";

pub(super) fn cases(source: &Source, scripts: &Path) -> Result<Vec<Case>, super::Error> {
    let templates = super::scripts(&scripts.join(DIR))?;
    let mut all = Vec::new();
    for resource in source.whole() {
        let Some(seed) = source.seed(resource) else {
            continue;
        };
        let readable = |(name, of): &(&str, &Resource)| of.can("get") && !STREAMS.contains(name);
        let subs: Vec<(&str, &Resource)> = source.subresources(resource).filter(readable).collect();
        for template in &templates {
            let about = &*template.area;
            // The server writes their status at a time of its own: what a client has is old then, or not.
            if resource.kind == "FlowSchema" && matches!(about, "create" | "update") {
                continue;
            }
            if about == EVERY_SUBRESOURCE {
                all.extend(subs.iter().map(|(sub, _)| bind(template, seed, sub)));
            } else if resource.can(about) || subs.iter().any(|(sub, _)| *sub == about) {
                all.push(bind(template, seed, about));
            }
        }
    }
    Ok(all)
}

/// The template's requests about this object.
fn bind(template: &Case, seed: &Seed, sub: &str) -> Case {
    let target = Target::new(seed);
    let status = seed.status.clone().unwrap_or_else(|| json!({"status": {}}));
    let names = [
        ("${collection}", target.collection.clone()),
        ("${item}", target.item.clone()),
        ("${only}", target.only.clone()),
        ("${name}", name(&seed.object).to_owned()),
        ("${sub}", sub.to_owned()),
        ("${status}", status.to_string()),
    ];
    let fill = |text: &str| {
        let replace = |text: String, (name, value): &(&str, String)| text.replace(name, value);
        names.iter().fold(text.to_owned(), replace)
    };
    let mut steps = Vec::new();
    for step in &template.steps {
        if step.method == REMOVE {
            steps.extend(target.remove());
            continue;
        }
        // What does not make the object says nothing about what comes after it.
        let makes = step.method == "POST" && step.path == "${collection}";
        steps.push(Step {
            path: fill(&step.path),
            about: fill(&step.about),
            body: body(&step.body, &seed.object, &fill),
            cleanup: !makes,
            ..step.clone()
        });
    }
    let (_, title) = template.name.split_once(": ").unwrap_or_default();
    target.case(fill(title), steps)
}

fn body(body: &Body, object: &Value, fill: &impl Fn(&str) -> String) -> Body {
    match body {
        Body::Text(text) => Body::Text(fill(text)),
        Body::Answer(label, change) if label == OBJECT => {
            let mut object = object.clone();
            if let Some(change) = change {
                merge(&mut object, change);
            }
            Body::Text(object.to_string())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::script;
    use super::*;

    #[test]
    fn a_template_becomes_requests_about_an_object() {
        let template = "### of ${sub}\n@made POST ${collection}\n< object\n\n# ${sub}: read\nGET ${item}/${sub}\n\n\
                        PUT ${item}\n< object {\"a\": 1}\n\nREMOVE ${item}\n";
        let template = &script::parse("sub", template).unwrap()[0];
        let seed = Seed {
            resource: Resource {
                version: "a/v1".to_owned(),
                name: "things".to_owned(),
                kind: "Thing".to_owned(),
                kind_version: "a/v1".to_owned(),
                namespaced: true,
                verbs: Vec::new(),
            },
            object: json!({"metadata": {"name": "n"}}),
            status: None,
            origin: String::new(),
        };
        let case = bind(template, &seed, "status");
        assert_eq!(case.name, "a/v1 things: of status");
        let told: Vec<(&str, &str, bool)> = case
            .steps
            .iter()
            .map(|step| (&*step.path, &*step.about, step.cleanup))
            .collect();
        let collection = "/apis/a/v1/namespaces/${ns}/things";
        let item = format!("{collection}/n");
        assert_eq!(told[0], (collection, &*format!("POST {collection}"), false));
        assert_eq!(told[1], (&*format!("{item}/status"), "status: read", true));
        assert!(
            matches!(&case.steps[2].body, Body::Text(text) if text == r#"{"a":1,"metadata":{"name":"n"}}"#)
        );
        assert_eq!(case.steps[3..].len(), 3);
    }
}
