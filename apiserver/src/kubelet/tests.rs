use super::*;

#[test]
fn only_addresses_that_can_be_a_pods_are_proxied_to() {
    for (text, global) in [
        ("10.0.0.1", true),
        ("192.168.1.1", true),
        ("fd00::1", true),
        ("127.0.0.1", false),
        ("::ffff:127.0.0.1", false),
        ("::1", false),
        ("169.254.169.254", false),
        ("fe80::1", false),
        ("224.0.0.1", false),
        ("0.0.0.0", false),
        ("255.255.255.255", false),
    ] {
        let ip: IpAddr = text.parse().expect("an address");
        assert_eq!(is_global_unicast(ip), global, "{text}");
    }
}

#[tokio::test]
async fn a_proxied_name_that_leads_to_the_host_itself_is_refused() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut target = Target {
        host: "localhost".into(),
        port,
        trust: Trust::Plain,
        name: None,
        global_only: true,
    };
    assert!(matches!(tcp(&target).await, Err(Error::NotAllowed)));
    target.global_only = false;
    target.host = "127.0.0.1".into();
    assert!(tcp(&target).await.is_ok());
}
