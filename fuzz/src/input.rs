//! How a target takes its input apart.

/// The bytes of an input, taken from the front. Nothing is refused: what is not there reads as zero, so that every
/// input means something.
#[derive(Clone, Copy)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Little-endian.
    pub fn number(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// One of a few things.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let i = if from.len() > 256 {
            self.number().into()
        } else {
            usize::from(self.byte())
        };
        from[i % from.len()]
    }

    /// Bytes whose number the input gives, at most 255.
    pub fn some(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        head
    }

    /// All that is left.
    #[must_use]
    pub const fn rest(self) -> &'a [u8] {
        self.0
    }

    /// What is left, in parts. A byte that no text has stands between them, so that mutations of one part leave the
    /// others alone.
    #[must_use]
    pub fn parts<const N: usize>(self) -> [&'a [u8]; N] {
        let mut parts = self.0.splitn(N, |b| *b == SEPARATOR);
        std::array::from_fn(|_| parts.next().unwrap_or_default())
    }
}

/// What stands between the parts of an input.
pub(crate) const SEPARATOR: u8 = 0xff;

/// The input that reads as a choice (see [`Input::number`]) and parts.
#[must_use]
pub(crate) fn join(choice: usize, parts: &[&[u8]]) -> Vec<u8> {
    let mut input = u16::try_from(choice)
        .unwrap_or_default()
        .to_le_bytes()
        .to_vec();
    input.extend(parts.join(&SEPARATOR));
    input
}
