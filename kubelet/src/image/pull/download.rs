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
use crate::image::registry::Session;

/// Pieces between the network and the disk: about a quarter of a megabyte as hyper cuts them.
const PIECES: usize = 32;

/// Downloads the layer. When it returns, the file has the layer's digest. `counted` are the bytes
/// that were told as progress already.
pub(super) async fn download(
    session: &Session,
    layer: &Descriptor,
    path: &Path,
    counted: &Mutex<u64>,
    progress: &watch::Sender<Progress>,
) -> Result<(), Error> {
    let there = std::fs::metadata(path).map_or(0, |meta| meta.len());
    let known = layer.size > 0;
    let start = if known && there > layer.size {
        0
    } else {
        there
    };
    let count = |now: u64| {
        let mut counted = counted.lock();
        progress.send_modify(|p| p.bytes_done = p.bytes_done + now - *counted);
        *counted = now;
    };
    let complete = known && start == layer.size;
    let (sink, offset, mut blob) = if complete {
        (Sink::open(path, layer, start), start, None)
    } else {
        let blob = session.blob(&layer.digest, start).await?;
        (
            Sink::open(path, layer, blob.offset),
            blob.offset,
            Some(blob),
        )
    };
    count(offset);
    let (send, receive) = mpsc::channel(PIECES);
    let writing = tokio::task::spawn_blocking(move || sink.run(receive));
    let mut got = offset;
    let mut failed = None;
    while let Some(blob) = &mut blob {
        match blob.chunk().await {
            Ok(Some(piece)) => {
                got += piece.len() as u64;
                count(got);
                // More than it may have: what comes cannot be right any more.
                if (known && got > layer.size) || send.send(piece).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Err(err) => {
                failed = Some(err);
                break;
            }
        }
    }
    drop(send);
    let written = writing.await.map_err(|_| Error::Interrupted)?;
    let digest = || layer.digest.clone();
    let found = written.map_err(|source| Error::Write {
        digest: digest(),
        source,
    })?;
    if let Some(err) = failed {
        return Err(err.into());
    }
    if known && got < layer.size {
        return Err(Error::Short {
            digest: digest(),
            got,
            expected: layer.size,
        });
    }
    if found != layer.digest {
        count(0);
        let (path, blob) = (path.to_owned(), digest());
        blocking(move || remove(&path, blob)).await?;
        return Err(Error::Digest {
            digest: digest(),
            found,
        });
    }
    Ok(())
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
