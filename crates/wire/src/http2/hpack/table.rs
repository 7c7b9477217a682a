//! The fields that an index stands for: the static table, and the dynamic one (RFC 7541 §2.3).

use std::collections::VecDeque;

/// The size in bytes of a dynamic table unless settings say otherwise.
pub const DEFAULT_SIZE: usize = 4096;
/// What an entry counts for beyond its name and value (RFC 7541 §4.1).
pub const OVERHEAD: usize = 32;

/// The static table (RFC 7541 appendix A); its first index is 1.
#[rustfmt::skip]
pub const STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""), (b":method", b"GET"), (b":method", b"POST"), (b":path", b"/"),
    (b":path", b"/index.html"), (b":scheme", b"http"), (b":scheme", b"https"),
    (b":status", b"200"), (b":status", b"204"), (b":status", b"206"), (b":status", b"304"),
    (b":status", b"400"), (b":status", b"404"), (b":status", b"500"), (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"), (b"accept-language", b""), (b"accept-ranges", b""),
    (b"accept", b""), (b"access-control-allow-origin", b""), (b"age", b""), (b"allow", b""),
    (b"authorization", b""), (b"cache-control", b""), (b"content-disposition", b""),
    (b"content-encoding", b""), (b"content-language", b""), (b"content-length", b""),
    (b"content-location", b""), (b"content-range", b""), (b"content-type", b""), (b"cookie", b""),
    (b"date", b""), (b"etag", b""), (b"expect", b""), (b"expires", b""), (b"from", b""),
    (b"host", b""), (b"if-match", b""), (b"if-modified-since", b""), (b"if-none-match", b""),
    (b"if-range", b""), (b"if-unmodified-since", b""), (b"last-modified", b""), (b"link", b""),
    (b"location", b""), (b"max-forwards", b""), (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""), (b"range", b""), (b"referer", b""), (b"refresh", b""),
    (b"retry-after", b""), (b"server", b""), (b"set-cookie", b""),
    (b"strict-transport-security", b""), (b"transfer-encoding", b""), (b"user-agent", b""),
    (b"vary", b""), (b"via", b""), (b"www-authenticate", b""),
];

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Where its name begins, counted from the first byte that was ever stored.
    start: usize,
    name: usize,
    value: usize,
}

impl Entry {
    fn len(self) -> usize {
        self.name + self.value
    }
}

/// A dynamic table. All names and values are in one buffer, the oldest first.
#[derive(Debug)]
pub struct DynamicTable {
    bytes: Vec<u8>,
    /// Bytes ever taken off the front of `bytes`.
    dropped: usize,
    /// The newest entry first.
    entries: VecDeque<Entry>,
    size: usize,
    max_size: usize,
}

impl DynamicTable {
    /// An empty table of at most this size in bytes.
    pub fn new(max_size: usize) -> Self {
        Self {
            bytes: Vec::new(),
            dropped: 0,
            entries: VecDeque::new(),
            size: 0,
            max_size,
        }
    }

    /// Changes the largest size; entries that have no room any more go.
    pub fn resize(&mut self, max_size: usize) {
        self.max_size = max_size;
        self.evict(max_size);
    }

    /// Adds a field. One that is larger than the table empties it (RFC 7541 §4.4).
    pub fn insert(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + OVERHEAD;
        if size > self.max_size {
            self.evict(0);
            return;
        }
        self.evict(self.max_size - size);
        let start = self.dropped + self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.size += size;
        self.entries.push_front(Entry {
            start,
            name: name.len(),
            value: value.len(),
        });
    }

    fn evict(&mut self, room: usize) {
        let mut end = None;
        while self.size > room
            && let Some(entry) = self.entries.pop_back()
        {
            self.size -= entry.len() + OVERHEAD;
            end = Some(entry.start + entry.len());
        }
        // The bytes move only once in a table's length, so that an entry costs its own bytes.
        if let Some(end) = end
            && end - self.dropped > self.max_size
        {
            self.bytes.drain(..end - self.dropped);
            self.dropped = end;
        }
    }

    /// The field at a position, 0 being the newest.
    pub fn get(&self, position: usize) -> Option<(&[u8], &[u8])> {
        let entry = self.entries.get(position)?;
        let bytes = &self.bytes[entry.start - self.dropped..][..entry.len()];
        Some(bytes.split_at(entry.name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{DynamicTable, OVERHEAD};

    proptest! {
        /// Against a list of owned fields.
        #[test]
        fn entries_stay_while_they_have_room(
            steps in prop::collection::vec((0..90_usize, 0..90_usize, any::<u8>(), prop::option::of(0..400_usize)), 1..80),
        ) {
            let mut table = DynamicTable::new(300);
            let mut model: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            let mut max = 300;
            for (name, value, byte, resize) in steps {
                if let Some(size) = resize {
                    max = size;
                    table.resize(size);
                } else {
                    let field = (vec![byte; name], vec![!byte; value]);
                    table.insert(&field.0, &field.1);
                    model.insert(0, field);
                }
                let size = |fields: &[(Vec<u8>, Vec<u8>)]| -> usize {
                    fields.iter().map(|(name, value)| name.len() + value.len() + OVERHEAD).sum()
                };
                while size(&model) > max {
                    model.pop();
                }
                prop_assert!(table.bytes.len() <= 1000);
                for at in 0..=model.len() {
                    let expected = model.get(at).map(|(n, v)| (n.as_slice(), v.as_slice()));
                    prop_assert_eq!(table.get(at), expected);
                }
            }
        }
    }
}
