//! Links in a page that comes through the proxy: absolute ones would lead past it.
//!
//! A page goes through as it comes. What is no link stays byte for byte; of the page no more is held
//! than the tag that is being read. Upstream: `apimachinery/pkg/util/proxy/transport.go`
//! (`rewriteHTML`), `golang.org/x/net/html` (`Tokenizer`).

use std::ops::Range;

use memchr::{memchr, memmem};

use super::links::Links;

/// Attributes that are addresses, by tag; sorted.
const LINKS: [(&str, &[&str]); 25] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];
/// Elements that hold text alone, whatever it looks like.
const RAW: [&str; 9] = [
    "iframe", "noembed", "noframes", "noscript", "script", "style", "textarea", "title", "xmp",
];
/// After this one there are no tags any more.
const PLAIN: &str = "plaintext";
/// A tag that is longer ends the search for links. Whole pictures may be in one.
const MAX_TAG: usize = 4 << 20;

/// Finds links in a page that comes in pieces.
pub(crate) struct Rewriter {
    links: Links,
    held: Vec<u8>,
    within: Within,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Within {
    Text,
    /// An element of [`RAW`].
    Raw(&'static str),
    Comment,
    /// A declaration or something like it: up to the next `>`.
    Markup,
    /// Nothing more is looked at.
    Rest,
}

impl Rewriter {
    pub(crate) fn new(links: Links) -> Self {
        Self {
            links,
            held: Vec::new(),
            within: Within::Text,
        }
    }

    /// Takes a piece of the page; what of it is ready.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let is_long = self.held.len() > MAX_TAG;
        // What is held is the beginning of a tag, of which this is no end.
        if self.held.len() > piece.len() && memchr(b'>', piece).is_none() && !is_long {
            return Vec::new();
        }
        let held = std::mem::take(&mut self.held);
        let mut out = Vec::with_capacity(held.len() + 256);
        let mut at = 0;
        while let Some(length) = self.step(&held[at..], &mut out) {
            at += length;
        }
        self.held = held[at..].to_vec();
        if self.held.len() > MAX_TAG {
            self.within = Within::Rest;
            out.append(&mut self.held);
        }
        out
    }

    /// The end of the page.
    pub(crate) fn end(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Writes the next token; how long it was, none if it is not there wholly.
    fn step(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        if rest.is_empty() {
            return None;
        }
        let copied = |length: usize, out: &mut Vec<u8>| {
            out.extend_from_slice(&rest[..length]);
            (length > 0).then_some(length)
        };
        match self.within {
            Within::Rest => copied(rest.len(), out),
            Within::Text if rest[0] != b'<' => {
                copied(memchr(b'<', rest).unwrap_or(rest.len()), out)
            }
            Within::Text => self.markup(rest, out),
            Within::Markup => {
                let end = memchr(b'>', rest);
                if end.is_some() {
                    self.within = Within::Text;
                }
                copied(end.map_or(rest.len(), |i| i + 1), out)
            }
            Within::Comment => {
                let ends = [&b"-->"[..], b"--!>"];
                let found = ends
                    .iter()
                    .filter_map(|end| Some(memmem::find(rest, end)? + end.len()))
                    .min();
                if found.is_some() {
                    self.within = Within::Text;
                }
                copied(found.unwrap_or(rest.len().saturating_sub(3)), out)
            }
            Within::Raw(name) => {
                let found = end_of_raw(rest, name);
                if found.is_some() {
                    self.within = Within::Text;
                }
                // Between `</` and what follows the name the end could be torn.
                let safe = rest.len().saturating_sub(name.len() + 2);
                match found {
                    // The end tag itself is one like others; the text may be empty.
                    Some(0) => self.step(rest, out),
                    found => copied(found.unwrap_or(safe), out),
                }
            }
        }
    }

    /// A `<` in text, and what it begins.
    fn markup(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        match *rest.get(1)? {
            b'!' => {
                let comment = b"<!--";
                let common = rest.iter().zip(comment).take_while(|(a, b)| a == b).count();
                if common == comment.len() {
                    return self.comment(rest, out);
                }
                if common == rest.len() {
                    return None;
                }
                self.within = Within::Markup;
            }
            b'?' => self.within = Within::Markup,
            b'/' if !rest.get(2)?.is_ascii_alphabetic() => self.within = Within::Markup,
            b'/' => {
                let tag = Tag::read(rest, 2)?;
                out.extend_from_slice(&rest[..tag.length]);
                return Some(tag.length);
            }
            letter if letter.is_ascii_alphabetic() => {
                let tag = Tag::read(rest, 1)?;
                self.tag(&rest[..tag.length], &tag, out);
                return Some(tag.length);
            }
            _ => {}
        }
        out.extend_from_slice(&rest[..1]);
        Some(1)
    }

    /// Begins a comment. `<!-->` and `<!--->` are whole ones.
    fn comment(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let length = match rest.get(4)? {
            b'>' => 5,
            b'-' if *rest.get(5)? == b'>' => 6,
            _ => {
                self.within = Within::Comment;
                4
            }
        };
        out.extend_from_slice(&rest[..length]);
        Some(length)
    }

    fn tag(&mut self, text: &[u8], tag: &Tag, out: &mut Vec<u8>) {
        let name = text[tag.name.clone()].to_ascii_lowercase();
        let name = String::from_utf8_lossy(&name);
        if let Some(raw) = RAW.iter().find(|raw| **raw == name) {
            self.within = Within::Raw(raw);
        } else if name == PLAIN {
            self.within = Within::Rest;
        }
        let attributes = LINKS
            .binary_search_by_key(&&*name, |(tag, _)| tag)
            .map_or(&[][..], |at| LINKS[at].1);
        let mut written = 0;
        for (key, value) in &tag.attributes {
            let is_link = attributes
                .iter()
                .any(|a| text[key.clone()].eq_ignore_ascii_case(a.as_bytes()));
            // Escapes are not needed to tell whose an address is, and stay in what follows.
            let link = std::str::from_utf8(&text[value.clone()]);
            if let (true, Ok(link)) = (is_link, link)
                && let Some((before, stays)) = self.links.through(link)
            {
                out.extend_from_slice(&text[written..value.start]);
                escape(&before, out);
                written = value.end - stays.len();
            }
        }
        out.extend_from_slice(&text[written..]);
    }
}

/// A text as part of an attribute.
fn escape(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            b'"' => out.extend_from_slice(b"&#34;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            byte => out.push(byte),
        }
    }
}

/// Where the end tag of an element of text begins.
fn end_of_raw(rest: &[u8], name: &str) -> Option<usize> {
    let is_end = |at: &usize| {
        let tag = &rest[*at + 2..];
        tag.len() > name.len()
            && tag[..name.len()].eq_ignore_ascii_case(name.as_bytes())
            && (is_space(tag[name.len()]) || matches!(tag[name.len()], b'/' | b'>'))
    };
    memmem::find_iter(rest, b"</").find(is_end)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | 0x0c)
}

/// A tag in its bytes.
#[derive(Debug)]
struct Tag {
    name: Range<usize>,
    /// Names and values.
    attributes: Vec<(Range<usize>, Range<usize>)>,
    length: usize,
}

impl Tag {
    /// Reads the tag whose name begins at `start`; none if its end is not there.
    fn read(text: &[u8], start: usize) -> Option<Self> {
        let until = |from: usize, ends: &dyn Fn(u8) -> bool| {
            let found = text.get(from..)?.iter().position(|b| ends(*b))?;
            Some(from + found)
        };
        let past_space = |from: usize| until(from, &|b| !is_space(b));
        let end = until(start, &|b| is_space(b) || matches!(b, b'/' | b'>'))?;
        let mut tag = Self {
            name: start..end,
            attributes: Vec::new(),
            length: 0,
        };
        let mut at = past_space(end)?;
        while text[at] != b'>' {
            // A name may begin with the sign that ends others.
            let from = if text[at] == b'=' { at + 1 } else { at };
            let end = until(from, &|b| is_space(b) || matches!(b, b'=' | b'/' | b'>'))?;
            let key = at..end;
            at = past_space(end)?;
            if text[at] == b'/' {
                at += 1;
            } else if text[at] == b'=' {
                at = past_space(at + 1)?;
                let quote = Some(text[at]).filter(|b| matches!(b, b'"' | b'\''));
                let value = match quote {
                    Some(quote) => at + 1..until(at + 1, &|b| b == quote)?,
                    None => at..until(at, &|b| is_space(b) || b == b'>')?,
                };
                at = value.end + usize::from(quote.is_some());
                tag.attributes.push((key, value));
            }
            at = past_space(at)?;
        }
        tag.length = at + 1;
        Some(tag)
    }
}

#[cfg(test)]
mod tests;
