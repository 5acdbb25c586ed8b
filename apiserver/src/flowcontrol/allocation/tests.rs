use proptest::prelude::*;

use super::*;

fn wish(target: f64, low: f64, high: f64) -> Wish {
    Wish { target, low, high }
}

fn claim(nominal: u32, min: u32, used: u32, smoothed: f64) -> Claim {
    Claim {
        exempt: false,
        bounds: Bounds {
            nominal,
            min,
            max: nominal + 600,
        },
        demand: Demand {
            high_watermark: used,
            smoothed,
            ..Demand::default()
        },
        current: nominal,
    }
}

fn exempt(used: u32) -> Claim {
    let nothing = claim(0, 0, used, f64::from(used));
    Claim {
        exempt: true,
        ..nothing
    }
}

#[test]
fn bounds_follow_shares_and_percents() {
    let shares = |nominal, lendable, borrowing| Shares {
        nominal,
        lendable,
        borrowing,
    };
    // Upstream's defaults on 600 seats: 245 shares.
    let low = shares(100, 90, None).bounds(245.0, 600);
    assert_eq!((low.nominal, low.min, low.max), (245, 24, 845));
    let system = shares(30, 33, Some(10)).bounds(245.0, 600);
    assert_eq!((system.nominal, system.min, system.max), (74, 50, 81));
    assert_eq!(shares(0, 0, None).bounds(0.0, 600).nominal, 0);
}

#[test]
fn without_bounds_all_get_the_same_fraction() {
    let wishes = [wish(10.0, 0.0, 100.0), wish(30.0, 0.0, 100.0)];
    let (given, fair) = fair_allocation(60.0, &wishes).unwrap();
    assert!((given[0] - 15.0).abs() < 1e-9 && (given[1] - 45.0).abs() < 1e-9);
    assert!((fair - 1.5).abs() < 1e-9);
}

#[test]
fn who_meets_a_bound_leaves_the_rest_to_others() {
    let wishes = [
        wish(50.0, 0.0, 20.0),
        wish(50.0, 0.0, 100.0),
        wish(30.0, 30.0, 100.0),
    ];
    let (given, fair) = fair_allocation(90.0, &wishes).unwrap();
    assert!((given[0] - 20.0).abs() < 1e-9);
    assert!((given[1] - 40.0).abs() < 1e-9);
    assert!((given[2] - 30.0).abs() < 1e-9);
    assert!((fair - 0.8).abs() < 1e-9);
}

#[test]
fn impossible_sums_are_not_divided() {
    let wishes = [wish(5.0, 5.0, 10.0), wish(5.0, 5.0, 10.0)];
    assert!(fair_allocation(9.0, &wishes).is_none());
    assert!(fair_allocation(21.0, &wishes).is_none());
    assert_eq!(fair_allocation(10.0, &wishes).unwrap().0, [5.0, 5.0]);
    assert_eq!(fair_allocation(20.0, &wishes).unwrap().0, [10.0, 10.0]);
    assert!(fair_allocation(1.0, &[wish(1.0, 2.0, 3.0)]).is_none());
}

#[test]
fn busy_levels_borrow_from_idle_ones_and_get_back_what_they_use() {
    // 100 each, half of it lendable; one is busy.
    let (given, _) = divide(&[claim(100, 50, 100, 400.0), claim(100, 50, 0, 0.0)]);
    assert_eq!(given, [150, 50]);
    // The other one used its own: nothing is lent any more.
    let (given, _) = divide(&[claim(100, 50, 100, 400.0), claim(100, 50, 100, 400.0)]);
    assert_eq!(given, [100, 100]);
}

#[test]
fn exempt_requests_take_from_what_is_shared() {
    // 200 seats; 130 are taken by who asks nobody, so not even what was used is left.
    let claims = [
        claim(100, 20, 80, 80.0),
        claim(100, 20, 40, 40.0),
        exempt(130),
    ];
    let (given, fair) = divide(&claims);
    assert_eq!(given[2], 130);
    // 70 left: 40 are nobody's to lend, 30 of the 80 above are there.
    assert_eq!(given[..2], [20 + 23, 20 + 8]);
    assert!(fair.abs() < 1e-9);
    let claims = [
        claim(100, 20, 80, 80.0),
        claim(100, 20, 40, 40.0),
        exempt(500),
    ];
    assert_eq!(divide(&claims).0, [20, 20, 500]);
}

proptest! {
    /// The definition, checked on whatever comes.
    #[test]
    fn each_gets_the_fair_fraction_or_its_bound(
        parts in prop::collection::vec((0u32..100, 0u32..100, 0u32..100), 1..8),
        at in 0f64..=1.0,
    ) {
        let wishes: Vec<Wish> = parts
            .iter()
            .map(|(low, more, target)| {
                let low = f64::from(*low);
                wish(low + f64::from(*target), low, low + f64::from(*more))
            })
            .collect();
        let lowest: f64 = wishes.iter().map(|w| w.low).sum();
        let highest: f64 = wishes.iter().map(|w| w.high).sum();
        let sum = (lowest + at * (highest - lowest)).round().min(highest);
        let (given, fair) = fair_allocation(sum, &wishes).unwrap();
        prop_assert!((given.iter().sum::<f64>() - sum).abs() < 1e-6);
        for (wish, got) in wishes.iter().zip(&given) {
            let ideal = fair * wish.target();
            prop_assert!(*got >= wish.low - 1e-6 && *got <= wish.high + 1e-6);
            let is_ideal = (got - ideal).abs() < 1e-4;
            let is_low = (got - wish.low).abs() < 1e-6 && wish.low >= ideal - 1e-4;
            let is_high = (got - wish.high).abs() < 1e-6 && wish.high <= ideal + 1e-4;
            prop_assert!(is_ideal || is_low || is_high, "{wish:?} {got} {fair}");
        }
    }
}
