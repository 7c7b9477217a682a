//! TCP and UDP as they are, without a look at what they carry.

pub mod tcp;
pub mod udp;
