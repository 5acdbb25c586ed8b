//! Reads tar streams: ustar, GNU and PAX, as image layers use them.
//!
//! The stream comes from outside. What describes an entry is bounded (a long name that unpacks to
//! gigabytes would otherwise be held in memory), numbers are checked, and nothing panics.

use std::io::{self, Read};

/// Why a stream cannot be read on.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("read archive: {0}")]
    Io(#[from] io::Error),
    #[error("not a tar archive: the checksum of the header at byte {0} is wrong")]
    Checksum(u64),
    #[error("malformed number in the header at byte {0}")]
    Number(u64),
    #[error("malformed extended header at byte {0}")]
    Extended(u64),
    #[error("the description of the entry at byte {0} is larger than {SPECIAL_MAX} bytes")]
    TooLong(u64),
    #[error("the sparse file at byte {0} is not supported")]
    Sparse(u64),
}

/// Bytes that a long name or an extended header may have, as in Go's reader.
const SPECIAL_MAX: u64 = 1 << 20;
const BLOCK: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
    /// Something that is not a file: volume labels and the like.
    Other(u8),
}

/// What is said about one file; its contents are then read from the [`Archive`].
#[derive(Debug)]
pub(crate) struct Entry {
    pub kind: Kind,
    /// As written, not made safe.
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    pub size: u64,
    pub major: u32,
    pub minor: u32,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the contents start in the stream.
    pub offset: u64,
}

/// A tar stream, read entry by entry.
pub(crate) struct Archive<R> {
    reader: R,
    position: u64,
    /// Contents of the current entry not yet read, and the padding after them.
    left: u64,
    padding: u64,
}

/// What the headers of GNU's long names said about the entry that follows them.
#[derive(Default)]
struct Long {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

/// What an extended header said about the entry that follows it. Of several the last counts, as in Go's reader: a stream
/// of them must not add up in memory.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader,
            position: 0,
            left: 0,
            padding: 0,
        }
    }

    /// The next entry, past whatever is left of the one before. None at the end.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        let (mut long, mut extension) = (Long::default(), Extension::default());
        loop {
            self.skip(self.left.saturating_add(self.padding))?;
            let at = self.position;
            let mut header = [0; BLOCK];
            if !self.fill(&mut header)? || header.iter().all(|&b| b == 0) {
                return Ok(None);
            }
            check(&header, at)?;
            let size = number(&header[124..136]).ok_or(Error::Number(at))?;
            self.begin(size);
            match header[156] {
                b'L' => long.path = Some(trimmed(self.special(at)?)),
                b'K' => long.link = Some(trimmed(self.special(at)?)),
                b'x' => {
                    extension = Extension::default();
                    extension.read_pax(&self.special(at)?, at)?;
                }
                // Defaults for the whole archive. Go's reader, and so the runtimes, do not apply
                // them.
                b'g' => drop(self.special(at)?),
                b'S' => return Err(Error::Sparse(at)),
                _ => {
                    extension.path = long.path.or(extension.path);
                    extension.link = long.link.or(extension.link);
                    return self.entry(&header, extension, at).map(Some);
                }
            }
        }
    }

    fn entry(
        &mut self,
        header: &[u8; BLOCK],
        extension: Extension,
        at: u64,
    ) -> Result<Entry, Error> {
        let field = |range: std::ops::Range<usize>| number(&header[range]).ok_or(Error::Number(at));
        let id = |n: u64| u32::try_from(n).map_err(|_| Error::Number(at));
        let path = match extension.path {
            Some(path) => path,
            None => join_prefix(header),
        };
        let kind = match header[156] {
            // Before ustar a directory was a file with a slash at its end.
            0 | b'0' | b'7' if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => Kind::Other(other),
        };
        let device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        // Only files carry contents; some writers give links and directories a size as well.
        let size = match kind {
            Kind::File | Kind::Other(_) => extension.size.unwrap_or(self.left),
            _ => 0,
        };
        self.begin(size);
        Ok(Entry {
            kind,
            link: extension
                .link
                .unwrap_or_else(|| text(&header[157..257]).to_vec()),
            mode: (field(100..108)? & 0o7777) as u32,
            uid: id(extension.uid.map_or_else(|| field(108..116), Ok)?)?,
            gid: id(extension.gid.map_or_else(|| field(116..124), Ok)?)?,
            mtime: match extension.mtime {
                Some(mtime) => mtime,
                None => (field(136..148)?.min(i64::MAX as u64) as i64, 0),
            },
            size,
            major: if device { id(field(329..337)?)? } else { 0 },
            minor: if device { id(field(337..345)?)? } else { 0 },
            xattrs: extension.xattrs,
            path,
            offset: self.position,
        })
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    /// Reads a whole extended header into memory, if it has a sane size.
    fn special(&mut self, at: u64) -> Result<Vec<u8>, Error> {
        if self.left > SPECIAL_MAX {
            return Err(Error::TooLong(at));
        }
        let mut bytes = vec![0; self.left as usize];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self, mut bytes: u64) -> io::Result<()> {
        let mut scratch = [0; 16 * 1024];
        while bytes > 0 {
            let want = bytes.min(scratch.len() as u64) as usize;
            self.reader.read_exact(&mut scratch[..want])?;
            self.position += want as u64;
            bytes -= want as u64;
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// Fills a header block; false if the stream ended before it.
    fn fill(&mut self, block: &mut [u8; BLOCK]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.reader.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => filled += n,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        self.position += BLOCK as u64;
        Ok(true)
    }
}

/// Reads the contents of the current entry.
impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = self.left.min(buffer.len() as u64) as usize;
        if want == 0 {
            return Ok(0);
        }
        let n = self.reader.read(&mut buffer[..want])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= n as u64;
        self.position += n as u64;
        Ok(n)
    }
}

impl Extension {
    /// Records of the form `length key=value\n`. An empty value takes an earlier one back.
    fn read_pax(&mut self, mut bytes: &[u8], at: u64) -> Result<(), Error> {
        let bad = || Error::Extended(at);
        while !bytes.is_empty() {
            let blank = bytes
                .iter()
                .take(20)
                .position(|&b| b == b' ')
                .ok_or_else(bad)?;
            let length: usize = parse(&bytes[..blank]).ok_or_else(bad)?;
            if length <= blank + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
                return Err(bad());
            }
            let record = &bytes[blank + 1..length - 1];
            let equals = record.iter().position(|&b| b == b'=').ok_or_else(bad)?;
            self.record(&record[..equals], &record[equals + 1..], at)?;
            bytes = &bytes[length..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8], at: u64) -> Result<(), Error> {
        let bad = || Error::Extended(at);
        let bytes = (!value.is_empty()).then(|| value.to_vec());
        let integer = || match value {
            [] => Ok(None),
            _ => parse(value).map(Some).ok_or_else(bad),
        };
        match key {
            b"path" => self.path = bytes,
            b"linkpath" => self.link = bytes,
            b"size" => self.size = integer()?,
            b"uid" => self.uid = integer()?,
            b"gid" => self.gid = integer()?,
            b"mtime" => self.mtime = bytes.map(|v| seconds(&v).ok_or_else(bad)).transpose()?,
            _ if key.starts_with(b"GNU.sparse.") => return Err(Error::Sparse(at)),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// `seconds[.fraction]`, possibly negative.
fn seconds(value: &[u8]) -> Option<(i64, u32)> {
    let value = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let whole: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = nanos.fold(0, |n, digit| n * 10 + u32::from(digit - b'0'));
    Some((whole, nanos))
}

fn parse<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn check(header: &[u8; BLOCK], at: u64) -> Result<(), Error> {
    let stated = number(&header[148..156]).ok_or(Error::Checksum(at))?;
    let spaces = 8 * u64::from(b' ');
    let sum: u64 = header[..148]
        .iter()
        .chain(&header[156..])
        .map(|&b| u64::from(b))
        .sum();
    if stated == sum + spaces {
        Ok(())
    } else {
        Err(Error::Checksum(at))
    }
}

/// A number field: octal digits between blanks and zeros, or binary if the first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        // Negative numbers mean nothing here, nor do those beyond 64 bits.
        let first = (field[0] & 0x40 == 0).then_some(u64::from(field[0] & 0x3f))?;
        return field[1..].iter().try_fold(first, |n, &b| {
            (n >> 56 == 0).then_some(n << 8 | u64::from(b))
        });
    }
    let blank = |b: &u8| *b == b' ' || *b == 0;
    let start = field.iter().position(|b| !blank(b)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    digits[..end].iter().try_fold(0u64, |n, &b| match b {
        b'0'..=b'7' => n.checked_mul(8)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

/// A field up to its first zero byte.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&b| b == 0).next().unwrap_or(field)
}

fn trimmed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(text(&bytes).len());
    bytes
}

/// POSIX archives keep the first part of a long path in a field of its own; GNU uses the same bytes
/// for times.
fn join_prefix(header: &[u8; BLOCK]) -> Vec<u8> {
    let (name, prefix) = (text(&header[..100]), text(&header[345..500]));
    if &header[257..263] == b"ustar\0" && !prefix.is_empty() {
        [prefix, b"/", name].concat()
    } else {
        name.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, Error> {
        let mut archive = Archive::new(bytes);
        let mut entries = Vec::new();
        while let Some(entry) = archive.next_entry()? {
            let mut data = Vec::new();
            archive.read_to_end(&mut data)?;
            entries.push((entry, data));
        }
        Ok(entries)
    }

    /// One raw header with its contents, for what no writer would produce.
    fn raw(kind: u8, name: &[u8], size: u64, data: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::new(kind));
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    #[test]
    fn long_names_extended_headers_and_large_numbers_are_read() {
        let mut builder = tar::Builder::new(Vec::new());
        let long = format!("{}/file", "d".repeat(150));
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o4755);
        header.set_uid(3_000_000_000);
        header.set_mtime(1_700_000_000);
        builder
            .append_pax_extensions([
                ("SCHILY.xattr.user.k", b"v".as_slice()),
                ("mtime", b"1700000001.25".as_slice()),
            ])
            .unwrap();
        builder
            .append_data(&mut header, &long, &b"hello"[..])
            .unwrap();
        let entries = read(&builder.into_inner().unwrap()).unwrap();
        let (entry, data) = &entries[0];
        assert_eq!(entry.path, long.as_bytes());
        assert_eq!((entry.mode, entry.uid), (0o4755, 3_000_000_000));
        assert_eq!(entry.mtime, (1_700_000_001, 250_000_000));
        assert_eq!(entry.xattrs, [(b"user.k".to_vec(), b"v".to_vec())]);
        assert_eq!(data, b"hello");
    }

    #[test]
    fn a_name_that_would_fill_the_memory_is_refused() {
        let bomb = raw(b'L', b"././@LongLink", 8 << 30, b"");
        assert!(matches!(read(&bomb), Err(Error::TooLong(0))));
        let bomb = raw(b'x', b"pax", 2 << 20, b"");
        assert!(matches!(read(&bomb), Err(Error::TooLong(0))));
    }

    #[test]
    fn a_size_in_an_extended_header_counts() {
        let mut bytes = raw(b'x', b"pax", 9, b"9 size=3\n");
        let mut body = raw(b'0', b"f", 0, b"abc");
        bytes.append(&mut body);
        bytes.extend(raw(b'0', b"g", 0, b""));
        let entries = read(&bytes).unwrap();
        assert_eq!(entries[0].1, b"abc");
        assert_eq!(entries[1].0.path, b"g");
    }

    #[test]
    fn of_several_extended_headers_the_last_counts_and_a_long_name_wins() {
        let pax = |text: &str| raw(b'x', b"pax", text.len() as u64, text.as_bytes());
        let mut bytes = raw(b'L', b"././@LongLink", 4, b"long");
        bytes.extend(pax("24 SCHILY.xattr.k=first\n"));
        bytes.extend(pax("25 SCHILY.xattr.k=second\n12 path=pax\n"));
        bytes.extend(raw(b'0', b"f", 0, b""));
        let entries = read(&bytes).unwrap();
        assert_eq!(entries[0].0.path, b"long");
        assert_eq!(entries[0].0.xattrs, [(b"k".to_vec(), b"second".to_vec())]);
    }

    #[test]
    fn malformed_streams_end_in_errors() {
        let good = raw(b'0', b"f", 3, b"abc");
        for cut in 1..good.len() - 1 {
            let _ = read(&good[..cut]);
        }
        assert!(matches!(read(&good[..600]), Err(Error::Io(_)) | Ok(_)));
        let mut bad = good.clone();
        bad[0] = b'X';
        assert!(matches!(read(&bad), Err(Error::Checksum(0))));
        for pax in ["5 a=", "99 a=b\n", "x", "0 a=b\n", "9 size=x\n", "4 a\n"] {
            let bytes = raw(b'x', b"pax", pax.len() as u64, pax.as_bytes());
            assert!(read(&bytes).is_err(), "{pax:?}");
        }
        assert!(matches!(
            read(&raw(b'S', b"f", 0, b"")),
            Err(Error::Sparse(0))
        ));
    }
}
