//! Turns a compressed layer into a directory that overlayfs can use.
//!
//! Inflating (with hashing) and writing run on two threads: the creation of files dominates, and
//! either alone would leave a core idle. The result is used only if the uncompressed bytes have the
//! digest that the image's configuration promised.

use std::fs;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sha2::Digest as _;

use super::reference::{Algorithm, Digest};
use super::tar;

mod apply;
mod inherit;

pub(super) use inherit::describe;
pub use inherit::inherit;

/// Why a layer could not be unpacked.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Archive(#[from] tar::Error),
    #[error("unpack {path}: {source}", path = path.display())]
    Apply { path: PathBuf, source: io::Error },
    #[error("{path} names a file outside the layer", path = path.display())]
    Path { path: PathBuf },
    #[error("the layer unpacks to {found}, the image promises {promised}")]
    Digest { promised: Digest, found: Digest },
    #[error("read layer: {0}")]
    Read(io::Error),
    #[error(transparent)]
    Mount(#[from] crate::sys::mount::Error),
}

/// What came out of a layer.
#[derive(Debug, Default)]
pub struct Unpacked {
    /// Disk space in bytes, about: contents in whole blocks and one block for each other file.
    pub bytes: u64,
    pub inodes: u64,
    /// Directories that the layer has files in without describing them: they look as in the layers
    /// below, which [`inherit`] has to see to. Parents before children.
    pub implicit: Vec<PathBuf>,
}

/// Chunks of uncompressed bytes on their way from one thread to the other: at most 2 MiB wait.
const CHUNK: usize = 256 * 1024;
const CHUNKS: usize = 8;

/// Unpacks `blob` into the empty directory `into`, if it is the layer `promised`. Blocks.
pub fn unpack(blob: impl Read + Send, promised: &Digest, into: &Path) -> Result<Unpacked, Error> {
    let (send, receive) = sync_channel(CHUNKS);
    std::thread::scope(|scope| {
        let inflate = scope.spawn(|| inflate(blob, promised.algorithm(), send));
        let mut stream = Chunks {
            receive: &receive,
            chunk: Vec::new(),
            read: 0,
        };
        let applied = apply::apply(&mut stream, into);
        if applied.is_ok() {
            // The digest covers what follows the end of the archive too.
            io::copy(&mut stream, &mut io::sink()).map_err(Error::Read)?;
        }
        drop(receive);
        let found = match inflate.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        // A broken stream shows as a strange archive: its own error tells more.
        let found = match (found, applied) {
            (Err(err), _) => return Err(Error::Read(err)),
            (Ok(_), Err(err)) => return Err(err),
            (Ok(found), Ok(unpacked)) => (found, unpacked),
        };
        match found {
            (Some(found), unpacked) if found == *promised => Ok(unpacked),
            (Some(found), _) => Err(Error::Digest {
                promised: promised.clone(),
                found,
            }),
            (None, _) => Err(Error::Read(io::ErrorKind::BrokenPipe.into())),
        }
    })
}

/// A stream of uncompressed bytes, whatever the compression: told by its first bytes, because media
/// types are not reliable.
pub fn decompress<'a>(blob: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut blob = BufReader::with_capacity(CHUNK, blob);
    let start = io::BufRead::fill_buf(&mut blob)?;
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(blob)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(blob)?),
        _ => Box::new(blob),
    })
}

/// Inflates and hashes until the end. None if the other side stopped listening.
fn inflate(
    blob: impl Read + Send,
    algorithm: Algorithm,
    send: SyncSender<Vec<u8>>,
) -> io::Result<Option<Digest>> {
    let mut stream = decompress(blob)?;
    let mut hash = Hasher::new(algorithm);
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        (&mut stream).take(CHUNK as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Ok(Some(hash.finish()));
        }
        hash.update(&chunk);
        if send.send(chunk).is_err() {
            return Ok(None);
        }
    }
}

/// The receiving side as a stream.
struct Chunks<'a> {
    receive: &'a Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    read: usize,
}

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.chunk.len() {
            match self.receive.recv() {
                Ok(chunk) => (self.chunk, self.read) = (chunk, 0),
                Err(_) => return Ok(0),
            }
        }
        let n = buffer.len().min(self.chunk.len() - self.read);
        buffer[..n].copy_from_slice(&self.chunk[self.read..self.read + n]);
        self.read += n;
        Ok(n)
    }
}

/// A running digest.
pub(super) enum Hasher {
    Sha256(Box<sha2::Sha256>),
    Sha512(Box<sha2::Sha512>),
}

impl Hasher {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Box::default()),
            Algorithm::Sha512 => Self::Sha512(Box::default()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Digest {
        match self {
            Self::Sha256(hash) => Digest::sha256(hash.finalize().as_slice()),
            Self::Sha512(hash) => Digest::sha512(hash.finalize().as_slice()),
        }
    }
}

/// The identity of a stack of layers: the same layers in the same order have the same.
pub fn chain_id(diff_ids: &[Digest]) -> Option<Digest> {
    let (first, rest) = diff_ids.split_first()?;
    let fold = |below: Digest, next: &Digest| Digest::of(format!("{below} {next}").as_bytes());
    Some(rest.iter().fold(first.clone(), fold))
}

/// Disk space and files below a directory, counted as [`Unpacked`] does.
pub fn usage(dir: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let mut totals = (0, 0);
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            // Files come and go while a container runs.
            let Ok(meta) = entry.metadata() else { continue };
            totals.0 += meta.blocks() * 512;
            totals.1 += 1;
            if meta.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Ok(totals)
}

#[cfg(test)]
mod tests;
