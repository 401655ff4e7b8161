use super::*;

fn geometries() -> Vec<Geometry> {
    let mut all = Vec::new();
    for (level, widths) in [(Level::Raid1, 2..=16), (Level::Raid5, 3..=16), (Level::Raid6, 4..=16)] {
        for width in widths {
            all.extend((0..3).map(|id| Geometry::new(Layout::new(level, width), ObjectId(1 << 40 | id))));
        }
    }
    all
}

#[test]
fn every_slot_holds_one_index_of_every_stripe() {
    for geometry in geometries() {
        for stripe in [0, 1, 2, 15, 16, 17, u64::MAX / 1_000_000] {
            let slots: SlotSet = (0..geometry.width()).map(|index| geometry.slot(stripe, index)).collect();
            assert_eq!(slots, SlotSet::all(geometry.width()), "{geometry:?} stripe {stripe}");
            for index in 0..geometry.width() {
                assert_eq!(geometry.index_at(stripe, geometry.slot(stripe, index)), Some(index));
            }
        }
    }
}

#[test]
fn parity_rotates_over_all_slots() {
    for geometry in geometries().into_iter().filter(|g| g.level() != Level::Raid1) {
        let parity: SlotSet =
            (0..geometry.width() as u64).map(|stripe| geometry.slot(stripe, geometry.data_units())).collect();
        assert_eq!(parity.len(), geometry.width());
    }
}

#[test]
fn pieces_cover_the_range_in_order() {
    for geometry in geometries() {
        for (start, end) in [(0, BLOCK), (UNIT - BLOCK, UNIT + BLOCK), (BLOCK, 40 * UNIT), (7 * UNIT, 9 * UNIT)] {
            let mut at = start;
            for piece in geometry.pieces(start, end) {
                assert_eq!(geometry.logical(piece.stripe, piece.index) + piece.start as u64, at);
                assert!(!piece.is_empty() && piece.end as u64 <= UNIT);
                at += piece.len() as u64;
            }
            assert_eq!(at, end);
        }
    }
}

/// The slow way to the same number: the furthest byte that any stripe puts into the slot.
fn brick_len_by_hand(geometry: &Geometry, size: u64, slot: Slot) -> u64 {
    let mut len = 0;
    for piece in geometry.pieces(0, block_ceil(size)) {
        let logical = geometry.logical(piece.stripe, piece.index);
        let bytes = (size - logical).min(UNIT);
        let index = geometry.index_at(piece.stripe, slot).expect("every slot is used");
        let holds = index == piece.index || index >= geometry.data_units() || geometry.level() == Level::Raid1;
        if holds {
            len = len.max(piece.stripe * UNIT + bytes);
        }
    }
    len
}

#[test]
fn brick_lengths_follow_from_the_pieces() {
    for geometry in geometries() {
        for size in [0, 1, 4095, 4096, UNIT - 1, UNIT, UNIT + 1, 3 * UNIT, 5 * UNIT + 7, 33 * UNIT, 64 * UNIT + 9] {
            for slot in geometry.slots().iter() {
                let by_hand = brick_len_by_hand(&geometry, size, slot);
                assert_eq!(geometry.brick_len(size, slot), by_hand, "{geometry:?} size {size} slot {slot}");
            }
        }
    }
}

#[test]
fn small_files_use_every_member() {
    let layout = Layout::new(Level::Raid6, 6);
    let first: SlotSet = (0..6).map(|id| Geometry::new(layout, ObjectId(id)).slot(0, 0)).collect();
    assert_eq!(first.len(), 6);
}
