//! Which traces are recorded: what the parent says, else a share of them (`sdk/trace/sampling.go`).

use super::context::SpanContext;
use crate::config::EVERY_TRACE;

/// The share of the traces that begin here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sampler {
    /// Traces whose ids, as far as this looks at them, are below it. Others that sample by the same rate
    /// choose the same ones.
    below: u64,
}

/// Of the last half of an id all bits but one are looked at.
const ALL: u64 = 1 << 63;

impl Sampler {
    /// So many in a million, none if nothing is said.
    pub(super) fn new(rate_per_million: Option<i32>) -> Self {
        let rate = rate_per_million.unwrap_or(0).clamp(0, EVERY_TRACE);
        let below = u128::from(ALL) * u128::from(rate.unsigned_abs())
            / u128::from(EVERY_TRACE.unsigned_abs());
        Self {
            below: u64::try_from(below).unwrap_or(ALL),
        }
    }

    /// The span of a request, of which its parent decided, or nobody yet.
    pub(super) fn span(self, parent: Option<&SpanContext>) -> SpanContext {
        if let Some(parent) = parent {
            return parent.child();
        }
        let root = SpanContext::root();
        root.sampled(self.takes(&root.trace))
    }

    fn takes(self, trace: &[u8; 16]) -> bool {
        let mut half = [0; 8];
        half.copy_from_slice(&trace[8..]);
        u64::from_be_bytes(half) >> 1 < self.below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(half: u64) -> [u8; 16] {
        let mut trace = [0xff; 16];
        trace[8..].copy_from_slice(&half.to_be_bytes());
        trace
    }

    #[test]
    fn a_rate_is_a_share_of_all_ids() {
        for (rate, first_not_taken) in [
            (Some(1), 18_446_744_073_708),
            (Some(500_000), 1 << 63),
            (Some(250_000), 1 << 62),
        ] {
            let sampler = Sampler::new(rate);
            assert!(sampler.takes(&trace(0)), "{rate:?}");
            assert!(sampler.takes(&trace(first_not_taken - 2)), "{rate:?}");
            assert!(!sampler.takes(&trace(first_not_taken)), "{rate:?}");
            assert!(!sampler.takes(&trace(u64::MAX)), "{rate:?}");
        }
        for (rate, taken) in [(None, false), (Some(0), false), (Some(1_000_000), true)] {
            for half in [0, 1, 1 << 63, u64::MAX] {
                assert_eq!(Sampler::new(rate).takes(&trace(half)), taken, "{rate:?}");
            }
        }
    }

    #[test]
    fn the_parent_decides_if_there_is_one() {
        let parent = SpanContext::root();
        for rate in [None, Some(1_000_000)] {
            for sampled in [false, true] {
                let parent = parent.sampled(sampled);
                let span = Sampler::new(rate).span(Some(&parent));
                assert_eq!(span.is_sampled(), sampled, "{rate:?}");
                assert_eq!(span.trace, parent.trace);
                assert_ne!(span.span, parent.span);
            }
        }
        assert!(Sampler::new(Some(1_000_000)).span(None).is_sampled());
        assert!(!Sampler::new(None).span(None).is_sampled());
    }
}
