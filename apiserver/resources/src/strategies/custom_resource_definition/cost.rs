//! What rules may cost: `getExpressionCost` and its like in `pkg/apis/apiextensions/validation`, and how
//! often a rule is asked (`CELSchemaContext`).

use proto::Value;
use proto::path::FieldError;

use super::props::Props;

/// The largest request that is reckoned with, in bytes.
const LARGEST: u64 = 3 * 1024 * 1024;
/// Of one expression, as it is estimated, times how often it is asked.
pub(super) const LIMIT: u64 = 10_000_000;
/// Of all rules of a schema together.
const TOTAL_LIMIT: u64 = 100_000_000;
/// So many rules are named when all together cost too much.
const NAMED: usize = 4;

/// What all rules of a schema cost.
#[derive(Default)]
pub(super) struct Total {
    sum: u64,
    /// The dearest, first.
    dearest: Vec<(String, u64)>,
}

impl Total {
    pub(super) fn add(&mut self, at: String, cost: u64) {
        self.sum = self.sum.saturating_add(cost);
        if cost >= TOTAL_LIMIT / 100 {
            self.dearest.push((at, cost));
            self.dearest
                .sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
            self.dearest.truncate(NAMED);
        }
    }

    /// What is wrong with the schema at a path, if all is too much.
    pub(super) fn into_errors(self, at: &str) -> Vec<FieldError> {
        if self.sum <= TOTAL_LIMIT {
            return Vec::new();
        }
        const PART: &str = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
        let parts = self.dearest.into_iter();
        let mut errors: Vec<_> = parts
            .map(|(at, _)| FieldError::forbidden(at, PART))
            .collect();
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(FieldError::forbidden(
            at,
            too_much(what, self.sum, TOTAL_LIMIT),
        ));
        errors
    }
}

/// How much too much something costs.
#[allow(
    clippy::cast_precision_loss,
    reason = "upstream counts in doubles here"
)]
pub(super) fn too_much(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".into()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

/// How often what is in a value of the schema can be there for each of these; none: there is no limit.
pub(super) fn entries(schema: Props<'_>) -> Option<u64> {
    match schema.kind() {
        "object" if schema.get("additionalProperties").is_some() => schema.limit("maxProperties"),
        "array" => schema.limit("maxItems"),
        _ => Some(1),
    }
}

/// How often a value of the schema can be there at most, as large as a request may be.
pub(super) fn most(schema: Props<'_>, resource: bool) -> u64 {
    LARGEST / (smallest(schema, resource).unwrap_or(0) + 1)
}

/// The fewest bytes that a value of the schema takes (`MinSerializedSize` of `apiserver/pkg/cel/common`);
/// none where the language has no type for it.
fn smallest(schema: Props<'_>, resource: bool) -> Option<u64> {
    let below = |s: Props<'_>| smallest(s, s.flag("x-kubernetes-embedded-resource"));
    let format = schema.text("format");
    if schema.flag("x-kubernetes-int-or-string") || format == "int-or-string" {
        return Some(1);
    }
    match schema.kind() {
        "array" => below(schema.schema("items")?).map(|_| 2),
        "object" => match schema.schema("additionalProperties") {
            Some(values) => below(values).map(|_| 2),
            None => Some(2 + required(schema, resource)),
        },
        "string" => Some(match format {
            "duration" => 3,
            "date" => 12,
            "date-time" => 21,
            _ => 2,
        }),
        "boolean" => Some(4),
        "number" | "integer" => Some(1),
        _ => None,
    }
}

/// The bytes of the fields that an object must have. Those that every resource has are there even where
/// the schema says nothing of them.
fn required(schema: Props<'_>, resource: bool) -> u64 {
    let names = schema.list("required").iter();
    let mut names: Vec<&str> = names.filter_map(Value::as_str).collect();
    let properties = schema.map("properties");
    names.sort_unstable();
    names.dedup();
    let of = |name: &str| {
        let property = properties.get(name).map(Props);
        if resource && matches!(name, "apiVersion" | "kind" | "metadata") {
            return Some(2);
        }
        let property = property.filter(|p| p.get("default").is_none())?;
        smallest(property, property.flag("x-kubernetes-embedded-resource"))
    };
    let one = |name: &&str| Some(name.len() as u64 + of(name)? + 4);
    names.iter().filter_map(one).sum()
}

#[cfg(test)]
mod tests {
    use proto::codec::json::parse;

    use super::*;

    #[test]
    fn a_value_is_there_as_often_as_a_request_can_hold_it() {
        for (schema, resource, times) in [
            (r#"{"type":"integer"}"#, false, 1_572_864),
            (r#"{"type":"boolean"}"#, false, 629_145),
            (
                r#"{"type":"array","items":{"type":"string"}}"#,
                false,
                1_048_576,
            ),
            (
                r#"{"type":"object","required":["a","b"],"properties":{"a":{"type":"string"},"b":{"type":"string","default":"x"}}}"#,
                false,
                314_572,
            ),
            (r#"{"type":"object","required":["kind"]}"#, true, 241_979),
        ] {
            let schema = parse(schema.as_bytes()).unwrap();
            assert_eq!(most(Props(&schema), resource), times, "{schema:?}");
        }
    }

    #[test]
    fn factors_say_how_much_too_much_it_is() {
        let told = |cost| too_much("it", cost, 10);
        assert!(told(12).starts_with("it exceeds budget by factor of 1.200000x ("));
        assert!(told(16).starts_with("it exceeds budget by factor of 1.6x ("));
        assert!(told(2000).starts_with("it exceeds budget by factor of more than 100x ("));
    }
}
