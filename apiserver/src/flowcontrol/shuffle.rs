//! Shuffle sharding: each flow is dealt the same few queues of many, so that a heavy flow shares all of
//! its queues with hardly any other.
//!
//! Upstream: `util/shufflesharding/dealer.go`.

/// The largest hand that can be dealt: more would need more bits than a hash has.
pub(super) const MOST_CARDS: usize = 15;
/// With no more bits than these used, the last card is nearly as even as the first.
const MOST_BITS: f64 = 60.0;
/// The largest deck.
const MOST_QUEUES: usize = 1 << 26;

/// Deals hands of a size from a deck of a size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Dealer {
    deck: usize,
    hand: usize,
}

impl Dealer {
    /// None if such hands cannot be dealt from 64 bits.
    #[must_use]
    pub(super) fn new(deck: usize, hand: usize) -> Option<Self> {
        let possible = (1..=MOST_QUEUES).contains(&deck) && (1..=deck).contains(&hand);
        let bits = || ((deck as f64).log2() * hand as f64).ceil();
        // A deck of one card needs no bits, however large the hand.
        (possible && hand <= MOST_CARDS && bits() <= MOST_BITS).then_some(Self { deck, hand })
    }

    /// The hand of a flow: different cards below the deck's size.
    pub(super) fn deal(&self, hash: u64, hand: &mut [usize; MOST_CARDS]) -> usize {
        // The digits of the hash in a falling base say which of the cards that are left is taken.
        let mut rest = hash;
        for i in 0..self.hand {
            let left = (self.deck - i) as u64;
            let mut card = (rest % left) as usize;
            rest /= left;
            // Counting over the cards that are gone, from the lowest.
            let mut gone = [0; MOST_CARDS];
            gone[..i].copy_from_slice(&hand[..i]);
            gone[..i].sort_unstable();
            for taken in &gone[..i] {
                card += usize::from(card >= *taken);
            }
            hand[i] = card;
        }
        self.hand
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn hand(dealer: Dealer, hash: u64) -> Vec<usize> {
        let mut cards = [0; MOST_CARDS];
        let n = dealer.deal(hash, &mut cards);
        cards[..n].to_vec()
    }

    #[test]
    fn hands_that_need_too_many_bits_are_refused() {
        assert!(Dealer::new(128, 6).is_some());
        assert!(Dealer::new(64, 10).is_some());
        assert!(Dealer::new(64, 11).is_none());
        assert!(Dealer::new(128, 9).is_none());
        assert!(Dealer::new(4, 5).is_none());
        assert!(Dealer::new(0, 0).is_none());
        assert!(Dealer::new(1, 1).is_some());
        assert!(Dealer::new((1 << 26) + 1, 1).is_none());
    }

    #[test]
    fn cards_of_a_hand_differ() {
        let dealer = Dealer::new(8, 6).unwrap();
        for hash in 0..50_000u64 {
            let mut cards = hand(dealer, hash.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            assert!(cards.iter().all(|c| *c < 8));
            cards.sort_unstable();
            cards.dedup();
            assert_eq!(cards.len(), 6, "{hash}");
        }
    }

    #[test]
    fn every_hand_is_as_likely_as_any_other() {
        // 6 * 5 * 4 hands, each dealt for one residue.
        let dealer = Dealer::new(6, 3).unwrap();
        let mut seen: HashMap<Vec<usize>, u32> = HashMap::new();
        for hash in 0..120 * 100 {
            *seen.entry(hand(dealer, hash)).or_default() += 1;
        }
        assert_eq!(seen.len(), 120);
        assert!(seen.values().all(|n| *n == 100));
    }
}
