use std::convert::Infallible;

use http::HeaderValue;
use proptest::prelude::*;
use tower::{ServiceExt as _, service_fn};

use super::*;

fn resolver(header: ProxyHeader) -> ClientAddress {
    let trusted = ["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"].map(|network| network.parse().unwrap());
    ClientAddress::new(trusted, header)
}

fn headers(name: ProxyHeader, lines: &[&[u8]]) -> HeaderMap {
    lines.iter().map(|line| (name.name(), HeaderValue::from_bytes(line).unwrap())).collect()
}

fn check(header: ProxyHeader, peer: &str, lines: &[&str], client: &str) {
    let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
    let found = resolver(header).resolve(peer.parse().unwrap(), &headers(header, &lines));
    assert_eq!(
        found.to_string(),
        client,
        "{peer} with {:?}",
        lines.iter().map(|l| l.escape_ascii().to_string()).collect::<Vec<_>>()
    );
}

#[test]
fn x_forwarded_for_is_read_from_its_end() {
    for (peer, lines, client) in [
        // No proxy.
        ("192.0.2.1", &[][..], "192.0.2.1"),
        ("10.0.0.1", &[], "10.0.0.1"),
        // One proxy, two, and all of them ours.
        ("10.0.0.1", &["192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", &["192.0.2.1, 10.0.0.2"], "192.0.2.1"),
        ("10.0.0.1", &["192.0.2.1", "10.0.0.2"], "192.0.2.1"),
        ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        // Whoever is no proxy of ours may say what it likes.
        ("192.0.2.1", &["10.0.0.1"], "192.0.2.1"),
        ("192.0.2.1", &["198.51.100.1, 127.0.0.1"], "192.0.2.1"),
        // What the client brings along is behind what the proxy adds.
        ("10.0.0.1", &["127.0.0.1, 192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", &["198.51.100.1, 192.0.2.1, 10.0.0.2"], "192.0.2.1"),
        ("10.0.0.1", &["198.51.100.1", "192.0.2.1"], "192.0.2.1"),
        // IPv6, ports, brackets, white space, IPv4 in IPv6.
        ("fd00::1", &["2001:db8::7"], "2001:db8::7"),
        ("fd00::1", &["[2001:db8::7]:443"], "2001:db8::7"),
        ("fd00::1", &["[2001:db8::7]"], "2001:db8::7"),
        ("10.0.0.1", &["192.0.2.1:5678"], "192.0.2.1"),
        ("10.0.0.1", &[" \t192.0.2.1\t,10.0.0.2 "], "192.0.2.1"),
        ("::ffff:10.0.0.1", &["::ffff:192.0.2.1, ::ffff:10.9.9.9"], "192.0.2.1"),
        ("::ffff:192.0.2.1", &["198.51.100.1"], "192.0.2.1"),
        // Where the list makes no sense, whoever passed that on stands for it.
        ("10.0.0.1", &["192.0.2.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", &["192.0.2.1, nonsense, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", &["nonsense, 192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", &[""], "10.0.0.1"),
        ("10.0.0.1", &["192.0.2.1,"], "10.0.0.1"),
        ("10.0.0.1", &["unknown"], "10.0.0.1"),
        ("10.0.0.1", &["192.0.2"], "10.0.0.1"),
        ("10.0.0.1", &["192.0.2.1:99999"], "10.0.0.1"),
        ("10.0.0.1", &["192.0.2.001"], "10.0.0.1"),
        ("10.0.0.1", &["fe80::1%eth0"], "10.0.0.1"),
        ("10.0.0.1", &["\"192.0.2.1\""], "10.0.0.1"),
    ] {
        check(ProxyHeader::XForwardedFor, peer, lines, client);
    }
}

#[test]
fn forwarded_is_read_from_its_end() {
    for (peer, lines, client) in [
        ("10.0.0.1", &["for=192.0.2.1"][..], "192.0.2.1"),
        ("10.0.0.1", &["for=192.0.2.1;proto=https;by=10.0.0.1"], "192.0.2.1"),
        ("10.0.0.1", &["proto=https; For=\"192.0.2.1:47011\" , for=10.0.0.2"], "192.0.2.1"),
        ("10.0.0.1", &["for=192.0.2.1", "for=10.0.0.2"], "192.0.2.1"),
        ("10.0.0.1", &["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
        ("10.0.0.1", &["for=\"[2001:db8:cafe::17]\";host=\"a,b;c=\\\"d\""], "2001:db8:cafe::17"),
        ("192.0.2.1", &["for=10.0.0.1"], "192.0.2.1"),
        ("10.0.0.1", &["for=127.0.0.1, for=192.0.2.1"], "192.0.2.1"),
        // Those who do not tell.
        ("10.0.0.1", &["for=unknown"], "10.0.0.1"),
        ("10.0.0.1", &["for=192.0.2.1, for=_hidden, for=10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", &["for=192.0.2.1, proto=https"], "10.0.0.1"),
        // A quote that the client opens must not swallow what the proxy adds.
        ("10.0.0.1", &["for=198.51.100.1;x=\", for=192.0.2.1"], "10.0.0.1"),
        ("10.0.0.1", &["for=198.51.100.1;x=\", for=\"[2001:db8::1]\""], "10.0.0.1"),
        ("10.0.0.1", &["for=198.51.100.1;x=\"\\", "for=192.0.2.1"], "192.0.2.1"),
        // Against the grammar.
        ("10.0.0.1", &["192.0.2.1"], "10.0.0.1"),
        ("10.0.0.1", &["for=192.0.2.1;for=198.51.100.1"], "10.0.0.1"),
        ("10.0.0.1", &["for=2001:db8::1"], "10.0.0.1"),
        ("10.0.0.1", &["for=\"2001:db8::1\""], "10.0.0.1"),
        ("10.0.0.1", &["for="], "10.0.0.1"),
        ("10.0.0.1", &["for=192.0.2.1,"], "10.0.0.1"),
        ("10.0.0.1", &["for=192.0.2.1 for=198.51.100.1"], "10.0.0.1"),
        ("10.0.0.1", &[""], "10.0.0.1"),
    ] {
        check(ProxyHeader::Forwarded, peer, lines, client);
    }
}

#[test]
fn the_header_that_the_proxies_do_not_write_is_ignored() {
    let spoofed = headers(ProxyHeader::Forwarded, &[b"for=198.51.100.1"]);
    let peer = "10.0.0.1".parse().unwrap();
    assert_eq!(resolver(ProxyHeader::XForwardedFor).resolve(peer, &spoofed), peer);
}

#[test]
fn bytes_that_are_not_text_are_no_address() {
    for (header, line) in [(ProxyHeader::XForwardedFor, &b"192.0.2.1, \xff"[..]), (ProxyHeader::Forwarded, b"for=\xff")]
    {
        let peer = "10.0.0.1".parse().unwrap();
        assert_eq!(resolver(header).resolve(peer, &headers(header, &[line])), peer);
    }
}

#[tokio::test]
async fn the_layer_sets_what_is_known() {
    let service = resolver(ProxyHeader::XForwardedFor).layer(service_fn(|request: Request<()>| async move {
        Ok::<_, Infallible>(request.extensions().get::<ClientIp>().copied())
    }));
    let mut request = Request::new(());
    request.headers_mut().insert("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
    assert_eq!(service.clone().oneshot(request.clone()).await, Ok(None));
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([10, 0, 0, 1], 1))));
    assert_eq!(service.oneshot(request).await, Ok(Some(ClientIp("192.0.2.1".parse().unwrap()))));
}

/// Lines that are nearly right.
fn line() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "192.0.2.1",
        "10.0.0.7",
        "[fd00::1]",
        "2001:db8::1",
        "for=",
        "For=\"",
        "\"",
        "\\",
        ";",
        ",",
        ", ",
        "=",
        ":80",
        "unknown",
        "_x",
        "proto=http",
        " ",
    ]);
    prop_oneof!["[ -~]{0,40}", prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())]
}

proptest! {
    #[test]
    fn what_the_client_writes_never_changes_what_the_proxy_says(spoofed in prop::collection::vec(line(), 0..3)) {
        let peer = "10.0.0.1".parse().unwrap();
        for (header, own) in [(ProxyHeader::XForwardedFor, "192.0.2.99"), (ProxyHeader::Forwarded, "for=192.0.2.99")] {
            // In the same line, or in one of its own, as proxies do it.
            let mut lines: Vec<_> = spoofed.iter().map(|line| line.as_bytes()).collect();
            lines.push(own.as_bytes());
            let client = resolver(header).resolve(peer, &headers(header, &lines));
            prop_assert_eq!(client.to_string(), "192.0.2.99");
            let joined = spoofed.iter().map(|line| line.clone() + ",").collect::<String>() + own;
            let client = resolver(header).resolve(peer, &headers(header, &[joined.as_bytes()])).to_string();
            prop_assert!(client == "192.0.2.99" || client == "10.0.0.1" && header == ProxyHeader::Forwarded, "{}", client);
        }
    }

    #[test]
    fn an_untrusted_peer_is_the_client(lines in prop::collection::vec(line(), 0..3), peer: IpAddr) {
        for header in [ProxyHeader::XForwardedFor, ProxyHeader::Forwarded] {
            let resolver = resolver(header);
            prop_assume!(!resolver.is_trusted(peer.to_canonical()));
            let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
            prop_assert_eq!(resolver.resolve(peer, &headers(header, &lines)), peer.to_canonical());
        }
    }
}
