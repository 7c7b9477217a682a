//! Client hellos lead to pools.

use evenflow_rules::passthrough::Passthrough;
use evenflow_wire::client_hello::ClientHello;

fn hello(name: Option<&str>, alpn: &[&str]) -> ClientHello {
    ClientHello {
        server_name: name.map(str::to_owned),
        alpn: alpn.iter().map(|name| name.as_bytes().to_vec()).collect(),
    }
}

#[test]
fn the_most_specific_rule_takes_a_client() {
    let mut rules = Passthrough::default();
    for (name, alpn, pool) in [
        ("*", &[][..], 0),
        ("*.example.org", &[], 1),
        ("*.db.example.org", &[], 2),
        ("a.db.example.org", &[], 3),
        ("a.db.example.org", &["h2"], 4),
        ("only.test", &["acme-tls/1"], 5),
    ] {
        let alpn: Vec<String> = alpn.iter().map(|name: &&str| (*name).to_owned()).collect();
        assert!(rules.add(name, &alpn, pool));
    }
    for (name, alpn, pool) in [
        (None, &[][..], 0),
        (Some("example.org"), &[], 0),
        (Some("b.example.org"), &[], 1),
        (Some("c.b.example.org"), &[], 1),
        (Some("b.db.example.org"), &["h2"], 2),
        (Some("a.db.example.org"), &["http/1.1"], 3),
        (Some("a.db.example.org"), &["http/1.1", "h2"], 4),
        (Some("only.test"), &["acme-tls/1"], 5),
        (Some("only.test"), &["h2"], 0),
    ] {
        assert_eq!(
            rules.pool(&hello(name, alpn)),
            Some(pool),
            "{name:?} {alpn:?}"
        );
    }
    assert!(!rules.add("*.example.org", &[], 9), "the same twice");
    assert_eq!(Passthrough::default().pool(&hello(Some("a"), &[])), None);
}
