//! One line of a CRI log: `TIME STREAM TAG[:TAG...] CONTENT`. Pure.

use k8s_openapi::jiff::Timestamp;

/// Which stream a container wrote to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Line<'a> {
    pub(crate) time: &'a str,
    pub(crate) at: Timestamp,
    pub(crate) stream: Stream,
    /// With its line end, unless more of the line follows.
    pub(crate) content: &'a [u8],
}

/// Reads a line with its end, if it has one; none if it is not of this format.
pub(crate) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let (time, rest) = field(line)?;
    let time = std::str::from_utf8(time).ok()?;
    let at = time.parse().ok()?;
    let (stream, rest) = field(rest)?;
    let stream = match stream {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let (tags, content) = field(rest)?;
    let partial = tags.split(|byte| *byte == b':').next() == Some(b"P");
    let content = match content {
        [content @ .., b'\n'] if partial => content,
        whole => whole,
    };
    Some(Line {
        time,
        at,
        stream,
        content,
    })
}

fn field(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr(text)?;
    Some((&text[..end], &text[end + 1..]))
}

fn memchr(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| *byte == b' ')
}

/// A time as clients are shown it: with nine digits of a second.
pub(crate) fn shown(time: &str) -> String {
    let zone = time
        .rfind(['Z', '+', '-'])
        .filter(|at| *at > "2006-01-02T".len())
        .unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone);
    match clock.split_once('.') {
        Some((second, fraction)) => format!("{second}.{fraction:0<9}{zone}"),
        None => format!("{clock}.000000000{zone}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        let line = parse(b"2016-10-06T00:17:09.669794202Z stdout F a b\n").unwrap();
        assert_eq!(line.content, b"a b\n");
        assert_eq!(line.stream, Stream::Stdout);
        let line = parse(b"2016-10-06T00:17:09.6+02:00 stderr P:x part\n").unwrap();
        assert_eq!((line.content, line.stream), (&b"part"[..], Stream::Stderr));
        assert_eq!(line.at.to_string(), "2016-10-05T22:17:09.6Z");
        let line = parse(b"2016-10-06T00:17:09Z stderr F \n").unwrap();
        assert_eq!(line.content, b"\n");
        for bad in [
            "",
            "x",
            "2016-10-06T00:17:09Z",
            "2016-10-06T00:17:09Z stdin F x",
            "yesterday stdout F x",
            "2016-10-06T00:17:09Z stdout F",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn times_are_shown_with_nine_digits() {
        let shown = |time| shown(time);
        assert_eq!(
            shown("2016-10-06T00:17:09.5Z"),
            "2016-10-06T00:17:09.500000000Z"
        );
        assert_eq!(
            shown("2016-10-06T00:17:09Z"),
            "2016-10-06T00:17:09.000000000Z"
        );
        assert_eq!(
            shown("2016-10-06T00:17:09.669794202-03:00"),
            "2016-10-06T00:17:09.669794202-03:00"
        );
    }
}
