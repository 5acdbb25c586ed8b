use proptest::prelude::*;

use super::*;

/// Of upstream's outputs (see the file), without amounts beyond `E` in decimal suffixes.
#[test]
fn reading_printing_and_arithmetic_are_upstreams() {
    let mut n = 0;
    for line in include_str!("cases.txt")
        .lines()
        .filter(|l| !l.starts_with('#'))
    {
        n += 1;
        let fields: Vec<&str> = line.split('\t').collect();
        let expected = match fields[1] {
            "!FMT" => Err(ParseError::Format),
            "!NUM" => Err(ParseError::Numeric),
            "!SUF" => Err(ParseError::Suffix),
            text => Ok(text.into()),
        };
        assert_eq!(canonicalize(fields[0]), expected, "{line}");
        let [text, _, other, sum, difference, order] = fields[..] else {
            continue;
        };
        let (a, b): (Quantity, Quantity) = (text.parse().unwrap(), other.parse().unwrap());
        // Upstream keeps the text of an operand where the other one is zero.
        let printed = |q: Quantity, given: &str| {
            canonicalize(given).is_ok_and(|g| *g == *canonicalize(&q.to_string()).unwrap())
        };
        assert!(
            a.plus(b).to_string() == sum || printed(a.plus(b), sum),
            "{line}: {}",
            a.plus(b)
        );
        assert!(
            a.minus(b).to_string() == difference || printed(a.minus(b), difference),
            "{line}: {}",
            a.minus(b)
        );
        assert_eq!((a.cmp(&b) as i32).to_string(), order, "{line}");
    }
    assert!(n > 100);
}

#[test]
fn texts_that_need_no_other_suffix_stay_as_they_are() {
    for text in ["+5", "005", "1.500", "1.Gi", "100m", "1e3", "0"] {
        assert_eq!(&*canonicalize(text).unwrap(), text);
    }
    for (text, canonical) in [
        ("1000m", "1"),
        ("1.5", "1500m"),
        ("0.1m", "100u"),
        ("0.1n", "1n"),
        ("00", "0"),
        ("0.5Gi", "512Mi"),
        (" 5 ", "5"),
    ] {
        assert_eq!(&*canonicalize(text).unwrap(), canonical);
    }
}

/// Upstream keeps texts only if they fit its quick path: 11 digits before `Ki`, 5 before `Gi`.
#[test]
fn longer_binary_amounts_are_printed_anew() {
    for (text, canonical) in [
        ("+12345678901Ki", "+12345678901Ki"),
        ("+123456789013Ki", "123456789013Ki"),
        ("+12345Gi", "+12345Gi"),
        ("+123457Gi", "123457Gi"),
    ] {
        assert_eq!(&*canonicalize(text).unwrap(), canonical);
    }
}

#[test]
fn amounts_beyond_the_last_suffix_keep_their_value() {
    assert_eq!(&*canonicalize("1000E").unwrap(), "1e21");
    assert_eq!(&*canonicalize("1000000000000000000000").unwrap(), "1e21");
}

#[test]
fn integers_round_away_from_zero_and_saturate() {
    let q = |text: &str| text.parse::<Quantity>().unwrap();
    assert_eq!(q("1.1").value(), 2);
    assert_eq!(q("-1.1").value(), -2);
    assert_eq!(q("1n").milli_value(), 1);
    assert_eq!(q("1e30").value(), i64::MAX);
    assert_eq!(q("-1e30").value(), i64::MIN);
    assert_eq!(q("1e30").checked_scaled_value(20), Some(10_000_000_000));
    assert!(q("1.0").is_whole() && !q("1m").is_whole());
}

#[test]
fn hostile_texts_cost_what_they_are_long() {
    let long = "9".repeat(3_000_000);
    assert_eq!(canonicalize(&long).unwrap().len(), long.len());
    assert_eq!(&*canonicalize(&format!("0.{long}Ei")).unwrap(), "1Ei");
    let huge: Quantity = "1e2147483647".parse().unwrap();
    assert!(huge > "1n".parse().unwrap());
    assert_eq!(huge.plus(huge).minus(huge), huge);
    assert_eq!(huge.value(), i64::MAX);
    let tiny: Quantity = "12345678901234567890e-2147483648".parse().unwrap();
    assert_eq!(tiny.to_string(), "1e-9");
}

/// Sums of two of them have at most 38 digits.
fn amounts() -> impl Strategy<Value = Quantity> {
    let suffixes = [
        "", "m", "k", "G", "E", "n", "Ki", "Mi", "Ei", "e3", "e-9", "e17",
    ];
    let suffix = prop::sample::select(suffixes.to_vec());
    ("-?[0-9]{1,10}(\\.[0-9]{1,9})?", suffix).prop_map(|(n, s)| format!("{n}{s}").parse().unwrap())
}

proptest! {
    #[test]
    fn canonical_forms_are_fixed_points_and_keep_the_value(q in amounts()) {
        let text = q.to_string();
        prop_assert_eq!(text.parse::<Quantity>().unwrap(), q);
        prop_assert_eq!(&*canonicalize(&text).unwrap(), text.as_str());
    }

    #[test]
    fn addition_commutes_and_subtraction_undoes_it(a in amounts(), b in amounts()) {
        prop_assert_eq!(a.plus(b), b.plus(a));
        prop_assert_eq!(a.plus(b).minus(b), a);
        prop_assert_eq!(a.cmp(&b), a.minus(b).signum().cmp(&0));
    }

    #[test]
    fn products_are_repeated_sums(a in amounts(), n in 0..20_i64) {
        let sum = (0..n).fold(Quantity::default(), |s, _| s.plus(a));
        prop_assert_eq!(a.times(n), sum);
    }

    #[test]
    fn any_text_is_a_quantity_or_an_error(text in "\\PC{0,20}|[-+0-9.eEiKMGTPnumk]{0,30}") {
        if let Ok(canonical) = canonicalize(&text) {
            let again = canonicalize(&canonical);
            prop_assert_eq!(again.as_deref(), Ok(&*canonical));
        }
    }
}
