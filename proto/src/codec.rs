//! Bodies as bytes: bincode with fixed little-endian integers, a limit, and nothing left over.

#[cfg(test)]
mod tests;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::Serialize;
use serde::de::Deserialize;

use crate::limits::{BODY_MAX, PAGE_BODY_MAX};

/// A body that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Larger than its limit.
    #[error("body of {len} bytes is over the limit of {max}")]
    TooLong {
        /// Its bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Not the bytes of such a message.
    #[error("malformed body: {0}")]
    Malformed(#[from] bincode::error::DecodeError),
    /// More bytes than the message has.
    #[error("{0} bytes after the body's end")]
    Trailing(usize),
    /// Could not be written.
    #[error("unwritable body: {0}")]
    Unwritable(#[from] bincode::error::EncodeError),
}

const fn config() -> Configuration<LittleEndian, Fixint, Limit<PAGE_BODY_MAX>> {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<PAGE_BODY_MAX>()
}

/// Appends a message to `out`.
///
/// # Errors
/// [`CodecError::TooLong`] when it takes more than `max` bytes.
pub fn encode<T: Serialize>(message: &T, max: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = out.len();
    bincode::serde::encode_into_std_write(message, out, config())?;
    let len = out.len() - start;
    if len > max {
        return Err(CodecError::TooLong { len, max });
    }
    Ok(())
}

/// Reads a message that takes all of `bytes`.
///
/// # Errors
/// [`CodecError`] when they are too many, not such a message, or more than it.
pub fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8], max: usize) -> Result<T, CodecError> {
    if bytes.len() > max {
        return Err(CodecError::TooLong { len: bytes.len(), max });
    }
    let (message, used) = bincode::serde::borrow_decode_from_slice(bytes, config())?;
    if used != bytes.len() {
        return Err(CodecError::Trailing(bytes.len() - used));
    }
    Ok(message)
}

const _: () = assert!(BODY_MAX <= PAGE_BODY_MAX);
