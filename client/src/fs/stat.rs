//! Attributes as programs see them, made from those that bricks keep.

use net_raid_proto::ids::{ObjectId, Timestamp};
use net_raid_proto::layout::{Layout, Level};
use net_raid_proto::limits::{BLOCK_SIZE, UNIT_SIZE};
use net_raid_proto::message::{Attr, Kind};

/// Bytes of the blocks that stat(2) counts.
const SECTOR: u64 = 512;
/// Sectors of a block of a file system, the least that data takes.
pub(super) const BLOCK_SECTORS: u64 = BLOCK_SIZE as u64 / SECTOR;
const UNIT_SECTORS: u64 = UNIT_SIZE as u64 / SECTOR;
/// Bytes of the largest file of a brick: ext4 with 4 KiB blocks.
const BRICK_FILE_MAX: u64 = (16 << 40) - BLOCK_SIZE as u64;

/// Attributes as a program sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The object, also its inode number.
    pub id: ObjectId,
    /// Type.
    pub kind: Kind,
    /// Permission, set-id and sticky bits (0o7777).
    pub mode: u32,
    /// Names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Time of last access.
    pub atime: Timestamp,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Time of last change.
    pub ctime: Timestamp,
}

impl Stat {
    /// The view of `attr`, which has the present size.
    pub(super) fn new(id: ObjectId, layout: &Layout, attr: &Attr) -> Stat {
        Stat {
            id,
            kind: attr.kind.clone(),
            mode: attr.mode,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            size: attr.size,
            blocks: blocks(layout, attr),
            atime: attr.atime,
            mtime: attr.mtime,
            ctime: attr.ctime,
        }
    }
}

/// Largest size of a file of `layout`: whole units of the largest file of a brick, and what `off_t` can say.
pub(super) fn size_max(layout: &Layout) -> u64 {
    let brick = match layout.level {
        Level::Raid1 => BRICK_FILE_MAX,
        Level::Raid5 | Level::Raid6 => BRICK_FILE_MAX - BRICK_FILE_MAX % UNIT_SIZE as u64,
    };
    brick.saturating_mul(layout.data_units() as u64).min(i64::MAX as u64)
}

/// Sectors of a file of `size` bytes without holes.
pub(super) fn dense_blocks(size: u64) -> u64 {
    size.div_ceil(BLOCK_SIZE as u64) * BLOCK_SECTORS
}

/// Sectors that an object takes as a program sees it.
///
/// RAID-1 answers what the brick says. For the other levels one brick's number stands for all: it is scaled, with one
/// stripe to spare because the members differ by up to a unit at the end, and capped by a file without
/// holes. It errs upwards: `tar --sparse` takes 0 for "all hole", and cp looks for holes when there are fewer
/// blocks than bytes, which costs time but is right.
fn blocks(layout: &Layout, attr: &Attr) -> u64 {
    if attr.kind != Kind::File || layout.level == Level::Raid1 {
        return attr.brick_blocks;
    }
    let data_units = layout.data_units() as u64;
    (attr.brick_blocks.saturating_add(UNIT_SECTORS)).saturating_mul(data_units).min(dense_blocks(attr.size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(level: Level, width: usize, size: u64, brick_blocks: u64) -> u64 {
        let time = Timestamp::default();
        let attr = Attr {
            kind: Kind::File,
            mode: 0o644,
            nlink: 1,
            uid: 0,
            gid: 0,
            size,
            brick_blocks,
            atime: time,
            mtime: time,
            ctime: time,
        };
        blocks(&Layout::new(level, width), &attr)
    }

    #[test]
    fn raid1_says_what_the_brick_says() {
        assert_eq!(of(Level::Raid1, 2, 1 << 40, 16), 16);
        assert_eq!(of(Level::Raid1, 2, 5, 0), 0);
    }

    #[test]
    fn striped_files_without_holes_are_full() {
        assert_eq!(of(Level::Raid6, 6, 0, 0), 0);
        assert_eq!(of(Level::Raid6, 6, 5, 8), 8);
        // This member holds no unit of a small file.
        assert_eq!(of(Level::Raid5, 3, 5, 0), 8);
        // A stripe and a unit; this member holds one unit of it.
        assert_eq!(of(Level::Raid5, 3, 3 * 65536, 128), 3 * 128);
        assert_eq!(of(Level::Raid6, 6, 1 << 30, (1 << 30) / 512 / 4), (1 << 30) / 512);
    }

    #[test]
    fn sparse_files_show_few() {
        assert!(of(Level::Raid6, 6, 8 << 40, 0) <= 4 * 128);
        assert!(of(Level::Raid5, 3, 8 << 40, 256) <= 2 * (256 + 128));
        assert!(of(Level::Raid5, 3, 8 << 40, 0) > 0);
    }

    #[test]
    fn sizes_end_where_bricks_and_offsets_end() {
        assert_eq!(size_max(&Layout::new(Level::Raid1, 2)), (16 << 40) - 4096);
        assert_eq!(size_max(&Layout::new(Level::Raid5, 3)), 2 * ((16 << 40) - 65536));
        assert!(size_max(&Layout::new(Level::Raid6, 16)) <= i64::MAX as u64);
    }
}
