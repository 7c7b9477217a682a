//! The PROXY protocol's parser against the specification's examples and against its own encoder.

use std::net::SocketAddr;

use evenflow_wire::proxy_protocol::{
    AddressPair, MAX_V2, ProxyHeader, ProxyScan, push_v1, push_v2, scan,
};
use proptest::prelude::*;

fn ends(source: &str, destination: &str) -> AddressPair {
    AddressPair {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

fn complete(bytes: &[u8]) -> ProxyHeader {
    match scan(bytes) {
        Ok(ProxyScan::Complete(len, said)) if len == bytes.len() => said,
        other => panic!("{other:?} for {bytes:?}"),
    }
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, family]);
    header.extend((body.len() as u16).to_be_bytes());
    header.extend(body);
    header
}

const BLOCK: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];

#[test]
fn lines_of_version_1_are_read() {
    assert_eq!(
        complete(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"),
        ProxyHeader::Proxied(ends("192.0.2.7:56324", "198.51.100.1:443"))
    );
    assert_eq!(
        complete(b"PROXY TCP6 2001:db8::7 ::1 56324 443\r\n"),
        ProxyHeader::Proxied(ends("[2001:db8::7]:56324", "[::1]:443"))
    );
    assert_eq!(complete(b"PROXY UNKNOWN\r\n"), ProxyHeader::Unknown);
    assert_eq!(
        complete(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"),
        ProxyHeader::Unknown
    );
}

#[test]
fn lines_of_version_1_that_break_a_rule_are_refused() {
    for line in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"PROXX",
        b"proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\n",
        b"PROXY TCP4  192.0.2.7 198.51.100.1 56324 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 1\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 056 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 +56 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
        b"PROXY TCP4 2001:db8::7 ::1 1 1\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.1 1 1\r\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.1 1 1\r\n",
    ] {
        assert!(scan(line).is_err(), "{:?}", String::from_utf8_lossy(line));
    }
    let mut long = b"PROXY UNKNOWN ".to_vec();
    long.resize(107, b'x');
    assert!(scan(&long).is_err());
}

#[test]
fn headers_of_version_2_are_read() {
    let proxied = ProxyHeader::Proxied(ends("192.0.2.7:56324", "198.51.100.1:443"));
    assert_eq!(complete(&v2(1, 0x11, &BLOCK)), proxied);
    assert_eq!(complete(&v2(0, 0x11, &BLOCK)), ProxyHeader::Local);
    assert_eq!(complete(&v2(0, 0, &[])), ProxyHeader::Local);
    assert_eq!(complete(&v2(1, 0, &[1, 2, 3])), ProxyHeader::Unknown);
    assert_eq!(complete(&v2(1, 0x31, &[0; 216])), ProxyHeader::Unknown);
    let authority = [&BLOCK[..], &[0x02, 0, 3, b'a', b'.', b'b']].concat();
    assert_eq!(complete(&v2(1, 0x11, &authority)), proxied);
}

#[test]
fn headers_of_version_2_that_break_a_rule_are_refused() {
    let extension = |bytes: &[u8]| v2(1, 0x11, &[&BLOCK[..], bytes].concat());
    for header in [
        v2(2, 0x11, &BLOCK),
        v2(1, 0x13, &BLOCK),
        v2(1, 0x11, &BLOCK[..11]),
        v2(1, 0x21, &[0; 35]),
        v2(1, 0x31, &[0; 215]),
        v2(1, 0x11, &vec![0; MAX_V2 + 1]),
        extension(&[0x02]),
        extension(&[0x02, 0, 4, 1, 2, 3]),
        extension(&[0x03, 0, 3, 1, 2, 3]),
        extension(&[0x03, 0, 4, 1, 2, 3, 4]),
    ] {
        assert!(scan(&header).is_err(), "{header:?}");
    }
    let mut other = v2(1, 0x11, &BLOCK);
    other[12] = 0x31;
    assert!(scan(&other).is_err());
}

#[test]
fn the_checksum_is_checked() {
    let body = [&BLOCK[..], &[0x03, 0, 4, 0, 0, 0, 0, 0x04, 0, 0]].concat();
    let mut header = v2(1, 0x11, &body);
    // Computed apart from the engine, over the header with the four bytes at zero.
    let sum = reference_crc32c(&header);
    header[31..35].copy_from_slice(&sum.to_be_bytes());
    assert!(matches!(complete(&header), ProxyHeader::Proxied(_)));
    header[20] ^= 1;
    assert_eq!(scan(&header), Err("the header's checksum is wrong"));
    assert_eq!(reference_crc32c(b"123456789"), 0xe306_9283);
}

fn reference_crc32c(bytes: &[u8]) -> u32 {
    let mut table = [0_u32; 256];
    for (index, entry) in table.iter_mut().enumerate() {
        let mut value = index as u32;
        for _ in 0..8 {
            value = if value & 1 == 1 {
                0x82f6_3b78 ^ (value >> 1)
            } else {
                value >> 1
            };
        }
        *entry = value;
    }
    !bytes.iter().fold(!0, |crc, byte| {
        table[usize::from(crc as u8 ^ byte)] ^ (crc >> 8)
    })
}

proptest! {
    #[test]
    fn what_is_sent_is_read_byte_by_byte_without_taking_too_much(
        source: SocketAddr, destination: SocketAddr, version in 1..=2, rest: Vec<u8>,
    ) {
        // What cannot be told apart in a header: scopes and flow labels, and mapped addresses.
        let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let sent = AddressPair { source: plain(source), destination: plain(destination) };
        let mut header = Vec::new();
        if version == 1 { push_v1(&mut header, Some(sent)) } else { push_v2(&mut header, Some(sent)) }
        let length = header.len();
        header.extend(rest);
        let mut taken = 0;
        let said = loop {
            match scan(&header[..taken]).unwrap() {
                ProxyScan::Needs(more) => { prop_assert!(more > 0); taken += more; }
                ProxyScan::Complete(len, said) => { prop_assert_eq!(len, taken); break said; }
            }
            prop_assert!(taken <= length, "took bytes that are not the header's");
        };
        let ProxyHeader::Proxied(found) = said else { panic!("{said:?}") };
        prop_assert_eq!(plain(found.source), sent.source);
        prop_assert_eq!(plain(found.destination), sent.destination);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, signed: bool) {
        let mut header = if signed { b"\r\n\r\n\0\r\nQUIT\n".to_vec() } else { b"PROXY ".to_vec() };
        header.extend(bytes);
        match scan(&header) {
            Ok(ProxyScan::Complete(len, _)) => prop_assert!(len <= header.len()),
            Ok(ProxyScan::Needs(more)) => prop_assert!(more > 0),
            Err(_) => {}
        }
    }
}
