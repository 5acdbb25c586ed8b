//! As much of DER as it takes to find the parts of a certificate as they are written: what a signature
//! covers, and the identifiers of algorithms, which are compared byte by byte.

pub(super) const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// An element at the head of an input.
pub(super) struct Element<'a> {
    /// With its tag and length.
    pub(super) whole: &'a [u8],
    pub(super) contents: &'a [u8],
    /// What follows it.
    pub(super) rest: &'a [u8],
}

/// The element at the head, if it has this tag.
pub(super) fn element(input: &[u8], tag: u8) -> Option<Element<'_>> {
    let (&found, after) = input.split_first()?;
    let (&first, after) = after.split_first()?;
    let (length, after) = match first {
        0..=0x7f => (usize::from(first), after),
        0x81..=0x83 => {
            let (bytes, after) = after.split_at_checked(usize::from(first & 0x7f))?;
            let length = bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b));
            (length, after)
        }
        _ => return None,
    };
    let (contents, rest) = after.split_at_checked(length)?;
    let whole = &input[..input.len() - rest.len()];
    (found == tag).then_some(Element {
        whole,
        contents,
        rest,
    })
}

/// What is signed, how, and the signature.
pub(super) struct Signed<'a> {
    pub(super) message: &'a [u8],
    /// The contents of the `AlgorithmIdentifier`.
    pub(super) algorithm: &'a [u8],
    pub(super) signature: &'a [u8],
}

/// The parts of a certificate.
pub(super) fn signed(certificate: &[u8]) -> Option<Signed<'_>> {
    let certificate = element(certificate, SEQUENCE)?;
    let message = element(certificate.contents, SEQUENCE)?;
    let algorithm = element(message.rest, SEQUENCE)?;
    Some(Signed {
        message: message.whole,
        algorithm: algorithm.contents,
        signature: bits(algorithm.rest)?,
    })
}

/// The contents of the `AlgorithmIdentifier`, and the key itself, of a `SubjectPublicKeyInfo`.
pub(super) fn key(spki: &[u8]) -> Option<(&[u8], &[u8])> {
    let algorithm = element(element(spki, SEQUENCE)?.contents, SEQUENCE)?;
    Some((algorithm.contents, bits(algorithm.rest)?))
}

/// A string of whole bytes.
fn bits(input: &[u8]) -> Option<&[u8]> {
    match element(input, BIT_STRING)?.contents.split_first()? {
        (0, bytes) => Some(bytes),
        _ => None,
    }
}
