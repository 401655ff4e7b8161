//! Parity for any CPU, and the reference for the other implementations.

use super::kernel::{Kernel, Term, Work};
use crate::gf;

pub(super) static KERNEL: Kernel = Kernel { name: "scalar", run };

fn run(work: Work<'_>) {
    match work {
        Work::Xor { units, out } => xor(units, out),
        Work::Pq { data, p, q } => pq(data, p, q),
        Work::Combine { terms, out } => combine(terms, out),
        Work::AddDelta { coefficient, old, new, out } => add_delta(coefficient, old, new, out),
    }
}

fn xor(units: &[&[u8]], out: &mut [u8]) {
    out.fill(0);
    for unit in units {
        for (o, &d) in out.iter_mut().zip(*unit) {
            *o ^= d;
        }
    }
}

/// Q by Horner's rule: the highest data unit first, doubled once for each unit that follows.
fn pq(data: &[&[u8]], p: &mut [u8], q: &mut [u8]) {
    p.fill(0);
    q.fill(0);
    for unit in data.iter().rev() {
        for ((p, q), &d) in p.iter_mut().zip(q.iter_mut()).zip(*unit) {
            *p ^= d;
            *q = gf::double(*q) ^ d;
        }
    }
}

fn combine(terms: &[Term<'_>], out: &mut [u8]) {
    out.fill(0);
    for &(coefficient, unit) in terms {
        let table = &gf::NIBBLES[usize::from(coefficient)];
        for (o, &d) in out.iter_mut().zip(unit) {
            *o ^= table.times(d);
        }
    }
}

fn add_delta(coefficient: u8, old: &[u8], new: &[u8], out: &mut [u8]) {
    let table = &gf::NIBBLES[usize::from(coefficient)];
    for ((o, &old), &new) in out.iter_mut().zip(old).zip(new) {
        *o ^= table.times(old ^ new);
    }
}
