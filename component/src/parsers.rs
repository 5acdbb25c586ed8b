//! Parsers that are private to this crate, as functions over bytes: for the fuzz targets and for nobody else.

use rustls_pki_types::CertificateDer;

use crate::client::watch::frame::Frames;
use crate::serving::User;
use crate::serving::x509;

/// The events of a watch that comes in these pieces: types and objects.
///
/// # Errors
/// What is wrong with the first event that is none.
pub fn watch_events(protobuf: bool, pieces: &[&[u8]]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut frames = Frames::new(protobuf);
    let mut events = Vec::new();
    for piece in pieces {
        frames.push(piece);
        while let Some(frame) = frames.next()? {
            let raw = frames.open(&frame)?;
            events.push((raw.kind.to_owned(), raw.object.to_vec()));
        }
    }
    Ok(events)
}

/// Whom a certificate names, if it can be read and names anybody.
#[must_use]
pub fn user_of(der: &[u8]) -> Option<User> {
    let cert = CertificateDer::from(der);
    let _ = x509::common_name(&cert);
    x509::user_of(&cert, true).ok()
}
