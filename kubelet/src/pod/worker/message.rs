//! What containers leave when they end: the termination message.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::Worker;
use crate::make::labels;
use crate::runtime::{ContainerState, ContainerStatus};

/// Bytes of one message.
const MAX: u64 = 4096;

/// Of a log that stands in for a message: bytes and lines.
const LOG_MAX: usize = 2048;
const LOG_LINES: usize = 80;

impl Worker {
    /// Reads the messages of containers that have ended since the last look; forgets those of
    /// containers that are gone.
    pub(super) async fn read_messages(&self, containers: &[ContainerStatus]) {
        let new: Vec<_> = {
            let mut memory = self.memory.lock();
            let messages = &mut memory.messages;
            messages.retain(|id, _| containers.iter().any(|c| c.id == *id));
            let ended = containers
                .iter()
                .filter(|c| c.state == ContainerState::Exited);
            ended
                .filter(|c| !messages.contains_key(&c.id))
                .cloned()
                .collect()
        };
        if new.is_empty() {
            return;
        }
        let read = move || {
            let read = new.into_iter().map(|status| {
                let message = message(&status);
                (status.id, message)
            });
            read.collect::<Vec<_>>()
        };
        if let Ok(read) = tokio::task::spawn_blocking(read).await {
            self.memory.lock().messages.extend(read);
        }
    }
}

fn message(status: &ContainerStatus) -> String {
    let known = labels::recover(&status.labels, &status.annotations);
    let path = Path::new("/").join(&known.termination_message_path);
    let mount = status.mounts.iter().find(|m| m.container_path == path);
    let mount = mount.filter(|_| !known.termination_message_path.is_empty());
    let from_log = known.termination_message_policy == "FallbackToLogsOnError"
        && status.exit_code != 0
        && status.started_at.is_some();
    let text = mount.map(|mount| tail(&mount.host_path));
    let text = match text {
        Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
            let path = mount
                .map(|m| m.host_path.display().to_string())
                .unwrap_or_default();
            return format!("Error on reading termination log {path}: {error}");
        }
        text => text.and_then(Result::ok).unwrap_or_default(),
    };
    if text.is_empty() && from_log {
        return status
            .log_path
            .as_deref()
            .map(last_lines)
            .unwrap_or_default();
    }
    text
}

/// The last bytes of a file that the container wrote: a regular one, whatever it made of it.
fn tail(path: &Path) -> std::io::Result<String> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Ok(String::new());
    }
    file.seek(SeekFrom::Start(meta.len().saturating_sub(MAX)))?;
    let mut bytes = Vec::new();
    file.take(MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines of a log in CRI's format, without their times.
fn last_lines(path: &Path) -> String {
    /// Each line carries a time, a stream and a tag.
    const OVERHEAD: u64 = 64 * LOG_LINES as u64;
    let read = || {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        let most = LOG_MAX as u64 + OVERHEAD;
        file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        std::io::Result::Ok((String::from_utf8_lossy(&bytes).into_owned(), length > most))
    };
    let Ok((text, cut)) = read() else {
        return String::new();
    };
    let mut lines: Vec<_> = text.lines().collect();
    if cut && !lines.is_empty() {
        lines.remove(0);
    }
    let skip = lines.len().saturating_sub(LOG_LINES);
    let mut message = String::new();
    for line in lines.iter().skip(skip) {
        let mut fields = line.splitn(4, ' ');
        let (tag, words) = (fields.nth(2), fields.next().unwrap_or_default());
        message.push_str(words);
        if tag == Some("F") {
            message.push('\n');
        }
    }
    let from = message.len().saturating_sub(LOG_MAX);
    let from = (from..=message.len()).find(|i| message.is_char_boundary(*i));
    message.split_off(from.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_stands_in_without_its_times() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = "2026-01-01T00:00:00Z stdout P Hel\n2026-01-01T00:00:00Z stdout F lo\n\
                   2026-01-01T00:00:01Z stderr F two words\n";
        std::fs::write(file.path(), log).unwrap();
        assert_eq!(last_lines(file.path()), "Hello\ntwo words\n");
    }

    #[test]
    fn of_a_long_log_the_end_counts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = |n: usize| {
            format!(
                "2026-01-01T00:00:00Z stdout F line {n} {}\n",
                "x".repeat(50)
            )
        };
        let log: String = (0..1000).map(line).collect();
        std::fs::write(file.path(), log).unwrap();
        let text = last_lines(file.path());
        assert!(
            text.len() <= LOG_MAX && text.contains("line 999 "),
            "{text}"
        );
    }

    #[test]
    fn a_message_that_is_no_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(tail(dir.path()).unwrap().is_empty());
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        assert!(tail(&dir.path().join("link")).is_err());
    }
}
