//! What two servers that do the same cannot have in common: identifiers, times of the moment, versions, what is drawn by lot.
//!
//! Each is replaced by a word where it stands, so that its shape and that it is there are still compared. What a request said
//! itself is never replaced.

use std::net::IpAddr;

use serde_json::Value;

use super::value::text;

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
        match value {
            Value::Object(fields) => {
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
                        _ => self.value(field, sent),
                    }
                }
                generated(value);
                unordered(value);
                protobuf_version(value);
            }
            Value::Array(members) => members.iter_mut().for_each(|of| self.value(of, sent)),
            Value::String(said) => *said = self.text(said, sent),
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

    /// A cell of a table: how long ago something was is said in seconds or minutes.
    fn cell(&self, cell: &mut Value, sent: &str) {
        let young = |said: &str| {
            let rest = said.trim_end_matches(|of: char| of.is_ascii_digit() || "sm".contains(of));
            rest.is_empty() && said.ends_with(['s', 'm'])
        };
        match cell {
            Value::String(said) if young(said) => *cell = "<age>".into(),
            other => self.value(other, sent),
        }
    }

    /// The text of a field.
    fn field(&self, name: &str, said: &str, sent: &str) -> String {
        let digits = !said.is_empty() && said.bytes().all(|byte| byte.is_ascii_digit());
        match name {
            "resourceVersion"
                if digits && said != "0" && !sent.contains(&format!("\"{said}\"")) =>
            {
                "<version>".to_owned()
            }
            "continue" if !said.is_empty() => "<continue>".to_owned(),
            _ => self.text(said, sent),
        }
    }

    /// Masks a text.
    pub fn text(&self, said: &str, sent: &str) -> String {
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
    fn at(&self, said: &str, boundary: bool, sent: &str) -> Option<(usize, String)> {
        let first = *said.as_bytes().first()?;
        let mut found = None;
        if boundary && first.is_ascii_hexdigit() {
            found = self
                .time(said)
                .or_else(|| uuid(said))
                .or_else(|| self.address(said));
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
    ("?hash=", |byte| byte.is_ascii_alphanumeric(), "<hash>"),
];

fn words(said: &str) -> Option<(usize, String)> {
    const PEM: &str = "-----BEGIN ";
    const PEM_END: &str = "-----END CERTIFICATE-----";
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

/// Managed fields are in the order of their times, which is chance where they are of one second or of two.
fn unordered(object: &mut Value) {
    let entries = object
        .get_mut("managedFields")
        .and_then(Value::as_array_mut);
    if let Some(entries) = entries {
        let name = |entry: &Value| {
            ["operation", "manager", "subresource", "apiVersion"]
                .map(|of| text(&entry[of]).to_owned())
        };
        entries.sort_by_key(name);
    }
}

/// A name that the server made out of another.
fn generated(object: &mut Value) {
    const RANDOM: usize = 5;
    let (prefix, name) = (text(&object["generateName"]), text(&object["name"]));
    let random = name
        .strip_prefix(prefix)
        .filter(|rest| rest.len() == RANDOM);
    if !prefix.is_empty() && random.is_some() {
        object["name"] = format!("{prefix}<generated>").into();
    }
}

/// The resource version in the metadata of an object (field 6, beside the uid) or of a list (field 2, beside an empty link).
fn protobuf_version(message: &mut Value) {
    let only = |message: &Value, field: &str| -> Option<String> {
        match message.get(field)?.as_array()?.as_slice() {
            [Value::String(only)] => Some(only.clone()),
            _ => None,
        }
    };
    let digits = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
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
mod tests {
    use serde_json::json;

    use super::*;

    /// 2024-02-29T00:00:00Z
    const NOW: u64 = 1_709_164_800;

    fn masked(mut value: Value, sent: &str) -> Value {
        let server = "172.31.100.1".parse().unwrap();
        Mask::new(vec![server], NOW).value(&mut value, sent);
        value
    }

    #[test]
    fn times_are_read_by_the_civil_calendar() {
        assert_eq!(unix("2026-11-29T03:44:54Z"), Some(1_795_923_894));
        assert_eq!(unix("2024-02-29T00:00:00Z"), Some(NOW));
        assert_eq!(unix("nothing of a date at"), None);
        assert_eq!(unix("0000-00-00T00:00:00Z"), None);
    }

    #[test]
    fn what_differs_by_nature_is_masked_and_nothing_else() {
        let uid = "01234567-89ab-cdef-0123-456789abcdef";
        let object = json!({
            "metadata": {"uid": uid, "resourceVersion": "77", "creationTimestamp": "2024-02-29T00:00:01Z"},
            "spec": {"at": "2020-01-01T00:00:00Z", "micro": "2024-02-29T00:00:01.123456Z", "clusterIP": "10.96.3.4"},
            "ports": [{"nodePort": 30123, "port": 80}],
            "message": format!("UID {uid} of https://172.31.100.1:6443, 77"),
        });
        let wanted = json!({
            "metadata": {"uid": "<uid>", "resourceVersion": "<version>", "creationTimestamp": "<now>"},
            "spec": {"at": "2020-01-01T00:00:00Z", "micro": "<now .6>", "clusterIP": "<service address>"},
            "ports": [{"nodePort": "<port>", "port": 80}],
            "message": "UID <uid> of https://<server>:6443, 77",
        });
        assert_eq!(masked(object, ""), wanted);
    }

    #[test]
    fn what_was_sent_is_not_masked() {
        let sent = r#"{"clusterIP": "10.96.3.4", "nodePort": 30123}"#;
        let object = json!({"clusterIP": "10.96.3.4", "nodePort": 30123});
        assert_eq!(masked(object.clone(), sent), object);
    }

    #[test]
    fn generated_names_and_tokens_are_masked() {
        let object = json!({"metadata": {"generateName": "a-", "name": "a-x2x4x"}, "token": "eyJh.eyJi.c-_"});
        let wanted = json!({"metadata": {"generateName": "a-", "name": "a-<generated>"}, "token": "<token>"});
        assert_eq!(masked(object, ""), wanted);
    }

    #[test]
    fn ages_and_the_order_of_times_are_masked() {
        let table = json!({"cells": ["5s", "1m2s", "2d", "10", "ms"]});
        let wanted = json!({"cells": ["<age>", "<age>", "2d", "10", "<age>"]});
        assert_eq!(masked(table, ""), wanted);
        let two = |first: &str, second: &str| json!({"managedFields": [{"manager": first}, {"manager": second}]});
        assert_eq!(masked(two("b", "a"), ""), two("a", "b"));
    }

    #[test]
    fn versions_in_protobuf_are_masked() {
        let object = json!({"5": ["01234567-89ab-cdef-0123-456789abcdef"], "6": ["77"], "8": [{"1": [NOW]}]});
        let wanted = json!({"5": ["<uid>"], "6": ["<version>"], "8": [{"1": ["<now>"]}]});
        assert_eq!(masked(object, ""), wanted);
        assert_eq!(
            masked(json!({"1": [""], "2": ["9"]}), ""),
            json!({"1": [""], "2": ["<version>"]})
        );
    }
}
