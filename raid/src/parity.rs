//! P and Q of a stripe: generate, update, recover, check, name.
//!
//! P is the sum of the data units D_0, D_1, ... (exclusive or), Q the sum of 2^i * D_i over
//! GF(2^8) with polynomial 0x11d. The formulas are those of H. Peter Anvin, "The mathematics of
//! RAID-6". RAID-5 is P alone.
//!
//! Contracts are checked here and nowhere below. All slices of one call have the same length, in
//! bytes, of any value; no alignment is needed.

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod gfni;
mod kernel;
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code)]
mod neon;
mod recovery;
mod scalar;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod vector;

use crate::{BLOCK, gf};
use kernel::{Kernel, chosen};

/// Most data units for which every pair of losses can be recovered: the powers of 2 repeat then.
pub const MAX_DATA: usize = 255;

/// Most parity units of a stripe: P and Q.
pub const MAX_PARITY: usize = 2;

/// Writes P of the data units to `p`.
///
/// # Panics
/// If there are no data units or more than [`MAX_DATA`], or if lengths differ.
pub fn generate_p(data: &[&[u8]], p: &mut [u8]) {
    assert_data(data.len());
    assert_lengths(p.len(), data);
    chosen().xor(data, p);
}

/// Writes P and Q of the data units, index 0 first, to `p` and `q`.
///
/// # Panics
/// If there are no data units or more than [`MAX_DATA`], or if lengths differ.
pub fn generate_pq(data: &[&[u8]], p: &mut [u8], q: &mut [u8]) {
    assert_data(data.len());
    assert_lengths(p.len(), data);
    assert_lengths(p.len(), &[q]);
    chosen().pq(data, p, q);
}

/// Brings P up to date with one data unit that changes from `old` to `new`.
///
/// # Panics
/// If lengths differ.
pub fn update_p(old: &[u8], new: &[u8], p: &mut [u8]) {
    assert_lengths(p.len(), &[old, new]);
    chosen().add_delta(1, old, new, p);
}

/// Brings Q up to date with data unit `index` that changes from `old` to `new`.
///
/// # Panics
/// If `index` is not below [`MAX_DATA`], or if lengths differ.
pub fn update_q(index: usize, old: &[u8], new: &[u8], q: &mut [u8]) {
    assert!(index < MAX_DATA, "data unit {index} of at most {MAX_DATA}");
    assert_lengths(q.len(), &[old, new]);
    chosen().add_delta(gf::coefficient(index), old, new, q);
}

/// Brings P and Q up to date with data unit `index` that changes from `old` to `new`.
///
/// # Panics
/// If `index` is not below [`MAX_DATA`], or if lengths differ.
pub fn update_pq(index: usize, old: &[u8], new: &[u8], p: &mut [u8], q: &mut [u8]) {
    update_p(old, new, p);
    update_q(index, old, new, q);
}

/// Writes the lost units of a stripe from the others.
///
/// `units` are the `data` data units, then P (RAID-5), or P and Q (RAID-6). `lost` are indices
/// into `units`, in any order; the contents of those units are outputs only. The other units are
/// left as they are.
///
/// # Panics
/// If `data` is 0 or more than [`MAX_DATA`], if `units` has other than one or two parity units, if
/// more units are lost than there are parity units, if an index of `lost` is out of range or
/// repeated, or if lengths differ.
pub fn recover(units: &mut [&mut [u8]], data: usize, lost: &[usize]) {
    let parity = assert_stripe(units.len(), data);
    let len = units[0].len();
    assert!(units.iter().all(|unit| unit.len() == len), "units of different lengths");
    assert!(lost.len() <= parity, "{} units lost, {parity} parity", lost.len());
    for (i, unit) in lost.iter().enumerate() {
        assert!(*unit < units.len(), "lost unit {unit} of {}", units.len());
        assert!(!lost[..i].contains(unit), "unit {unit} lost twice");
    }
    recovery::recover(chosen(), units, data, lost);
}

/// Whether the parity of a stripe matches its data; `units` as in [`recover`].
///
/// # Panics
/// If `data` is 0 or more than [`MAX_DATA`], if `units` has other than one or two parity units, or
/// if lengths differ.
pub fn check(units: &[&[u8]], data: usize) -> bool {
    assert_stripe(units.len(), data);
    let len = units[0].len();
    assert_lengths(len, units);
    let starts = (0..len).step_by(BLOCK);
    let mut part = Vec::with_capacity(units.len());
    starts.into_iter().all(|start| {
        let end = len.min(start + BLOCK);
        part.clear();
        part.extend(units.iter().map(|unit| &unit[start..end]));
        check_block(chosen(), &part, data)
    })
}

/// The one unit of a RAID-6 stripe whose bytes are wrong, where all others are right; `units` as in [`check`].
///
/// `None` when nothing is wrong, or more than one unit. Two units that are wrong look like one other with a chance of
/// `data` in 256 for each byte that is wrong: lengths below a block prove little.
///
/// With dP and dQ for what P and Q differ by from what the data say: a wrong P leaves dQ zero, a wrong Q leaves dP zero, and a
/// wrong data unit z makes dQ = 2^z dP. (H. P. Anvin, The mathematics of RAID-6, section 4.)
///
/// # Panics
/// If there are other than two parity units, and as [`check`].
pub fn locate(units: &[&[u8]], data: usize) -> Option<usize> {
    assert!(units.len() == data + 2, "only RAID-6 has two parity units");
    let len = units[0].len();
    let (mut p, mut q) = (vec![0; len], vec![0; len]);
    generate_pq(&units[..data], &mut p, &mut q);
    add(&mut p, units[data]);
    add(&mut q, units[data + 1]);
    match (is_zero(&p), is_zero(&q)) {
        (true, true) => return None,
        (false, true) => return Some(data),
        (true, false) => return Some(data + 1),
        (false, false) => {}
    }
    let zeros = vec![0; len];
    (0..data).find(|&index| {
        let mut rest = q.clone();
        update_q(index, &p, &zeros, &mut rest);
        is_zero(&rest)
    })
}

fn add(to: &mut [u8], from: &[u8]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to ^= from);
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The implementation in use.
pub fn name() -> &'static str {
    chosen().name
}

/// [`check`] for at most [`BLOCK`] bytes a unit, so that nothing is allocated for the parity.
fn check_block(kernel: &Kernel, units: &[&[u8]], data: usize) -> bool {
    let (data, parity) = units.split_at(data);
    let len = parity[0].len();
    let (mut p, mut q) = ([0; BLOCK], [0; BLOCK]);
    let (p, q) = (&mut p[..len], &mut q[..len]);
    match parity {
        [_] => kernel.xor(data, p),
        _ => kernel.pq(data, p, q),
    }
    [p, q].iter().zip(parity).all(|(computed, stored)| computed == stored)
}

/// The number of parity units, one or two.
fn assert_stripe(units: usize, data: usize) -> usize {
    assert_data(data);
    let parity = units.saturating_sub(data);
    assert!((1..=MAX_PARITY).contains(&parity), "{units} units with {data} data");
    parity
}

fn assert_data(data: usize) {
    assert!((1..=MAX_DATA).contains(&data), "{data} data units of 1 to {MAX_DATA}");
}

fn assert_lengths(len: usize, units: &[&[u8]]) {
    assert!(units.iter().all(|unit| unit.len() == len), "units of different lengths");
}

#[cfg(test)]
mod tests;
