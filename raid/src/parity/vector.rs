//! The loops of parity, written once for every vector width.
//!
//! A function compiled for a CPU feature cannot be generic over the feature, so the loops are a
//! macro. It expands to safe code: slices are bounds-checked once a column and unit, and whatever
//! is unsafe is in the few operations that the instruction-set file defines beside it:
//!
//! - `Vector`, `WIDTH` (its bytes), `zero`, `add` (exclusive or), `double` (times 2 in the field);
//! - `Factor`, `factor(u8)`, `times(&Factor, Vector)`: multiplication by a constant;
//! - `load(&[u8])` and `store(&mut [u8], Vector)`: the first `WIDTH` bytes, or fewer at the end of
//!   a unit, where the vector is filled up with zeros.
//!
//! A *column* is the same few bytes of every unit. `STEP` vectors of a column are computed side by
//! side, so that the latency of one chain of operations hides behind the others.

macro_rules! vector_loops {
    ($features:literal) => {
        const STEP: usize = 4;

        #[target_feature(enable = $features)]
        fn run_vectors(work: Work<'_>) {
            match work {
                Work::Xor { units, out } => {
                    let len = out.len();
                    each_column!(xor(units, out), len);
                }
                Work::Pq { data, p, q } => {
                    let len = p.len();
                    each_column!(pq(data, p, q), len);
                }
                Work::Combine { terms, out } => {
                    let len = out.len();
                    each_column!(combine(terms, out), len);
                }
                Work::AddDelta { coefficient, old, new, out } => {
                    let (len, factor) = (out.len(), factor(coefficient));
                    each_column!(add_delta(&factor, old, new, out), len);
                }
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn xor<const N: usize>(units: &[&[u8]], out: &mut [u8], column: Range<usize>) {
            let mut sums = [zero(); N];
            for unit in units {
                let unit = &unit[column.clone()];
                for (k, sum) in sums.iter_mut().enumerate() {
                    *sum = add(*sum, load(&unit[k * WIDTH..]));
                }
            }
            let out = &mut out[column];
            for (k, sum) in sums.iter().enumerate() {
                store(&mut out[k * WIDTH..], *sum);
            }
        }

        /// Q by Horner's rule, as in the scalar implementation.
        #[inline]
        #[target_feature(enable = $features)]
        fn pq<const N: usize>(data: &[&[u8]], p: &mut [u8], q: &mut [u8], column: Range<usize>) {
            let mut sums = [(zero(), zero()); N];
            for unit in data.iter().rev() {
                let unit = &unit[column.clone()];
                for (k, (p, q)) in sums.iter_mut().enumerate() {
                    let d = load(&unit[k * WIDTH..]);
                    *p = add(*p, d);
                    *q = add(double(*q), d);
                }
            }
            let (p_out, q_out) = (&mut p[column.clone()], &mut q[column]);
            for (k, (p, q)) in sums.iter().enumerate() {
                store(&mut p_out[k * WIDTH..], *p);
                store(&mut q_out[k * WIDTH..], *q);
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn combine<const N: usize>(terms: &[Term<'_>], out: &mut [u8], column: Range<usize>) {
            let mut sums = [zero(); N];
            for (coefficient, unit) in terms {
                let (factor, unit) = (factor(*coefficient), &unit[column.clone()]);
                for (k, sum) in sums.iter_mut().enumerate() {
                    *sum = add(*sum, times(&factor, load(&unit[k * WIDTH..])));
                }
            }
            let out = &mut out[column];
            for (k, sum) in sums.iter().enumerate() {
                store(&mut out[k * WIDTH..], *sum);
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn add_delta<const N: usize>(factor: &Factor, old: &[u8], new: &[u8], out: &mut [u8], column: Range<usize>) {
            let (old, new) = (&old[column.clone()], &new[column.clone()]);
            let out = &mut out[column];
            for k in 0..N {
                let delta = add(load(&old[k * WIDTH..]), load(&new[k * WIDTH..]));
                let sum = add(load(&out[k * WIDTH..]), times(factor, delta));
                store(&mut out[k * WIDTH..], sum);
            }
        }
    };
}

/// Calls a function for columns of `STEP` vectors, then for those of one vector, the last of which
/// may be a part of one.
macro_rules! each_column {
    ($f:ident($($arg:expr),*), $len:ident) => {
        let whole = $len - $len % (STEP * WIDTH);
        for at in (0..whole).step_by(STEP * WIDTH) {
            $f::<STEP>($($arg,)* at..at + STEP * WIDTH);
        }
        for at in (whole..$len).step_by(WIDTH) {
            $f::<1>($($arg,)* at..$len.min(at + WIDTH));
        }
    };
}

pub(super) use {each_column, vector_loops};
