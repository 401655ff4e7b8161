//! Every message there and back, cut anywhere, and made of noise.

mod golden;
pub(crate) mod strategies;
mod variants;

use std::fmt::Debug;

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::codec::{CodecError, decode, encode};
use crate::ids::Digest;
use crate::limits::{
    BLOCKS_PER_UNIT, BODY_MAX, PAGE_BODY_MAX, PARTS_MAX, TARGET_MAX, UNIT_SIZE, XATTR_NAME_MAX, XATTR_VALUE_MAX,
};
use strategies::{answer, name, request};

pub(crate) fn bytes<T: Serialize>(message: &T) -> Vec<u8> {
    let mut out = Vec::new();
    encode(message, PAGE_BODY_MAX, &mut out).unwrap();
    out
}

/// There and back; every shorter piece, and one byte more, is an error.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(message: &T) {
    let mut whole = bytes(message);
    assert_eq!(&decode::<T>(&whole, PAGE_BODY_MAX).unwrap(), message);
    // All lengths of a short message; the first and last bytes, and some between, of a long one.
    let step = whole.len() / 512 + 1;
    let cuts = (0..whole.len()).filter(|cut| cut % step == 0 || cut + 64 > whole.len());
    cuts.for_each(|cut| assert!(decode::<T>(&whole[..cut], PAGE_BODY_MAX).is_err(), "cut at {cut}"));
    whole.push(0);
    assert!(matches!(decode::<T>(&whole, PAGE_BODY_MAX), Err(CodecError::Trailing(1))));
}

/// Noise, and a message with one byte changed: an error or another message, and bounded memory.
fn check_noise<T: DeserializeOwned>(noise: &[u8]) {
    let used = allocation_counter::measure(|| drop(decode::<T>(noise, PAGE_BODY_MAX)));
    // serde reserves at most 1 MiB for a length that it was told and did not see yet.
    let limit = (2 << 20) + 4 * noise.len() as u64;
    assert!(used.bytes_max <= limit, "{} bytes for {}", used.bytes_max, noise.len());
}

proptest! {
    #[test]
    fn requests(message in request()) {
        check(&message);
        prop_assert!(bytes(&message).len() <= BODY_MAX);
    }

    #[test]
    fn answers(message in answer()) {
        check(&message);
    }

    #[test]
    fn noise(variant in 0u32..30, tail in prop::collection::vec(any::<u8>(), 0..200)) {
        let noise = [&variant.to_le_bytes()[..], &tail].concat();
        check_noise::<Request>(&noise);
        check_noise::<Answer>(&noise);
        check_noise::<Answer>(&[&[0; 4][..], &noise].concat());
        check_noise::<Request>(&[&11u32.to_le_bytes()[..], &[0; 20], &noise].concat());
    }

    #[test]
    fn one_byte_changed(message in request(), reply in answer(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let (mut one, mut two) = (bytes(&message), bytes(&reply));
        let (in_one, in_two) = (at.index(one.len()), at.index(two.len()));
        (one[in_one], two[in_two]) = (to, to);
        check_noise::<Request>(&one);
        check_noise::<Answer>(&two);
    }
}

#[test]
fn the_largest_messages_fit() {
    let digests = Digests(vec![Digest([7; 16]); BLOCKS_PER_UNIT]);
    let part = Part { unit: u64::MAX, offset: 0, len: UNIT_SIZE as u32 };
    let parts = vec![WritePart { part, stored: UNIT_SIZE as u32, digests: digests.clone() }; PARTS_MAX];
    let time = Some(Timestamp { secs: 1, nanos: 2 });
    let write = Change::Write { id: ObjectId::ROOT, size: Some(1), mtime: time, mode: Some(0), parts };
    let change = Request::Change {
        transaction: Transaction(1),
        generation: Generation(1),
        participants: 1,
        now: Timestamp::default(),
        change: write,
    };
    assert!(bytes(&change).len() <= BODY_MAX);

    let records = vec![PartRecord { generation: Generation(1), digests }; PARTS_MAX];
    let reply: Answer = Ok(Reply::Read(records));
    assert!(bytes(&reply).len() <= BODY_MAX);

    let spec = NewObject {
        kind: Kind::Symlink,
        mode: 0o777,
        uid: 0,
        gid: 0,
        target: vec![b't'; TARGET_MAX],
        layout: strategies::a_layout(),
        xattrs: vec![(vec![b'n'; XATTR_NAME_MAX].into(), vec![b'v'; 4096].into()); 2],
    };
    let parent = ObjectId::ROOT;
    let name = Name::new(&[b'n'; 255]).unwrap();
    let create = Change::Create { parent, name, id: ObjectId(2), spec: Box::new(spec) };
    assert!(bytes(&create).len() <= BODY_MAX);
}

/// The longest value that `getxattr` may return is 64 KiB, and travels in a body of 64 KiB.
#[test]
fn the_longest_xattr_value_that_fits_a_reply() {
    let reply = |len| bytes::<Answer>(&Ok(Reply::Bytes(vec![0; len]))).len();
    assert_eq!(reply(0), 16);
    assert_eq!(reply(XATTR_VALUE_MAX - 16), BODY_MAX);
}

#[test]
fn a_path_of_path_max_fits() {
    let path = vec![Name::new(b"n").unwrap(); 2048];
    assert!(bytes(&Request::Resolve { id: ObjectId::ROOT, path }).len() <= BODY_MAX);
}

#[test]
fn lengths_that_nobody_could_send() {
    let variants = |first: u32, fixed: usize| [&first.to_le_bytes()[..], &vec![0; fixed]].concat();
    // Resolve, GetXattr, Read: the length of a Vec follows the id.
    for (variant, fixed) in [(6, 8), (11, 8), (14, 8)] {
        for len in [1 << 60, u64::MAX, 1 << 32, 1 << 21] {
            let noise = [&variants(variant, fixed)[..], &u64::to_le_bytes(len)].concat();
            assert!(decode::<Request>(&noise, BODY_MAX).is_err());
            check_noise::<Request>(&noise);
        }
    }
}

proptest! {
    #[test]
    fn names_that_are_none_are_refused(name in name()) {
        let whole = bytes(&Request::Lookup { parent: ObjectId::ROOT, name: name.clone() });
        let end = whole.len() - name.as_bytes().len();
        for bad in [b'/', 0] {
            let mut changed = whole.clone();
            changed[end] = bad;
            prop_assert!(decode::<Request>(&changed, BODY_MAX).is_err());
        }
    }
}

#[test]
fn faults_are_one_clause() {
    let holder = Holder { host: "host".into(), pid: 7, started_ticks: 0, boot: String::new() };
    for (fault, text) in [
        (Fault::Errno(2), "No such file or directory (os error 2)"),
        (Fault::Unresolved(ObjectId(9)), "object 9 is not known here"),
        (Fault::StaleEpoch(Epoch(4)), "the volume was taken over (epoch 4)"),
        (Fault::Held { holder, age_ms: 5 }, "in use by process 7 on host (last heard of 5 ms ago)"),
        (Fault::Refused("no label".into()), "no label"),
        (Fault::Failed("fsync".into()), "the brick failed: fsync"),
        (Fault::Version { min: 1, max: 2 }, "speaks protocol versions 1 to 2 only"),
    ] {
        assert_eq!(fault.to_string(), text);
    }
}
