//! gzip (RFC 1952) at level 1, which is what upstream's API server uses everywhere (`responsewriters/compression.go`).

use bytes::Bytes;
use component::metrics::Metrics;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use futures::{Stream, StreamExt, stream};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

/// No name, no time, fastest level, unknown system: what Go's writer puts there.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 0xff];
/// What is behind the head of an empty member: one empty block, its checksum and its length.
const NOTHING: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const LEVEL: u32 = 1;
/// Compressors that are kept while nobody uses them: one for each thread of a small machine. Each holds a quarter of a megabyte,
/// so that making one costs more than compressing an event.
const IDLE: usize = 2;
/// Room that is made for compressed bytes at a time.
const ROOM: usize = 16 * 1024;

/// Lends compressors.
#[derive(Default)]
pub struct Pool {
    idle: Mutex<Vec<Compress>>,
    /// Members that were begun.
    members: Counter,
}

/// A gzip member that is being written.
pub struct Member {
    /// None at its end.
    deflate: Option<Compress>,
    crc: Crc,
}

impl Pool {
    /// One whose members are counted.
    #[must_use]
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            idle: Mutex::default(),
            members: metrics.registered(
                "navarch_gzip_members_total",
                "Answers that were compressed, and events of watches, each once for all that watch",
                Counter::default(),
            ),
        }
    }

    /// Begins a member: its head is written at once.
    pub fn begin(&self, out: &mut Vec<u8>) -> Member {
        self.members.inc();
        let idle = self.idle.lock().pop();
        let deflate = idle.unwrap_or_else(|| Compress::new(Compression::new(LEVEL), false));
        out.extend_from_slice(&HEAD);
        Member {
            deflate: Some(deflate),
            crc: Crc::new(),
        }
    }

    /// The bytes as a link of a [`chain`]: a member of their own, without its head and with that of the next one.
    #[must_use]
    pub fn link(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 * HEAD.len() + bytes.len() / 3 + 64);
        let mut member = self.begin(&mut out);
        member.write(bytes, &mut out);
        member.finish(self, &mut out);
        out.extend_from_slice(&HEAD);
        out.drain(..HEAD.len());
        out
    }
}

/// Members that go out one by one. Each is sent with the head of the next: Go's reader gives out the end of a member only
/// when it has read what follows (`Reader.Read` of `compress/gzip`), and would keep each event until there is another one.
pub fn chain(links: impl Stream<Item = Bytes>) -> impl Stream<Item = Bytes> {
    let part = |bytes: &'static [u8]| stream::once(std::future::ready(Bytes::from_static(bytes)));
    part(&HEAD).chain(links).chain(part(&NOTHING))
}

impl Member {
    /// Compresses these bytes; what comes of them may come with later ones.
    pub fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.crc.update(bytes);
        if let Some(deflate) = &mut self.deflate {
            run(deflate, bytes, FlushCompress::None, out);
        }
    }

    /// Ends the member, and gives its compressor back.
    pub fn finish(mut self, pool: &Pool, out: &mut Vec<u8>) {
        let Some(mut deflate) = self.deflate.take() else {
            return;
        };
        run(&mut deflate, &[], FlushCompress::Finish, out);
        out.extend_from_slice(&self.crc.sum().to_le_bytes());
        out.extend_from_slice(&self.crc.amount().to_le_bytes());
        deflate.reset();
        let mut idle = pool.idle.lock();
        if idle.len() < IDLE {
            idle.push(deflate);
        }
    }
}

/// Compresses all of `bytes`.
fn run(deflate: &mut Compress, mut bytes: &[u8], flush: FlushCompress, out: &mut Vec<u8>) {
    loop {
        if out.capacity() - out.len() < ROOM / 4 {
            out.reserve(ROOM);
        }
        let before = deflate.total_in();
        // It fails only where a stream goes on after its end, which `finish` rules out.
        let Ok(status) = deflate.compress_vec(bytes, out, flush) else {
            return;
        };
        let taken = usize::try_from(deflate.total_in() - before).unwrap_or(bytes.len());
        bytes = &bytes[taken.min(bytes.len())..];
        let done = match flush {
            FlushCompress::Finish => status == Status::StreamEnd,
            // With room left over, there is nothing that waits for room.
            _ => bytes.is_empty() && out.len() < out.capacity(),
        };
        if done {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::MultiGzDecoder;
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    fn inflate(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let read = MultiGzDecoder::new(bytes).read_to_end(&mut plain);
        assert!(read.is_ok(), "{read:?}");
        plain
    }

    #[test]
    fn links_are_a_chain_and_none_waits_for_the_next_ones_head() {
        let pool = Pool::default();
        let links = ["one\n", "", "two\n"].map(|event| Bytes::from(pool.link(event.as_bytes())));
        assert!(links.iter().all(|link| link.ends_with(&HEAD)));
        let all: Vec<Bytes> = chain(stream::iter(links)).collect().now_or_never().unwrap();
        assert_eq!(inflate(&all.concat()), b"one\ntwo\n");
        assert_eq!(pool.idle.lock().len(), 1, "one compressor did it all");
    }

    #[test]
    fn what_does_not_shrink_comes_back_too() {
        let noise: Vec<u8> = (0..1_000_000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let link = Pool::default().link(&noise);
        assert_eq!(inflate(&[&HEAD, &link[..], &NOTHING].concat()), noise);
    }

    proptest! {
        #[test]
        fn pieces_are_one_member(pieces in prop::collection::vec("[a-c]{0,3000}", 0..20)) {
            let pool = Pool::default();
            let mut out = Vec::new();
            let mut member = pool.begin(&mut out);
            for piece in &pieces {
                member.write(piece.as_bytes(), &mut out);
            }
            member.finish(&pool, &mut out);
            prop_assert_eq!(inflate(&out), pieces.concat().into_bytes());
        }
    }
}
