//! Parsers that are private to this crate, as functions over bytes: for the fuzz targets and for nobody else.

use prost::Message;
use rustls::pki_types::{CertificateDer, UnixTime};

use crate::etcd::pb;
use crate::line::assemble::Assembler;
use crate::token::Token;
use crate::trust::{Roots, Usage};

/// Whether a certificate is believed that nobody vouches for.
#[must_use]
pub fn is_believed(der: &[u8]) -> bool {
    let der = CertificateDer::from(der);
    let chain = [der.clone(), der.clone()];
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000));
    let mut own = Roots::default();
    if own.add(der).is_ok() {
        // That may be: it is trusted itself. How it is looked at is what counts.
        let _ = own.verify(&chain, Usage::Client, None, now);
    }
    let nobody = Roots::default();
    nobody.verify(&chain, Usage::Client, None, now).is_ok()
}

/// What a continue token says, and the token that says so.
#[must_use]
pub fn continue_token(text: &str) -> Option<(Option<i64>, String, String)> {
    let token = Token::decode(text).ok()?;
    let again = token.encode();
    Some((token.revision, token.start, again))
}

/// The last revision that encoded responses to a watch make whole, and how many events there were; none if one is no
/// response or they are out of order.
#[must_use]
pub fn watch_responses(responses: &[&[u8]], applied: i64) -> Option<(i64, usize)> {
    let mut assembler = Assembler::new(applied, true);
    let (mut last, mut events) = (applied, 0);
    for response in responses {
        let response = pb::WatchResponse::decode(*response).ok()?;
        if let Some(whole) = assembler.push(response).ok()? {
            (last, events) = (whole.applied, events + whole.events.len());
        }
    }
    Some((last, events))
}

/// How many keys the chunks of a streamed range hold.
#[must_use]
pub fn range_chunks(chunks: &[&[u8]]) -> Option<usize> {
    let chunks = chunks
        .iter()
        .map(|chunk| pb::RangeStreamResponse::decode(*chunk));
    let chunks = chunks.collect::<Result<Vec<_>, _>>().ok()?;
    Some(
        chunks
            .into_iter()
            .filter_map(|c| c.range_response)
            .map(|r| r.kvs.len())
            .sum(),
    )
}
