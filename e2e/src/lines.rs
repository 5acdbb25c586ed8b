//! Cuts a stream of bytes into lines.

#[derive(Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
    /// How much of the rest is known to hold no end.
    searched: usize,
}

impl Lines {
    /// The lines that these bytes complete, without their ends.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.rest.extend_from_slice(bytes);
        let mut lines = Vec::new();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &self.rest[self.searched..]) {
            let end = self.searched + end;
            lines.push(self.rest[start..end].to_vec());
            start = end + 1;
        }
        self.rest.drain(..start);
        self.searched = self.rest.len();
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_when_its_end_does() {
        let mut lines = Lines::default();
        assert!(lines.push(b"on").is_empty());
        assert_eq!(
            lines.push(b"e\ntwo\nth"),
            [b"one".to_vec(), b"two".to_vec()]
        );
        assert_eq!(lines.push(b"ree\n"), [b"three".to_vec()]);
    }

    #[test]
    fn a_long_line_may_come_in_many_pieces() {
        let mut lines = Lines::default();
        let pieces = (0..100).map(|_| lines.push(&[b'x'; 7]).len());
        assert_eq!(pieces.sum::<usize>(), 0);
        assert_eq!(lines.push(b"\ny\n"), [vec![b'x'; 700], b"y".to_vec()]);
    }
}
