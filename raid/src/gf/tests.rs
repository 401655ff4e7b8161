use super::*;

/// Shift-and-add multiplication: shares nothing with the tables.
fn peasant(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 != 0 {
            product ^= a;
        }
        let carry = a & 0x80 != 0;
        a <<= 1;
        if carry {
            a ^= 0x1d;
        }
        b >>= 1;
    }
    product
}

#[test]
fn every_product_is_the_peasants() {
    for a in 0..=255 {
        for b in 0..=255 {
            assert_eq!(mul(a, b), peasant(a, b), "{a} * {b}");
            assert_eq!(NIBBLES[usize::from(a)].times(b), peasant(a, b), "{a} * {b}");
        }
    }
}

#[test]
fn every_inverse_multiplies_to_one() {
    for a in 1..=255 {
        assert_eq!(peasant(a, inverse(a)), 1, "1 / {a}");
    }
}

#[test]
fn coefficients_of_255_units_differ() {
    let mut seen = [false; 256];
    for index in 0..255 {
        let c = usize::from(coefficient(index));
        assert!(!std::mem::replace(&mut seen[c], true), "2^{index}");
    }
}

#[test]
#[should_panic(expected = "no inverse")]
fn zero_has_no_inverse() {
    inverse(0);
}
