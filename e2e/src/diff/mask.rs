//! What two servers that do the same cannot have in common: identifiers, times of the moment, versions, what is drawn by lot.
//!
//! Each is replaced by a word where it stands, so that its shape and that it is there are still compared. What a request said
//! itself is never replaced.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::value::text;

mod order;

pub use order::in_any_order;
use order::{in_order, listed_problems, unordered};

/// What names are drawn from: upstream's `apimachinery/pkg/util/rand`.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// How many letters are drawn, and how long a prefix may be (`apiserver/pkg/storage/names/generate.go`).
const DRAWN: usize = 5;
const LONGEST_PREFIX: usize = 63 - DRAWN;

/// All that was sent, and the prefixes in it for which a server draws names.
struct Sent<'a> {
    all: &'a str,
    prefixes: Vec<&'a str>,
}

impl<'a> Sent<'a> {
    fn new(all: &'a str) -> Self {
        let prefix = |rest: &'a str| {
            let rest = rest.trim_start_matches([':', ' ']).strip_prefix('"')?;
            let prefix = rest.split('"').next()?;
            Some(prefix.get(..LONGEST_PREFIX).unwrap_or(prefix))
        };
        let prefixes = all.split("\"generateName\"").skip(1).filter_map(prefix);
        Self {
            all,
            prefixes: prefixes.filter(|prefix| !prefix.is_empty()).collect(),
        }
    }

    fn contains(&self, text: &str) -> bool {
        self.all.contains(text)
    }

    /// A name that was drawn: how long that is, and what is written for it.
    fn drawn(&self, said: &str) -> Option<(usize, String)> {
        let fitting = self
            .prefixes
            .iter()
            .filter(|prefix| said.starts_with(**prefix));
        fitting.into_iter().find_map(|prefix| {
            let rest = said[prefix.len()..].bytes();
            let length = rest.take_while(|byte| ALPHABET.contains(byte)).count();
            (length == DRAWN).then(|| (prefix.len() + DRAWN, format!("{prefix}<generated>")))
        })
    }
}

/// What is true of one server while it is asked.
#[derive(Clone, Debug)]
pub struct Mask {
    /// The addresses that it has alone.
    pub addresses: Vec<IpAddr>,
    /// Seconds since 1970: the earliest and the latest time that is of the moment.
    pub moment: (u64, u64),
}

impl Mask {
    /// Of a server that is asked from now on: what it says of the last hour or the next few is of the moment.
    pub fn new(addresses: Vec<IpAddr>, now: u64) -> Self {
        const HOUR: u64 = 3600;
        Self {
            addresses,
            moment: (now.saturating_sub(HOUR), now + 4 * HOUR),
        }
    }

    fn is_of_the_moment(&self, time: u64) -> bool {
        (self.moment.0..=self.moment.1).contains(&time)
    }

    /// Masks a value; `sent` is all that was sent to get it.
    pub fn value(&self, value: &mut Value, sent: &str) {
        self.within(value, &Sent::new(sent));
    }

    /// Masks a text.
    pub fn text(&self, said: &str, sent: &str) -> String {
        self.words(said, &Sent::new(sent))
    }

    fn within(&self, value: &mut Value, sent: &Sent<'_>) {
        match value {
            Value::Object(fields) => {
                self.keys(fields, sent);
                for (name, field) in fields.iter_mut() {
                    match field {
                        Value::String(said) => *said = self.field(name, said, sent),
                        Value::Number(port)
                            if is_port(name) && !sent.contains(&port.to_string()) =>
                        {
                            *field = "<port>".into();
                        }
                        Value::Array(cells) if name == "cells" => {
                            cells.iter_mut().for_each(|cell| self.cell(cell, sent));
                        }
                        Value::Array(members) if is_number_of_field(name) => {
                            members.iter_mut().for_each(|of| port(of, sent));
                            members.iter_mut().for_each(|of| self.within(of, sent));
                            in_order(name, members);
                        }
                        _ => self.within(field, sent),
                    }
                }
                without_other_bindings(value);
                unordered(value);
                listed_problems(value);
                protobuf_version(value);
                key_of_tokens(value);
            }
            Value::Array(members) => {
                // A watch of a second has bookmarks or not, as the moment is.
                members.retain(|of| !is_mere_bookmark(of));
                members.iter_mut().for_each(|of| self.within(of, sent));
            }
            Value::String(said) => *said = self.words(said, sent),
            // A time in protobuf.
            Value::Number(number)
                if number
                    .as_u64()
                    .is_some_and(|time| self.is_of_the_moment(time)) =>
            {
                *value = "<now>".into();
            }
            _ => {}
        }
    }

    /// The names of fields, which hold names of objects where they say who manages what.
    fn keys(&self, fields: &mut Map<String, Value>, sent: &Sent<'_>) {
        let masked =
            |name: &String| (name.contains('-') && name.len() > 8).then(|| self.words(name, sent));
        let differs = |name: &String| masked(name).is_some_and(|masked| masked != *name);
        if fields.keys().any(differs) {
            let all = std::mem::take(fields).into_iter();
            fields.extend(all.map(|(name, field)| (masked(&name).unwrap_or(name), field)));
        }
    }

    /// A cell of a table: how long ago something was is said in seconds or minutes.
    fn cell(&self, cell: &mut Value, sent: &Sent<'_>) {
        let young = |said: &str| {
            let rest = said.trim_end_matches(|of: char| of.is_ascii_digit() || "sm".contains(of));
            rest.is_empty() && said.ends_with(['s', 'm'])
        };
        match cell {
            Value::String(said) if young(said) => *cell = "<age>".into(),
            // The ports of a service, with those that nodes have for them.
            Value::String(said) if said.contains("/TCP") || said.contains("/UDP") => {
                *said = ports(said, sent);
            }
            other => self.within(other, sent),
        }
    }

    /// The text of a field.
    fn field(&self, name: &str, said: &str, sent: &Sent<'_>) -> String {
        let digits = !said.is_empty() && said.bytes().all(|byte| byte.is_ascii_digit());
        match name {
            "resourceVersion"
                if digits && said != "0" && !sent.contains(&format!("\"{said}\"")) =>
            {
                "<version>".to_owned()
            }
            "continue" if !said.is_empty() => "<continue>".to_owned(),
            _ => self.words(said, sent),
        }
    }

    fn words(&self, said: &str, sent: &Sent<'_>) -> String {
        let mut out = String::with_capacity(said.len());
        let mut rest = said;
        while let Some(first) = rest.chars().next() {
            let boundary = !out.ends_with(|last: char| last.is_ascii_alphanumeric());
            let found = self.at(rest, boundary, sent);
            let (length, word) = match found {
                Some((length, word)) => (length, Some(word)),
                None => (first.len_utf8(), None),
            };
            match word {
                Some(word) => out.push_str(&word),
                None => out.push(first),
            }
            rest = &rest[length..];
        }
        out
    }

    /// What stands at the beginning of this text: how long it is, and what is written for it.
    fn at(&self, said: &str, boundary: bool, sent: &Sent<'_>) -> Option<(usize, String)> {
        let first = *said.as_bytes().first()?;
        let mut found = None;
        if boundary && first.is_ascii_hexdigit() {
            found = self
                .time(said)
                .or_else(|| uuid(said))
                .or_else(|| self.address(said));
        }
        if boundary && let Some(name) = sent.drawn(said) {
            return Some(name);
        }
        found
            .or_else(|| words(said))
            .filter(|(length, _)| !sent.contains(&said[..*length]))
    }

    fn time(&self, said: &str) -> Option<(usize, String)> {
        let seconds = said.get(..19)?;
        unix(&format!("{seconds}Z")).filter(|at| self.is_of_the_moment(*at))?;
        let rest = &said[19..];
        let digits = rest.strip_prefix('.').map_or(0, |fraction| {
            fraction.bytes().take_while(u8::is_ascii_digit).count()
        });
        let fraction = if digits > 0 { digits + 1 } else { 0 };
        let zone = usize::from(rest[fraction..].starts_with('Z'));
        let word = match digits {
            0 => "<now>".to_owned(),
            digits => format!("<now .{digits}>"),
        };
        Some((19 + fraction + zone, word))
    }

    fn address(&self, said: &str) -> Option<(usize, String)> {
        let part = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
        let length = said.bytes().take_while(part).count();
        // A sentence may end after it.
        let length = said[..length].trim_end_matches('.').len();
        let address: IpAddr = said[..length].parse().ok()?;
        if self.addresses.contains(&address) {
            return Some((length, "<server>".to_owned()));
        }
        let IpAddr::V4(given) = address else {
            return None;
        };
        // The first one is the API's own Service.
        let given = given.octets().starts_with(&[10, 96]) && given.octets() != [10, 96, 0, 1];
        given.then(|| (length, "<service address>".to_owned()))
    }
}

fn is_port(field: &str) -> bool {
    matches!(field, "nodePort" | "healthCheckNodePort")
}

/// Whether a field is one of a message in protobuf.
fn is_number_of_field(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}

/// A number that can only be a port of nodes.
fn port(value: &mut Value, sent: &Sent<'_>) {
    let drawn = value
        .as_u64()
        .is_some_and(|number| (30000..=32767).contains(&number));
    if drawn && !sent.contains(&value.to_string()) {
        *value = "<port>".into();
    }
}

/// A bookmark that does not end the first events.
fn is_mere_bookmark(event: &Value) -> bool {
    let metadata = &event["object"]["metadata"];
    event["type"] == "BOOKMARK" && metadata["annotations"].is_null()
}

/// Reasons name the bindings of other cases, whose roles are not there; how many of them there are is chance.
fn without_other_bindings(status: &mut Value) {
    const OF_ROLES: &str = "rbac: RBAC: clusterrole.rbac.authorization.k8s.io ";
    let Some(reason) = status.get("reason").and_then(Value::as_str) else {
        return;
    };
    if !reason.contains(OF_ROLES) {
        return;
    }
    let kept = reason.lines().filter(|line| !line.starts_with(OF_ROLES));
    let kept = kept.collect::<Vec<_>>().join("\n");
    match status.as_object_mut() {
        Some(status) if kept.is_empty() => drop(status.remove("reason")),
        _ => status["reason"] = kept.into(),
    }
}

/// `80:30123/TCP`, without the port of nodes that was drawn.
fn ports(said: &str, sent: &Sent<'_>) -> String {
    let one = |said: &str| -> Option<String> {
        let (port, rest) = said.split_once(':')?;
        let (drawn, protocol) = rest.split_once('/')?;
        (!sent.contains(drawn)).then(|| format!("{port}:<port>/{protocol}"))
    };
    let all = said.split(',');
    let all = all.map(|said| one(said).unwrap_or_else(|| said.to_owned()));
    all.collect::<Vec<_>>().join(",")
}

/// The public key with which tokens are checked (RFC 7517): each server has its own.
fn key_of_tokens(key: &mut Value) {
    let is_key = key["kty"].is_string();
    for field in ["kid", "n", "x", "y"] {
        if is_key && key[field].is_string() {
            key[field] = "<key>".into();
        }
    }
}

/// `8-4-4-4-12` hexadecimal digits.
fn uuid(said: &str) -> Option<(usize, String)> {
    let shape = said.as_bytes().get(..36)?;
    let fits = shape.iter().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    fits.then(|| (36, "<uid>".to_owned()))
}

/// Words, what may follow them, and what is written for that.
type After = (&'static str, fn(u8) -> bool, &'static str);

const AFTER: &[After] = &[
    ("X509SHA256=", |byte| byte.is_ascii_hexdigit(), "<digest>"),
    (
        "\"resourceVersion\":\"",
        |byte| byte.is_ascii_digit(),
        "<version>",
    ),
    (
        "kube-api-access-",
        |byte| byte.is_ascii_alphanumeric(),
        "<generated>",
    ),
    (
        "resource version: ",
        |byte| byte.is_ascii_digit(),
        "<version>",
    ),
    (
        "too old resource version: ",
        |byte| byte.is_ascii_digit() || b" ()".contains(&byte),
        "<version>",
    ),
    ("current: ", |byte| byte.is_ascii_digit(), "<version>"),
    // Within a JSON text that is quoted.
    (
        "resourceVersion\\\":\\\"",
        |byte| byte.is_ascii_digit(),
        "<version>",
    ),
    (
        "the ResourceVersion in record (",
        |byte| byte.is_ascii_digit(),
        "<version>",
    ),
    (
        "ResourceVersion in object meta: ",
        |byte| byte.is_ascii_digit(),
        "<version>",
    ),
    ("?hash=", |byte| byte.is_ascii_alphanumeric(), "<hash>"),
];

fn words(said: &str) -> Option<(usize, String)> {
    const PEM: &str = "-----BEGIN ";
    const PEM_END: &str = "-----END CERTIFICATE-----";
    // Of the bindings that every cluster has, several give some rights; upstream names one by chance.
    const GIVEN: &str = "RBAC: allowed by ClusterRoleBinding \"system:";
    if said.starts_with(GIVEN) {
        return Some((said.len(), "RBAC: allowed by <a binding>".to_owned()));
    }
    if said.starts_with(PEM) {
        let end = said.find(PEM_END)? + PEM_END.len();
        return Some((end, "<certificate>".to_owned()));
    }
    if said.starts_with("eyJ") {
        let part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        let length = said.bytes().take_while(part).count();
        let parts = said[..length].split('.').count();
        return (parts == 3).then(|| (length, "<token>".to_owned()));
    }
    let (before, of, word) = AFTER.iter().find(|(before, ..)| said.starts_with(before))?;
    let length = said[before.len()..]
        .bytes()
        .take_while(|byte| of(*byte))
        .count();
    (length > 0).then(|| (before.len() + length, format!("{before}{word}")))
}

/// The resource version in the metadata of an object (field 6, beside the uid) or of a list (field 2, beside an empty link).
///
/// A time of the moment (field 1) has its part of a second in field 2.
fn protobuf_version(message: &mut Value) {
    let only = |message: &Value, field: &str| -> Option<String> {
        match message.get(field)?.as_array()?.as_slice() {
            [Value::String(only)] => Some(only.clone()),
            _ => None,
        }
    };
    let digits = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if only(message, "1").is_some_and(|time| time == "<now>") && message["2"][0].as_u64() > Some(0)
    {
        message["2"] = Value::from(vec!["<part>"]);
    }
    let object = only(message, "5")
        .is_some_and(|uid| uid == "<uid>")
        .then_some("6");
    let list = only(message, "1")
        .is_some_and(|link| link.is_empty())
        .then_some("2");
    for field in [object, list].into_iter().flatten() {
        if only(message, field).filter(digits).is_some() {
            message[field] = Value::from(vec!["<version>"]);
        }
    }
    if list.is_some() && only(message, "3").is_some_and(|token| token.len() > 20) {
        message["3"] = Value::from(vec!["<continue>"]);
    }
}

/// Seconds since 1970 of `2026-01-02T03:04:05Z` (the civil calendar, by years that begin in March).
pub fn unix(time: &str) -> Option<u64> {
    let bytes = time.as_bytes();
    let marks = [
        (4, b'-'),
        (7, b'-'),
        (10, b'T'),
        (13, b':'),
        (16, b':'),
        (19, b'Z'),
    ];
    let shape = bytes.len() == 20 && marks.iter().all(|(at, mark)| bytes[*at] == *mark);
    if !shape || !time.is_ascii() {
        return None;
    }
    let number = |from: usize, to: usize| time[from..to].parse::<u64>().ok();
    let [year, month, day] = [number(0, 4)?, number(5, 7)?, number(8, 10)?];
    let [hour, minute, second] = [number(11, 13)?, number(14, 16)?, number(17, 19)?];
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year.checked_sub(1)?, month + 9)
    };
    let of_year = (153 * month + 2) / 5 + day.checked_sub(1)?;
    let days = (365 * year + year / 4 - year / 100 + year / 400 + of_year).checked_sub(719_468)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests;
