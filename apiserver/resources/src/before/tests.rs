use super::*;

fn owner(uid: &str, name: &str) -> Value {
    let mut owner = Value::object();
    owner.set(&[n::UID], uid);
    owner.set(&[n::NAME], name);
    owner
}

fn owned(owners: Vec<Value>) -> Value {
    let mut object = Value::object();
    object.set(&[n::METADATA, n::OWNER_REFERENCES], owners);
    object
}

#[test]
fn owners_that_are_given_twice_are_dropped_with_a_warning() {
    let mut object = owned(vec![
        owner("1", "a"),
        owner("2", "b"),
        owner("1", "a"),
        owner("2", "b"),
        owner("2", "other"),
    ]);
    let warning = dedup_owner_references(&mut object, AFTER_ADMISSION).unwrap();
    assert!(warning.starts_with(".metadata.ownerReferences contains duplicate entries after mut"));
    assert!(warning.ends_with("duplicate UID(s) observed: 1, 2"));
    let left = owned(vec![owner("1", "a"), owner("2", "b"), owner("2", "other")]);
    assert_eq!(object, left);
    assert_eq!(dedup_owner_references(&mut object, ON_ARRIVAL), None);
}

#[test]
fn a_new_object_keeps_what_clients_may_say_of_its_generation() {
    let mut object = Value::object();
    object.set(&[n::METADATA, n::GENERATION], 7);
    object.set(&[n::METADATA, n::UID], "mine");
    wipe_system_fields(&mut object);
    let mut left = Value::object();
    left.set(&[n::METADATA, n::GENERATION], 7);
    assert_eq!(object, left);
}
