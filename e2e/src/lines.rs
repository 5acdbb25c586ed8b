//! Cuts a stream of bytes into lines.

#[derive(Default)]
pub(crate) struct Lines(Vec<u8>);

impl Lines {
    /// The lines that these bytes complete, without their ends.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.0.extend_from_slice(bytes);
        let mut lines = Vec::new();
        let mut start = 0;
        while let Some(end) = self.0[start..].iter().position(|byte| *byte == b'\n') {
            lines.push(self.0[start..start + end].to_vec());
            start += end + 1;
        }
        self.0.drain(..start);
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
}
