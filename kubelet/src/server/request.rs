//! Paths and queries as Go's `net/url` reads them.

use component::client::{path_decode, percent_decode};

/// The parts of a path, decoded; a trailing slash makes no part.
pub(super) fn segments(path: &str) -> Vec<String> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Vec::new();
    }
    path.split('/').map(path_decode).collect()
}

/// The parameters of a query, in their order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of<B>(request: &http::Request<B>) -> Self {
        Self::parse(request.uri().query().unwrap_or_default())
    }

    pub(super) fn parse(query: &str) -> Self {
        let pair = |text: &str| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (percent_decode(name), percent_decode(value))
        };
        Self(
            query
                .split('&')
                .filter(|text| !text.is_empty())
                .map(pair)
                .collect(),
        )
    }

    /// The first value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is `1`.
    pub(super) fn is_one(&self, name: &str) -> bool {
        self.get(name) == Some("1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_before_they_are_decoded() {
        assert_eq!(
            segments("/exec/ns/a%2Fb/c+d/"),
            ["exec", "ns", "a/b", "c+d"]
        );
        assert!(segments("/").is_empty());
    }

    #[test]
    fn parameters_may_come_again() {
        let query = Query::parse("command=echo&command=a+b%26c&tty=1&x");
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["echo", "a b&c"]);
        assert!(query.is_one("tty") && !query.is_one("x"));
        assert_eq!(query.get("x"), Some(""));
    }
}
