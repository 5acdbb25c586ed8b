use proptest::prelude::*;

use super::*;

fn rewriter() -> Rewriter {
    Rewriter::new(Links {
        prefix: "/p/proxy".into(),
        backend: "10.0.0.1:80".into(),
        host: "api".into(),
    })
}

fn whole(page: &str) -> String {
    let mut rewriter = rewriter();
    let mut out = rewriter.push(page.as_bytes());
    out.extend(rewriter.end());
    String::from_utf8(out).expect("text stays text")
}

#[test]
fn links_lead_through_the_proxy_and_the_rest_stays() {
    for (page, seen) in [
        (r#"<a href="/x">"#, r#"<a href="/p/proxy/x">"#),
        (
            r#"<A  HREF='/x' class=y>z</A>"#,
            r#"<A  HREF='/p/proxy/x' class=y>z</A>"#,
        ),
        ("<a href=/x>", "<a href=/p/proxy/x>"),
        (
            "<img src=/a/ usemap=/b>",
            "<img src=/p/proxy/a/ usemap=/p/proxy/b>",
        ),
        (
            r#"<a href="/x?a=1&amp;b=2&eacute;">"#,
            r#"<a href="/p/proxy/x?a=1&amp;b=2&eacute;">"#,
        ),
        (
            r#"<a href="http://10.0.0.1:80/x">"#,
            r#"<a href="/p/proxy/x">"#,
        ),
        (
            r#"<a href="http://example.com/x">"#,
            r#"<a href="http://example.com/x">"#,
        ),
        (r#"<a href="x" data-y="/z">"#, r#"<a href="x" data-y="/z">"#),
        (r#"<p cite="/x">/y < /z</p>"#, r#"<p cite="/x">/y < /z</p>"#),
        (
            r#"<br/><link rel=x href="/y"/>"#,
            r#"<br/><link rel=x href="/p/proxy/y"/>"#,
        ),
        (
            r#"<a title="a>b" href="/x">"#,
            r#"<a title="a>b" href="/p/proxy/x">"#,
        ),
        (
            r#"<!-- <a href="/x"> --><a href="/y">"#,
            r#"<!-- <a href="/x"> --><a href="/p/proxy/y">"#,
        ),
        (r#"<!--><a href="/y">"#, r#"<!--><a href="/p/proxy/y">"#),
        (
            r#"<!DOCTYPE html><a href="/y">"#,
            r#"<!DOCTYPE html><a href="/p/proxy/y">"#,
        ),
        (
            r#"<script src="/s">if (a<b) "<a href='/x'>"</script><a href="/y">"#,
            r#"<script src="/p/proxy/s">if (a<b) "<a href='/x'>"</script><a href="/p/proxy/y">"#,
        ),
        (
            r#"<title></title><a href="/y">"#,
            r#"<title></title><a href="/p/proxy/y">"#,
        ),
        (r#"<plaintext><a href="/y">"#, r#"<plaintext><a href="/y">"#),
        (r#"<a href="/torn"#, r#"<a href="/torn"#),
        (
            r#"</a href="/x" ><a href = "/y" >"#,
            r#"</a href="/x" ><a href = "/p/proxy/y" >"#,
        ),
    ] {
        assert_eq!(whole(page), seen, "{page}");
    }
}

#[test]
fn the_prefix_does_not_end_the_attribute() {
    let mut odd = Rewriter::new(Links {
        prefix: "/it's&/proxy".into(),
        backend: String::new(),
        host: String::new(),
    });
    let out = odd.push(b"<a href='/x&amp;y'>");
    assert_eq!(out, b"<a href='/it&#39;s&amp;/proxy/x&amp;y'>");
}

#[test]
fn a_tag_without_an_end_is_not_kept_for_ever() {
    let mut rewriter = rewriter();
    let mut sent = 0;
    let piece = vec![b'x'; 64 << 10];
    let mut got = rewriter.push(b"<a href=\"/").len();
    sent += 10;
    for _ in 0..100 {
        sent += piece.len();
        got += rewriter.push(&piece).len();
    }
    assert!(sent - got < 64 << 10, "{sent} {got}");
    assert_eq!(got + rewriter.end().len(), sent);
}

/// Pages with much that looks like tags.
fn page() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "<",
        ">",
        "/",
        "a",
        " href=",
        "\"",
        "'",
        "/x",
        "<a href=\"/x\">",
        "</a>",
        "<!--",
        "-->",
        "--!>",
        "<script>",
        "</script>",
        "<title",
        "=",
        " ",
        "<!",
        "?",
        "é",
        "</",
        "<img src=/y>",
        "<textarea>",
    ]);
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn it_does_not_matter_in_which_pieces_a_page_comes(page in page(), cuts in prop::collection::vec(0_usize..200, 0..8)) {
        let mut rewriter = rewriter();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(page.len())).collect();
        cuts.push(page.len());
        cuts.sort_unstable();
        let (mut out, mut at) = (Vec::new(), 0);
        for cut in cuts {
            out.extend(rewriter.push(&page.as_bytes()[at..cut]));
            at = cut;
        }
        out.extend(rewriter.end());
        prop_assert_eq!(String::from_utf8(out).expect("text stays text"), whole(&page));
    }

    #[test]
    fn a_page_without_links_of_the_backend_stays_as_it_is(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut rewriter = Rewriter::new(Links { prefix: "/".into(), backend: "b".into(), host: "h".into() });
        let mut out = rewriter.push(&bytes);
        out.extend(rewriter.end());
        prop_assert_eq!(out, bytes);
    }
}
