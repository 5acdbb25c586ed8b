//! PEM as Go's `encoding/pem` reads it: what is no block is skipped.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

pub(in crate::strategies) struct Block<'a> {
    pub label: &'a str,
    pub has_headers: bool,
    pub contents: Vec<u8>,
}

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// The blocks of a text, in order.
pub(in crate::strategies) fn blocks(text: &str) -> Blocks<'_> {
    Blocks { rest: text }
}

pub(in crate::strategies) struct Blocks<'a> {
    rest: &'a str,
}

impl<'a> Blocks<'a> {
    /// What is left behind the line that ends the last block.
    pub(in crate::strategies) fn rest(&self) -> &'a str {
        self.rest
            .split_once('\n')
            .map_or(self.rest, |(_, rest)| rest)
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Block<'a>;

    fn next(&mut self) -> Option<Block<'a>> {
        loop {
            let start = begin(self.rest)?;
            let after = &self.rest[start + BEGIN.len()..];
            self.rest = after;
            let (line, body) = after.split_once('\n').unwrap_or((after, ""));
            let Some(label) = line.trim_end().strip_suffix(DASHES) else {
                continue;
            };
            let end = format!("{END}{label}{DASHES}");
            let Some(at) = end_of(body, &end) else {
                continue;
            };
            let (has_headers, encoded) = headers(&body[..at]);
            let Some(contents) = decode(encoded) else {
                continue;
            };
            self.rest = &body[at + end.len()..];
            return Some(Block {
                label,
                has_headers,
                contents,
            });
        }
    }
}

/// Where the next block begins: at the start of a line.
fn begin(text: &str) -> Option<usize> {
    if text.starts_with(BEGIN) {
        return Some(0);
    }
    text.find("\n-----BEGIN ").map(|i| i + 1)
}

fn end_of(body: &str, end: &str) -> Option<usize> {
    if body.starts_with(end) {
        return Some(0);
    }
    body.find(&format!("\n{end}")).map(|i| i + 1)
}

/// Lines with a colon before the contents are headers.
fn headers(body: &str) -> (bool, &str) {
    let (mut rest, mut any) = (body, false);
    while let Some((line, after)) = rest.split_once('\n') {
        if !line.contains(':') {
            break;
        }
        any = true;
        rest = after;
    }
    (any, rest)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    const STRICT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireCanonical);
    let bytes: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    GeneralPurpose::new(&STANDARD, STRICT).decode(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_between_other_text() {
        let text = "noise\n-----BEGIN A-----\nAAEC\n-----END A-----\nmore\n-----BEGIN B-----\nk: v\n\nAA==\n-----END B-----\n";
        let found: Vec<_> = blocks(text)
            .map(|b| (b.label, b.has_headers, b.contents))
            .collect();
        assert_eq!(found, [("A", false, vec![0, 1, 2]), ("B", true, vec![0])]);
    }

    #[test]
    fn what_is_broken_is_no_block() {
        for text in [
            "",
            "-----BEGIN A-----\nAAEC\n",
            "-----BEGIN A-----\n*\n-----END A-----\n",
            "x-----BEGIN A-----\nAAEC\n-----END A-----\n",
        ] {
            assert_eq!(blocks(text).count(), 0, "{text}");
        }
    }
}
