//! Limits: a peer cannot make us allocate what it did not send.

use serde_bytes::ByteBuf;

use super::*;
use crate::ids::{Digest, Digests};

fn encoded<T: Serialize>(message: &T) -> Vec<u8> {
    let mut out = Vec::new();
    encode(message, PAGE_BODY_MAX, &mut out).unwrap();
    out
}

#[test]
fn fixed_little_endian_integers() {
    assert_eq!(encoded(&(1u8, 2u16, 3u32, 4u64, -1i64)).len(), 1 + 2 + 4 + 8 + 8);
    assert_eq!(encoded(&0x0102_0304u32), [4, 3, 2, 1]);
    assert_eq!(encoded(&"ab"), [2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b']);
    assert_eq!(encoded(&Some(true)), [1, 1]);
    assert_eq!(encoded(&Digests(vec![Digest([5; 16])])).len(), 8 + 16);
}

#[test]
fn lengths_that_were_not_sent() {
    for len in [1u64 << 60, u64::MAX, PAGE_BODY_MAX as u64 + 1, 1 << 32, 5] {
        let noise = [&len.to_le_bytes()[..], &[0; 4]].concat();
        let used = allocation_counter::measure(|| {
            assert!(decode::<Vec<u8>>(&noise, PAGE_BODY_MAX).is_err());
            assert!(decode::<Vec<u64>>(&noise, PAGE_BODY_MAX).is_err());
            assert!(decode::<Vec<Vec<u64>>>(&noise, PAGE_BODY_MAX).is_err());
            assert!(decode::<String>(&noise, PAGE_BODY_MAX).is_err());
            assert!(decode::<ByteBuf>(&noise, PAGE_BODY_MAX).is_err());
            assert!(decode::<Digests>(&noise, PAGE_BODY_MAX).is_err());
        });
        assert!(used.bytes_max <= 2 << 20, "{} bytes for length {len}", used.bytes_max);
    }
}

#[test]
fn too_long_and_too_much() {
    let bytes = encoded(&vec![0u8; 92]);
    assert!(decode::<Vec<u8>>(&bytes, 100).is_ok());
    assert!(matches!(decode::<Vec<u8>>(&bytes, 99), Err(CodecError::TooLong { len: 100, max: 99 })));
    assert!(matches!(decode::<u8>(&[1, 2, 3], 9), Err(CodecError::Trailing(2))));
    let mut out = vec![9];
    assert!(matches!(encode(&vec![0u8; 92], 99, &mut out), Err(CodecError::TooLong { len: 100, max: 99 })));
    let huge = vec![0u8; PAGE_BODY_MAX];
    assert!(encode(&huge, PAGE_BODY_MAX, &mut Vec::new()).is_err());
}

#[test]
fn encode_appends() {
    let mut out = vec![9];
    encode(&7u8, 1, &mut out).unwrap();
    assert_eq!(out, [9, 7]);
}

#[test]
fn what_is_no_value() {
    assert!(decode::<bool>(&[2], 9).is_err());
    assert!(decode::<Option<u8>>(&[2, 0], 9).is_err());
    assert!(decode::<String>(&[1, 0, 0, 0, 0, 0, 0, 0, 0xff], 9).is_err());
    assert!(decode::<Digests>(&[&[15, 0, 0, 0, 0, 0, 0, 0][..], &[0; 15]].concat(), 99).is_err());
}
