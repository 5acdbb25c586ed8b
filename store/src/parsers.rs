//! Parsers that are private to this crate, as functions over bytes: for the fuzz targets and for nobody else.

use prost::Message;

use crate::etcd::pb;
use crate::line::assemble::Assembler;
use crate::token::Token;

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
