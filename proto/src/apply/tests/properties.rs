use proptest::prelude::*;

use super::{Story, text};
use crate::apply::{Element, Set};
use crate::value::Value;

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        (-3_i64..1000).prop_map(Value::Int),
        "[a-c<\"\\\\\u{2028}é]{0,3}".prop_map(Value::from),
    ]
}

fn element() -> impl Strategy<Value = Element> {
    prop_oneof![
        "(name|spec|[a-c<\"/é]{1,3})".prop_map(|n| Element::field(&n)),
        scalar().prop_map(Element::Value),
        (0_i64..5).prop_map(Element::Index),
        prop::collection::btree_map("(name|port|zz)", scalar(), 1..3).prop_map(|keys| {
            Element::Key(keys.into_iter().map(|(n, v)| (n.into(), v)).collect())
        }),
    ]
}

fn set() -> impl Strategy<Value = Set> {
    let path = prop::collection::vec(element(), 1..4);
    prop::collection::vec(path, 0..12).prop_map(|paths| {
        let mut set = Set::new();
        paths.into_iter().for_each(|p| set.insert(p));
        set
    })
}

fn union(a: &Set, b: &Set) -> Set {
    let mut all = a.clone();
    all.union(b.clone());
    all
}

fn difference(a: &Set, b: &Set) -> Set {
    let mut left = a.clone();
    left.difference(b);
    left
}

/// A ConfigMap's body with some of a few keys.
fn body() -> impl Strategy<Value = String> {
    let map = || prop::collection::btree_map("[a-d]", "[0-1]", 0..4);
    (map(), map()).prop_map(|(data, labels)| {
        let show = |m: std::collections::BTreeMap<String, String>| {
            let entries: Vec<String> = m.iter().map(|(k, v)| format!("{k}: '{v}'")).collect();
            format!("{{{}}}", entries.join(", "))
        };
        format!(
            "{{metadata: {{labels: {}}}, data: {}}}",
            show(labels),
            show(data)
        )
    })
}

proptest! {
    #[test]
    fn a_printed_set_reads_as_itself(set in set()) {
        let printed = set.print();
        let again = Set::parse(&printed).unwrap();
        prop_assert_eq!(&again, &set);
        prop_assert_eq!(again.print(), printed);
    }

    #[test]
    fn reading_any_text_ends_in_a_set_or_an_error(text in "[\\[\\]{}:,\"fkvi.a1\\\\ ]{0,40}") {
        if let Ok(set) = Set::parse(text.as_bytes()) {
            prop_assert_eq!(Set::parse(&set.print()).unwrap(), set);
        }
    }

    #[test]
    fn sets_obey_the_laws_of_sets(a in set(), b in set()) {
        prop_assert_eq!(union(&a, &b), union(&b, &a));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(union(&a, &a), a.clone());
        prop_assert!(difference(&a, &a).is_empty());
        prop_assert_eq!(union(&difference(&a, &b), &a.intersection(&b)), a.clone());
        prop_assert_eq!(a.len() + b.len(), union(&a, &b).len() + a.intersection(&b).len());
        prop_assert!(difference(&a, &b).intersection(&b).is_empty());
        prop_assert_eq!(a.paths().len(), a.len());
    }

    #[test]
    fn applying_again_changes_nothing(first in body(), second in body(), own in body()) {
        let mut s = Story::of("v1", "ConfigMap");
        s.update("u", &first);
        s.force("other", &second);
        s.force("a", &own);
        // The time may be new where an empty map is applied that is not shown: the server sees to that.
        let untimed = |s: &Story| {
            let mut managed = s.managed.clone();
            managed.entries.iter_mut().for_each(|e| e.time = None);
            managed
        };
        let (live, managed) = (text(&s.live), untimed(&s));
        s.apply("a", &own).unwrap();
        prop_assert_eq!(text(&s.live), live);
        prop_assert_eq!(untimed(&s), managed);
    }

    #[test]
    fn what_is_applied_is_there_and_what_is_not_owned_stays(first in body(), own in body(), then in body()) {
        let mut s = Story::of("v1", "ConfigMap");
        s.update("u", &first);
        s.force("a", &own);
        s.force("a", &then);
        let then = s.typed.conform(&s.tree(&then));
        let own = s.typed.conform(&s.tree(&own));
        let first = s.typed.conform(&s.tree(&first));
        let none = crate::Map::new();
        let data = |v: &Value| v.get("data").and_then(Value::as_map).cloned().unwrap_or(none.clone());
        let live = data(&s.live);
        for (key, value) in data(&then).iter() {
            prop_assert_eq!(live.get(key), Some(value));
        }
        for (key, value) in data(&first).iter() {
            let applied = data(&then).contains(key) || data(&own).contains(key);
            if !applied {
                prop_assert_eq!(live.get(key), Some(value));
            }
        }
    }
}
