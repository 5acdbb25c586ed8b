//! What literals mean: numbers, and strings without their quotes and escapes.

use std::sync::Arc;

use super::lexer::Kind;
use crate::ast::Literal;

/// The value of a literal's token; `negative` if a minus stands before it. In words, what is wrong.
pub(crate) fn literal(kind: Kind, text: &str, negative: bool) -> Result<Literal, String> {
    match kind {
        Kind::True => Ok(Literal::Bool(true)),
        Kind::False => Ok(Literal::Bool(false)),
        Kind::Null => Ok(Literal::Null),
        Kind::Int => int(text, negative)
            .map(Literal::Int)
            .ok_or_else(|| "invalid int literal".into()),
        Kind::Uint => uint(&text[..text.len() - 1])
            .map(Literal::Uint)
            .ok_or_else(|| "invalid uint literal".into()),
        Kind::Float => float(text, negative)
            .map(Literal::Double)
            .ok_or_else(|| "invalid double literal".into()),
        Kind::String => {
            let bytes = unquote(text, false)?;
            let text = String::from_utf8(bytes).map_err(|_| "invalid unicode code point")?;
            Ok(Literal::String(text.into()))
        }
        Kind::Bytes => Ok(Literal::Bytes(Arc::from(unquote(&text[1..], true)?))),
        _ => Err("not a literal".into()),
    }
}

fn int(text: &str, negative: bool) -> Option<i64> {
    let magnitude = i128::from(uint(text)?);
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

fn uint(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Go refuses a number beyond what a double holds.
fn float(text: &str, negative: bool) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    value
        .is_finite()
        .then_some(if negative { -value } else { value })
}

/// The content of a string or bytes literal (without the `b`), as cel-go's `parser/unescape.go`.
fn unquote(text: &str, bytes: bool) -> Result<Vec<u8>, String> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let (raw, text) = match text.strip_prefix(['r', 'R']) {
        Some(rest) => (true, rest),
        None => (false, text.as_str()),
    };
    let quotes = if text.len() >= 6 && (text.starts_with("'''") || text.starts_with("\"\"\"")) {
        3
    } else {
        1
    };
    let inside = &text[quotes..text.len() - quotes];
    if raw || !inside.contains('\\') {
        return Ok(inside.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            escape(&mut chars, bytes, &mut out)?;
        } else {
            push(&mut out, c);
        }
    }
    Ok(out)
}

fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn escape(chars: &mut std::str::Chars<'_>, bytes: bool, out: &mut Vec<u8>) -> Result<(), String> {
    const UNABLE: &str = "unable to unescape string";
    let c = chars.next().ok_or(UNABLE)?;
    let simple = match c {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' | '\'' | '"' | '`' | '?' => {
            push(out, c);
            return Ok(());
        }
        _ => 0,
    };
    if simple != 0 {
        out.push(simple);
        return Ok(());
    }
    let (count, radix, mut value) = match c {
        'x' | 'X' => (2, 16, 0),
        'u' if !bytes => (4, 16, 0),
        'U' if !bytes => (8, 16, 0),
        '0'..='3' => (2, 8, c.to_digit(8).unwrap_or(0)),
        _ => return Err(UNABLE.into()),
    };
    for _ in 0..count {
        let digit = chars.next().and_then(|c| c.to_digit(radix)).ok_or(UNABLE)?;
        value = value.wrapping_mul(radix) | digit;
    }
    if bytes {
        out.push(u8::try_from(value & 0xff).unwrap_or(0));
        return Ok(());
    }
    push(
        out,
        char::from_u32(value).ok_or("invalid unicode code point")?,
    );
    Ok(())
}
