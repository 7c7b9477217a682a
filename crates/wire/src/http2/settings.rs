//! What the peer's `SETTINGS` allow (RFC 9113 §6.5).

use super::error::{ConnectionError, ErrorCode};
use super::flow::{DEFAULT_WINDOW, MAX_WINDOW};
use super::frame::MAX_PAYLOAD;

/// `SETTINGS_HEADER_TABLE_SIZE`
pub const HEADER_TABLE_SIZE: u16 = 1;
/// `SETTINGS_ENABLE_PUSH`
pub const ENABLE_PUSH: u16 = 2;
/// `SETTINGS_MAX_CONCURRENT_STREAMS`
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
/// `SETTINGS_INITIAL_WINDOW_SIZE`
pub const INITIAL_WINDOW_SIZE: u16 = 4;
/// `SETTINGS_MAX_FRAME_SIZE`
pub const MAX_FRAME_SIZE: u16 = 5;
/// `SETTINGS_MAX_HEADER_LIST_SIZE`
pub const MAX_HEADER_LIST_SIZE: u16 = 6;

/// The peer's settings, as far as they matter here.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The size of the table that the peer decodes with, in bytes.
    pub header_table_size: u32,
    /// Streams that this side may have open at once.
    pub max_concurrent_streams: u32,
    /// The window that streams begin with, in bytes.
    pub initial_window: u32,
    /// The largest payload of a frame in bytes.
    pub max_payload: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            header_table_size: 4096,
            max_concurrent_streams: u32::MAX,
            initial_window: DEFAULT_WINDOW,
            max_payload: MAX_PAYLOAD,
        }
    }
}

impl Settings {
    /// Takes over what a frame says.
    ///
    /// # Errors
    /// A value that its setting does not allow.
    pub fn apply(&mut self, payload: &[u8], from_server: bool) -> Result<(), ConnectionError> {
        for setting in payload.chunks_exact(6) {
            let id = u16::from_be_bytes([setting[0], setting[1]]);
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            match id {
                HEADER_TABLE_SIZE => self.header_table_size = value,
                ENABLE_PUSH if value > 1 || (value == 1 && from_server) => {
                    return Err(ConnectionError::protocol("ENABLE_PUSH is not valid"));
                }
                MAX_CONCURRENT_STREAMS => self.max_concurrent_streams = value,
                INITIAL_WINDOW_SIZE => {
                    if i64::from(value) > MAX_WINDOW {
                        let code = ErrorCode::FLOW_CONTROL_ERROR;
                        return Err(ConnectionError::new(code, "a window is too large"));
                    }
                    self.initial_window = value;
                }
                MAX_FRAME_SIZE => {
                    if !(MAX_PAYLOAD..=0xff_ffff).contains(&(value as usize)) {
                        return Err(ConnectionError::protocol("MAX_FRAME_SIZE is not valid"));
                    }
                    self.max_payload = value as usize;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(id: u16, value: u32, from_server: bool) -> Result<Settings, ErrorCode> {
        let mut payload = id.to_be_bytes().to_vec();
        payload.extend(value.to_be_bytes());
        let mut settings = Settings::default();
        let applied = settings.apply(&payload, from_server);
        applied.map(|()| settings).map_err(|error| error.code)
    }

    #[test]
    fn values_are_held_to_their_bounds() {
        let protocol = ErrorCode::PROTOCOL_ERROR;
        assert_eq!(apply(ENABLE_PUSH, 2, false).unwrap_err(), protocol);
        assert_eq!(apply(ENABLE_PUSH, 1, true).unwrap_err(), protocol);
        assert!(apply(ENABLE_PUSH, 1, false).is_ok());
        let flow = apply(INITIAL_WINDOW_SIZE, 0x8000_0000, false);
        assert_eq!(flow.unwrap_err(), ErrorCode::FLOW_CONTROL_ERROR);
        assert_eq!(
            apply(INITIAL_WINDOW_SIZE, 7, false).unwrap().initial_window,
            7
        );
        assert_eq!(apply(MAX_FRAME_SIZE, 16_383, false).unwrap_err(), protocol);
        assert_eq!(apply(MAX_FRAME_SIZE, 1 << 24, false).unwrap_err(), protocol);
        assert_eq!(
            apply(MAX_FRAME_SIZE, 20_000, false).unwrap().max_payload,
            20_000
        );
        assert_eq!(
            apply(MAX_CONCURRENT_STREAMS, 0, false)
                .unwrap()
                .max_concurrent_streams,
            0
        );
        assert!(apply(99, 1, false).is_ok());
    }
}
