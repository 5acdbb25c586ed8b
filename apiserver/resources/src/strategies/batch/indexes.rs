//! Indexes of pods in a text: `0,2-5,7`.

/// How many indexes a text names.
///
/// # Errors
/// If it is no list of indexes below `completions` in rising order.
pub(super) fn count(text: &str, completions: i64) -> Result<i64, String> {
    let (mut last, mut total) = (None, 0_i64);
    if text.is_empty() {
        return Ok(0);
    }
    for part in text.split(',') {
        let (first, end) = interval(part, completions)?;
        if let Some(last) = last
            && last >= first
        {
            return Err(format!(
                "non-increasing order, previous: {last}, current: {first}"
            ));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let mut limits = text.split('-');
    let (first, end) = (limits.next().unwrap_or_default(), limits.next());
    if limits.next().is_some() {
        return Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            proto::path::quote(text)
        ));
    }
    let number = |text: &str| -> Result<i64, String> {
        let shown = proto::path::quote(text);
        let number = text.parse::<i64>();
        let number =
            number.map_err(|_| format!("cannot convert string to integer for index: {shown}"))?;
        if number >= completions {
            return Err(format!("too large index: {shown}"));
        }
        Ok(number)
    };
    let first = number(first)?;
    let Some(end) = end else {
        return Ok((first, first));
    };
    let end = number(end)?;
    if first >= end {
        return Err(format!(
            "non-increasing order, previous: {first}, current: {end}"
        ));
    }
    Ok((first, end))
}

/// The first index that two texts both name; parts that are none are left out.
#[must_use]
pub(super) fn overlap(a: &str, b: &str, completions: i64) -> Option<i64> {
    let parts = |text: &str| -> Vec<(i64, i64)> {
        let parts = text.split(',');
        parts
            .filter_map(|part| interval(part, completions).ok())
            .collect()
    };
    let (a, b) = (parts(a), parts(b));
    let (mut i, mut j) = (0, 0);
    while let (Some(&(a_first, a_end)), Some(&(b_first, b_end))) = (a.get(i), b.get(j)) {
        if a_first <= b_end && b_first <= a_end {
            return Some(a_first.max(b_first));
        }
        if a_first <= b_first {
            i += 1;
        } else {
            j += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_rise_and_are_below_the_number_of_pods() {
        for (text, is) in [
            ("", Ok(0)),
            ("0", Ok(1)),
            ("0,2-4,6", Ok(5)),
            (
                "a",
                Err("cannot convert string to integer for index: \"a\""),
            ),
            (
                "1-b",
                Err("cannot convert string to integer for index: \"b\""),
            ),
            ("9", Err("too large index: \"9\"")),
            ("0-8", Err("too large index: \"8\"")),
            ("3-3", Err("non-increasing order, previous: 3, current: 3")),
            (
                "0-3,3",
                Err("non-increasing order, previous: 3, current: 3"),
            ),
            (
                "1-2-3",
                Err(
                    "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
                ),
            ),
        ] {
            assert_eq!(count(text, 8), is.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn an_index_is_of_one_list_only() {
        assert_eq!(overlap("0,2-4", "1,5", 8), None);
        assert_eq!(overlap("0,2-4", "1,x,3-5", 8), Some(3));
        assert_eq!(overlap("", "1", 8), None);
    }
}
