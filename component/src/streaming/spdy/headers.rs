//! Header blocks: names and values, compressed in one zlib stream per direction of a connection.
//!
//! Every block of a connection has to pass through, in order, or the state of the two sides differs.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::dictionary::DICTIONARY;
use super::frame::word;
use crate::streaming::Error;

/// The most that a block may hold, decompressed: real ones have about a hundred bytes.
const MAX_BLOCK: usize = 64 << 10;
/// Header values of one block.
const MAX_HEADERS: usize = 1000;
/// Separates the values of one name.
const SEPARATOR: u8 = 0;

pub(super) struct Encoder {
    zlib: Compress,
}

pub(super) struct Decoder {
    zlib: Decompress,
}

impl Encoder {
    pub(super) fn new() -> Result<Self, Error> {
        let mut zlib = Compress::new(Compression::best(), true);
        zlib.set_dictionary(&DICTIONARY)
            .map_err(|_| Error::Protocol("the dictionary cannot be used"))?;
        Ok(Self { zlib })
    }

    pub(super) fn encode(&mut self, headers: &HeaderMap) -> Result<Vec<u8>, Error> {
        let plain = plain(headers);
        let mut block = Vec::with_capacity(plain.len() + 64);
        let mut rest = &plain[..];
        loop {
            let before = self.zlib.total_in();
            self.zlib
                .compress_vec(rest, &mut block, FlushCompress::Sync)
                .map_err(|_| Error::Protocol("headers cannot be compressed"))?;
            let taken = usize::try_from(self.zlib.total_in() - before).unwrap_or(rest.len());
            rest = rest.get(taken..).unwrap_or_default();
            // Room that is left means that all was flushed.
            if rest.is_empty() && block.len() < block.capacity() {
                return Ok(block);
            }
            block.reserve(256);
        }
    }
}

fn plain(headers: &HeaderMap) -> Vec<u8> {
    let mut text = Vec::new();
    let mut put = |bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        text.extend_from_slice(&length.to_be_bytes());
        text.extend_from_slice(bytes);
    };
    for name in headers.keys() {
        put(name.as_str().as_bytes());
        let values: Vec<&[u8]> = headers
            .get_all(name)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        put(&values.join(&SEPARATOR));
    }
    let count = u32::try_from(headers.keys_len()).unwrap_or(u32::MAX);
    [&count.to_be_bytes()[..], &text].concat()
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            zlib: Decompress::new(true),
        }
    }

    pub(super) fn decode(&mut self, block: &[u8]) -> Result<HeaderMap, Error> {
        parse(&self.inflate(block)?).ok_or(Error::Protocol("bad headers"))
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, Error> {
        let bad = Error::Protocol("headers cannot be decompressed");
        let mut plain = Vec::with_capacity(1024);
        let mut rest = block;
        loop {
            let before = (self.zlib.total_in(), plain.len());
            let result = self
                .zlib
                .decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            let taken = usize::try_from(self.zlib.total_in() - before.0).unwrap_or(rest.len());
            rest = rest.get(taken..).unwrap_or_default();
            match result {
                Ok(flate2::Status::StreamEnd) => return Err(bad),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    if self.zlib.set_dictionary(&DICTIONARY).is_err() {
                        return Err(bad);
                    }
                    continue;
                }
                Err(_) if rest.is_empty() && taken == 0 => return Ok(plain),
                Err(_) => return Err(bad),
            }
            if plain.len() < plain.capacity() {
                if rest.is_empty() {
                    return Ok(plain);
                }
                if taken == 0 && plain.len() == before.1 {
                    return Err(bad);
                }
            }
            if plain.len() >= MAX_BLOCK {
                return Err(Error::Protocol("headers are too long"));
            }
            plain.reserve(plain.len().max(1024));
        }
    }
}

/// The headers in a plain block.
fn parse(block: &[u8]) -> Option<HeaderMap> {
    let count = word(block, 0)? as usize;
    let mut rest = block.get(4..)?;
    let mut text = || -> Option<&[u8]> {
        let length = word(rest, 0)? as usize;
        let end = length.checked_add(4)?;
        let text = rest.get(4..end)?;
        rest = rest.get(end..)?;
        Some(text)
    };
    let mut headers = HeaderMap::new();
    if count > MAX_HEADERS {
        return None;
    }
    for _ in 0..count {
        let name = HeaderName::from_bytes(text()?).ok()?;
        for value in text()?.split(|byte| *byte == SEPARATOR) {
            if headers.len() >= MAX_HEADERS {
                return None;
            }
            headers
                .try_append(&name, HeaderValue::from_bytes(value).ok()?)
                .ok()?;
        }
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn blocks_share_one_stream_and_keep_their_order() {
        let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::new());
        let kinds = ["error", "stdin", "stdout", "stderr", "resize"];
        let mut lengths = Vec::new();
        for kind in kinds {
            let sent = headers(&[("streamtype", kind), ("port", "80")]);
            let block = encoder.encode(&sent).unwrap();
            lengths.push(block.len());
            assert_eq!(decoder.decode(&block).unwrap(), sent);
        }
        assert!(lengths[4] < lengths[0], "later ones refer to earlier ones");
        assert_eq!(
            decoder
                .decode(&encoder.encode(&HeaderMap::new()).unwrap())
                .unwrap()
                .len(),
            0
        );
    }

    #[test]
    fn a_small_block_that_grows_large_is_refused() {
        let mut zlib = Compress::new(Compression::best(), true);
        zlib.set_dictionary(&DICTIONARY).unwrap();
        let mut bomb = Vec::with_capacity(1 << 20);
        zlib.compress_vec(&vec![b'a'; 16 << 20], &mut bomb, FlushCompress::Sync)
            .unwrap();
        assert!(bomb.len() < 64 << 10);
        let refused = Decoder::new().decode(&bomb);
        assert!(matches!(
            refused,
            Err(Error::Protocol("headers are too long"))
        ));
    }

    #[test]
    fn many_values_of_one_name_are_refused() {
        let values = vec![SEPARATOR; 40_000];
        let mut block = vec![0, 0, 0, 1, 0, 0, 0, 1, b'x'];
        block.extend_from_slice(&40_000_u32.to_be_bytes());
        block.extend_from_slice(&values);
        assert_eq!(parse(&block), None);
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_never_a_panic(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4)) {
            let mut decoder = Decoder::new();
            for block in blocks {
                let _ = parse(&block);
                let _ = decoder.decode(&block);
            }
        }

        #[test]
        fn damaged_blocks_never_panic(at in 0_usize..60, with: u8) {
            let mut block = Encoder::new().unwrap().encode(&headers(&[("streamtype", "stdin"), ("port", "8080")])).unwrap();
            if let Some(byte) = block.get_mut(at) {
                *byte = with;
            }
            let _ = Decoder::new().decode(&block);
        }
    }
}
