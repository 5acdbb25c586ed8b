use proptest::prelude::*;

use super::*;
use crate::codec::json;
use crate::path::Errors;
use crate::value::Value;

fn label(key: &str) -> Option<&'static str> {
    match key {
        "a" => Some("v"),
        "b" => Some("5"),
        "c" => Some(""),
        _ => None,
    }
}

fn field(name: &str) -> &'static str {
    if name == "a" { "v" } else { "" }
}

fn said(kind: &str, text: &str) -> String {
    match kind {
        "L" => LabelSelector::parse(text)
            .map_or_else(|e| format!("E{e}"), |s| format!("{s}|{}", s.matches(label))),
        "F" => FieldSelector::parse(text).map_or_else(
            |e| format!("E{e}"),
            |s| {
                let exact = s.requires_exact("a");
                format!(
                    "{s}|{}|{}|{}",
                    s.matches(field),
                    exact.unwrap_or_default(),
                    exact.is_some()
                )
            },
        ),
        _ => {
            let object = json::parse(text.as_bytes()).unwrap();
            let mut errors = Errors::new(&object);
            validate_label_selector(&object, SelectorRules::default(), &mut errors);
            let selector = LabelSelector::from_object(&object)
                .map_or_else(|e| format!("E{e}"), |s| s.to_string());
            errors
                .into_vec()
                .iter()
                .fold(selector, |s, e| format!("{s}\n{}", e.body()))
        }
    }
}

#[test]
fn parsing_printing_matching_and_errors_are_upstreams() {
    let mut n = 0;
    for line in include_str!("cases.txt")
        .lines()
        .filter(|l| !l.starts_with('#'))
    {
        n += 1;
        let [kind, text, expected]: [String; 3] = serde_json::from_str(line).unwrap();
        assert_eq!(said(&kind, &text), expected, "{line}");
    }
    assert!(n > 100);
}

#[test]
fn null_selects_nothing_and_an_empty_object_everything() {
    let nothing = LabelSelector::from_object(&Value::Null).unwrap();
    assert!(nothing.is_nothing() && !nothing.matches(label));
    let everything = LabelSelector::from_object(&Value::object()).unwrap();
    assert!(everything.is_everything() && everything.matches(label));
}

#[test]
fn an_exact_value_is_what_one_label_must_be() {
    let exact = |text, key| {
        LabelSelector::parse(text)
            .unwrap()
            .requires_exact(key)
            .map(str::to_owned)
    };
    assert_eq!(exact("a=1,b in (2)", "a").as_deref(), Some("1"));
    assert_eq!(exact("a=1,b in (2)", "b").as_deref(), Some("2"));
    assert_eq!(exact("a in (1,2)", "a"), None);
    assert_eq!(exact("a!=1", "a"), None);
}

#[test]
fn renaming_tells_of_the_first_label_that_is_not_supported() {
    let mut selector = FieldSelector::parse("spec.nodeName=n,status.x=1").unwrap();
    let known = |name: &str| (name == "spec.nodeName").then_some("node");
    assert_eq!(selector.rename(known), Err("status.x".to_owned()));
    let mut selector = FieldSelector::parse("spec.nodeName=n").unwrap();
    selector.rename(known).unwrap();
    assert_eq!(selector.to_string(), "node=n");
}

#[test]
fn matching_long_lists_of_values_is_a_search() {
    let values: Vec<String> = (0..100_000).map(|i| format!("v{i}")).collect();
    let selector = LabelSelector::parse(&format!("a in ({})", values.join(","))).unwrap();
    let hits = (0..100_000)
        .filter(|i| selector.matches(|_| Some(values[*i].as_str())))
        .count();
    assert_eq!(hits, 100_000);
}

proptest! {
    #[test]
    fn a_printed_label_selector_reads_back_equal(text in "([!]?[abz](=| in \\(| notin \\(|>|!=)?[a-c,]{0,4}\\)?,? ?){0,4}") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
        }
    }

    #[test]
    fn a_printed_field_selector_reads_back_equal(terms in prop::collection::vec(("[a-z.]{1,8}", "\\PC{0,8}"), 0..4)) {
        let text: Vec<String> = terms
            .iter()
            .map(|(f, v)| FieldTerm { field: f.as_str().into(), value: v.as_str().into(), equal: v.len() % 2 == 0 }.to_string())
            .collect();
        let selector = FieldSelector::parse(&text.join(",")).unwrap();
        prop_assert_eq!(selector.terms().len(), terms.len());
        prop_assert_eq!(FieldSelector::parse(&selector.to_string()), Ok(selector));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}|[ab=!<>(), \\\\]{0,40}") {
        let _ = (LabelSelector::parse(&text), FieldSelector::parse(&text));
    }
}
