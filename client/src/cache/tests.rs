use super::*;

const KEY: UnitKey = UnitKey { file: 7, stripe: 3, index: 1 };

#[test]
fn blocks_come_back_only_when_all_are_here() {
    let cache = BlockCache::new(1 << 20);
    cache.put(KEY, BLOCK_SIZE, &[7; 2 * BLOCK_SIZE]);
    let mut out = [0; 2 * BLOCK_SIZE];
    assert!(cache.get(&KEY, BLOCK_SIZE, &mut out));
    assert_eq!(out, [7; 2 * BLOCK_SIZE]);
    assert!(!cache.get(&KEY, 2 * BLOCK_SIZE, &mut out));
    cache.forget(&KEY, BLOCK_SIZE, 2 * BLOCK_SIZE);
    assert!(!cache.get(&KEY, BLOCK_SIZE, &mut out));
    assert!(cache.get(&KEY, 2 * BLOCK_SIZE, &mut out[..BLOCK_SIZE]));
    assert_eq!(cache.bytes(), BLOCK_SIZE);
    cache.forget(&KEY, 0, 4 * BLOCK_SIZE);
    assert_eq!(cache.bytes(), 0);
}

#[test]
fn the_limit_holds_and_the_oldest_goes_first() {
    let limit = (SHARDS * 4 * BLOCK_SIZE) as u64;
    let cache = BlockCache::new(limit);
    for stripe in 0..1000 {
        cache.put(UnitKey { stripe, ..KEY }, 0, &[1; BLOCK_SIZE]);
        assert!(cache.bytes() as u64 <= limit);
    }
    let mut out = [0; BLOCK_SIZE];
    assert!(cache.get(&UnitKey { stripe: 999, ..KEY }, 0, &mut out));
    assert!(!cache.get(&UnitKey { stripe: 0, ..KEY }, 0, &mut out));
}
