//! Types of flags that only the kubelet has.

use std::collections::BTreeMap;

use component::args::Value;
use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::file::{MemoryReservation, Texts};

fn last(given: &[String]) -> &str {
    given.last().map_or("", String::as_str)
}

/// `a<1,b<2`, as eviction thresholds are written.
pub(super) struct Thresholds(pub(super) Texts);

impl Value for Thresholds {
    const TYPE: &'static str = "mapStringString";

    fn parse(given: &[String]) -> Result<Self, String> {
        let pairs = given
            .iter()
            .flat_map(|g| g.split(','))
            .filter(|p| !p.is_empty());
        let pair = |text: &str| {
            text.split_once('<')
                .map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()))
                .ok_or_else(|| format!("malformed pair, expect string<string: {text}"))
        };
        pairs.map(pair).collect::<Result<_, _>>().map(Self)
    }
}

/// `a=1,b`: a key without a value has an empty one.
pub struct Labels(pub Texts);

impl Value for Labels {
    const TYPE: &'static str = "mapStringString";

    fn parse(given: &[String]) -> Result<Self, String> {
        let pairs = given
            .iter()
            .flat_map(|g| g.split(','))
            .filter(|p| !p.is_empty());
        let pair = |text: &str| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            (key.trim().to_owned(), value.trim().to_owned())
        };
        Ok(Self(pairs.map(pair).collect()))
    }
}

/// Several `key=value`, one for each time that the flag is given: values may hold commas.
pub(super) struct Options(pub(super) Texts);

impl Value for Options {
    const TYPE: &'static str = "mapStringString";

    fn parse(given: &[String]) -> Result<Self, String> {
        let pair = |text: &String| {
            text.split_once('=')
                .map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()))
                .ok_or_else(|| format!("malformed pair, expect string=string: {text}"))
        };
        let given = given.iter().filter(|g| !g.is_empty());
        given.map(pair).collect::<Result<_, _>>().map(Self)
    }
}

/// `a:1,a:2`: names with several values.
pub(super) struct Headers(pub(super) BTreeMap<String, Vec<String>>);

impl Value for Headers {
    const TYPE: &'static str = "colonSeparatedMultimapStringString";

    fn parse(given: &[String]) -> Result<Self, String> {
        let mut all = BTreeMap::<String, Vec<String>>::new();
        let pairs = given
            .iter()
            .flat_map(|g| g.split(','))
            .filter(|p| !p.is_empty());
        for text in pairs {
            let (key, value) = text
                .split_once(':')
                .ok_or_else(|| format!("malformed pair, expect string:string: {text}"))?;
            let values = all.entry(key.trim().to_owned()).or_default();
            values.push(value.trim().to_owned());
        }
        Ok(Self(all))
    }
}

/// A duration that may be negative.
pub(super) struct Signed(pub(super) proto::time::Duration);

impl Value for Signed {
    const TYPE: &'static str = "duration";

    fn parse(given: &[String]) -> Result<Self, String> {
        let parsed = last(given).parse();
        parsed
            .map(Self)
            .map_err(|e: proto::time::DurationError| e.to_string())
    }
}

/// `key=value:effect,key:effect`, what a node is registered with.
pub(super) struct Taints(pub(super) Vec<Taint>);

impl Value for Taints {
    const TYPE: &'static str = "[]v1.Taint";

    fn parse(given: &[String]) -> Result<Self, String> {
        let texts = last(given).split(',').filter(|t| !t.is_empty());
        let taints: Vec<Taint> = texts.map(taint).collect::<Result<_, _>>()?;
        for (i, one) in taints.iter().enumerate() {
            let same = |other: &Taint| other.key == one.key && other.effect == one.effect;
            if taints[..i].iter().any(same) {
                return Err(format!(
                    "duplicated taints with the same key and effect: {}:{}",
                    one.key, one.effect
                ));
            }
        }
        Ok(Self(taints))
    }
}

fn taint(text: &str) -> Result<Taint, String> {
    let invalid = || format!("invalid taint spec: {text}");
    let (rest, effect) = text.split_once(':').ok_or_else(invalid)?;
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(format!(
            "invalid taint effect: {effect}, unsupported taint effect"
        ));
    }
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    if !proto::meta::names::label_key_problems(key).is_empty()
        || !proto::meta::names::label_value_problems(value).is_empty()
    {
        return Err(invalid());
    }
    Ok(Taint {
        key: key.to_owned(),
        value: Some(value.to_owned()).filter(|v| !v.is_empty()),
        effect: effect.to_owned(),
        time_added: None,
    })
}

/// `0:memory=1Gi,hugepages-1M=2Gi;1:memory=2Gi`
pub(super) struct Reservations(pub(super) Vec<MemoryReservation>);

impl Value for Reservations {
    const TYPE: &'static str = "reserved-memory";

    fn parse(given: &[String]) -> Result<Self, String> {
        let texts = given
            .iter()
            .flat_map(|g| g.split(';'))
            .filter(|t| !t.is_empty());
        texts.map(reservation).collect::<Result<_, _>>().map(Self)
    }
}

fn reservation(text: &str) -> Result<MemoryReservation, String> {
    let (node, limits) = text.split_once(':').ok_or_else(|| {
        format!(
            "the reserved memory has incorrect format, expected \
             numaNodeID:type=quantity[,type=quantity...], got {text}"
        )
    })?;
    let numa_node = node
        .parse()
        .map_err(|_| format!("failed to convert the NUMA node ID, expected integer, got {node}"))?;
    let limit = |text: &str| {
        let (name, amount) = text.split_once('=').ok_or_else(|| {
            format!("the reserved limit has incorrect value, expected type=quantity, got {text}")
        })?;
        if name != "memory" && !name.starts_with("hugepages-") {
            return Err(format!(
                "memory type conversion error, unknown type: {name:?}"
            ));
        }
        if amount.parse::<proto::quantity::Quantity>().is_err() {
            return Err(format!("failed to parse the quantity: {amount}"));
        }
        Ok((name.to_owned(), Quantity(amount.to_owned())))
    };
    Ok(MemoryReservation {
        numa_node,
        limits: limits.split(',').map(limit).collect::<Result<_, _>>()?,
    })
}
