//! The implementations, and the choice of one.

use std::sync::OnceLock;

use super::scalar;

/// One summand of a linear combination: coefficient and unit.
pub(super) type Term<'a> = (u8, &'a [u8]);

/// One implementation. The front has checked that all slices of a call have the same length.
pub(super) struct Kernel {
    pub(super) name: &'static str,
    /// Writes the sum of the units.
    pub(super) xor: fn(units: &[&[u8]], out: &mut [u8]),
    /// Writes P and Q of the data units.
    pub(super) pq: fn(data: &[&[u8]], p: &mut [u8], q: &mut [u8]),
    /// Writes the sum of coefficient times unit.
    pub(super) combine: fn(terms: &[Term<'_>], out: &mut [u8]),
    /// Adds coefficient times (old + new) to `out`.
    pub(super) add_delta: fn(coefficient: u8, old: &[u8], new: &[u8], out: &mut [u8]),
}

/// Those that this CPU can run, the fastest first. Scalar is always the last.
pub(super) fn available() -> Vec<&'static Kernel> {
    let fast: [Option<&'static Kernel>; 0] = [];
    fast.into_iter()
        .flatten()
        .chain([&scalar::KERNEL])
        .collect()
}

/// The fastest one, found once.
pub(super) fn chosen() -> &'static Kernel {
    static CHOSEN: OnceLock<&'static Kernel> = OnceLock::new();
    CHOSEN.get_or_init(|| available()[0])
}
