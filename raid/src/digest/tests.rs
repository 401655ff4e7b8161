use super::*;
use kernel::{Kernel, SCALAR, available, chosen};
use proptest::prelude::*;

/// RFC 1321, appendix A.5.
const RFC: [(&str, &str); 7] = [
    ("", "d41d8cd98f00b204e9800998ecf8427e"),
    ("a", "0cc175b9c0f1b6a831c399e269772661"),
    ("abc", "900150983cd24fb0d6963f7d28e17f72"),
    ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
    ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
    ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "d174ab98d277d9f5a5611c2c9f419d9f"),
    (
        "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
        "57edf4a22be3c955ac49da2e2107b67a",
    ),
];

/// More than two batches of the widest kernel, and a part of one.
const MAX_BLOCKS: usize = 40;

fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes without a short period, so that no two blocks are equal.
fn bytes(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
}

/// Each kernel with nothing narrower but scalar, and all those that are used together.
fn sets() -> Vec<Vec<&'static Kernel>> {
    let alone = available().map(|kernel| vec![kernel, &SCALAR]);
    alone.chain([chosen().to_vec()]).collect()
}

/// Compares kernels with the scalar implementation, with a guard on both sides of the output.
fn check(kernels: &[&Kernel], blocks: &[&[u8]]) {
    const GUARD: Digest = [0xa5; 16];
    let mut out = vec![GUARD; blocks.len() + 2];
    let end = out.len() - 1;
    batch::digests(kernels, blocks, &mut out[1..end]);
    let mut expected = vec![GUARD];
    expected.extend(blocks.iter().map(|block| md5(block)));
    expected.push(GUARD);
    let lens: Vec<usize> = blocks.iter().map(|block| block.len()).collect();
    assert_eq!(out, expected, "{} with lengths {lens:?}", kernels[0].name);
}

#[test]
fn rfc_1321_vectors() {
    for (text, expected) in RFC {
        assert_eq!(hex(&md5(text.as_bytes())), expected, "{text}");
        for kernel in available() {
            let mut out = vec![[0; 16]; kernel.lanes];
            (kernel.run)(&vec![text.as_bytes(); kernel.lanes], &mut out);
            assert!(out.iter().all(|digest| hex(digest) == expected), "{}: {text}", kernel.name);
        }
    }
}

#[test]
fn rfc_1321_vectors_as_one_batch() {
    let blocks = RFC.map(|(text, _)| text.as_bytes());
    let mut out = [[0; 16]; RFC.len()];
    md5_many(&blocks, &mut out);
    assert_eq!(out.each_ref().map(hex), RFC.map(|(_, expected)| expected));
}

/// Every length around the ends of chunks and of padding, misaligned by the number of the block.
#[test]
fn every_kernel_is_scalar_for_every_length_and_count() {
    let data = bytes(5000);
    for kernels in sets() {
        for len in (0..200).chain([4095, 4096, 4097]) {
            for count in 0..MAX_BLOCKS {
                let blocks: Vec<&[u8]> = (0..count).map(|i| &data[i..i + len]).collect();
                check(&kernels, &blocks);
            }
        }
    }
}

/// A single block goes to the scalar implementation otherwise.
#[test]
fn every_kernel_is_scalar_for_a_single_block() {
    let data = bytes(4096);
    for kernel in available() {
        let mut out = [[0; 16]];
        (kernel.run)(&[&data], &mut out);
        assert_eq!(out, [md5(&data)], "{}", kernel.name);
    }
}

/// A feature of this CPU must not go unused without a word.
#[test]
fn what_the_cpu_has_is_tested() {
    let names: Vec<&str> = available().map(|kernel| kernel.name).collect();
    println!("digest implementations tested: {names:?}");
    let mut expected = vec![];
    #[cfg(target_arch = "x86_64")]
    {
        expected.extend(is_x86_feature_detected!("avx512f").then_some("avx512"));
        expected.extend(is_x86_feature_detected!("avx2").then_some("avx2"));
        expected.push("sse2");
    }
    #[cfg(target_arch = "aarch64")]
    expected.push("neon");
    expected.push("scalar");
    assert_eq!(names, expected);
    assert_eq!(name(), expected[0]);
}

#[test]
fn leftovers_go_to_the_narrowest_kernel_that_takes_them() {
    let kernels = chosen();
    assert!(kernels.is_sorted_by(|a, b| a.lanes > b.lanes));
    for count in 1..=kernels[0].lanes {
        let lanes = batch::narrowest(kernels, count).lanes;
        assert!(lanes >= count);
        assert!(kernels.iter().all(|k| k.lanes < count || k.lanes >= lanes), "{count} blocks");
    }
    assert_eq!(batch::narrowest(kernels, 1).name, "scalar");
}

#[test]
#[should_panic(expected = "one digest for each block")]
fn outputs_must_match_blocks() {
    md5_many(&[b"a", b"b"], &mut [[0; 16]]);
}

proptest! {
    /// Lengths from a small set make runs of neighbours, those from a large one break them.
    #[test]
    fn every_kernel_is_scalar_for_mixed_lengths(
        lens in prop::collection::vec(
            prop_oneof![3 => Just(4096usize), 2 => 55usize..66, 1 => 0usize..9000],
            0..MAX_BLOCKS,
        ),
        seed in any::<u64>(),
    ) {
        let data = bytes(16 << 10);
        let start = |i: usize| (seed.rotate_left(i as u32) % 7000) as usize;
        let blocks: Vec<&[u8]> =
            lens.iter().enumerate().map(|(i, &len)| &data[start(i)..start(i) + len]).collect();
        for kernels in sets() {
            check(&kernels, &blocks);
        }
    }
}
