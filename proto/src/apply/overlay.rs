//! A part of an object written over the whole, with nobody recorded as its owner: what mutating
//! admission policies do (`apiserver/pkg/admission/plugin/policy/mutating/patch/smd.go`).

use super::check::check;
use super::merge::merge;
use super::schema::{Merge, Treat, Type};
use crate::catalogue::MsgId;
use crate::value::Value;

/// `live` with `part` merged into it; both are JSON as upstream shows it.
///
/// # Errors
/// The part does not fit its schema, or would replace what is one value as a whole: a text, in
/// upstream's words.
pub fn overlay(live: &Value, part: &Value, message: MsgId) -> Result<Value, String> {
    if let Some(problem) = check(part, message) {
        return Err(format!(
            "failed to convert patch object to typed object: {problem}"
        ));
    }
    let mut found = Vec::new();
    atomics(Type::Message(message), part, &mut String::new(), &mut found);
    if !found.is_empty() {
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            found.join(", ")
        ));
    }
    merge(live, part, message).map_err(|e| format!("failed to merge patch: {e}"))
}

/// The paths of everything in a part that is one value.
fn atomics(of: Type, value: &Value, path: &mut String, found: &mut Vec<String>) {
    let before = path.len();
    match (of.treat([Some(value), None]), value) {
        (Treat::Map { atomic }, Value::Map(map)) => {
            if atomic {
                found.push(path.clone());
            }
            for (name, value) in map.iter() {
                // Only what is declared is looked into.
                if let Some(below) = of.entry(name).filter(|_| of.declares(name)) {
                    path.push('.');
                    path.push_str(name.as_str());
                    atomics(below, value, path, found);
                    path.truncate(before);
                }
            }
        }
        (Treat::List(merge), Value::List(items)) => {
            if matches!(merge, Merge::Atomic) {
                found.push(path.clone());
            }
            for (i, item) in items.iter().enumerate() {
                path.push_str(&format!("[{i}]"));
                atomics(of.element(), item, path, found);
                path.truncate(before);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::messages::apps_v1::DEPLOYMENT;
    use crate::codec::json::{parse, write};

    fn overlaid(live: &str, part: &str) -> Result<String, String> {
        let of = |text: &str| parse(text.as_bytes()).expect("the test's JSON is valid");
        let merged = overlay(&of(live), &of(part), DEPLOYMENT)?;
        let mut out = Vec::new();
        write(&merged, &mut out);
        Ok(String::from_utf8(out).expect("JSON is UTF-8"))
    }

    #[test]
    fn a_part_is_merged_by_keys() {
        let live = r#"{"metadata":{"labels":{"a":"1"}},"spec":{"replicas":1,"template":{"spec":{"containers":[{"name":"x","image":"i"}]}}}}"#;
        let part = r#"{"metadata":{"labels":{"b":"2"}},"spec":{"replicas":2,"template":{"spec":{"containers":[{"name":"y"},{"name":"x","image":"j"}]}}}}"#;
        let merged = overlaid(live, part).unwrap();
        for wanted in [
            r#""labels":{"a":"1","b":"2"}"#,
            r#""replicas":2"#,
            r#"{"image":"j","name":"x"}"#,
            r#"{"name":"y"}"#,
        ] {
            assert!(merged.contains(wanted), "{merged}");
        }
    }

    #[test]
    fn what_is_one_value_is_not_replaced_by_accident() {
        let refused = |part: &str| overlaid("{}", part).unwrap_err();
        assert_eq!(
            refused(r#"{"spec":{"selector":{"matchLabels":{"a":"b"}}}}"#),
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector"
        );
        assert_eq!(
            refused(r#"{"spec":{"template":{"spec":{"containers":[{"name":"a","args":["b"]}]}}}}"#),
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.template.spec.containers[0].args"
        );
        assert_eq!(
            refused(r#"{"spec":{"replicas":"a"}}"#),
            "failed to convert patch object to typed object: .spec.replicas: expected numeric (int or float), got string"
        );
        assert_eq!(
            refused(r#"{"spec":{"nothing":1}}"#),
            "failed to convert patch object to typed object: .spec.nothing: field not declared in schema"
        );
    }
}
