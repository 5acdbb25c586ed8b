use resources::strategies::flowcontrol::bootstrap::EXEMPT;

use super::*;

fn level(name: &str) -> Value {
    let found = bootstrap::levels().find(|(_, o)| meta::name(o) == name);
    let (_, mut object) = found.unwrap();
    object.set(&[n::METADATA, n::GENERATION], 1);
    object
}

fn annotated(mut object: Value, text: &str) -> Value {
    meta::set_annotation(&mut object, AUTO_UPDATE, text);
    object
}

fn bare(mut object: Value, generation: i64) -> Value {
    object.remove(&[n::METADATA, n::ANNOTATIONS]);
    object.set(&[n::METADATA, n::GENERATION], generation);
    object
}

fn changed(mut object: Value) -> Value {
    let shares = [n::SPEC, n::LIMITED, n::NOMINAL_CONCURRENCY_SHARES];
    object.set(&shares, 77);
    object
}

fn annotation(object: &Value) -> &str {
    meta::annotation(object, AUTO_UPDATE).unwrap()
}

#[test]
fn what_is_right_is_left_alone() {
    for (kind, object) in bootstrap::levels().chain(bootstrap::schemas()) {
        assert_eq!(revise(kind, &object, &object), None);
    }
}

#[test]
fn suggestions_are_kept_until_people_take_them_over() {
    let wanted = level("system");
    let revised = |current: &Value| revise(Kind::Suggested, current, &wanted);
    // Kept: put right.
    let kept = revised(&changed(wanted.clone())).unwrap();
    assert!(same_at(&kept, &wanted, &[n::SPEC]));
    // Taken over: left alone.
    let taken = annotated(changed(wanted.clone()), "false");
    assert_eq!(revised(&taken), None);
    // Nobody says anything: an object that was never changed is ours.
    let fresh = revised(&bare(changed(wanted.clone()), 1)).unwrap();
    assert!(same_at(&fresh, &wanted, &[n::SPEC]));
    assert_eq!(annotation(&fresh), "true");
    let old = revised(&bare(changed(wanted.clone()), 2)).unwrap();
    assert!(!same_at(&old, &wanted, &[n::SPEC]));
    assert_eq!(annotation(&old), "false");
    let odd = revised(&annotated(bare(changed(wanted.clone()), 2), "maybe")).unwrap();
    assert_eq!(annotation(&odd), "false");
}

#[test]
fn mandatory_objects_are_always_put_right() {
    let wanted = level("catch-all");
    let taken = annotated(changed(wanted.clone()), "false");
    let kept = revise(Kind::Mandatory, &taken, &wanted).unwrap();
    assert!(same_at(&kept, &wanted, &[n::SPEC]));
    assert_eq!(annotation(&kept), "true");
}

#[test]
fn the_seats_of_the_exempt_level_are_peoples_affair() {
    let wanted = level(EXEMPT);
    let mut current = wanted.clone();
    let part = [n::SPEC, n::EXEMPT];
    current.set(&[part[0], part[1], n::NOMINAL_CONCURRENCY_SHARES], 10);
    current.set(&[part[0], part[1], n::LENDABLE_PERCENT], 50);
    assert_eq!(revise(Kind::Mandatory, &current, &wanted), None);
    current.remove(&part);
    assert!(revise(Kind::Mandatory, &current, &wanted).is_some());
}
