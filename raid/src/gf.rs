//! The field GF(2^8) with polynomial 0x11d and generator 2, as constant tables.
//!
//! The field of RAID-6 is the one of H. Peter Anvin, "The mathematics of RAID-6". It is not the
//! field of AES (0x11b), so an instruction that multiplies in that one cannot be used here.

/// What is added when a product by 2 leaves the byte: x^8 = x^4 + x^3 + x^2 + 1.
pub(crate) const REDUCTION: u8 = 0x1d;

/// Products of one constant with every low and every high nibble, for a 16-byte table lookup.
#[derive(Clone, Copy)]
pub(crate) struct Nibbles {
    pub(crate) low: [u8; 16],
    pub(crate) high: [u8; 16],
}

impl Nibbles {
    /// The constant times `byte`.
    pub(crate) fn times(&self, byte: u8) -> u8 {
        self.low[usize::from(byte & 15)] ^ self.high[usize::from(byte >> 4)]
    }
}

/// Tables by constant; multiplication is linear, so two nibbles make a product.
pub(crate) static NIBBLES: [Nibbles; 256] = nibbles();

/// `EXP[i]` is 2^i; it repeats after 255.
const EXP: [u8; 255] = exp();

/// The inverse of `EXP`; the entry of 0 has no meaning.
const LOG: [u8; 256] = log();

/// `byte` times the generator.
pub(crate) const fn double(byte: u8) -> u8 {
    (byte << 1) ^ if byte & 0x80 != 0 { REDUCTION } else { 0 }
}

/// The product in the field.
pub(crate) const fn mul(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 {
        return 0;
    }
    EXP[(LOG[a as usize] as usize + LOG[b as usize] as usize) % 255]
}

/// The inverse in the field.
///
/// # Panics
/// Zero has none.
pub(crate) fn inverse(a: u8) -> u8 {
    assert!(a != 0, "zero has no inverse");
    EXP[(255 - usize::from(LOG[usize::from(a)])) % 255]
}

/// The coefficient of data unit `index` in Q: 2^index.
pub(crate) fn coefficient(index: usize) -> u8 {
    EXP[index % 255]
}

const fn exp() -> [u8; 255] {
    let mut table = [1; 255];
    let mut i = 1;
    while i < 255 {
        table[i] = double(table[i - 1]);
        i += 1;
    }
    table
}

const fn log() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 255 {
        table[EXP[i] as usize] = i as u8;
        i += 1;
    }
    table
}

const fn nibbles() -> [Nibbles; 256] {
    let mut tables = [Nibbles { low: [0; 16], high: [0; 16] }; 256];
    let mut constant = 0;
    while constant < 256 {
        let mut nibble = 0;
        while nibble < 16 {
            tables[constant].low[nibble] = mul(constant as u8, nibble as u8);
            tables[constant].high[nibble] = mul(constant as u8, (nibble << 4) as u8);
            nibble += 1;
        }
        constant += 1;
    }
    tables
}

#[cfg(test)]
mod tests;
