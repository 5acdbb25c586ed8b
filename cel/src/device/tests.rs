use super::*;

const DEFAULT: Features = Features {
    consumable_capacity: true,
    list_attributes: false,
};
const LISTS: Features = Features {
    list_attributes: true,
    ..DEFAULT
};
const OLD: Features = Features {
    consumable_capacity: false,
    ..DEFAULT
};

/// The most that an expression costs, or what is wrong with it.
fn most(expression: &str, of: Use, features: Features) -> Result<u64, String> {
    let compiled = compile(expression, of, features);
    compiled
        .map(|program| program.estimate().max)
        .map_err(|invalid| invalid.detail)
}

/// `a` is the attributes of one domain, `c` its capacities.
fn written(short: &str) -> String {
    short
        .replace("$a", r#"device.attributes["dra.example.com"]"#)
        .replace("$c", r#"device.capacity["dra.example.com"]"#)
}

/// Figures are those of upstream's `compile_test.go`.
#[test]
fn costs_go_by_the_limits_of_devices() {
    for (short, cost) in [
        ("true", 0),
        ("'domain' in device.attributes", 3),
        ("device.driver == ''", 2),
        ("device.driver == 'dra.example.com'", 4),
        ("$a.name", 4),
        ("$a['name']", 4),
        ("$a.name > 0", 5),
        ("$a.name == 'fish'", 5),
        ("cel.bind(dra, $a, dra.name)", 15),
        ("$a.names.size() == 2", 6),
        ("$a.a && $a.b && $a.c", 12),
        ("1 in $a.names", 4 + 64),
        ("$a.name.isGreaterThan(semver('0.0.1'))", 6),
        ("$c.name.isGreaterThan(quantity('1Ki'))", 6),
        ("'name' in $c && $c.name.isGreaterThan(quantity('1Ki'))", 10),
        (
            "!('name' in $c) || $c.name.isGreaterThan(quantity('1Ki'))",
            11,
        ),
        (
            "device.attributes.exists_one(x, x == 'dra.example.com')",
            164,
        ),
        ("$a.exists_one(x, x == 'services')", 133),
        ("$a.services.split('example').size() >= 2", 19),
        ("$a.services.matches('[^a]?sym')", 18),
        ("device.capacity.exists_one(x, x == 'dra.example.com')", 164),
        ("$c.exists_one(x, x == 'memory')", 133),
        // By how long names are: 64 + 96 + 128 + 160 + 192 characters.
        ("$a.all(x, x + x + x + x + x + x != '')", 4 + 32 * (9 + 66)),
    ] {
        let expression = written(short);
        for features in [DEFAULT, LISTS, OLD] {
            let told = most(&expression, Use::Selector, features);
            assert_eq!(told, Ok(cost), "{short} {features:?}");
        }
    }
    for (short, cost) in [
        ("$a.name.exists(x, x > 0)", 5 + 6 * 64),
        ("$a.names.all(x, x != '')", 5 + 4 * 64),
        ("$a.name.includes('fish')", 4 + 64),
        ("$a.name.includes(semver('1.0.0'))", 4 + 64 + 1),
    ] {
        let expression = written(short);
        assert_eq!(most(&expression, Use::Selector, LISTS), Ok(cost), "{short}");
    }
}

#[test]
fn a_selector_gives_a_bool_or_what_nothing_is_known_of() {
    let refused = |short: &str, features| most(&written(short), Use::Selector, features).err();
    for (short, wanted) in [
        ("1", "must evaluate to bool or the unknown type, not int"),
        (
            "device.driver",
            "must evaluate to bool or the unknown type, not string",
        ),
        (
            "dyn(true)",
            "must evaluate to bool or the unknown type, not dyn",
        ),
        (
            "device.attributes",
            "must evaluate to bool or the unknown type, not map(string, map(string, google.protobuf.Any))",
        ),
        (
            "device",
            "must evaluate to bool or the unknown type, not kubernetes.DRADevice",
        ),
    ] {
        assert_eq!(refused(short, DEFAULT).as_deref(), Some(wanted), "{short}");
    }
    assert_eq!(refused("dyn(true)", LISTS), None);
    for (short, features, wanted) in [
        ("device.nothing", DEFAULT, "undefined field 'nothing'"),
        (
            "device.allowMultipleAllocations",
            OLD,
            "undefined field 'allowMultipleAllocations'",
        ),
        (
            "$a.ids.exists(id, id == 1)",
            DEFAULT,
            "cannot be range of a comprehension",
        ),
        (
            "$a.name.includes('fish')",
            DEFAULT,
            "undeclared reference to 'includes'",
        ),
        ("$a.name ==", DEFAULT, "Syntax error"),
    ] {
        let told = refused(short, features).unwrap();
        let told = told
            .strip_prefix("compilation failed: ERROR: <input>:")
            .unwrap();
        assert!(told.contains(wanted), "{short}: {told}");
    }
    assert_eq!(refused("device.allowMultipleAllocations", DEFAULT), None);
}

#[test]
fn a_derived_attribute_is_a_scalar_or_a_list_of_them_where_there_are_such() {
    const SCALARS: &str = "must evaluate to a primitive scalar (string, integer, boolean, semver)";
    for short in [
        "true",
        "1",
        "'fish'",
        "semver('1.0.0')",
        "$a['numa']",
        "dyn('fish')",
    ] {
        for features in [DEFAULT, LISTS] {
            assert!(
                most(&written(short), Use::Derived, features).is_ok(),
                "{short}"
            );
        }
    }
    for short in [
        "[1, 2]",
        "['a']",
        "[semver('1.0.0')]",
        "[$a.numa]",
        "[dyn('a'), dyn(1)]",
    ] {
        assert!(
            most(&written(short), Use::Derived, LISTS).is_ok(),
            "{short}"
        );
        let told = most(&written(short), Use::Derived, DEFAULT).unwrap_err();
        assert!(
            told.starts_with(&format!("{SCALARS}, not list(")),
            "{short}: {told}"
        );
    }
    let lists = format!("{SCALARS} or a list of these scalars");
    for (short, features, wanted) in [
        ("[1, 2]", DEFAULT, format!("{SCALARS}, not list(int)")),
        ("null", LISTS, format!("{lists}, not null_type")),
        ("1.5", LISTS, format!("{lists}, not double")),
        ("[[1]]", LISTS, format!("{lists}, not list(list(int))")),
        (
            "[device.attributes]",
            LISTS,
            format!("{lists}, not list(map(string, map(string, dyn)))"),
        ),
    ] {
        assert_eq!(most(short, Use::Derived, features), Err(wanted), "{short}");
    }
}

#[test]
fn what_is_looked_at_over_and_over_costs_too_much() {
    let all = |variable: &str, inner: &str| format!("device.attributes.all({variable}, {inner})");
    let deep = all("a", &all("b", &all("c", &all("d", "a + b == c + d"))));
    assert!(most(&deep, Use::Selector, DEFAULT).unwrap() > MAX_COST);
    let less = all("a", &all("b", "a == b"));
    assert!(most(&less, Use::Selector, DEFAULT).unwrap() < MAX_COST);
}
