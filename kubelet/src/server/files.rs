//! `/logs/`: the node's log files, as Go's file server shows them.
//!
//! A link that leads out of the directory is not followed: whoever may write there (a pod with a
//! `hostPath` of it) must not be able to read the rest of the node's files this way.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use component::serving::{Body, Response, full, text};
use component::{Supervisor, Task};
use futures::StreamExt;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE,
};
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use nix::fcntl::OFlag;
use tokio::sync::mpsc;

use crate::sys::open::{self, Bounds};

/// Read and sent at once.
const PIECE: usize = 64 << 10;
/// Pieces that were read and not sent yet.
const PIECES: usize = 2;

/// What is at a path.
enum Found {
    Dir(Vec<String>),
    File(File, u64),
}

/// Answers with a file or a listing. `path` is what follows `/logs/`, decoded.
pub(super) async fn answer(
    root: &Path,
    path: String,
    has_slash: bool,
    headers: &HeaderMap,
    tasks: &Supervisor,
) -> Response {
    let root = root.to_owned();
    let (wanted, name) = (path.clone(), path);
    let found = tokio::task::spawn_blocking(move || find(&root, Path::new(&wanted))).await;
    match found {
        Ok(Ok(Found::Dir(_))) if !has_slash => moved(&name),
        Ok(Ok(Found::Dir(names))) => listing(&names),
        Ok(Ok(Found::File(file, length))) => send(file, length, headers, tasks),
        Ok(Err(error)) => refusal(&error),
        Err(_) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "500 Internal Server Error\n",
        ),
    }
}

fn refusal(error: &io::Error) -> Response {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            text(StatusCode::NOT_FOUND, "404 page not found\n")
        }
        io::ErrorKind::PermissionDenied => text(StatusCode::FORBIDDEN, "403 Forbidden\n"),
        _ => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "500 Internal Server Error\n",
        ),
    }
}

/// Looks a path up below the root. What links say is found out first, and then the result is opened
/// without following any, so that nobody can change it in between.
fn find(root: &Path, path: &Path) -> io::Result<Found> {
    let root = fs::canonicalize(root)?;
    let inside: PathBuf = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect();
    let real = fs::canonicalize(root.join(inside))?;
    let inside = real
        .strip_prefix(&root)
        .map_err(|_| io::ErrorKind::PermissionDenied)?;
    let dir = open::root(&root)?;
    // Neither waits for the other end of a pipe nor opens a device for good.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = File::from(open::within(dir, inside, Bounds::Beneath, flags)?);
    let meta = file.metadata()?;
    if meta.is_dir() {
        return names(&real).map(Found::Dir);
    }
    if !meta.is_file() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(Found::File(file, meta.len()))
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(dir)?
        .flatten()
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_dir { name + "/" } else { name }
        })
        .collect();
    names.sort();
    Ok(names)
}

fn moved(path: &str) -> Response {
    let last = path.rsplit('/').next().unwrap_or_default();
    let mut response = http::Response::new(full(""));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let to = format!("{}/", component::client::path_escape(last));
    if let Ok(to) = HeaderValue::from_str(&to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

fn listing(names: &[String]) -> Response {
    let mut page = String::from(
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n",
    );
    for name in names {
        let link = name.strip_suffix('/').unwrap_or(name);
        let slash = &name[link.len()..];
        let link = component::client::path_escape(link);
        page.push_str(&format!("<a href=\"{link}{slash}\">{}</a>\n", html(name)));
    }
    page.push_str("</pre>\n");
    let mut response = http::Response::new(full(page));
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

/// The bytes `start..end` of a file of a length, if the header asks for one range; an error, if that
/// range is not there.
fn range(header: Option<&str>, length: u64) -> Result<Option<(u64, u64)>, ()> {
    let Some(spec) = header.and_then(|h| h.strip_prefix("bytes=")) else {
        return Ok(None);
    };
    if spec.contains(',') {
        return Ok(None); // several: all of it is an answer, too
    }
    let (start, end) = spec.split_once('-').ok_or(())?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| ());
    let (start, end) = match (start.trim(), end.trim()) {
        ("", last) => (length.saturating_sub(number(last)?), length),
        (start, "") => (number(start)?, length),
        (start, end) => (number(start)?, number(end)?.saturating_add(1).min(length)),
    };
    if start < end {
        Ok(Some((start, end)))
    } else {
        Err(())
    }
}

fn send(mut file: File, length: u64, headers: &HeaderMap, tasks: &Supervisor) -> Response {
    let asked = headers.get(RANGE).and_then(|value| value.to_str().ok());
    let Ok(part) = range(asked, length) else {
        let mut response = text(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "invalid range: failed to overlap\n",
        );
        if let Ok(value) = HeaderValue::from_str(&format!("bytes */{length}")) {
            response.headers_mut().insert(CONTENT_RANGE, value);
        }
        return response;
    };
    let (start, end) = part.unwrap_or((0, length));
    let (to, pieces) = mpsc::channel::<io::Result<Frame<Bytes>>>(PIECES);
    tasks.spawn(Task::Worker, "log-file", async move {
        let seek = move || file.seek(SeekFrom::Start(start)).map(|_| file);
        let Ok(Ok(mut file)) = tokio::task::spawn_blocking(seek).await else {
            return;
        };
        let mut left = end - start;
        while left > 0 {
            let read = move || {
                let mut piece = Vec::new();
                (&mut file)
                    .take(left.min(PIECE as u64))
                    .read_to_end(&mut piece)?;
                Ok::<_, io::Error>((file, piece))
            };
            let Ok(Ok((same, piece))) = tokio::task::spawn_blocking(read).await else {
                return;
            };
            file = same;
            left -= piece.len() as u64;
            // A file that has become shorter ends the connection: its length was promised.
            let ends = piece.is_empty();
            if ends || to.send(Ok(Frame::data(piece.into()))).await.is_err() {
                let _ = to.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
                return;
            }
        }
    });
    let frames = futures::stream::unfold(pieces, |mut pieces| async move {
        Some((pieces.recv().await?, pieces))
    });
    let body: Body = StreamBody::new(frames.boxed())
        .map_err(Into::into)
        .boxed_unsync();
    let mut response = http::Response::new(body);
    let out = response.headers_mut();
    out.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    out.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    out.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    out.insert(CONTENT_LENGTH, HeaderValue::from(end - start));
    if part.is_some() {
        let value = format!("bytes {start}-{}/{length}", end.saturating_sub(1));
        if let Ok(value) = HeaderValue::from_str(&value) {
            out.insert(CONTENT_RANGE, value);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_those_that_are_not_there_refused() {
        let range = |header| range(Some(header), 100);
        assert_eq!(range("bytes=0-9"), Ok(Some((0, 10))));
        assert_eq!(range("bytes=90-"), Ok(Some((90, 100))));
        assert_eq!(range("bytes=-10"), Ok(Some((90, 100))));
        assert_eq!(range("bytes=-1000"), Ok(Some((0, 100))));
        assert_eq!(range("bytes=50-18446744073709551615"), Ok(Some((50, 100))));
        assert_eq!(range("bytes=1-2,4-5"), Ok(None));
        assert_eq!(range("lines=1-2"), Ok(None));
        for bad in ["bytes=100-", "bytes=9-8", "bytes=x", "bytes=-0"] {
            assert_eq!(range(bad), Err(()), "{bad}");
        }
    }

    #[test]
    fn nothing_outside_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("log");
        fs::create_dir_all(root.join("pods")).unwrap();
        fs::write(root.join("pods/0.log"), "x").unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        let link = |to: &Path, name: &str| {
            std::os::unix::fs::symlink(to, root.join(name)).unwrap();
        };
        link(&root.join("pods/0.log"), "inside");
        link(Path::new("../secret"), "outside");
        link(Path::new("/etc"), "etc");
        let find = |path: &str| find(&root, Path::new(path));
        assert!(matches!(find("pods/0.log"), Ok(Found::File(_, 1))));
        assert!(matches!(find("inside"), Ok(Found::File(_, 1))));
        assert!(matches!(find(""), Ok(Found::Dir(names)) if names.contains(&"pods/".to_owned())));
        for path in ["outside", "etc/passwd"] {
            let error = find(path).err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{path}");
        }
        for path in ["../secret", "/etc/passwd", "none"] {
            assert!(find(path).is_err(), "{path}");
        }
    }
}
