//! Every limit of the wire and of the brick format, in bytes unless the name says otherwise.

/// Bytes that one digest covers.
pub const BLOCK_SIZE: usize = 4096;
/// Bytes of one stripe on one member.
pub const UNIT_SIZE: usize = 64 * 1024;
/// Blocks of one unit.
pub const BLOCKS_PER_UNIT: usize = UNIT_SIZE / BLOCK_SIZE;
/// Members of one volume.
pub const MEMBERS_MAX: usize = 16;
/// Voters of one volume: its members, and as many of its spares as fit.
pub const VOTERS_MAX: usize = 64;
/// Bricks in a membership record that are no members any more.
pub const FORMERS_MAX: usize = 64;
/// Bytes of a frame's body, directory pages excepted.
pub const BODY_MAX: usize = 64 * 1024;
/// Bytes of the body of a reply that holds a directory page.
pub const PAGE_BODY_MAX: usize = 1024 * 1024;
/// Bytes of a frame's payload.
pub const PAYLOAD_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a name (Linux NAME_MAX).
pub const NAME_MAX: usize = 255;
/// Bytes of a symbolic link's target (Linux PATH_MAX less its NUL).
pub const TARGET_MAX: usize = 4095;
/// Bytes of an extended attribute's value (Linux XATTR_SIZE_MAX).
pub const XATTR_VALUE_MAX: usize = 64 * 1024;
/// Bytes of an extended attribute's name (Linux XATTR_NAME_MAX).
pub const XATTR_NAME_MAX: usize = 255;
/// Parts (pieces of one unit each) of one read or write request.
pub const PARTS_MAX: usize = 128;
/// Bytes of a note.
pub const NOTE_MAX: usize = 16 * 1024;
/// Milliseconds without a frame from the owner after which another client may take over.
pub const LEASE_MS: u64 = 5_000;
/// Milliseconds between two signs of life from the owner.
pub const RENEW_MS: u64 = 1_000;

const _: () = assert!(UNIT_SIZE.is_multiple_of(BLOCK_SIZE));
const _: () = assert!(RENEW_MS * 3 <= LEASE_MS);
// A write of PARTS_MAX whole units carries its digests in the body and its bytes in the payload.
const _: () = assert!(PARTS_MAX * (BLOCKS_PER_UNIT * 16 + 64) <= BODY_MAX);
const _: () = assert!(NOTE_MAX < BODY_MAX);
const _: () = assert!(MEMBERS_MAX <= VOTERS_MAX);
// One a slot, and spares.
const _: () = assert!(MEMBERS_MAX < FORMERS_MAX);
const _: () = assert!(XATTR_VALUE_MAX <= PAYLOAD_MAX);
