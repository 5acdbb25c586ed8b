//! Lists of CPUs as the kernel writes them: `0-3,8`.

use std::collections::BTreeSet;

/// Beyond what any machine has: a list must not make us count to four billion.
const MOST: u32 = 1 << 16;

/// Reads a list.
///
/// # Errors
/// In words that name the part that is wrong.
pub fn parse(list: &str) -> Result<BTreeSet<u32>, String> {
    let mut cpus = BTreeSet::new();
    for part in list.trim().split(',').filter(|p| !p.is_empty()) {
        let number = |text: &str| {
            text.trim()
                .parse::<u32>()
                .ok()
                .filter(|n| *n < MOST)
                .ok_or_else(|| format!("invalid CPU {part:?}"))
        };
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(format!("invalid range {part:?} ({first} > {last})"));
        }
        cpus.extend(first..=last);
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_single_cpus_add_up() {
        assert_eq!(parse("0-2,5,1").unwrap(), [0, 1, 2, 5].into());
        assert_eq!(parse("\n").unwrap(), [].into());
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for bad in ["a", "3-1", "1-", "-", "0-4000000000"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
