//! Finds out, beside the h2 crate, which streams the other end has not worked on: `GOAWAY` names the
//! last one that it may have (RFC 9113 §6.8). The h2 crate tells streams that the connection is over
//! and not whether theirs is beyond that one, which decides whether a request may be sent again.
//! No I/O.

const HEADER: usize = 9;
const GOAWAY: u8 = 7;

/// Follows the frames that are received.
#[derive(Debug, Default)]
pub struct Watcher {
    /// A frame's header, and then the first bytes of `GOAWAY`'s payload.
    seen: [u8; HEADER + 4],
    have: usize,
    /// Bytes of the frame's payload that are not looked at.
    skip: usize,
}

impl Watcher {
    /// Looks at received bytes: the last stream that may have been worked on, where they say so.
    pub fn look(&mut self, mut bytes: &[u8]) -> Option<u32> {
        let mut last = None;
        while !bytes.is_empty() {
            if self.skip > 0 {
                let count = self.skip.min(bytes.len());
                self.skip -= count;
                bytes = &bytes[count..];
                continue;
            }
            let wanted = if self.have < HEADER {
                HEADER
            } else {
                HEADER + 4
            };
            let count = (wanted - self.have).min(bytes.len());
            self.seen[self.have..self.have + count].copy_from_slice(&bytes[..count]);
            self.have += count;
            bytes = &bytes[count..];
            if self.have < wanted {
                break;
            }
            let [high, middle, low, kind, ..] = self.seen;
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            if wanted == HEADER && kind == GOAWAY && length >= 4 {
                continue;
            }
            self.have = 0;
            self.skip = length;
            if wanted > HEADER {
                self.skip -= 4;
                let [.., a, b, c, d] = self.seen;
                let id = u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff;
                last = Some(last.map_or(id, |earlier: u32| earlier.min(id)));
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Watcher;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, 0, 0, 0, 0, 1]);
        frame.extend_from_slice(payload);
        frame
    }

    proptest! {
        #[test]
        fn the_last_stream_is_found_however_the_bytes_are_cut(
            before in prop::collection::vec((0..7_u8, prop::collection::vec(any::<u8>(), 0..40)), 0..5),
            last in 0..0x8000_0000_u32,
            debug in prop::collection::vec(any::<u8>(), 0..20),
            cuts in prop::collection::vec(1..30_usize, 1..20),
        ) {
            let mut bytes = Vec::new();
            for (kind, payload) in &before {
                bytes.extend(frame(*kind, payload));
            }
            let quiet = bytes.len();
            let mut payload = last.to_be_bytes().to_vec();
            payload.extend_from_slice(&[0, 0, 0, 0]);
            payload.extend(debug);
            bytes.extend(frame(7, &payload));
            let mut watcher = Watcher::default();
            let (mut at, mut found) = (0, None);
            for cut in cuts.iter().cycle() {
                if at == bytes.len() {
                    break;
                }
                let end = (at + cut).min(bytes.len());
                let told = watcher.look(&bytes[at..end]);
                prop_assert!(told.is_none() || end > quiet);
                found = found.or(told);
                at = end;
            }
            prop_assert_eq!(found, Some(last));
        }
    }
}
