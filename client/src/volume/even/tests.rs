use net_raid_proto::ids::ObjectId;
use net_raid_proto::layout::{Layout, Level};

use super::*;

/// Blocks of a row of units in these tests.
const BLOCKS: usize = 3;
const LEN: usize = BLOCKS * BLOCK_SIZE;

fn geometry(level: Level, width: usize) -> Geometry {
    Geometry::new(Layout::new(level, width), ObjectId(1))
}

fn store(index: usize, bytes: Vec<u8>) -> Store {
    Store { piece: Piece { stripe: 0, index, start: 0, end: bytes.len() }, bytes: bytes.into() }
}

fn unit(seed: usize) -> Vec<u8> {
    (0..LEN).map(|i| (i * 31 + seed * 77 + i / 255) as u8 | 1).collect()
}

/// The stripe that a write of the data units `written` makes, the others being `rest`.
fn whole(geometry: &Geometry, written: Range<usize>, rest: &[u8]) -> Vec<Vec<u8>> {
    let data_unit = |index| if written.contains(&index) { unit(index) } else { rest.to_vec() };
    let mut units: Vec<Vec<u8>> = (0..geometry.data_units()).map(data_unit).collect();
    let data: Vec<&[u8]> = units.iter().map(Vec::as_slice).collect();
    let (mut p, mut q) = (vec![0; LEN], vec![0; LEN]);
    match geometry.level() {
        Level::Raid6 => parity::generate_pq(&data, &mut p, &mut q),
        _ => parity::generate_p(&data, &mut p),
    }
    units.extend([p, q]);
    units.truncate(geometry.width());
    units
}

/// Writes units 0 and 1, lacks what `absent` says of (index, block), and returns all units as they are to be.
fn evened(geometry: &Geometry, rest: &[u8], size: u64, absent: &[(usize, usize)]) -> Vec<Vec<u8>> {
    let mut units = whole(geometry, 0..2, rest);
    let touched = |index: &usize| *index < 2 || *index >= geometry.data_units();
    let stores: Vec<Store> = (0..units.len()).filter(touched).map(|index| store(index, units[index].clone())).collect();
    let lacking: Vec<Vec<bool>> = stores
        .iter()
        .map(|store| (0..BLOCKS).map(|block| absent.contains(&(store.piece.index, block))).collect())
        .collect();
    let stores: Vec<&Store> = stores.iter().collect();
    for (store, target) in stores.iter().zip(targets(geometry, size, &stores, &lacking)) {
        units[store.piece.index] = target.to_vec();
    }
    let slices: Vec<&[u8]> = units.iter().map(Vec::as_slice).collect();
    assert!(parity::check(&slices, geometry.data_units()), "{absent:?}: parity does not match");
    units
}

fn block(units: &[Vec<u8>], index: usize, block: usize) -> &[u8] {
    &units[index][block * BLOCK_SIZE..][..BLOCK_SIZE]
}

const ZEROS: [u8; BLOCK_SIZE] = [0; BLOCK_SIZE];

#[test]
fn a_lacking_block_stays_zeros_and_parity_follows() {
    for (level, width) in [(Level::Raid5, 4), (Level::Raid6, 5), (Level::Raid6, 6)] {
        let units = evened(&geometry(level, width), &unit(9), u64::MAX, &[(1, 2), (0, 0)]);
        assert_eq!((block(&units, 1, 2), block(&units, 0, 0)), (&ZEROS[..], &ZEROS[..]));
        assert_eq!(block(&units, 0, 1), &unit(0)[BLOCK_SIZE..2 * BLOCK_SIZE], "what there is room for is new");
    }
}

#[test]
fn a_row_that_lacks_parity_is_zeros() {
    for (level, width) in [(Level::Raid5, 3), (Level::Raid6, 4), (Level::Raid6, 6)] {
        let geometry = geometry(level, width);
        for parity in geometry.data_units()..width {
            let units = evened(&geometry, &[0; LEN], u64::MAX, &[(parity, 1)]);
            (0..width).for_each(|index| assert_eq!(block(&units, index, 1), ZEROS));
            assert_eq!(block(&units, 0, 0), &unit(0)[..BLOCK_SIZE]);
        }
    }
}

#[test]
fn what_is_beyond_the_end_is_zeros() {
    let size = net_raid_proto::limits::UNIT_SIZE as u64 + 100;
    let units = evened(&geometry(Level::Raid6, 6), &[0; LEN], size, &[(0, 1)]);
    assert_eq!(units[1][..100], unit(1)[..100]);
    assert!(units[1][100..].iter().all(|byte| *byte == 0));
}

#[test]
fn runs_are_what_is_there() {
    let bytes = |blocks: Range<usize>| blocks.start * BLOCK_SIZE..blocks.end * BLOCK_SIZE;
    assert_eq!(present_runs(&[false, false, true, false]), vec![bytes(0..2), bytes(3..4)]);
    assert!(present_runs(&[true, true]).is_empty());
}
