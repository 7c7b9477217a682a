//! Client hellos: read as they are, in pieces and records, or refused.

use std::sync::Arc;

use evenflow_wire::client_hello::{ClientHello, MAX_BYTES, parse};
use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// What a real client says first.
fn said(name: &str, alpn: &[&str]) -> Vec<u8> {
    let mut config = ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn hello(name: Option<&str>, alpn: &[&str]) -> ClientHello {
    ClientHello {
        server_name: name.map(str::to_owned),
        alpn: alpn.iter().map(|name| name.as_bytes().to_vec()).collect(),
    }
}

/// The same message in records of so many bytes.
fn in_records(bytes: &[u8], size: usize) -> Vec<u8> {
    bytes[5..]
        .chunks(size)
        .flat_map(|part| [&[22, 3, 1], &(part.len() as u16).to_be_bytes()[..], part].concat())
        .collect()
}

#[test]
fn a_real_client_is_understood_in_whatever_pieces() {
    let bytes = said("Db.Example.org", &["h2", "http/1.1"]);
    let expected = hello(Some("db.example.org"), &["h2", "http/1.1"]);
    assert_eq!(parse(&bytes), Ok(Some(expected.clone())));
    for end in 0..bytes.len() {
        assert_eq!(parse(&bytes[..end]), Ok(None), "{end}");
    }
    for size in [1, 7, 100] {
        assert_eq!(parse(&in_records(&bytes, size)), Ok(Some(expected.clone())));
    }
    assert_eq!(parse(&said("192.0.2.1", &[])), Ok(Some(hello(None, &[]))));
}

#[test]
fn what_is_no_client_hello_is_refused() {
    let good = said("a.test", &[]);
    let mut server_hello = good.clone();
    server_hello[5] = 2;
    let mut empty_record = good.clone();
    empty_record[3..5].copy_from_slice(&[0, 0]);
    let mut too_long = good.clone();
    too_long[6] = 1;
    let mut cut = good.clone();
    cut[5 + 4 + 2 + 32] = 255;
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"G",
        &[22, 2, 0],
        &server_hello,
        &empty_record,
        &too_long,
        &cut[..],
    ] {
        assert!(parse(bytes).is_err(), "{bytes:?}");
    }
    let endless = [22, 3, 1, 0, 1, 1].repeat(MAX_BYTES);
    assert!(parse(&endless).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let framed = [&[22, 3, 1], &(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
        let _ = parse(&bytes);
        let _ = parse(&framed);
        let size = (bytes.len() as u32).to_be_bytes();
        let message = [&[1][..], &size[1..], &bytes].concat();
        let _ = parse(&in_records(&[&[0; 5], &message[..]].concat(), 50));
    }
}
