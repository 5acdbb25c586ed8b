//! What an expression of a mutating policy makes of an object.
//!
//! Upstream: `apiserver/pkg/admission/plugin/policy/mutating/patch`.

use proto::catalogue::names as n;
use proto::patch::json::Patch;
use proto::path::quote;
use proto::{Map, Value, apply};
use resources::object::Type;
use resources::status::Failure;

use super::super::webhook::forms::{Forms, Patched, Unknown};
use super::mutate::Fault;

/// A change that is wanted.
#[derive(PartialEq, Debug)]
pub(super) enum Change {
    /// These fields.
    Apply(Value),
    /// Operations of a JSON patch.
    Patch(Value),
}

/// Reads what `Object{...}` is.
pub(super) fn configuration(value: &cel::Value<'_>) -> Result<Change, String> {
    let cel::Value::Object(_) = value else {
        let ty = value.ty();
        return Err(format!(
            "unsupported return type from ApplyConfiguration expression: {ty}"
        ));
    };
    named(value)?;
    let tree = value
        .to_tree()
        .map_err(|e| format!("invalid return type: {e}"))?;
    Ok(Change::Apply(tree))
}

/// Reads what a list of `JSONPatch{...}` is.
pub(super) fn patch(value: &cel::Value<'_>) -> Result<Change, String> {
    const WRONG: &str = "type mismatch: JSONPatchType.expression should evaluate to array";
    let cel::Value::List(list) = value else {
        return Err(WRONG.to_owned());
    };
    let operations = list.iter().map(|item| match item {
        Ok(cel::Value::Object(object)) => operation(&object),
        Ok(other) => Err(format!(
            "{WRONG} of JSONPatch, got element of {}",
            other.ty()
        )),
        Err(e) => Err(e.to_string()),
    });
    Ok(Change::Patch(Value::List(
        operations.collect::<Result<_, _>>()?,
    )))
}

fn operation(object: &cel::Object<'_>) -> Result<Value, String> {
    let text = |name| {
        object
            .get(name)
            .and_then(|v| v.as_str())
            .unwrap_or_default()
    };
    let mut out = Map::new();
    out.insert("op", text("op"));
    out.insert("path", text("path"));
    if !text("from").is_empty() {
        out.insert("from", text("from"));
    }
    if let Some(value) = object.get("value") {
        named(value)?;
        let tree = value.to_tree().map_err(|e| {
            format!(
                "JSONPath valueExpression evaluated to a type that could not marshal to JSON: {e}"
            )
        })?;
        out.insert("value", tree);
    }
    Ok(Value::Map(out))
}

/// Objects are called by the way to them: `Object.spec` is what stands in `spec`.
fn named(value: &cel::Value<'_>) -> Result<(), String> {
    let cel::Value::Object(object) = value else {
        return Ok(());
    };
    let mut wrong = Vec::new();
    misnamed(value, object.name(), &mut wrong);
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("type mismatch: {}", wrong.join("\n")))
}

fn misnamed(value: &cel::Value<'_>, wanted: &str, wrong: &mut Vec<String>) {
    match value {
        cel::Value::Object(object) => {
            if object.name() != wanted {
                wrong.push(format!(
                    "unexpected type name {}, expected {}, which matches field name path from root Object type",
                    quote(object.name()),
                    quote(wanted)
                ));
            }
            for (field, value) in object.fields() {
                misnamed(value, &format!("{wanted}.{field}"), wrong);
            }
        }
        cel::Value::List(list) => {
            for item in list.iter().flatten() {
                misnamed(&item, wanted, wrong);
            }
        }
        cel::Value::Map(map @ cel::Map::Owned(_)) => {
            for key in map.keys() {
                let found = key.as_str().and_then(|key| map.get(key));
                if let Some(Ok(item)) = found {
                    misnamed(&item, wanted, wrong);
                }
            }
        }
        _ => {}
    }
}

impl Change {
    /// The object with the change; none if the change is not to be made. `shown` is the object as the expression saw it, of
    /// that kind.
    pub(super) fn make(
        self,
        shown: &Value,
        object: &Value,
        kind: &Type,
        forms: &Forms,
    ) -> Result<Option<Patched>, Fault> {
        let (document, unknown) = match self {
            Self::Apply(mut part) => {
                part.set(&[n::API_VERSION], kind.api_version());
                part.set(&[n::KIND], kind.kind);
                let merged = apply::overlay(shown, &part, kind.message);
                let wrong = |why| Fault::Policy(format!("error applying patch: {why}"));
                (merged.map_err(wrong)?, Unknown::Dropped)
            }
            Self::Patch(operations) => {
                let wrong = |why: proto::patch::Error| Fault::Policy(format!("JSON Patch: {why}"));
                let patch = Patch::read(&operations).map_err(wrong)?;
                let mut document = shown.clone();
                match patch.apply(&mut document) {
                    Ok(()) => {}
                    Err(why) if why.is_failed_test() => return Ok(None),
                    Err(why) => return Err(wrong(why)),
                }
                (document, Unknown::Refused)
            }
        };
        let completed = forms.completed(object, kind, &document, unknown);
        let patched = completed.map_err(|why| Fault::Server(Failure::internal(why)))?;
        Ok(Some(patched))
    }
}

#[cfg(test)]
mod tests {
    use cel::admission::{Compiler, Use};
    use cel::{PER_CALL_LIMIT, Version};
    use proto::codec::json;

    use super::super::super::testing::{pod, resource};
    use super::super::super::webhook::source::kind;
    use super::*;

    fn change(of: Use, expression: &str) -> Result<Change, String> {
        let mut compiler = Compiler::plain(false);
        let program = compiler
            .compile(expression, of, Version::STORED)
            .map_err(|e| e.detail)?;
        let value = program
            .evaluate(&(), PER_CALL_LIMIT)
            .outcome
            .map_err(|e| e.to_string())?;
        match of {
            Use::JsonPatch => patch(&value),
            _ => configuration(&value),
        }
    }

    /// What a change makes of a pod: its JSON, nothing if it is not made.
    fn made(of: Use, expression: &str) -> Result<Option<String>, String> {
        let object = pod(
            r#"{"metadata":{"name":"a","labels":{"k":"v"}},"spec":{"containers":[{"name":"c","image":"i"}]}}"#,
        );
        let kind = kind(resource("pods"), "");
        let mut shown = Vec::new();
        json::encode(&object, kind.message, &mut shown);
        let mut shown = json::parse(&shown).unwrap();
        shown.set(&["kind"], "Pod");
        shown.set(&["apiVersion"], "v1");
        let forms = Forms::new(
            resource("pods"),
            "",
            &component::features::Features::defaults(),
        );
        let patched = change(of, expression)?.make(&shown, &object, &kind, &forms);
        let patched = patched.map_err(|fault| match fault {
            Fault::Policy(why) => why,
            Fault::Server(failure) => format!("{}: {}", failure.code(), failure.message()),
        })?;
        Ok(patched.map(|patched| {
            let mut out = Vec::new();
            json::encode(&patched.object, kind.message, &mut out);
            String::from_utf8(out).unwrap()
        }))
    }

    #[test]
    fn a_configuration_is_merged_into_the_object() {
        let expression = "Object{metadata: Object.metadata{labels: {'a': 'b'}}, spec: Object.spec{containers: [Object.spec.containers{name: 'c', workingDir: '/w'}, Object.spec.containers{name: 'd', image: 'j'}]}}";
        let made = made(Use::ApplyConfiguration, expression).unwrap().unwrap();
        for wanted in [
            r#""labels":{"a":"b","k":"v"}"#,
            r#""name":"c","image":"i","workingDir":"/w""#,
            r#""name":"d","image":"j""#,
            r#""terminationMessagePolicy":"File""#,
        ] {
            assert!(made.contains(wanted), "{wanted}: {made}");
        }
    }

    #[test]
    fn a_patch_is_applied_or_nothing_is() {
        let add = r#"[JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("a/b"), value: "c"}, JSONPatch{op: "add", path: "/spec/initContainers", value: [Object.spec.initContainers{name: "i", image: "x"}]}]"#;
        let made = |expression: &str| made(Use::JsonPatch, expression);
        let patched = made(add).unwrap().unwrap();
        assert!(
            patched.contains(r#""a/b":"c""#)
                && patched.contains(r#""initContainers":[{"name":"i""#),
            "{patched}"
        );
        let test = r#"[JSONPatch{op: "test", path: "/metadata/name", value: "b"}, JSONPatch{op: "remove", path: "/metadata/labels"}]"#;
        assert_eq!(made(test), Ok(None));
        let missing = made(r#"[JSONPatch{op: "remove", path: "/spec/nothing"}]"#).unwrap_err();
        assert!(missing.starts_with("JSON Patch: "), "{missing}");
        let unknown =
            made(r#"[JSONPatch{op: "add", path: "/spec/unknown", value: 1}]"#).unwrap_err();
        assert_eq!(
            unknown,
            "500: Internal error occurred: strict decoding error: unknown field \"spec.unknown\""
        );
    }

    #[test]
    fn objects_are_called_by_the_way_to_them() {
        let wrong = change(
            Use::ApplyConfiguration,
            "Object{spec: Object.spec{selector: Object.spec.wrong{}}}",
        );
        let told = "type mismatch: unexpected type name \"Object.spec.wrong\", expected \"Object.spec.selector\", which matches field name path from root Object type";
        assert_eq!(wrong, Err(told.to_owned()));
        let listed = change(
            Use::ApplyConfiguration,
            "Object{a: [Object.b{}], c: {'d': Object.c{}}}",
        )
        .unwrap_err();
        assert!(
            listed.contains("expected \"Object.a\"") && !listed.contains("Object.c"),
            "{listed}"
        );
        let value = change(
            Use::JsonPatch,
            r#"[JSONPatch{op: "add", path: "/spec", value: Object.spec{x: Object.spec.y{}}}]"#,
        );
        assert!(value.unwrap_err().contains("expected \"Object.spec.x\""));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let told = |expression: &str| made(Use::ApplyConfiguration, expression).unwrap_err();
        assert_eq!(
            told("Object{spec: Object.spec{nothing: 1}}"),
            "error applying patch: failed to convert patch object to typed object: .spec.nothing: field not declared in schema"
        );
        assert_eq!(
            told(
                "Object{spec: Object.spec{containers: [Object.spec.containers{name: 'c', args: ['a']}]}}"
            ),
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.containers[0].args"
        );
    }
}
