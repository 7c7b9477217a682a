//! Where in the bytes it receives a connection is.

use super::stream::Key;

/// Where in the received bytes a connection is.
#[derive(Debug)]
pub(super) struct Input {
    /// What of the client's preface is still to come.
    pub preface: &'static [u8],
    /// The peer's settings came, which must be first.
    pub settled: bool,
    /// The frame of data that is being received.
    pub data: Option<Data>,
    pub block: Option<Block>,
    /// The fragments of a block that is not whole.
    pub fragments: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Data {
    /// Whose it is; `None`: it is ignored.
    pub key: Option<Key>,
    pub left: usize,
    pub padding: usize,
    pub end_stream: bool,
}

/// A field block that `CONTINUATION` frames are still to follow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub stream: u32,
    pub end_stream: bool,
    pub depends_on_itself: bool,
}

impl Input {
    /// `preface` is what the peer begins with.
    pub fn new(preface: &'static [u8]) -> Self {
        Self {
            preface,
            settled: false,
            data: None,
            block: None,
            fragments: Vec::new(),
        }
    }

    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// What is still to come of a frame for this stream is ignored.
    pub fn forget(&mut self, key: Key) {
        if let Some(data) = &mut self.data
            && data.key == Some(key)
        {
            data.key = None;
        }
    }
}
