//! A tree to YAML in block style, as `go.yaml.in/yaml/v2` emits it: two spaces a level, lists at the
//! indentation of the key above them, lines broken at spaces after column 80.

use std::cmp::Ordering;

use super::resolve::{self, Scalar};
use crate::codec::json;
use crate::name::Name;
use crate::value::{Map, Value};

const WIDTH: usize = 80;
/// Keys longer than this stand after a question mark.
const MAX_SIMPLE_KEY: usize = 128;

pub(super) fn document(value: &Value, out: &mut Vec<u8>) {
    let mut w = Writer { out, column: 0 };
    match value {
        Value::Map(map) if !map.is_empty() => w.map(map, 0, true),
        Value::List(items) if !items.is_empty() => w.list(items, 0, true),
        other => w.scalar(other, 2, false),
    }
    if !w.out.ends_with(b"\n") {
        w.out.push(b'\n');
    }
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// Characters written to the current line.
    column: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

impl Writer<'_> {
    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
        self.column += text.chars().count();
    }

    /// Begins a line, unless the current one has nothing but its indentation.
    fn line(&mut self, indent: usize) {
        if !self.out.is_empty() && !self.out.ends_with(b"\n") {
            self.out.push(b'\n');
        }
        self.column = indent;
        self.out.resize(self.out.len() + indent, b' ');
    }

    /// The entries of a map; the first stands where the writer is if `here`.
    fn map(&mut self, map: &Map, indent: usize, mut here: bool) {
        let entries: Vec<(&Name, &Value)> = map.iter().collect();
        let entries = sorted(entries, |a, b| natural(a.0.as_str(), b.0.as_str()));
        for (name, value) in entries {
            if !std::mem::take(&mut here) {
                self.line(indent);
            }
            let key = name.as_str();
            let simple = key.len() <= MAX_SIMPLE_KEY && !key.contains(is_break);
            if simple {
                self.text(key, indent + 2, true);
                self.put(":");
            } else {
                self.put("? ");
                self.text(key, indent + 2, false);
                self.line(indent);
                self.put(":");
            }
            self.entry(value, indent, simple);
        }
    }

    fn entry(&mut self, value: &Value, indent: usize, simple: bool) {
        match value {
            Value::Map(map) if !map.is_empty() => {
                if !simple {
                    self.put(" ");
                }
                self.map(map, indent + 2, !simple);
            }
            Value::List(items) if !items.is_empty() => {
                if simple {
                    self.list(items, indent, false);
                } else {
                    self.put(" ");
                    self.list(items, indent + 2, true);
                }
            }
            other => {
                self.put(" ");
                self.scalar(other, indent + 2, false);
            }
        }
    }

    fn list(&mut self, items: &[Value], indent: usize, mut here: bool) {
        for item in items {
            if !std::mem::take(&mut here) {
                self.line(indent);
            }
            self.put("- ");
            match item {
                Value::Map(map) if !map.is_empty() => self.map(map, indent + 2, true),
                Value::List(items) if !items.is_empty() => self.list(items, indent + 2, true),
                other => self.scalar(other, indent + 2, false),
            }
        }
    }

    fn scalar(&mut self, value: &Value, indent: usize, key: bool) {
        match value {
            Value::Map(_) => self.put("{}"),
            Value::List(_) => self.put("[]"),
            Value::String(text) => self.text(text, indent, key),
            Value::Float(f) => self.put(&float(*f)),
            other => {
                let mut json = Vec::new();
                json::write(other, &mut json);
                self.put(&json::lossy(&json));
            }
        }
    }

    /// A string; `key` forbids line breaks.
    fn text(&mut self, text: &str, indent: usize, key: bool) {
        match style(text, key) {
            Style::Plain => self.folded(text, indent, key, |w, c| w.char(c)),
            Style::Single => {
                self.put("'");
                self.folded(text, indent, key, |w, c| {
                    if c == '\'' {
                        w.char('\'');
                    }
                    w.char(c);
                });
                self.put("'");
            }
            Style::Double => self.double(text, indent, key),
            Style::Literal => self.literal(text, indent),
        }
    }

    fn char(&mut self, c: char) {
        self.put(c.encode_utf8(&mut [0; 4]));
    }

    /// Text that needs no escapes, broken at single spaces in lines that have become too long.
    fn folded(&mut self, text: &str, indent: usize, key: bool, write: impl Fn(&mut Self, char)) {
        let mut spaces = false;
        for (i, c) in text.char_indices() {
            if c == ' ' {
                let inner = i > 0 && i + 1 < text.len() && !text[i + 1..].starts_with(' ');
                if !key && !spaces && self.column > WIDTH && inner {
                    self.line(indent);
                } else {
                    self.char(c);
                }
            } else {
                write(self, c);
            }
            spaces = c == ' ';
        }
    }

    fn double(&mut self, text: &str, indent: usize, key: bool) {
        self.put("\"");
        let mut spaces = false;
        for (i, c) in text.char_indices() {
            if c == ' ' && !key && !spaces && self.column > WIDTH && i > 0 && i + 1 < text.len() {
                self.line(indent);
                if text[i + 1..].starts_with(' ') {
                    self.put("\\");
                }
            } else if is_printable(c) && !is_break(c) && c != '"' && c != '\\' {
                self.char(c);
            } else {
                self.put(&escape(c));
            }
            spaces = c == ' ';
        }
        self.put("\"");
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.put("|");
        if text.starts_with([' ', '\n']) {
            self.put("2");
        }
        match text.strip_suffix('\n') {
            None => self.put("-"),
            Some(rest) if rest.is_empty() || rest.ends_with('\n') => self.put("+"),
            Some(_) => {}
        }
        self.out.push(b'\n');
        for line in text.split_inclusive('\n') {
            if line != "\n" {
                self.out.resize(self.out.len() + indent, b' ');
            }
            self.out.extend_from_slice(line.as_bytes());
        }
        self.column = 0;
    }
}

/// How a string is written.
fn style(text: &str, key: bool) -> Style {
    let plain = matches!(resolve::plain(text), Scalar::String | Scalar::Merge)
        && !resolve::is_date(text)
        && !is_base_60(text);
    let seen = analyze(text);
    let style = if text.contains('\n') {
        Style::Literal
    } else if plain {
        Style::Plain
    } else {
        Style::Double
    };
    match style {
        Style::Literal if key || !seen.literal => Style::Double,
        // Breaks other than line feeds are readable only as escapes.
        Style::Plain if !seen.plain => {
            if seen.single && !text.contains(is_break) {
                Style::Single
            } else {
                Style::Double
            }
        }
        style => style,
    }
}

/// Which styles could hold a string.
struct Allowed {
    plain: bool,
    single: bool,
    literal: bool,
}

fn analyze(text: &str) -> Allowed {
    let mut indicators = text.starts_with("---") || text.starts_with("...");
    let (mut special, mut space_break, mut break_space, mut breaks) = (false, false, false, false);
    let mut before = '\n';
    let mut chars = text.chars().peekable();
    let mut first = true;
    while let Some(c) = chars.next() {
        let ends_word = chars.peek().is_none_or(|next| matches!(next, ' ' | '\t'));
        indicators |= match c {
            ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@'
            | '`' => first,
            '#' => first || before == ' ' || before == '\t' || before == '\0' || is_break(before),
            '?' | '-' => first && ends_word,
            ':' => ends_word,
            _ => false,
        };
        special |= !is_printable(c);
        breaks |= is_break(c);
        space_break |= is_break(c) && before == ' ';
        break_space |= c == ' ' && !first && is_break(before);
        before = c;
        first = false;
    }
    let edge = |c: char| c == ' ' || is_break(c);
    let edges = text.starts_with(edge) || text.ends_with(edge);
    let unfit = space_break || special;
    Allowed {
        plain: !(indicators || edges || break_space || unfit || breaks),
        single: !(break_space || unfit),
        literal: !(unfit || text.ends_with(' ')),
    }
}

fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
        && c != '\u{feff}'
}

fn escape(c: char) -> String {
    let short = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' => '"',
        '\\' => '\\',
        '\u{85}' => 'N',
        '\u{a0}' => '_',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        c if c <= '\u{ff}' => return format!("\\x{:02X}", c as u32),
        c if c <= '\u{ffff}' => return format!("\\u{:04X}", c as u32),
        c => return format!("\\U{:08X}", c as u32),
    };
    format!("\\{short}")
}

/// `[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?`: old readers take it for a number.
fn is_base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or_default();
    let sexagesimal =
        |part: &str| matches!(part.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']);
    whole.contains(':')
        && first.starts_with(|c: char| c.is_ascii_digit())
        && digits(first)
        && digits(fraction)
        && parts.all(sexagesimal)
}

/// A number of JSON as YAML reads and prints it.
fn float(f: f64) -> String {
    let mut json = Vec::new();
    json::push_float(f, &mut json);
    let text = json::lossy(&json).into_owned();
    if text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok() {
        text
    } else {
        resolve::general(&format!("{f:e}"))
    }
}

/// Sorts by an order that need not be one: upstream's of keys goes round in circles (`1`, `01`, `0a`, `1`), and the sort of
/// the standard library may panic on such. A stable merge of ever longer runs, which ends whatever it is told.
pub(super) fn sorted<T: Copy>(items: Vec<T>, order: impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    let (mut from, mut to) = (items, Vec::new());
    let mut run = 1;
    while run < from.len() {
        for pair in from.chunks(2 * run) {
            let (mut left, mut right) = pair.split_at(run.min(pair.len()));
            while let ([a, of_left @ ..], [b, of_right @ ..]) = (left, right) {
                if order(a, b).is_le() {
                    to.push(*a);
                    left = of_left;
                } else {
                    to.push(*b);
                    right = of_right;
                }
            }
            to.extend_from_slice(left);
            to.extend_from_slice(right);
        }
        std::mem::swap(&mut from, &mut to);
        to.clear();
        run *= 2;
    }
    from
}

/// Upstream's order of keys: runs of digits compare as numbers, other characters go before letters.
fn natural(a: &str, b: &str) -> Ordering {
    let differ = a.char_indices().zip(b.chars()).find(|((_, x), y)| x != y);
    let Some(((i, x), y)) = differ else {
        return a.len().cmp(&b.len());
    };
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => return x.cmp(&y),
        (false, true) => return Ordering::Less,
        (true, false) => return Ordering::Greater,
        (false, false) => {}
    }
    // Within a number that has begun, a zero has a weight.
    let inside = (x == '0' || y == '0')
        && a[..i]
            .bytes()
            .rev()
            .take_while(u8::is_ascii_digit)
            .any(|digit| digit != b'0');
    let run = |text: &str| {
        let digits = text.chars().map_while(|c| c.to_digit(10));
        digits.fold((u64::from(inside), 0_usize), |(n, len), d| {
            (n.wrapping_mul(10).wrapping_add(d.into()), len + 1)
        })
    };
    run(&a[i..]).cmp(&run(&b[i..])).then(x.cmp(&y))
}
