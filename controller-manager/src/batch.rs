//! Many equal writes, of which the first tell whether the rest makes sense.

use std::future::Future;

use futures::future::join_all;

/// The first batch; each next one is twice as large.
pub const INITIAL: usize = 1;

/// Calls `write` with 0 to `count - 1`, in batches that double as long as all of a batch succeed. Returns what was
/// written, and the first error; what was never tried is in neither.
///
/// Upstream's `slowStartBatch`: a quota or an admission plugin that refuses one of a thousand pods is asked once, not a
/// thousand times.
pub async fn slow_start<T, E, F>(count: usize, write: impl Fn(usize) -> F) -> (Vec<T>, Option<E>)
where
    F: Future<Output = Result<T, E>>,
{
    let mut written = Vec::new();
    let mut next = 0;
    let mut size = INITIAL;
    while next < count {
        let end = count.min(next + size);
        let mut first = None;
        for result in join_all((next..end).map(&write)).await {
            match result {
                Ok(value) => written.push(value),
                Err(e) => {
                    first.get_or_insert(e);
                }
            }
        }
        if first.is_some() {
            return (written, first);
        }
        next = end;
        size *= 2;
    }
    (written, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[tokio::test]
    async fn batches_double_until_one_fails() {
        let asked = RefCell::new(Vec::new());
        let (written, error) = slow_start(100, |n| {
            asked.borrow_mut().push(n);
            async move { if n == 5 { Err("quota") } else { Ok(n) } }
        })
        .await;
        assert_eq!(error, Some("quota"));
        assert_eq!(
            written,
            [0, 1, 2, 3, 4, 6],
            "the rest of its batch was sent"
        );
        assert_eq!(asked.borrow().len(), 7);
    }

    #[tokio::test]
    async fn all_are_written_when_none_fails() {
        let (written, error) = slow_start(10, |n| async move { Ok::<_, ()>(n) }).await;
        assert_eq!((written, error), ((0..10).collect(), None));
    }
}
