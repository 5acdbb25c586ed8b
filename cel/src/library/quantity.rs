//! Quantities and versions: `apiserver/pkg/cel/library/{quantity,semverlib}.go`.

use std::cmp::Ordering;
use std::str::FromStr;

use proto::quantity::{Format, NANO, Quantity};

use super::{Functions, int, opaque, overloads, text};
use crate::error::Error;
use crate::value::{Opaque, Outcome, Semver, Value};

fn quantity(args: &[Value<'_>], index: usize) -> Result<Quantity, Error> {
    amount(args, index).map(|(quantity, _)| quantity)
}

/// A quantity, and whether upstream has it as a decimal.
fn amount(args: &[Value<'_>], index: usize) -> Result<(Quantity, bool), Error> {
    match opaque(args, index)? {
        Opaque::Quantity(quantity, decimal) => Ok((*quantity, *decimal)),
        _ => Err(Error::no_such_overload()),
    }
}

fn made<'a>(quantity: Quantity, decimal: bool) -> Outcome<'a> {
    // What its integer has no room for upstream has as a decimal from then on.
    let decimal = decimal || i64::try_from(quantity.parts().0).is_err();
    Ok(Value::opaque(Opaque::Quantity(quantity, decimal)))
}

/// Whether upstream reads a quantity into a decimal: with a binary suffix and a fraction, or with more
/// digits than surely fit (`ParseQuantity` of `apimachinery/pkg/api/resource/quantity.go`).
fn is_decimal(text: &str) -> bool {
    let unsigned = text.trim_start_matches(['-', '+']).trim_start_matches('0');
    let digits = |text: &str| {
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len())
    };
    let whole = digits(unsigned);
    let (fraction, suffix) = match unsigned[whole..].strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", &unsigned[whole..]),
    };
    let whole = whole.max(1);
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
        .iter()
        .position(|known| *known == suffix);
    match binary {
        // 2^10 has about three digits, 2^20 six, and so on.
        Some(n) => !fraction.is_empty() || whole + 3 * (n + 1) + 1 > 15,
        None => whole + fraction.len() > 18,
    }
}

fn order<'a>(ordering: Ordering) -> Value<'a> {
    Value::Int(ordering as i64)
}

pub(super) fn add(f: &mut Functions) {
    overloads!(f;
        function "quantity" "string_to_quantity" "string -> quantity" |a| {
            let text = text(a, 0)?;
            let read = Quantity::from_str(text).map_err(|e| Error::new(e.to_string()))?;
            made(read, is_decimal(text))
        };
        function "isQuantity" "is_quantity_string" "string -> bool"
            |a| Ok(Value::Bool(Quantity::from_str(text(a, 0)?).is_ok()));
        function "sign" "quantity_sign" "quantity -> int"
            |a| Ok(Value::Int(quantity(a, 0)?.signum().into()));
        method "isGreaterThan" "quantity_is_greater_than" "quantity, quantity -> bool"
            |a| Ok(Value::Bool(quantity(a, 0)? > quantity(a, 1)?));
        method "isLessThan" "quantity_is_less_than" "quantity, quantity -> bool"
            |a| Ok(Value::Bool(quantity(a, 0)? < quantity(a, 1)?));
        method "compareTo" "quantity_compare_to" "quantity, quantity -> int"
            |a| Ok(order(quantity(a, 0)?.cmp(&quantity(a, 1)?)));
        method "asApproximateFloat" "quantity_get_float" "quantity -> double"
            |a| Ok(Value::Double(approximate(amount(a, 0)?)));
        method "asInteger" "quantity_get_int" "quantity -> int" |a| {
            whole(amount(a, 0)?)
                .map(Value::Int)
                .ok_or_else(|| Error::new("cannot convert value to integer"))
        };
        method "isInteger" "quantity_is_integer" "quantity -> bool"
            |a| Ok(Value::Bool(whole(amount(a, 0)?).is_some()));
        method "add" "quantity_add" "quantity, quantity -> quantity" |a| {
            let ((left, first), (right, second)) = (amount(a, 0)?, amount(a, 1)?);
            made(left.plus(right), first || second)
        };
        method "add" "quantity_add_int" "quantity, int -> quantity" |a| {
            let (left, decimal) = amount(a, 0)?;
            made(left.plus(whole_number(int(a, 1)?)), decimal)
        };
        method "sub" "quantity_sub" "quantity, quantity -> quantity" |a| {
            let ((left, first), (right, second)) = (amount(a, 0)?, amount(a, 1)?);
            made(left.minus(right), first || second)
        };
        method "sub" "quantity_sub_int" "quantity, int -> quantity" |a| {
            let (left, decimal) = amount(a, 0)?;
            made(left.minus(whole_number(int(a, 1)?)), decimal)
        };
    );
}

fn whole_number(value: i64) -> Quantity {
    Quantity::new(value, Format::DecimalExponent)
}

/// Upstream goes by how it was written: `1000m` has a fraction (`int64Amount.AsInt64`).
fn whole((quantity, decimal): (Quantity, bool)) -> Option<i64> {
    let (_, exponent) = quantity.parts();
    (!decimal && exponent >= 0)
        .then(|| quantity.checked_scaled_value(0))
        .flatten()
}

/// The product of two doubles, as upstream has it, which is not always the nearest one
/// (`Quantity.AsApproximateFloat64`).
#[allow(clippy::cast_precision_loss, reason = "an approximation is asked for")]
fn approximate((quantity, decimal): (Quantity, bool)) -> f64 {
    let (mut mantissa, mut exponent) = quantity.parts();
    // Decimals count billionths, but for the largest one of a binary suffix.
    let capped = mantissa.unsigned_abs() == u128::from(i64::MAX.unsigned_abs());
    if decimal && !capped && exponent > NANO {
        let factor = exponent
            .checked_sub(NANO)
            .and_then(|up| 10_i128.checked_pow(up.cast_unsigned()));
        let Some(billionths) = factor.and_then(|factor| mantissa.checked_mul(factor)) else {
            return quantity.as_f64();
        };
        (mantissa, exponent) = (billionths, NANO);
    }
    mantissa as f64 * power_of_ten(exponent)
}

/// Go's `math.Pow10`, by its tables: of every 32nd power, and of those between.
fn power_of_ten(exponent: i32) -> f64 {
    let of = |power: i32| -> f64 { format!("1e{power}").parse().unwrap_or(f64::INFINITY) };
    let between = exponent % 32;
    let large = of(exponent - between);
    match exponent {
        ..-323 => 0.0,
        -323..0 => large / of(-between),
        _ => large * of(between),
    }
}

fn semver(args: &[Value<'_>], index: usize) -> Result<Semver, Error> {
    match opaque(args, index)? {
        Opaque::Semver(version) => Ok(version.clone()),
        _ => Err(Error::no_such_overload()),
    }
}

fn parse_semver(args: &[Value<'_>]) -> Result<Result<Semver, String>, Error> {
    let text = text(args, 0)?;
    Ok(match args.get(1) {
        Some(Value::Bool(true)) => Semver::normalize(text),
        Some(Value::Bool(false)) | None => Semver::parse(text),
        Some(_) => return Err(Error::no_such_overload()),
    })
}

fn component<'a>(value: u64) -> Outcome<'a> {
    // Go converts without a look.
    Ok(Value::Int(value.cast_signed()))
}

pub(super) fn add_semver(f: &mut Functions) {
    let read: super::Body = |a| {
        let version = parse_semver(a)?.map_err(Error::new)?;
        Ok(Value::opaque(Opaque::Semver(version)))
    };
    overloads!(f;
        function "semver" "string_to_semver" "string -> semver" read;
        function "semver" "string_bool_to_semver" "string, bool -> semver" read;
    );
    let is: super::Body = |a| Ok(Value::Bool(parse_semver(a)?.is_ok()));
    overloads!(f;
        function "isSemver" "is_semver_string" "string -> bool" is;
        function "isSemver" "is_semver_string_bool" "string, bool -> bool" is;
        method "isGreaterThan" "semver_is_greater_than" "semver, semver -> bool"
            |a| Ok(Value::Bool(semver(a, 0)?.cmp(&semver(a, 1)?).is_gt()));
        method "isLessThan" "semver_is_less_than" "semver, semver -> bool"
            |a| Ok(Value::Bool(semver(a, 0)?.cmp(&semver(a, 1)?).is_lt()));
        method "compareTo" "semver_compare_to" "semver, semver -> int"
            |a| Ok(order(semver(a, 0)?.cmp(&semver(a, 1)?)));
        method "major" "semver_major" "semver -> int" |a| component(semver(a, 0)?.major);
        method "minor" "semver_minor" "semver -> int" |a| component(semver(a, 0)?.minor);
        method "patch" "semver_patch" "semver -> int" |a| component(semver(a, 0)?.patch);
    );
}

#[cfg(test)]
mod tests {
    use crate::{Environment, PER_CALL_LIMIT, Value, Version};

    fn told(expression: &str) -> String {
        let environment = Environment::new(Version::DEFAULT);
        let program = environment.compile(expression).expect("it compiles");
        match program.evaluate(&(), PER_CALL_LIMIT).outcome {
            Ok(Value::Bool(b)) => b.to_string(),
            Ok(Value::Double(d)) => d.to_string(),
            other => format!("{other:?}"),
        }
    }

    /// `Quantity.AsInt64`: what was written with a fraction, or is a decimal, is no integer.
    #[test]
    fn whether_an_amount_is_an_integer_depends_on_how_it_was_written() {
        for (amount, integer) in [
            ("quantity('1000m')", "false"),
            ("quantity('1')", "true"),
            ("quantity('1.0')", "false"),
            ("quantity('1k')", "true"),
            ("quantity('0.5Ki')", "false"),
            ("quantity('0.5Ki').add(quantity('1'))", "false"),
            ("quantity('1').add(quantity('0.5Ki'))", "false"),
            ("quantity('512').add(quantity('1'))", "true"),
            ("quantity('9E').add(quantity('9E'))", "false"),
        ] {
            assert_eq!(told(&format!("{amount}.isInteger()")), integer, "{amount}");
        }
    }

    /// `Quantity.AsApproximateFloat64`: a product, not the nearest double.
    #[test]
    fn amounts_are_doubles_by_way_of_a_product() {
        for (amount, double) in [
            ("quantity('1001m')", 1001.0 * 0.001),
            ("quantity('1').add(quantity('1m'))", 1001.0 * 0.001),
            ("quantity('3k')", 3000.0),
            ("quantity('1.5Ki')", 1_536_000_000_000.0 * 1e-9),
            ("quantity('9Ei')", 9_223_372_036_854_775_807.0),
        ] {
            let wanted = f64::to_string(&double);
            assert_eq!(
                told(&format!("{amount}.asApproximateFloat()")),
                wanted,
                "{amount}"
            );
        }
    }
}
