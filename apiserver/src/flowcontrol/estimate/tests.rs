use http::{Method, Uri};

use super::*;

const GATES: Gates = Gates {
    by_size: true,
    watch_list: true,
};

fn read(method: &Method, path: &str) -> (RequestInfo, Query) {
    let uri: Uri = path.parse().unwrap();
    let query = Query::parse(&uri);
    (RequestInfo::read(method, &uri, &query).unwrap(), query)
}

fn seats(path: &str, stored: Option<Stored>, most: Option<u32>, gates: Gates) -> u32 {
    let (info, query) = read(&Method::GET, path);
    list(&info, &query, stored, most, gates).seats
}

#[test]
fn only_lists_watches_with_state_and_writes_are_estimated() {
    let cases = [
        (Method::GET, "/api/v1/pods", How::List),
        (Method::GET, "/api/v1/namespaces/a/pods/x", How::One),
        (Method::GET, "/api/v1/pods?watch=1", How::List),
        (
            Method::GET,
            "/api/v1/pods?watch=1&resourceVersion=0",
            How::List,
        ),
        (
            Method::GET,
            "/api/v1/pods?watch=1&resourceVersion=7",
            How::One,
        ),
        (
            Method::GET,
            "/api/v1/pods?watch=1&resourceVersion=7&sendInitialEvents=true",
            How::List,
        ),
        (Method::POST, "/api/v1/namespaces/a/pods", How::Write),
        (Method::PUT, "/api/v1/namespaces/a/pods/x", How::Write),
        (Method::PATCH, "/api/v1/namespaces/a/pods/x", How::Write),
        (Method::DELETE, "/api/v1/namespaces/a/pods/x", How::Write),
        (Method::DELETE, "/api/v1/namespaces/a/pods", How::One),
        (
            Method::POST,
            "/api/v1/namespaces/a/serviceaccounts/x/token",
            How::One,
        ),
        (Method::GET, "/healthz", How::One),
    ];
    for (method, path, expected) in cases {
        let (info, query) = read(&method, path);
        assert_eq!(how(&info, &query, GATES), expected, "{method} {path}");
    }
    let (info, query) = read(&Method::GET, "/api/v1/pods?watch=1");
    let gates = Gates {
        watch_list: false,
        ..GATES
    };
    assert_eq!(how(&info, &query, gates), How::One);
}

#[test]
fn lists_cost_what_they_hold_in_memory() {
    // 10,000 objects of 1 kB.
    let stored = Some(Stored {
        objects: 10_000,
        bytes: 10_000_000,
    });
    let cases = [
        ("/api/v1/pods", 10),
        ("/api/v1/pods?resourceVersion=0", 10),
        ("/api/v1/pods?limit=500", 5),
        ("/api/v1/pods?limit=500&resourceVersion=0", 5),
        // Further pages and lists at a version do not come from upstream's cache.
        ("/api/v1/pods?limit=5000&continue=x", 50),
        ("/api/v1/pods?limit=500&continue=x&labelSelector=a%3Db", 50),
        (
            "/api/v1/pods?resourceVersion=7&resourceVersionMatch=Exact",
            100,
        ),
        ("/api/v1/pods?limit=5000&resourceVersion=7", 50),
        (
            "/api/v1/pods?resourceVersion=7&resourceVersionMatch=NotOlderThan",
            10,
        ),
        // One object by its name, or a limit that nobody can read.
        ("/api/v1/pods?fieldSelector=metadata.name%3Dx", 1),
        ("/api/v1/pods?limit=many", 100),
        ("/api/v1/pods?watch=1&limit=100&continue=x", 1),
    ];
    for (path, expected) in cases {
        assert_eq!(seats(path, stored, None, GATES), expected, "{path}");
    }
    let nothing = Some(Stored {
        objects: 0,
        bytes: 0,
    });
    assert_eq!(seats("/api/v1/pods", nothing, None, GATES), 1);
    assert_eq!(seats("/api/v1/pods", None, None, GATES), 1);
    let unknown = Some(Stored::UNKNOWN);
    assert_eq!(seats("/api/v1/pods", unknown, None, GATES), 10);
    assert_eq!(seats("/api/v1/pods?continue=x", unknown, None, GATES), 100);
    // Objects without a size are as large as they can be.
    let unsized_ = Some(Stored {
        objects: 2,
        bytes: 0,
    });
    assert_eq!(seats("/api/v1/pods?continue=x", unsized_, None, GATES), 30);
}

#[test]
fn a_level_bounds_the_seats_of_one_request() {
    let stored = Some(Stored {
        objects: 10_000,
        bytes: 10_000_000,
    });
    assert_eq!(seats("/api/v1/pods", stored, Some(4), GATES), 4);
    assert_eq!(
        seats("/api/v1/pods?continue=x", stored, Some(400), GATES),
        100
    );
    assert_eq!(write(1000, Some(4)).width(), 4);
}

#[test]
fn without_the_gate_objects_are_counted() {
    let gates = Gates {
        by_size: false,
        ..GATES
    };
    let stored = Some(Stored {
        objects: 450,
        bytes: 1,
    });
    let cases = [
        ("/api/v1/pods", 5),
        ("/api/v1/pods?limit=10", 5),
        ("/api/v1/pods?limit=60&continue=x", 2),
        ("/api/v1/pods?limit=10&continue=x&labelSelector=a", 5),
        ("/api/v1/pods?continue=x", 9),
        ("/api/v1/pods?continue=x&labelSelector=a", 9),
        ("/api/v1/pods?fieldSelector=metadata.name%3Dx", 1),
    ];
    for (path, expected) in cases {
        assert_eq!(seats(path, stored, None, gates), expected, "{path}");
    }
    let many = Some(Stored {
        objects: 100_000,
        bytes: 1,
    });
    assert_eq!(seats("/api/v1/pods", many, None, gates), 10);
}

#[test]
fn writes_keep_seats_for_watches() {
    assert_eq!(write(9, None), Work::of(1));
    let some = write(25, None);
    assert_eq!((some.seats, some.last_seats, some.last), (1, 3, TELLING));
    // As much work on fewer seats, for longer.
    let many = write(1000, None);
    assert_eq!((many.last_seats, many.last), (10, 10 * TELLING));
    assert_eq!(many.after(), SeatTime::new(100, TELLING));
}
