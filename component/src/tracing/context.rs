//! What of a trace travels between processes: W3C's headers (<https://www.w3.org/TR/trace-context/>,
//! <https://www.w3.org/TR/baggage/>), read and written as OpenTelemetry's Go does it (`propagation/trace_context.go`).

use http::{HeaderMap, HeaderName, HeaderValue};
use rand::Rng;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// Somebody decided that the trace is recorded.
const SAMPLED: u8 = 1;
/// The trace's id was drawn by chance.
const RANDOM: u8 = 2;
/// Members of a state, and bytes of baggage, as W3C bounds them.
const MOST_MEMBERS: usize = 32;
const MOST_BAGGAGE: usize = 8192;

/// Which span of which trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SpanContext {
    pub(super) trace: [u8; 16],
    pub(super) span: [u8; 8],
    pub(super) flags: u8,
}

impl SpanContext {
    /// The first span of a trace.
    pub(super) fn root() -> Self {
        Self {
            trace: drawn(),
            span: drawn(),
            flags: 0,
        }
    }

    /// Another span of the trace, of which the same was decided.
    pub(super) fn child(&self) -> Self {
        Self {
            span: drawn(),
            ..*self
        }
    }

    pub(super) fn sampled(self, sampled: bool) -> Self {
        let flags = match sampled {
            true => self.flags | SAMPLED,
            false => self.flags & !SAMPLED,
        };
        Self { flags, ..self }
    }

    pub(super) fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Reads `version-trace-span-flags`; what later versions add is not looked at.
    fn read(text: &[u8]) -> Option<Self> {
        let mut parts = text.split(|b| *b == b'-');
        let mut next = || parts.next();
        let [version] = hex(next()?)?;
        let read = Self {
            trace: hex(next()?)?,
            span: hex(next()?)?,
            flags: hex::<1>(next()?)?[0],
        };
        let more = next().is_some();
        let good = match version {
            0xff => false,
            0 => !more && read.flags <= SAMPLED | RANDOM,
            _ => true,
        };
        let valid = good && read.trace != [0; 16] && read.span != [0; 8];
        let flags = read.flags & (SAMPLED | RANDOM);
        valid.then_some(Self { flags, ..read })
    }

    fn write(&self) -> HeaderValue {
        let mut text = Vec::with_capacity(55);
        text.extend_from_slice(b"00");
        for part in [&self.trace[..], &self.span, &[self.flags]] {
            text.push(b'-');
            for byte in part {
                text.push(digit(byte >> 4));
                text.push(digit(byte & 15));
            }
        }
        let text = bytes::Bytes::from(text);
        HeaderValue::from_maybe_shared(text).expect("digits and dashes are a header's value")
    }
}

/// Bytes by chance, not all of them zero.
fn drawn<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    while bytes == [0; N] {
        rand::rng().fill(&mut bytes[..]);
    }
    bytes
}

/// So many bytes, each two digits in lower case.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

fn digit(value: u8) -> u8 {
    b"0123456789abcdef"[usize::from(value & 15)]
}

/// What came with a request, or goes with one.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Carried {
    pub(super) span: Option<SpanContext>,
    /// What the tracing systems on the way noted.
    pub(super) state: Option<HeaderValue>,
    /// What the application notes for those that it asks.
    pub(super) baggage: Option<HeaderValue>,
}

impl Carried {
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let parent = headers.get(TRACEPARENT);
        let span = parent.and_then(|text| SpanContext::read(text.as_bytes()));
        Self {
            span,
            state: span.and_then(|_| state(headers.get(TRACESTATE)?)),
            baggage: headers.get(BAGGAGE).and_then(|_| baggage(headers)),
        }
    }

    /// Says it in the headers of another request, instead of what they said.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.remove(TRACESTATE);
        let state = self.span.and(self.state.as_ref());
        for (name, value) in [(TRACESTATE, state), (BAGGAGE, self.baggage.as_ref())] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
        if let Some(span) = &self.span {
            headers.insert(TRACEPARENT, span.write());
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.span.is_none() && self.baggage.is_none()
    }
}

/// A `tracestate` that is one, without blanks between its members.
fn state(value: &HeaderValue) -> Option<HeaderValue> {
    let text = value.to_str().ok()?;
    let blank = [' ', '\t'];
    let members = text.split(',').map(|m| m.trim_matches(blank));
    let members: Vec<&str> = members.filter(|m| !m.is_empty()).collect();
    let mut keys = Vec::with_capacity(members.len());
    for member in &members {
        let (key, value) = member.split_once('=')?;
        if !is_key(key) || !is_value(value) || keys.contains(&key) {
            return None;
        }
        keys.push(key);
    }
    let some = (1..=MOST_MEMBERS).contains(&members.len());
    some.then(|| HeaderValue::from_str(&members.join(",")).ok())?
}

/// `simple-key` or `tenant@system`.
fn is_key(key: &str) -> bool {
    let good = |part: &str, most: usize, digit_first: bool| {
        let first = |c: char| c.is_ascii_lowercase() || (digit_first && c.is_ascii_digit());
        let all = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-*/".contains(c);
        part.starts_with(first) && part.len() <= most && part.chars().all(all)
    };
    match key.split_once('@') {
        Some((tenant, system)) => good(tenant, 241, true) && good(system, 14, false),
        None => good(key, 256, false),
    }
}

fn is_value(value: &str) -> bool {
    let good = |b: u8| (0x20..=0x7e).contains(&b) && b != b',' && b != b'=';
    (1..=256).contains(&value.len()) && value.bytes().all(good)
}

/// The lines of `baggage` as one.
fn baggage(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines: Vec<&str> = headers
        .get_all(BAGGAGE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .filter(|line| line.contains('='))
        .collect();
    let whole = lines.join(",");
    let some = (1..=MOST_BAGGAGE).contains(&whole.len());
    some.then(|| HeaderValue::from_str(&whole).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_parent_is_read_and_written_as_it_came() {
        for flags in ["00", "01", "02", "03"] {
            let text = format!("00-{TRACE}-{SPAN}-{flags}");
            let read = SpanContext::read(text.as_bytes()).unwrap();
            assert_eq!(read.is_sampled(), flags.ends_with(['1', '3']), "{flags}");
            assert_eq!(read.write(), text);
        }
        // A later version may say more; this one is what is said on.
        let later = format!("cc-{TRACE}-{SPAN}-09-what-else");
        let read = SpanContext::read(later.as_bytes()).unwrap();
        assert_eq!(read.write(), format!("00-{TRACE}-{SPAN}-01"));
    }

    #[test]
    fn what_is_no_parent_is_none() {
        let zeroes = "0".repeat(32);
        for text in [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01-x"),
            format!("00-{TRACE}-{SPAN}-04"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{zeroes}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &zeroes[..16]),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!(" 00-{TRACE}-{SPAN}-01"),
        ] {
            assert_eq!(SpanContext::read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_tracing_systems_and_applications_noted_goes_on() {
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let came = headers(&[
            ("traceparent", parent.as_str()),
            ("tracestate", " congo=t61rcWkgMzE, rojo@vendor=00f0 ,,"),
            ("baggage", "user=jane"),
            ("baggage", "tier=gold;x=y"),
        ]);
        let mut goes = HeaderMap::new();
        Carried::read(&came).write(&mut goes);
        assert_eq!(goes["traceparent"], parent);
        assert_eq!(goes["tracestate"], "congo=t61rcWkgMzE,rojo@vendor=00f0");
        assert_eq!(goes["baggage"], "user=jane,tier=gold;x=y");
        // A state that is none does no harm to the parent; one without a parent says nothing.
        for state in ["a", "A=b", "a=b,a=c", "a=b=c", "@x=y"] {
            let came = headers(&[("traceparent", parent.as_str()), ("tracestate", state)]);
            let read = Carried::read(&came);
            assert!(read.span.is_some() && read.state.is_none(), "{state}");
        }
        let orphan = Carried::read(&headers(&[("tracestate", "a=b")]));
        assert!(orphan.is_nothing() && orphan.state.is_none());
        let many = vec!["a=b"; MOST_BAGGAGE / 3].join(",");
        assert_eq!(
            Carried::read(&headers(&[("baggage", many.as_str())])).baggage,
            None
        );
    }

    #[test]
    fn a_child_is_another_span_of_the_same_trace() {
        let root = SpanContext::root().sampled(true);
        let child = root.child();
        assert_eq!((child.trace, child.flags), (root.trace, root.flags));
        assert_ne!(child.span, root.span);
        assert_ne!(SpanContext::root().trace, root.trace);
    }
}
