//! Lost units as linear combinations of the others.

use super::kernel::{Kernel, Term};
use crate::gf;

/// [`super::recover`], with its contract already checked.
pub(super) fn recover(kernel: &Kernel, units: &mut [&mut [u8]], data: usize, lost: &[usize]) {
    let mut lost_data = lost.iter().copied().filter(|&unit| unit < data);
    match (lost_data.next(), lost_data.next()) {
        (Some(x), Some(y)) => two_data(kernel, units, data, [x, y]),
        (Some(x), None) if lost.contains(&data) => data_from_q(kernel, units, data, x),
        (Some(x), None) => data_from_p(kernel, units, data, x),
        (None, _) => {}
    }
    let (data, parity) = units.split_at_mut(data);
    let data: Vec<&[u8]> = data.iter().map(|unit| &**unit).collect();
    let lost = |unit| lost.contains(&(data.len() + unit));
    match parity {
        [p, q] if lost(0) && lost(1) => kernel.pq(&data, p, q),
        [p, ..] if lost(0) => kernel.xor(&data, p),
        [_, q] if lost(1) => kernel.combine(&q_terms(&data), q),
        _ => {}
    }
}

/// D_x = P + the sum of the other D_i.
fn data_from_p(kernel: &Kernel, units: &mut [&mut [u8]], data: usize, x: usize) {
    into(units, x, |units, out| {
        let others = (0..=data).filter(|&i| i != x);
        let others: Vec<&[u8]> = others.map(|i| &*units[i]).collect();
        kernel.xor(&others, out);
    });
}

/// D_x = 2^-x * (Q + the sum of the other 2^i * D_i).
fn data_from_q(kernel: &Kernel, units: &mut [&mut [u8]], data: usize, x: usize) {
    let scale = gf::inverse(gf::coefficient(x));
    into(units, x, |units, out| {
        let others = (0..data).filter(|&i| i != x);
        let mut terms: Vec<Term<'_>> = others.map(|i| (gf::mul(scale, gf::coefficient(i)), &*units[i])).collect();
        terms.push((scale, &*units[data + 1]));
        kernel.combine(&terms, out);
    });
}

/// P and Q without their known summands leave two equations in D_x and D_y. Solved for D_x:
///
/// D_x = (2^y * P + Q + the sum of the other (2^y + 2^i) * D_i) / (2^x + 2^y)
///
/// and the same with x and y exchanged. Each sum is one pass over the survivors.
fn two_data(kernel: &Kernel, units: &mut [&mut [u8]], data: usize, [x, y]: [usize; 2]) {
    let scale = gf::inverse(gf::coefficient(x) ^ gf::coefficient(y));
    for (this, other) in [(x, y), (y, x)] {
        let g = gf::coefficient(other);
        into(units, this, |units, out| {
            let others = (0..data).filter(|&i| i != x && i != y);
            let mut terms: Vec<Term<'_>> =
                others.map(|i| (gf::mul(scale, g ^ gf::coefficient(i)), &*units[i])).collect();
            terms.push((gf::mul(scale, g), &*units[data]));
            terms.push((scale, &*units[data + 1]));
            kernel.combine(&terms, out);
        });
    }
}

/// The summands of Q.
fn q_terms<'a>(data: &[&'a [u8]]) -> Vec<Term<'a>> {
    data.iter().enumerate().map(|(i, unit)| (gf::coefficient(i), *unit)).collect()
}

/// Calls `f` with unit `index` as its output. The unit is taken out of `units` meanwhile, and an
/// empty one stands in its place.
fn into(units: &mut [&mut [u8]], index: usize, f: impl FnOnce(&[&mut [u8]], &mut [u8])) {
    let out = std::mem::take(&mut units[index]);
    f(units, out);
    units[index] = out;
}
