//! What the two halves of a wire share: the table of streams, the budget of bytes, the time of the last
//! activity.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::PollSender;

use super::stream::{Chunk, Out, Reader, Stream, Writer};
use super::{Error, MAX_BUFFERED, MAX_STREAMS};

/// Chunks of one stream that wait to be read; one stream cannot take the whole budget.
const STREAM_CHUNKS: usize = 16;
/// Requests to the wire that wait to be written.
const OUT: usize = 8;
/// Opened streams that nobody has accepted yet.
const INCOMING: usize = 32;

pub(super) struct Hub {
    streams: Mutex<HashMap<u32, Entry>>,
    abandoned: Mutex<Vec<u32>>,
    abandoning: Notify,
    budget: Arc<Semaphore>,
    born: Instant,
    /// Milliseconds after birth.
    active: AtomicU64,
}

struct Entry {
    /// `None` once the peer has finished.
    inbound: Option<mpsc::Sender<Chunk>>,
    /// This side has not finished.
    open: bool,
    gone: Arc<AtomicBool>,
    /// Who waits for the peer to accept the stream.
    opening: Option<(oneshot::Sender<Stream>, Stream)>,
}

/// The ends of the channels between handles and a wire.
pub(super) struct Wire {
    pub(super) hub: Arc<Hub>,
    pub(super) out: mpsc::Receiver<Out>,
    /// Weak, so that the wire sees that all handles are gone.
    pub(super) weak: mpsc::WeakSender<Out>,
    pub(super) incoming: mpsc::Sender<Stream>,
}

/// What may be done with a new stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Directions {
    pub(super) read: bool,
    pub(super) write: bool,
}

impl Hub {
    /// The handles of a connection, and the ends for its wire.
    pub(super) fn open(streams: usize) -> (super::Streams, Wire) {
        let (out, asks) = mpsc::channel(OUT);
        let (incoming, accept) = mpsc::channel(streams.max(INCOMING));
        let hub = Self {
            streams: Mutex::default(),
            abandoned: Mutex::default(),
            abandoning: Notify::new(),
            budget: Arc::new(Semaphore::new(MAX_BUFFERED)),
            born: Instant::now(),
            active: AtomicU64::new(0),
        };
        let wire = Wire {
            hub: Arc::new(hub),
            out: asks,
            weak: out.downgrade(),
            incoming,
        };
        let streams = super::Streams {
            incoming: accept,
            out,
        };
        (streams, wire)
    }

    /// Enters a stream into the table; none if it is full.
    pub(super) fn add(
        self: &Arc<Self>,
        id: u32,
        headers: HeaderMap,
        out: mpsc::Sender<Out>,
        may: Directions,
    ) -> Option<Stream> {
        let mut streams = self.streams.lock();
        if streams.len() >= MAX_STREAMS || streams.contains_key(&id) {
            return None;
        }
        let (sender, chunks) = mpsc::channel(STREAM_CHUNKS);
        let gone = Arc::new(AtomicBool::new(false));
        let entry = Entry {
            inbound: may.read.then_some(sender),
            open: may.write,
            gone: Arc::clone(&gone),
            opening: None,
        };
        streams.insert(id, entry);
        Some(Stream {
            id,
            headers,
            reader: Reader {
                chunks,
                begun: None,
            },
            writer: Writer {
                id,
                out: PollSender::new(out),
                hub: Arc::clone(self),
                gone,
                finished: !may.write,
            },
        })
    }

    /// Keeps a stream of ours until the peer accepts it.
    pub(super) fn wait_for_reply(&self, stream: Stream, ready: oneshot::Sender<Stream>) {
        if let Some(entry) = self.streams.lock().get_mut(&stream.id) {
            entry.opening = Some((ready, stream));
        }
    }

    /// The peer has accepted a stream of ours.
    pub(super) fn accepted(&self, id: u32) {
        let opening = self
            .streams
            .lock()
            .get_mut(&id)
            .and_then(|entry| entry.opening.take());
        if let Some((ready, stream)) = opening {
            // Whoever opened it may be gone; the stream then resets itself.
            let _ = ready.send(stream);
        }
    }

    /// Hands received bytes on, and waits until there is room for them. Bytes that nobody reads are
    /// dropped.
    pub(super) async fn deliver(&self, id: u32, bytes: Bytes) {
        let inbound = self
            .streams
            .lock()
            .get(&id)
            .and_then(|entry| entry.inbound.clone());
        let Some(inbound) = inbound.filter(|i| !i.is_closed() && !bytes.is_empty()) else {
            return;
        };
        let share = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        // A reader that goes away while the budget is used up must not be waited for.
        let share = tokio::select! {
            share = Arc::clone(&self.budget).acquire_many_owned(share) => share,
            () = inbound.closed() => return,
        };
        if let Ok(share) = share {
            let chunk = Chunk {
                bytes,
                _share: share,
            };
            let _ = inbound.send(chunk).await;
        }
    }

    /// The peer will send nothing more on a stream.
    pub(super) fn peer_finished(&self, id: u32) {
        let mut streams = self.streams.lock();
        if let Some(entry) = streams.get_mut(&id) {
            entry.inbound = None;
            if !entry.open {
                streams.remove(&id);
            }
        }
    }

    /// This side will send nothing more on a stream.
    pub(super) fn finished(&self, id: u32) {
        let mut streams = self.streams.lock();
        if let Some(entry) = streams.get_mut(&id) {
            entry.open = false;
            if entry.inbound.is_none() {
                streams.remove(&id);
            }
        }
    }

    /// Whether this side may send on a stream.
    pub(super) fn is_open(&self, id: u32) -> bool {
        self.streams.lock().get(&id).is_some_and(|entry| entry.open)
    }

    /// Forgets a stream that one side has reset; whether it was there.
    pub(super) fn reset(&self, id: u32) -> bool {
        let entry = self.streams.lock().remove(&id);
        if let Some(entry) = &entry {
            entry.gone.store(true, Ordering::Release);
        }
        entry.is_some()
    }

    /// The ids of all streams that this side has not finished.
    pub(super) fn left(&self) -> Vec<u32> {
        let streams = self.streams.lock();
        let open = streams.iter().filter(|(_, entry)| entry.open);
        let mut ids: Vec<u32> = open.map(|(id, _)| *id).collect();
        drop(streams);
        ids.sort_unstable();
        ids
    }

    /// The connection is over: readers end, writers fail.
    pub(super) fn end(&self) {
        let streams = mem::take(&mut *self.streams.lock());
        for entry in streams.values() {
            entry.gone.store(true, Ordering::Release);
        }
    }

    /// A handle was dropped that had not finished its stream.
    pub(super) fn abandon(&self, id: u32) {
        self.abandoned.lock().push(id);
        self.abandoning.notify_one();
    }

    /// The streams that were abandoned, once there are some.
    pub(super) async fn abandoned(&self) -> Vec<u32> {
        loop {
            let ids = mem::take(&mut *self.abandoned.lock());
            if !ids.is_empty() {
                return ids;
            }
            self.abandoning.notified().await;
        }
    }

    /// Something was sent or received.
    pub(super) fn touch(&self) {
        let age = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active.store(age, Ordering::Relaxed);
    }

    /// Ends once nothing has happened for `limit`; never if it is zero.
    pub(super) async fn idle(&self, limit: Duration) -> Error {
        if limit.is_zero() {
            return std::future::pending().await;
        }
        loop {
            let last = self.born + Duration::from_millis(self.active.load(Ordering::Relaxed));
            if last.elapsed() >= limit {
                return Error::Idle(limit);
            }
            tokio::time::sleep_until(last + limit).await;
        }
    }
}
