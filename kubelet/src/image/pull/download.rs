//! One layer from a registry into a file, beginning where an earlier try ended.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::{Error, Progress, blocking, remove};
use crate::image::layer::Hasher;
use crate::image::manifest::Descriptor;
use crate::image::reference::{Algorithm, Digest};
use crate::image::registry::{Blob, Session};

/// Pieces between the network and the disk: about a quarter of a megabyte as hyper cuts them.
const PIECES: usize = 32;

/// One layer on its way.
pub(super) struct Download<'a> {
    pub(super) session: &'a Session,
    pub(super) layer: &'a Descriptor,
    pub(super) path: &'a Path,
    /// Bytes that were told as progress already, over all tries.
    pub(super) counted: &'a Mutex<u64>,
    pub(super) progress: &'a watch::Sender<Progress>,
}

impl Download<'_> {
    /// Downloads the layer. When it returns, the file has the layer's digest.
    pub(super) async fn run(&self) -> Result<(), Error> {
        let (mut blob, offset) = self.begin().await?;
        self.count(offset);
        let sink = Sink::open(self.path, self.layer, offset);
        let (send, receive) = mpsc::channel(PIECES);
        let writing = tokio::task::spawn_blocking(move || sink.run(receive));
        let got = match &mut blob {
            Some(blob) => self.receive(blob, offset, &send).await,
            None => Ok(offset),
        };
        drop(send);
        let written = writing.await.map_err(|_| Error::Interrupted)?;
        let digest = self.layer.digest.clone();
        let found = match written {
            Ok(found) => found,
            Err(source) => return Err(Error::Write { digest, source }),
        };
        let (got, expected) = (got?, self.layer.size);
        if got < expected {
            return Err(Error::Short {
                digest,
                got,
                expected,
            });
        }
        if found == digest {
            return Ok(());
        }
        self.count(0);
        let (path, blob) = (self.path.to_owned(), digest.clone());
        blocking(move || remove(&path, blob)).await?;
        Err(Error::Digest { digest, found })
    }

    /// Asks for what is missing. No blob: nothing is.
    async fn begin(&self) -> Result<(Option<Blob>, u64), Error> {
        let size = self.layer.size;
        let there = std::fs::metadata(self.path).map_or(0, |meta| meta.len());
        let start = if size > 0 && there > size { 0 } else { there };
        if size > 0 && start == size {
            return Ok((None, start));
        }
        let blob = match self.session.blob(&self.layer.digest, start).await {
            // Where the size is not known, the file may be complete, or too long.
            Err(err) if start > 0 && err.is_beyond_end() => {
                self.session.blob(&self.layer.digest, 0).await?
            }
            other => other?,
        };
        let offset = blob.offset;
        Ok((Some(blob), offset))
    }

    /// Hands on what comes, and returns how far it got.
    async fn receive(
        &self,
        blob: &mut Blob,
        offset: u64,
        send: &mpsc::Sender<Bytes>,
    ) -> Result<u64, Error> {
        let mut got = offset;
        while let Some(piece) = blob.chunk().await? {
            got += piece.len() as u64;
            self.count(got);
            // More than it may have: what comes cannot be right any more.
            let too_much = self.layer.size > 0 && got > self.layer.size;
            if too_much || send.send(piece).await.is_err() {
                break;
            }
        }
        Ok(got)
    }

    fn count(&self, now: u64) {
        let mut counted = self.counted.lock();
        self.progress
            .send_modify(|p| p.bytes_done = p.bytes_done + now - *counted);
        *counted = now;
    }
}

/// Writes and hashes, on a thread for blocking work.
struct Sink {
    path: PathBuf,
    algorithm: Algorithm,
    offset: u64,
}

impl Sink {
    fn open(path: &Path, layer: &Descriptor, offset: u64) -> Self {
        Self {
            path: path.to_owned(),
            algorithm: layer.digest.algorithm(),
            offset,
        }
    }

    /// Takes pieces until there are no more, and returns the digest of the whole file.
    fn run(self, mut pieces: mpsc::Receiver<Bytes>) -> io::Result<Digest> {
        let mut open = OpenOptions::new();
        let open = open
            .read(true)
            .write(true)
            .create(true)
            .truncate(self.offset == 0);
        let mut file = open.open(&self.path)?;
        let mut hash = Hasher::new(self.algorithm);
        read_start(&mut file, self.offset, &mut hash)?;
        while let Some(piece) = pieces.blocking_recv() {
            file.write_all(&piece)?;
            hash.update(&piece);
        }
        Ok(hash.finish())
    }
}

/// Hashes what is there already, up to `offset`, and cuts off what is behind it.
fn read_start(file: &mut File, offset: u64, hash: &mut Hasher) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut left = offset;
    while left > 0 {
        let want = left.min(buffer.len() as u64) as usize;
        file.read_exact(&mut buffer[..want])?;
        hash.update(&buffer[..want]);
        left -= want as u64;
    }
    file.set_len(offset)?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(())
}
