//! Which layouts there are.

use super::*;

const LEVELS: [Level; 3] = [Level::Raid1, Level::Raid5, Level::Raid6];

#[test]
fn levels() {
    for (level, number, members_min, redundancy_of_8, data_units_of_8) in
        [(Level::Raid1, 1, 2, 7, 1), (Level::Raid5, 5, 3, 1, 7), (Level::Raid6, 6, 4, 2, 6)]
    {
        assert_eq!((level.number(), level.members_min()), (number, members_min));
        assert_eq!(level.redundancy(8), redundancy_of_8);
        assert_eq!(Layout::new(level, 8).data_units(), data_units_of_8);
        assert_eq!(level.to_string(), format!("RAID-{number}"));
    }
    (0..=255).for_each(|n| assert_eq!(Level::from_number(n).map_or(n, Level::number), n));
    assert_eq!((0..=255).filter_map(Level::from_number).count(), 3);
}

#[test]
fn new_layouts_of_every_width_are_valid() {
    for level in LEVELS {
        for width in level.members_min()..=MEMBERS_MAX {
            let layout = Layout::new(level, width);
            assert!(layout.is_valid(), "{layout:?}");
            (0..width).for_each(|position| assert_eq!(layout.slot_at(position), position));
            assert!(width == 16 || layout.slots >> (4 * width) == 0, "unused positions are zero");
        }
        for width in [0, level.members_min() - 1, MEMBERS_MAX + 1] {
            assert!(std::panic::catch_unwind(|| Layout::new(level, width)).is_err());
        }
    }
}

#[test]
fn validity() {
    let good = Layout::new(Level::Raid5, 3);
    for (valid, why, layout) in [
        (true, "another order of slots", Layout { slots: 0x102, ..good }),
        (true, "slots beyond the width, as after growing", Layout { slots: 0xfed, ..good }),
        (false, "a slot twice", Layout { slots: 0x011, ..good }),
        (false, "all the same", Layout { slots: 0, ..good }),
        (false, "too narrow", Layout { width: 2, ..good }),
        (false, "no width", Layout { width: 0, ..good }),
        (false, "too wide", Layout { width: 17, slots: IDENTITY_SLOTS, ..good }),
        (false, "far too wide", Layout { width: 255, slots: IDENTITY_SLOTS, ..good }),
        (false, "a smaller unit", Layout { unit_log2: 15, ..good }),
        (false, "a larger unit", Layout { unit_log2: 17, ..good }),
        (false, "no unit", Layout { unit_log2: 0, ..good }),
        (false, "too narrow for Q", Layout { level: Level::Raid6, ..good }),
        (true, "a mirror of three", Layout { level: Level::Raid1, ..good }),
        (true, "all sixteen, reversed", Layout { width: 16, slots: 0x0123_4567_89ab_cdef, ..good }),
        (false, "sixteen with one twice", Layout { width: 16, slots: 0x0123_4567_89ab_cdee, ..good }),
    ] {
        assert_eq!(layout.is_valid(), valid, "{why}");
    }
}
