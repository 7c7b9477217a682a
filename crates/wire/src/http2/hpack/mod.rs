//! Header compression (HPACK, RFC 7541).

mod decoder;
mod encoder;
pub mod huffman;
mod table;

pub use decoder::{Decoder, Field};
pub use encoder::{SIZE_UPDATE, field, size_update, status};
pub use table::DEFAULT_SIZE;
