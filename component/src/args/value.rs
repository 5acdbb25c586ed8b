//! The types of flags, in Go's syntax.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A type that flags can have.
pub trait Value: Sized + 'static {
    /// Its name in the help, as `pflag` calls it.
    const TYPE: &'static str;
    /// What the flag means when it is given without a value; none if it needs one.
    const BARE: Option<&'static str> = None;

    /// Reads all values that the flag was given, in order; none stands for an empty default.
    ///
    /// # Errors
    /// In words that follow the flag's name.
    fn parse(given: &[String]) -> Result<Self, String>;
}

/// The value that wins; empty if there is none.
fn last(given: &[String]) -> &str {
    given.last().map_or("", String::as_str)
}

impl Value for String {
    const TYPE: &'static str = "string";

    fn parse(given: &[String]) -> Result<Self, String> {
        Ok(last(given).to_owned())
    }
}

/// Where nothing is something other than empty.
impl<T: Value> Value for Option<T> {
    const TYPE: &'static str = T::TYPE;
    const BARE: Option<&'static str> = T::BARE;

    fn parse(given: &[String]) -> Result<Self, String> {
        if last(given).is_empty() {
            Ok(None)
        } else {
            T::parse(given).map(Some)
        }
    }
}

impl Value for PathBuf {
    const TYPE: &'static str = "string";

    fn parse(given: &[String]) -> Result<Self, String> {
        Ok(last(given).into())
    }
}

impl Value for bool {
    const TYPE: &'static str = "bool";
    const BARE: Option<&'static str> = Some("true");

    fn parse(given: &[String]) -> Result<Self, String> {
        boolean(last(given))
    }
}

/// Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("parsing {text:?}: invalid syntax")),
    }
}

/// Go's `strconv.ParseInt` with base 0.
fn integer(text: &str) -> Result<i64, String> {
    let invalid = || format!("parsing {text:?}: invalid syntax");
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let digits = if base == 10 {
        digits.to_owned()
    } else {
        digits.replace('_', "")
    };
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(invalid());
    }
    let signed = if negative {
        format!("-{digits}")
    } else {
        digits
    };
    i64::from_str_radix(&signed, base).map_err(|e| match e.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
            format!("parsing {text:?}: value out of range")
        }
        _ => invalid(),
    })
}

macro_rules! integers {
    ($($type:ty = $name:literal),*) => {$(
        impl Value for $type {
            const TYPE: &'static str = $name;

            fn parse(given: &[String]) -> Result<Self, String> {
                let text = last(given);
                Self::try_from(integer(text)?).map_err(|_| format!("parsing {text:?}: value out of range"))
            }
        }
    )*};
}

integers!(
    i32 = "int32",
    i64 = "int",
    u16 = "int",
    u32 = "uint32",
    u64 = "uint",
    usize = "int"
);

impl Value for f32 {
    const TYPE: &'static str = "float32";

    fn parse(given: &[String]) -> Result<Self, String> {
        last(given)
            .parse()
            .map_err(|_| format!("parsing {:?}: invalid syntax", last(given)))
    }
}

impl Value for Duration {
    const TYPE: &'static str = "duration";

    fn parse(given: &[String]) -> Result<Self, String> {
        let parsed: proto::time::Duration = last(given)
            .parse()
            .map_err(|e: proto::time::DurationError| e.to_string())?;
        parsed
            .to_std()
            .ok_or_else(|| "must not be negative".to_owned())
    }
}

impl Value for IpAddr {
    const TYPE: &'static str = "ip";

    fn parse(given: &[String]) -> Result<Self, String> {
        last(given)
            .parse()
            .map_err(|_| format!("failed to parse IP: {:?}", last(given)))
    }
}

/// `stringSlice`: comma-separated, repeated values add up. Values may be quoted as in CSV.
impl Value for Vec<String> {
    const TYPE: &'static str = "strings";

    fn parse(given: &[String]) -> Result<Self, String> {
        let mut all = Self::new();
        for one in given.iter().filter(|g| !g.is_empty()) {
            all.extend(comma_separated(one)?);
        }
        Ok(all)
    }
}

/// `stringArray`: repeated values add up, commas have no meaning.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Array(pub Vec<String>);

impl Value for Array {
    const TYPE: &'static str = "stringArray";

    fn parse(given: &[String]) -> Result<Self, String> {
        Ok(Self(given.to_vec()))
    }
}

/// What `--version` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    Unasked,
    Short,
    Raw,
}

impl Value for Version {
    const TYPE: &'static str = "version";
    const BARE: Option<&'static str> = Some("true");

    fn parse(given: &[String]) -> Result<Self, String> {
        match last(given) {
            "raw" => Ok(Self::Raw),
            text => Ok(if boolean(text)? {
                Self::Short
            } else {
                Self::Unasked
            }),
        }
    }
}

/// `mapStringString`: `a=1,b=2`, repeated values add up.
impl Value for BTreeMap<String, String> {
    const TYPE: &'static str = "mapStringString";

    fn parse(given: &[String]) -> Result<Self, String> {
        let mut map = Self::new();
        for pair in given
            .iter()
            .flat_map(|g| g.split(','))
            .filter(|p| !p.is_empty())
        {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("malformed pair, expect string=string: {pair}"))?;
            map.insert(key.trim().to_owned(), value.trim().to_owned());
        }
        Ok(map)
    }
}

/// `mapStringBool`: `A=true,B=false`, repeated values add up.
impl Value for BTreeMap<String, bool> {
    const TYPE: &'static str = "mapStringBool";

    fn parse(given: &[String]) -> Result<Self, String> {
        let mut map = Self::new();
        for pair in given
            .iter()
            .flat_map(|g| g.split(','))
            .filter(|p| !p.is_empty())
        {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("malformed pair, expect string=bool: {pair}"))?;
            let value =
                boolean(value.trim()).map_err(|_| format!("invalid value of {key}: {value}"))?;
            map.insert(key.trim().to_owned(), value);
        }
        Ok(map)
    }
}

/// One line of CSV, as `pflag` reads string slices.
fn comma_separated(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(text, quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if rest[..end].contains('"') {
                    return Err(format!(
                        "parse error in {text:?}: bare \" in non-quoted field"
                    ));
                }
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Ok(fields),
        }
    }
}

/// A field after its opening quote, and what follows its closing one.
fn quoted_field<'a>(text: &str, quoted: &'a str) -> Result<(String, &'a str), String> {
    let mut field = String::new();
    let mut rest = quoted;
    loop {
        let end = rest
            .find('"')
            .ok_or_else(|| format!("parse error in {text:?}: missing \" in quoted field"))?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        if let Some(more) = rest.strip_prefix('"') {
            field.push('"');
            rest = more;
        } else if rest.is_empty() || rest.starts_with(',') {
            return Ok((field, rest));
        } else {
            return Err(format!("parse error in {text:?}: extraneous \" in field"));
        }
    }
}
