//! Keys on curves: which curves there are, and how files hold keys on them (SEC 1 in the form of RFC 5915, or PKCS #8).
//!
//! ring knows P-256 and P-384. P-521 ([`p521`]) is RustCrypto's.

pub mod p521;

/// A curve and what belongs to it (RFC 7518, section 3.4).
#[derive(PartialEq, Eq, Debug)]
pub struct Curve {
    /// As a JSON Web Key calls it.
    pub name: &'static str,
    /// The one algorithm that keys on it are for.
    pub algorithm: &'static str,
    /// A coordinate or a number, in bytes.
    pub size: usize,
    /// The content of its object identifier.
    oid: &'static [u8],
}

/// Those that upstream's signer of tokens takes (`pkg/serviceaccount/jwt.go`).
pub static CURVES: [Curve; 3] = [
    Curve {
        name: "P-256",
        algorithm: "ES256",
        size: 32,
        oid: &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
    },
    Curve {
        name: "P-384",
        algorithm: "ES384",
        size: 48,
        oid: &[0x2b, 0x81, 0x04, 0x00, 0x22],
    },
    Curve {
        name: "P-521",
        algorithm: "ES512",
        size: p521::SIZE,
        oid: &[0x2b, 0x81, 0x04, 0x00, 0x23],
    },
];

/// The curve that ring does not know.
pub static P521: &Curve = &CURVES[2];

/// `id-ecPublicKey` (RFC 5480).
const EC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// What is optional in a private key.
const PARAMETERS: u8 = 0xa0;
const PUBLIC_KEY: u8 = 0xa1;

impl Curve {
    /// The curve of this object identifier.
    #[must_use]
    pub fn of(oid: &[u8]) -> Option<&'static Self> {
        CURVES.iter().find(|curve| curve.oid == oid)
    }

    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        CURVES.iter().find(|curve| curve.name == name)
    }

    /// The subject public key info (RFC 5480) of a point.
    #[must_use]
    pub fn spki(&self, point: &[u8]) -> Vec<u8> {
        let algorithm = [element(OID, EC_KEY), element(OID, self.oid)].concat();
        spki(&element(SEQUENCE, &algorithm), point)
    }
}

/// A private key as a file holds it.
#[derive(PartialEq, Eq)]
pub struct Private {
    pub curve: &'static Curve,
    /// As long as the curve has it.
    pub number: Vec<u8>,
    /// The point of the public key, if it stands there, too.
    pub point: Option<Vec<u8>>,
}

impl Private {
    /// What stands in an `EC PRIVATE KEY` (RFC 5915).
    #[must_use]
    pub fn sec1(der: &[u8]) -> Option<Self> {
        Self::read(der, None)
    }

    /// What stands in a `PRIVATE KEY` (RFC 5958), if it is on a curve.
    #[must_use]
    pub fn pkcs8(der: &[u8]) -> Option<Self> {
        let mut body = Reader(Reader(der).take(SEQUENCE)?);
        body.take(INTEGER)?;
        let mut algorithm = Reader(body.take(SEQUENCE)?);
        if algorithm.take(OID)? != EC_KEY {
            return None;
        }
        let curve = Curve::of(algorithm.take(OID)?)?;
        Self::read(body.take(OCTET_STRING)?, Some(curve))
    }

    fn read(der: &[u8], curve: Option<&'static Curve>) -> Option<Self> {
        let mut body = Reader(Reader(der).take(SEQUENCE)?);
        if body.take(INTEGER)? != [1] {
            return None;
        }
        let given = body.take(OCTET_STRING)?;
        let named = body
            .take(PARAMETERS)
            .map(|content| Reader(content).take(OID).and_then(Curve::of));
        let curve = match (curve, named) {
            (Some(curve), _) => curve,
            (None, named) => named??,
        };
        // What stands before the bits: how many of the last byte do not count.
        let point = body
            .take(PUBLIC_KEY)
            .and_then(|content| Reader(content).take(BIT_STRING));
        let mut number = vec![0; curve.size.checked_sub(given.len())?];
        number.extend_from_slice(given);
        Some(Self {
            curve,
            number,
            point: point
                .and_then(|bits| bits.strip_prefix(&[0]))
                .map(<[u8]>::to_vec),
        })
    }
}

/// DER that is read element by element; what is shorter than it says, or longer than 64 KiB, is not read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The content of the next element, if it has this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_first()?;
        if *first != tag {
            return None;
        }
        let (length, rest) = match *rest {
            [length @ 0..=0x7f, ref rest @ ..] => (usize::from(length), rest),
            [0x81, length, ref rest @ ..] => (usize::from(length), rest),
            [0x82, high, low, ref rest @ ..] => ((usize::from(high) << 8) | usize::from(low), rest),
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(content)
    }
}

/// DER of one element, of less than 64 KiB.
fn element(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match body.len() {
        len @ 0..=127 => out.push(len as u8),
        len @ 128..=255 => out.extend([0x81, len as u8]),
        len => out.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    out.extend_from_slice(body);
    out
}

/// A subject public key info (RFC 5280) of an algorithm, which is DER, and a key.
#[must_use]
pub fn spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let bits = [&[0], key].concat();
    element(SEQUENCE, &[algorithm, &element(BIT_STRING, &bits)].concat())
}

#[cfg(test)]
mod tests;
