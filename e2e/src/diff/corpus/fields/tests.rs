use super::super::super::resource::Resource;
use super::*;

fn schemas() -> Value {
    let by_reference = |name: &str| json!({"allOf": [{"$ref": format!("#/components/schemas/{name}")}], "default": {}});
    json!({
        "a.Thing": {
            "required": ["spec"],
            "properties": {"kind": {"type": "string"}, "spec": by_reference("a.Spec")},
            "x-kubernetes-group-version-kind": [{"group": "a", "version": "v1", "kind": "Thing"}],
        },
        "a.Spec": {"properties": {
            "count": {"type": "integer", "format": "int32"},
            "parts": {"type": "array", "items": by_reference("a.Part")},
            "limits": {"type": "object", "additionalProperties": by_reference("a.Quantity")},
        }},
        "a.Part": {"properties": {"name": {"type": "string"}}},
        "a.Quantity": {"type": "string"},
    })
}

fn seed() -> Seed {
    Seed {
        resource: Resource {
            version: "a/v1".to_owned(),
            name: "things".to_owned(),
            kind: "Thing".to_owned(),
            kind_version: "a/v1".to_owned(),
            namespaced: true,
            verbs: vec!["create".to_owned()],
        },
        object: json!({"kind": "Thing", "spec": {"count": 1}}),
        status: None,
        origin: String::new(),
    }
}

#[test]
fn every_field_is_reached_and_the_seed_keeps_the_rest() {
    let (schemas, seed) = (schemas(), seed());
    let root = definition(&schemas, &seed).unwrap();
    let all = changes(&schemas, root, &seed, &mut Tried::new());
    let about: Vec<&str> = all.iter().map(|change| &*change.about).collect();
    for wanted in [
        "spec = missing",
        "spec.count = wrong type 2147483648",
        "spec.count = negative",
        "spec.parts[].name = bad characters",
        "spec.parts[].noSuchField = unknown",
        "spec.limits = bad key",
    ] {
        assert!(about.contains(&wanted), "{wanted} in {about:?}");
    }
    let applied = |about: &str| {
        let mut object = seed.object.clone();
        all.iter()
            .find(|change| change.about == about)
            .unwrap()
            .apply(&mut object);
        object
    };
    let wanted = json!({"kind": "Thing", "spec": {"count": 1, "parts": [{"name": ""}]}});
    assert_eq!(applied("spec.parts[].name = empty"), wanted);
    assert_eq!(applied("spec = missing"), json!({"kind": "Thing"}));
}

#[test]
fn ranges_are_tried_in_few_kinds_and_types_in_all() {
    let (schemas, seed) = (schemas(), seed());
    let root = definition(&schemas, &seed).unwrap();
    let mut tried = Tried::new();
    let counts: Vec<usize> = (0..3)
        .map(|_| changes(&schemas, root, &seed, &mut tried).len())
        .collect();
    assert_eq!(counts[0], counts[1]);
    assert!(counts[2] < counts[1] && counts[2] > 5, "{counts:?}");
}
