//! The small languages of the API: selectors, quantities, times, schedules, names.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use proto::cron::Schedule;
use proto::meta::{address, names};
use proto::quantity::{self, Quantity};
use proto::selector::{FieldSelector, LabelSelector};
use proto::time::{self, Duration};
use proto::view::IntOrStr;

use crate::Target;

/// What was read, printed and read again is the same.
fn round_trip<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Option<T>
where
    T::Err: Debug,
{
    let value: T = text.parse().ok()?;
    let printed = value.to_string();
    let again: T = printed
        .parse()
        .unwrap_or_else(|e| panic!("{printed:?} of {text:?}: {e:?}"));
    assert_eq!(again, value, "{printed:?} of {text:?}");
    assert_eq!(again.to_string(), printed);
    Some(value)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_else(|e| {
        std::str::from_utf8(&bytes[..e.valid_up_to()]).expect("valid up to there")
    })
}

/// One seed for each text, under the number of its language.
fn seeds(languages: &[&[&str]]) -> Vec<Vec<u8>> {
    let numbered = (0_u8..).zip(languages);
    numbered
        .flat_map(|(i, texts)| texts.iter().map(move |t| [&[i], t.as_bytes()].concat()))
        .collect()
}

pub(crate) const SELECTORS: Target = Target {
    name: "selectors",
    run: |mut input| {
        let which = input.byte();
        let text = text(input.rest());
        if which % 2 == 0 {
            if let Some(selector) = round_trip::<LabelSelector>(text) {
                let labels = |key: &str| (key.len().is_multiple_of(2)).then_some("a");
                let each = selector
                    .requirements()
                    .iter()
                    .all(|r| r.matches(labels(r.key())));
                assert_eq!(selector.matches(labels), each);
                assert!(!LabelSelector::nothing().matches(labels));
                for requirement in selector.requirements() {
                    let one = selector.requires_exact(requirement.key());
                    assert!(one.is_none_or(|v| !v.contains(',')));
                }
            }
        } else if let Ok(selector) = text.parse::<FieldSelector>() {
            // Terms are in the order of their texts, of which one term has several.
            let terms = |selector: &FieldSelector| {
                let shown = selector.terms().iter().map(|t| format!("{t:?}"));
                shown.collect::<std::collections::BTreeSet<_>>()
            };
            let again =
                FieldSelector::parse(&selector.to_string()).expect("what was printed is read");
            assert_eq!(terms(&again), terms(&selector), "{text:?}");
            let mut renamed = selector.clone();
            let kept = renamed.rename(|name| Some(if name.is_empty() { "x" } else { "y" }));
            assert_eq!(kept, Ok(()));
            assert_eq!(renamed.terms().len(), selector.terms().len());
            let _ = selector.matches(|f| if f.len() > 3 { "a" } else { "" });
        }
    },
    seeds: || {
        seeds(&[
            &[
                "a=b,c!=d,!e,f in (g,h),i notin (j),k>1,l<2,m==n,o",
                "example.com/x in (),y=",
                " a , b ",
            ],
            &[
                "metadata.name=a,status.phase!=Running",
                r"a=\,\=\\,b==c",
                "a=",
            ],
        ])
    },
};

const LANGUAGES: &[fn(&str)] = &[
    quantities, durations, times, schedules, numbers, addresses, named,
];

pub(crate) const SCALARS: Target = Target {
    name: "scalars",
    run: |mut input| {
        let language = input.pick(LANGUAGES);
        language(text(input.rest()));
    },
    seeds: || {
        seeds(&[
            &[
                "100m,1.5Gi",
                "1e3,-2E-6",
                "12345678901234567890123.4567u,0",
                "9223372036854775807Ei,1n",
                "+.5k,1M",
            ],
            &[
                "1h2m3.5s",
                "-1.5ms",
                "300us",
                "0",
                "2562047h47m16.854775807s",
            ],
            &[
                "2026-01-02T03:04:05Z",
                "2026-01-02T03:04:05.123456789+07:30",
                "0001-01-01T00:00:00Z",
                "9999-12-31T23:59:59-23:59",
            ],
            &[
                "*/5 1,2-4 ? jan-mar mon",
                "@hourly",
                "@every 1h30m",
                "TZ=UTC 0 0 31 2 *",
                "59 23 29 2 6",
            ],
            &["80", "50%", "http", "-1%", "99999999999%"],
            &[
                "10.0.0.1",
                "2001:db8::1/64",
                "::ffff:1.2.3.4",
                "010.1.1.1/08",
                "fe80::1%eth0",
                "1.2.3.4/24",
            ],
            &[
                "example.com/name",
                "a-b.c_d",
                "*.example.com",
                "metadata",
                "X-Header",
                "100%",
            ],
        ])
    },
};

/// Two of them: sums and comparisons obey the laws of numbers.
fn quantities(text: &str) {
    let (a, b) = text.split_once(',').unwrap_or((text, "1"));
    if let Ok(once) = quantity::canonicalize(a) {
        assert_eq!(
            quantity::canonicalize(&once).as_deref(),
            Ok(&*once),
            "{a:?}"
        );
    }
    let (Ok(a), Ok(b)) = (a.parse::<Quantity>(), b.parse::<Quantity>()) else {
        return;
    };
    for q in [a, b, a.plus(b), a.times(3)] {
        let printed = q.to_string();
        let again: Quantity = printed
            .parse()
            .unwrap_or_else(|e| panic!("{printed:?}: {e}"));
        // On reading it rounds below a billionth, and a binary one is capped; what does not fit 64 bits may be either.
        let exact =
            q.round_up(quantity::NANO).1 && q.value().unsigned_abs() < i64::MAX.unsigned_abs();
        assert!(!exact || again == q || printed.len() > 30, "{printed:?}");
        let _ = (
            q.value(),
            q.milli_value(),
            q.as_f64(),
            q.signum(),
            q.is_whole(),
        );
        let (up, _) = q.round_up(0);
        assert!(q.signum() < 0 || up >= q);
    }
    assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
    assert_eq!(a.plus(b), b.plus(a));
    assert_eq!(a.minus(a).signum(), 0);
}

fn durations(text: &str) {
    round_trip::<Duration>(text);
    if let Ok(duration) = time::parse_duration(text) {
        let whole: Duration = text.parse().expect("it was one already");
        assert_eq!(whole.to_std(), Some(duration));
    }
}

/// Canonical forms are canonical, but for years that only fall out of a zone: those are printed and not read, as in Go.
fn times(text: &str) {
    let in_range = |once: &str| once.find('-') == Some(4);
    if let Ok(once) = time::canonical_time(text) {
        let again = time::canonical_time(&once);
        assert!(
            again.as_deref() == Ok(&*once) || !in_range(&once),
            "{text:?}"
        );
        let (of_once, of_text) = (time::unix_of(&once), time::parse_time(text));
        assert_eq!(of_once.map(|t| t.0), of_text.ok().map(|t| t.0));
    }
    if let Ok(once) = time::canonical_micro_time(text) {
        let again = time::canonical_micro_time(&once);
        assert!(
            again.as_deref() == Ok(&*once) || !in_range(&once),
            "{text:?}"
        );
    }
    if let Some((secs, nanos)) = time::unix_of(text) {
        let printed = time::print_time(secs);
        assert_eq!(time::unix_of(&printed).map(|t| t.0), Some(secs), "{text:?}");
        let _ = time::print_micro_time(secs, nanos);
    }
}

fn schedules(text: &str) {
    let Ok(schedule) = Schedule::parse(text) else {
        return;
    };
    for after in [0, 951_782_400, 1_767_225_599, 4_102_444_800] {
        let Some(next) = schedule.next(after) else {
            continue;
        };
        assert!(next > after, "{text:?}: {next} after {after}");
        if let Schedule::Calendar(_) = schedule {
            assert_eq!(next % 60, 0, "{text:?}");
            assert_eq!(schedule.next(next - 1), Some(next), "{text:?}");
        }
    }
}

fn numbers(text: &str) {
    let value = IntOrStr::parse(text);
    for (total, up) in [(0, true), (10, false), (i64::from(i32::MAX), true)] {
        let scaled = value.scaled(total, up);
        if let (IntOrStr::Int(n), scaled) = (value, &scaled) {
            assert_eq!(scaled, &Ok(n));
        }
        let _ = scaled.map_err(|e| e.to_string());
    }
}

fn addresses(text: &str) {
    let parsed = address::parse(text);
    if let Some(ip) = parsed {
        assert_eq!(address::parse(&ip.to_string()), Some(ip), "{text:?}");
    }
    let (old, new) = (
        address::legacy_ip_problems(text, false),
        address::ip_problems(text),
    );
    assert!(parsed.is_some() || !old.is_empty(), "{text:?}");
    assert!(old.is_empty() || !new.is_empty(), "{text:?}");
    if new.is_empty() {
        assert_eq!(parsed.map(|ip| ip.to_string()).as_deref(), Some(text));
    }
    let _ = (
        address::legacy_cidr_problems(text, false),
        address::cidr_problems(text),
    );
    let _ = address::endpoint_ip_problems(text);
    if let Some(range) = address::Range::parse(text) {
        let _ = (range.network(), range.is_written_plainly(text));
    }
}

/// What the stricter rule allows, the wider one does.
fn named(text: &str) {
    let ok = |problems: Vec<String>| problems.is_empty();
    if ok(names::dns_1035_label_problems(text)) {
        assert!(ok(names::dns_label_problems(text)), "{text:?}");
    }
    if ok(names::dns_label_problems(text)) {
        assert!(ok(names::dns_subdomain_problems(text)), "{text:?}");
        assert!(ok(names::label_value_problems(text)), "{text:?}");
        assert!(ok(names::label_key_problems(text)), "{text:?}");
    }
    if ok(names::dns_subdomain_problems(text)) {
        assert!(ok(names::path_segment_problems(text)), "{text:?}");
        assert!(
            ok(names::dns_subdomain_with_underscore_problems(text)),
            "{text:?}"
        );
        assert!(ok(names::long_name_caseless_problems(text)), "{text:?}");
    }
    for problems in [
        names::wildcard_dns_subdomain_problems,
        names::prefixed_label_key_problems,
        names::c_identifier_problems,
        names::port_name_problems,
        names::percent_problems,
        names::http_header_name_problems,
        names::config_map_key_problems,
        names::env_var_name_problems,
        names::relaxed_env_var_name_problems,
        names::condition_reason_problems,
    ] {
        let _ = problems(text);
    }
    let _ = proto::meta::field_manager_problems(text).count();
    let _ = proto::meta::parse_api_version(text);
}
