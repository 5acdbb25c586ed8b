use super::*;

fn key(n: u8) -> Key {
    Key::from_bytes(&[n]).unwrap()
}

fn claim(n: u8, value: Value) -> Claim {
    Claim {
        set: SetId::NoEndpointIps,
        key: key(n),
        value,
    }
}

fn change(gone: &[(u8, Value)], new: &[(u8, Value)]) -> Changes {
    let keyed = |all: &[(u8, Value)]| all.iter().map(|(n, value)| (key(*n), *value)).collect();
    let change = Change {
        gone: keyed(gone),
        new: keyed(new),
    };
    BTreeMap::from([(SetId::NoEndpointIps, change)])
}

#[test]
fn an_element_that_two_want_stays_until_both_let_go() {
    let mut elements = Elements::default();
    let shared = claim(1, Value::Drop);
    elements.replace(&[], std::slice::from_ref(&shared));
    elements.replace(&[], std::slice::from_ref(&shared));
    assert_eq!(elements.take(), change(&[], &[(1, Value::Drop)]));
    elements.withdraw(&shared);
    assert_eq!(elements.take(), Changes::new());
    elements.withdraw(&shared);
    assert_eq!(elements.take(), change(&[(1, Value::Drop)], &[]));
    assert_eq!(elements.len(), 0);
}

#[test]
fn of_two_claims_the_first_counts_and_then_the_next() {
    let mut elements = Elements::default();
    let (first, second) = (claim(1, Value::Drop), claim(1, Value::Reject));
    elements.claim(&first);
    elements.claim(&second);
    assert_eq!(elements.take(), change(&[], &[(1, Value::Drop)]));
    elements.withdraw(&first);
    assert_eq!(
        elements.take(),
        change(&[(1, Value::Drop)], &[(1, Value::Reject)])
    );
}

#[test]
fn only_what_differs_is_changed_and_what_is_undone_is_not() {
    let mut elements = Elements::default();
    let before = [claim(1, Value::Drop), claim(2, Value::Drop)];
    elements.replace(&[], &before);
    elements.take();
    let after = [claim(2, Value::Drop), claim(3, Value::Drop)];
    elements.replace(&before, &after);
    assert_eq!(
        elements.take(),
        change(&[(1, Value::Drop)], &[(3, Value::Drop)])
    );
    elements.replace(&after, &[]);
    elements.replace(&[], &after);
    assert_eq!(elements.take(), Changes::new());
}

#[test]
fn a_kernel_with_other_elements_is_corrected() {
    let mut elements = Elements::default();
    elements.replace(&[], &[claim(1, Value::Drop), claim(2, Value::Drop)]);
    let held = HashMap::from([(key(2), Value::Reject), (key(9), Value::Foreign)]);
    let found = BTreeMap::from([(SetId::NoEndpointIps, held)]);
    let mut changes = elements.compare(&found);
    let change = changes.get_mut(&SetId::NoEndpointIps).unwrap();
    change.gone.sort_unstable_by_key(|(key, _)| *key);
    change.new.sort_unstable_by_key(|(key, _)| *key);
    assert_eq!(
        change.gone,
        [(key(2), Value::Reject), (key(9), Value::Foreign)]
    );
    assert_eq!(change.new, [(key(1), Value::Drop), (key(2), Value::Drop)]);
    assert_eq!(
        elements.take(),
        Changes::new(),
        "nothing is left from before"
    );
}

#[test]
fn parts_of_keys_fill_whole_registers() {
    let key = Key::new()
        .ip([10, 0, 0, 1].into())
        .protocol(Protocol::Udp)
        .port(53);
    assert_eq!(key.as_bytes(), [10, 0, 0, 1, 17, 0, 0, 0, 0, 53, 0, 0]);
    assert_eq!(key.numbered(1).as_bytes()[..4], 1_u32.to_ne_bytes());
    assert_eq!(Data::from_bytes(&[0; 21]), None);
}
