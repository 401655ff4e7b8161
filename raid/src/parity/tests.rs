use super::*;
use kernel::available;
use rusty_erasure::raid as oracle;

/// Widths of the layout, all of them.
const WIDTHS: std::ops::RangeInclusive<usize> = 1..=14;

/// Lengths below, at and above each vector and each column of vectors.
const LENS: [usize; 19] = [0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1000, 4096];

const GUARD_BYTES: usize = 64;
const GUARD: u8 = 0xa5;

/// A slice at an odd address within guard bytes.
struct Guarded {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Guarded {
    fn new(len: usize, shift: usize) -> Self {
        let start = GUARD_BYTES + shift;
        Self { bytes: vec![GUARD; start + len + GUARD_BYTES], start, len }
    }

    fn holding(content: &[u8], shift: usize) -> Self {
        let mut this = Self::new(content.len(), shift);
        this.get_mut().copy_from_slice(content);
        this
    }

    fn get(&self) -> &[u8] {
        &self.bytes[self.start..][..self.len]
    }

    fn get_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }

    /// Asserts the content, and that nothing was written around it.
    fn assert_is(&self, content: &[u8], what: &str) {
        let around = self.bytes[..self.start].iter().chain(&self.bytes[self.start + self.len..]);
        assert!(around.into_iter().all(|&byte| byte == GUARD), "{what}: written outside");
        assert!(self.get() == content, "{what}: wrong bytes");
    }
}

/// Repeatable bytes in which every unit is different.
fn unit(index: usize, len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(index as u64 + 1);
    let next = |_| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u8
    };
    (0..len).map(next).collect()
}

fn units(count: usize, len: usize) -> Vec<Vec<u8>> {
    (0..count).map(|index| unit(index, len)).collect()
}

fn slices<U: AsRef<[u8]>>(units: &[U]) -> Vec<&[u8]> {
    units.iter().map(AsRef::as_ref).collect()
}

/// P and Q one byte at a time with no table and no Horner: the reference for every implementation.
fn bitwise_pq(data: &[&[u8]]) -> (Vec<u8>, Vec<u8>) {
    let len = data[0].len();
    let (mut p, mut q) = (vec![0; len], vec![0; len]);
    for (index, unit) in data.iter().enumerate() {
        for (at, &d) in unit.iter().enumerate() {
            p[at] ^= d;
            q[at] ^= (0..index).fold(d, |d, _| (d << 1) ^ ((d >> 7) * 0x1d));
        }
    }
    (p, q)
}

/// Data, P and Q of a stripe.
fn stripe(data: usize, len: usize) -> Vec<Vec<u8>> {
    let mut units = units(data, len);
    let (p, q) = bitwise_pq(&slices(&units));
    units.extend([p, q]);
    units
}

#[test]
fn check_value() {
    let data: Vec<&[u8]> = b"HELLO".chunks(1).collect();
    for kernel in available() {
        let (mut p, mut q) = ([0], [0]);
        kernel.pq(&data, &mut p, &mut q);
        assert_eq!((p, q), ([0x42], [0x31]), "{}", kernel.name);
    }
    let (mut p, mut q) = ([0], [0]);
    generate_pq(&data, &mut p, &mut q);
    assert_eq!((p, q), ([0x42], [0x31]));
}

#[test]
fn scalar_is_another_projects_code() {
    for width in WIDTHS.skip(1) {
        let data = units(width, 4096);
        let data = slices(&data);
        let (mut p, mut q) = (vec![0; 4096], vec![0; 4096]);
        oracle::pq_gen(&data, &mut p, &mut q).unwrap();
        let (mut scalar_p, mut scalar_q) = (vec![0; 4096], vec![0; 4096]);
        scalar::KERNEL.pq(&data, &mut scalar_p, &mut scalar_q);
        assert!(p == scalar_p && q == scalar_q, "{width} wide");
    }
}

#[test]
fn every_kernel_generates_for_every_width_and_length() {
    for kernel in available() {
        for (width, len) in WIDTHS.flat_map(|width| LENS.map(|len| (width, len))) {
            let what = format!("{}, {width} wide, {len} bytes", kernel.name);
            let guarded: Vec<Guarded> = (0..width).map(|i| Guarded::holding(&unit(i, len), i)).collect();
            let data: Vec<&[u8]> = guarded.iter().map(Guarded::get).collect();
            let (p, q) = bitwise_pq(&data);
            let (mut p_out, mut q_out) = (Guarded::new(len, 3), Guarded::new(len, 5));
            kernel.pq(&data, p_out.get_mut(), q_out.get_mut());
            p_out.assert_is(&p, &what);
            q_out.assert_is(&q, &what);
            let mut xor = Guarded::new(len, 7);
            kernel.xor(&data, xor.get_mut());
            xor.assert_is(&p, &what);
        }
    }
}

#[test]
fn every_kernel_multiplies_by_every_constant() {
    let bytes: Vec<u8> = (0..=255).collect();
    for kernel in available() {
        for constant in 0..=255u8 {
            let product: Vec<u8> = bytes.iter().map(|&byte| gf::mul(constant, byte)).collect();
            let mut out = Guarded::new(256, 1);
            kernel.combine(&[(constant, &bytes)], out.get_mut());
            out.assert_is(&product, kernel.name);
            kernel.add_delta(constant, &bytes, &[0; 256], out.get_mut());
            out.assert_is(&[0; 256], kernel.name);
        }
    }
}

#[test]
fn every_kernel_updates_every_index() {
    for kernel in available() {
        for (index, len) in WIDTHS.flat_map(|width| LENS.map(|len| (width - 1, len))) {
            let what = format!("{}, index {index}, {len} bytes", kernel.name);
            let (mut before, mut after) = (units(14, len), units(14, len));
            after[index] = unit(99, len);
            let (p, q) = bitwise_pq(&slices(&before));
            let (new_p, new_q) = bitwise_pq(&slices(&after));
            let (mut p, mut q) = (Guarded::holding(&p, 1), Guarded::holding(&q, 9));
            let (old, new) = (before.swap_remove(index), after.swap_remove(index));
            kernel.add_delta(1, &old, &new, p.get_mut());
            kernel.add_delta(gf::coefficient(index), &old, &new, q.get_mut());
            p.assert_is(&new_p, &what);
            q.assert_is(&new_q, &what);
        }
    }
}

/// No loss, every single one, and every pair in both orders.
fn losses(units: usize, parity: usize) -> Vec<Vec<usize>> {
    let mut losses = vec![vec![]];
    losses.extend((0..units).map(|x| vec![x]));
    if parity == 2 {
        let pairs = (0..units).flat_map(|x| (0..units).map(move |y| vec![x, y]));
        losses.extend(pairs.filter(|pair| pair[0] != pair[1]));
    }
    losses
}

#[test]
fn every_kernel_recovers_every_loss() {
    for kernel in available() {
        for (width, parity) in WIDTHS.flat_map(|width| [(width, 1), (width, 2)]) {
            for len in [0, 1, 63, 321] {
                let mut expected = stripe(width, len);
                expected.truncate(width + parity);
                for lost in losses(width + parity, parity) {
                    let what = format!("{}, {width}+{parity}, {len} bytes, {lost:?}", kernel.name);
                    check_recovery(kernel, &expected, width, &lost, &what);
                }
            }
        }
    }
}

fn check_recovery(kernel: &Kernel, stripe: &[Vec<u8>], data: usize, lost: &[usize], what: &str) {
    let mut guarded: Vec<Guarded> = stripe.iter().enumerate().map(|(i, unit)| Guarded::holding(unit, i)).collect();
    for &unit in lost {
        guarded[unit].get_mut().fill(0xee);
    }
    let mut units: Vec<&mut [u8]> = guarded.iter_mut().map(Guarded::get_mut).collect();
    recovery::recover(kernel, &mut units, data, lost);
    for (unit, expected) in guarded.iter().zip(stripe) {
        unit.assert_is(expected, what);
    }
}

/// Far beyond the layout's widths, where the powers of 2 are about to repeat.
#[test]
fn the_widest_stripe_recovers() {
    let stripe = stripe(MAX_DATA, 40);
    for lost in [[0, 254], [253, 254], [7, 255], [8, 256], [255, 256]] {
        check_recovery(chosen(), &stripe, MAX_DATA, &lost, &format!("{lost:?}"));
    }
}

/// The public functions hand on what the kernels need in the right order.
#[test]
fn the_front_agrees_with_itself() {
    let len = 2 * BLOCK + 100;
    for width in WIDTHS {
        let expected = stripe(width, len);
        let (mut p, mut q) = (vec![0; len], vec![0; len]);
        generate_p(&slices(&expected[..width]), &mut p);
        assert!(p == expected[width]);
        generate_pq(&slices(&expected[..width]), &mut p, &mut q);
        assert!(p == expected[width] && q == expected[width + 1]);

        let mut changed = expected.clone();
        let old = std::mem::replace(&mut changed[width - 1], unit(99, len));
        update_pq(width - 1, &old, &changed[width - 1], &mut p, &mut q);
        changed.truncate(width);
        changed.extend([p, q]);
        assert!(check(&slices(&changed), width));

        let lost = [width - 1, width];
        let before = changed.clone();
        for unit in lost {
            changed[unit].fill(0);
        }
        let mut units: Vec<&mut [u8]> = changed.iter_mut().map(Vec::as_mut_slice).collect();
        recover(&mut units, width, &lost);
        assert!(changed == before);
    }
}

#[test]
fn check_finds_any_changed_byte() {
    let len = BLOCK + 3;
    for (unit, at) in (0..6).flat_map(|unit| [0, BLOCK - 1, BLOCK, len - 1].map(|at| (unit, at))) {
        let mut stripe = stripe(4, len);
        assert!(check(&slices(&stripe), 4));
        stripe[unit][at] ^= 1;
        assert!(!check(&slices(&stripe), 4), "unit {unit} byte {at}");
        assert_eq!(check(&slices(&stripe[..5]), 4), unit == 5, "unit {unit} without Q");
    }
}

/// A feature of this CPU must not go unused without a word.
#[test]
fn what_the_cpu_has_is_tested() {
    let names: Vec<&str> = available().map(|kernel| kernel.name).collect();
    println!("parity implementations tested: {names:?}");
    let mut expected = vec![];
    #[cfg(target_arch = "x86_64")]
    {
        let gfni = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("gfni");
        expected.extend(gfni.then_some("avx512+gfni"));
        expected.extend(is_x86_feature_detected!("avx2").then_some("avx2"));
    }
    #[cfg(target_arch = "aarch64")]
    expected.push("neon");
    expected.push("scalar");
    assert_eq!(names, expected);
    assert_eq!(name(), expected[0]);
}

#[test]
#[should_panic(expected = "different lengths")]
fn lengths_must_match() {
    generate_pq(&[&[0; 4], &[0; 4]], &mut [0; 4], &mut [0; 5]);
}

#[test]
#[should_panic(expected = "lost twice")]
fn losses_must_be_distinct() {
    recover(&mut [&mut [0], &mut [0], &mut [0]], 1, &[0, 0]);
}

#[test]
#[should_panic(expected = "2 units lost, 1 parity")]
fn losses_must_not_exceed_parity() {
    recover(&mut [&mut [0], &mut [0], &mut [0]], 2, &[0, 1]);
}

#[test]
#[should_panic(expected = "lost unit 3 of 3")]
fn losses_must_be_in_range() {
    recover(&mut [&mut [0], &mut [0], &mut [0]], 1, &[3]);
}

#[test]
fn the_one_wrong_unit_is_located() {
    for data in WIDTHS.filter(|data| *data >= 2) {
        let whole = stripe(data, 4096);
        assert_eq!(locate(&slices(&whole), data), None, "nothing is wrong");
        for wrong in 0..data + 2 {
            for at in [0, 77, 4095] {
                let mut units = whole.clone();
                units[wrong][at] ^= 0x10;
                assert_eq!(locate(&slices(&units), data), Some(wrong), "{data} data units, byte {at}");
            }
            let mut units = whole.clone();
            units[wrong] = unit(99, 4096);
            assert_eq!(locate(&slices(&units), data), Some(wrong), "{data} data units");
            // Two wrong units are not one.
            let other = (wrong + 1) % (data + 2);
            units[other] = unit(98, 4096);
            assert_ne!(locate(&slices(&units), data), Some(wrong), "{data} data units, {other} is wrong too");
        }
    }
}
