//! The part of a request that something is chosen or counted by, and its hash.

use std::net::IpAddr;

use evenflow_wire::http1::head::RequestHead;

use crate::plan::RequestKey;

/// A hash of the part of a request that `key` names. The same in every process and on every
/// machine, so that several balancers send one client to one endpoint.
pub fn hash_key(
    key: &RequestKey,
    head: Option<(&RequestHead, &[u8])>,
    client: Option<IpAddr>,
) -> u64 {
    match (key, head) {
        (RequestKey::Random, _) => fastrand::u64(..),
        (RequestKey::ClientIp, _) => match client {
            Some(IpAddr::V4(ip)) => hash(&ip.octets()),
            Some(IpAddr::V6(ip)) => hash(&ip.octets()[..8]),
            None => 0,
        },
        (_, Some((head, base))) => hash(key_bytes(key, head, base).unwrap_or_default()),
        _ => 0,
    }
}

/// The bytes of a request that `key` names, where it names bytes.
pub fn key_bytes<'a>(key: &RequestKey, head: &RequestHead, base: &'a [u8]) -> Option<&'a [u8]> {
    match key {
        RequestKey::Header(name) => head
            .fields
            .iter()
            .find(|field| field.name.get(base).eq_ignore_ascii_case(name.as_bytes()))
            .map(|field| field.value.get(base)),
        RequestKey::Cookie(name) => head
            .fields
            .iter()
            .filter(|field| field.name.get(base).eq_ignore_ascii_case(b"cookie"))
            .find_map(|field| pair(field.value.get(base), b';', name.as_bytes())),
        RequestKey::Query(name) => pair(head.query(base), b'&', name.as_bytes()),
        RequestKey::Path => Some(head.path(base)),
        RequestKey::ClientIp | RequestKey::Random | RequestKey::All | RequestKey::Route => None,
    }
}

fn pair<'a>(text: &'a [u8], separator: u8, name: &[u8]) -> Option<&'a [u8]> {
    text.split(|&byte| byte == separator).find_map(|part| {
        let part = part.trim_ascii();
        let rest = part.strip_prefix(name)?;
        rest.strip_prefix(b"=")
    })
}

/// FNV-1a, finished by the mixer of `SplitMix64` so that neighbouring addresses land far apart.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in bytes {
        sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    sum = (sum ^ sum >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    sum = (sum ^ sum >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    sum ^ sum >> 31
}
