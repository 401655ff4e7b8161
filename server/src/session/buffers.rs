//! Buffers that are used again: a fresh megabyte costs 256 page faults.

use std::sync::{Mutex, PoisonError};

/// Buffers kept for later.
const KEPT: usize = 8;
/// A larger buffer is given back to the allocator.
const KEPT_CAPACITY_MAX: usize = 1024 * 1024;

/// Empty buffers of one connection.
#[derive(Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// An empty buffer, perhaps with capacity.
    pub fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub fn put(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > KEPT_CAPACITY_MAX {
            return;
        }
        buffer.clear();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(buffer);
        }
    }
}
