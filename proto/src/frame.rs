//! Frames: a fixed header that is checked before anything in it is trusted, a body, a payload.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `NRd1` |
//! | 4 | 2 | protocol version |
//! | 6 | 1 | kind: 1 request, 2 answer |
//! | 7 | 1 | flags: 1 resend |
//! | 8 | 8 | request id |
//! | 16 | 8 | epoch |
//! | 24 | 4 | body length |
//! | 28 | 4 | payload length |
//! | 32 | 4 | CRC-32C of body and payload |
//! | 36 | 4 | CRC-32C of bytes 0 to 35 |

#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::codec::{self, CodecError};
use crate::ids::{Epoch, RequestId};
use crate::limits::{PAGE_BODY_MAX, PAYLOAD_MAX};

/// Bytes of a header.
pub const HEADER_LEN: usize = 40;
const MAGIC: [u8; 4] = *b"NRd1";

/// Direction of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// From client to brick.
    Request,
    /// From brick to client.
    Answer,
}

/// A header whose own checksum and limits were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Protocol version of the sender.
    pub version: u16,
    /// Direction.
    pub kind: FrameKind,
    /// The request may have been done already: it was sent before on a connection that broke.
    pub resend: bool,
    /// Which request, or which request is answered.
    pub request: RequestId,
    /// Ownership in which it was sent; 0 before `Own`.
    pub epoch: Epoch,
    /// Bytes of the body.
    pub body_len: u32,
    /// Bytes of the payload.
    pub payload_len: u32,
    /// CRC-32C of body and payload.
    pub content_crc: u32,
}

/// Why bytes are no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Not this protocol.
    #[error("not a net_raid frame (magic {0:02x?})")]
    Magic([u8; 4]),
    /// The header was damaged in transit.
    #[error("header checksum does not match")]
    HeaderCrc,
    /// Body or payload was damaged in transit.
    #[error("content checksum does not match")]
    ContentCrc,
    /// An unknown kind or flag.
    #[error("unknown kind {kind} or flags {flags:#x}")]
    Kind {
        /// Kind byte.
        kind: u8,
        /// Flag byte.
        flags: u8,
    },
    /// A length over its limit.
    #[error("lengths {body} and {payload} are over their limits")]
    Length {
        /// Bytes of the body.
        body: u32,
        /// Bytes of the payload.
        payload: u32,
    },
    /// The body.
    #[error(transparent)]
    Body(#[from] CodecError),
}

const RESEND: u8 = 1;

impl Header {
    /// The header as bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0..4].copy_from_slice(&MAGIC);
        out[4..6].copy_from_slice(&self.version.to_le_bytes());
        out[6] = match self.kind {
            FrameKind::Request => 1,
            FrameKind::Answer => 2,
        };
        out[7] = if self.resend { RESEND } else { 0 };
        out[8..16].copy_from_slice(&self.request.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.epoch.0.to_le_bytes());
        out[24..28].copy_from_slice(&self.body_len.to_le_bytes());
        out[28..32].copy_from_slice(&self.payload_len.to_le_bytes());
        out[32..36].copy_from_slice(&self.content_crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[..36]);
        out[36..40].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads and checks a header.
    ///
    /// # Errors
    /// [`FrameError`] when it is none, damaged, or announces more than the limits allow.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Header, FrameError> {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        if bytes[..4] != MAGIC {
            return Err(FrameError::Magic(bytes[..4].try_into().expect("4 bytes")));
        }
        if u32_at(36) != crc32c::crc32c(&bytes[..36]) {
            return Err(FrameError::HeaderCrc);
        }
        let (kind, flags) = (bytes[6], bytes[7]);
        let frame_kind = match (kind, flags & !RESEND) {
            (1, 0) => FrameKind::Request,
            (2, 0) => FrameKind::Answer,
            _ => return Err(FrameError::Kind { kind, flags }),
        };
        let header = Header {
            version: u16::from_le_bytes([bytes[4], bytes[5]]),
            kind: frame_kind,
            resend: flags & RESEND != 0,
            request: RequestId(u64_at(8)),
            epoch: Epoch(u64_at(16)),
            body_len: u32_at(24),
            payload_len: u32_at(28),
            content_crc: u32_at(32),
        };
        if header.body_len as usize > PAGE_BODY_MAX || header.payload_len as usize > PAYLOAD_MAX {
            return Err(FrameError::Length { body: header.body_len, payload: header.payload_len });
        }
        Ok(header)
    }
}

/// A header and body ready to send, the payload's checksum included; the payload follows as it is.
///
/// `header`'s lengths and checksum are filled in here.
///
/// # Errors
/// [`FrameError::Body`] when the body is over `body_max`, [`FrameError::Length`] when the payload is
/// over its limit.
pub fn seal<T: Serialize>(
    mut header: Header,
    body: &T,
    body_max: usize,
    payload: &[impl AsRef<[u8]>],
) -> Result<Vec<u8>, FrameError> {
    let mut out = Vec::with_capacity(HEADER_LEN + 192);
    out.resize(HEADER_LEN, 0);
    codec::encode(body, body_max, &mut out)?;
    let payload_len: usize = payload.iter().map(|piece| piece.as_ref().len()).sum();
    header.body_len = (out.len() - HEADER_LEN) as u32;
    if payload_len > PAYLOAD_MAX {
        return Err(FrameError::Length {
            body: header.body_len,
            payload: u32::try_from(payload_len).unwrap_or(u32::MAX),
        });
    }
    header.payload_len = payload_len as u32;
    header.content_crc = payload
        .iter()
        .fold(crc32c::crc32c(&out[HEADER_LEN..]), |crc, piece| crc32c::crc32c_append(crc, piece.as_ref()));
    out[..HEADER_LEN].copy_from_slice(&header.encode());
    Ok(out)
}
