//! Numbers and names that must not be confused with one another.

#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::NAME_MAX;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number!(
    /// Names an object of a volume for ever: `epoch << 40 | counter`, also its inode number.
    ObjectId
);
number!(
    /// Number of an ownership of a volume; a brick refuses frames of an older one.
    Epoch
);
number!(
    /// Counts checkpoints.
    Generation
);
number!(
    /// Numbers the mutations of one ownership, from 1.
    Transaction
);
number!(
    /// Names a request on one connection until its reply has come.
    RequestId
);

impl ObjectId {
    /// The root directory of every volume.
    pub const ROOT: ObjectId = ObjectId(1);
    /// Bits of the counter.
    pub const COUNTER_BITS: u32 = 40;

    /// The id of the `counter`-th object made in `epoch`; `None` when either does not fit.
    pub fn new(epoch: Epoch, counter: u64) -> Option<ObjectId> {
        let fits = counter < 1 << Self::COUNTER_BITS && epoch.0 >= 1 && epoch.0 < 1 << (64 - Self::COUNTER_BITS);
        fits.then_some(ObjectId(epoch.0 << Self::COUNTER_BITS | counter))
    }
}

/// A brick's place in a volume, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(pub u8);

impl Slot {
    /// The slot as an index into a table of members.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

macro_rules! uuid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    };
}

uuid!(
    /// Random name of a volume, given when it is formed.
    VolumeId
);
uuid!(
    /// Random name of a brick, given when it is formatted.
    BrickId
);

/// MD5 of one block, zero-padded to [`crate::limits::BLOCK_SIZE`].
///
/// All zero bytes stand for a hole: a block that was never written and reads as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// The digest of a block that was never written.
    pub const HOLE: Digest = Digest([0; 16]);
    /// Of a block of which nobody knows what it is to hold: no content has it, so the block counts as damaged.
    pub const UNKNOWN: Digest = Digest([0xff; 16]);
}

/// Digests of consecutive blocks; on the wire one byte string.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Digests(pub Vec<Digest>);

impl Serialize for Digests {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|digest| digest.0).collect();
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Digests {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&serde_bytes::Bytes>::deserialize(deserializer)?;
        let (digests, rest) = bytes.as_chunks::<16>();
        if !rest.is_empty() {
            return Err(serde::de::Error::custom("digests are 16 bytes each"));
        }
        Ok(Digests(digests.iter().copied().map(Digest).collect()))
    }
}

/// Seconds and nanoseconds since 1970; negative seconds are before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp {
    /// Whole seconds.
    pub secs: i64,
    /// Nanoseconds, 0 to 999,999,999.
    pub nanos: u32,
}

/// One component of a path: 1 to 255 bytes, neither `.` nor `..`, without `/` and NUL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Name(#[serde(with = "serde_bytes")] Box<[u8]>);

/// Why bytes are no [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Empty, `.`, `..`, or with a `/` or NUL.
    #[error("not a name of one path component")]
    Component,
    /// More than [`NAME_MAX`] bytes.
    #[error("name longer than {NAME_MAX} bytes")]
    TooLong,
}

impl Name {
    /// Checks `bytes`.
    ///
    /// # Errors
    /// [`BadName`] when they are no single path component.
    pub fn new(bytes: &[u8]) -> Result<Name, BadName> {
        if bytes.len() > NAME_MAX {
            return Err(BadName::TooLong);
        }
        if matches!(bytes, b"" | b"." | b"..") || bytes.iter().any(|&b| b == b'/' || b == 0) {
            return Err(BadName::Component);
        }
        Ok(Name(bytes.into()))
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&serde_bytes::Bytes>::deserialize(deserializer)?;
        Name::new(bytes).map_err(serde::de::Error::custom)
    }
}
