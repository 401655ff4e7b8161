use super::*;

const SLOT: Slot = Slot(3);

/// Seconds for which a member is avoided that was late.
async fn avoided(hedges: &Hedges) -> u64 {
    let start = Instant::now();
    while hedges.slow().has(SLOT) {
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    start.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn who_is_late_again_and_again_is_avoided_longer_and_longer() {
    let hedges = Hedges::default();
    assert!(hedges.slow().is_empty());
    for expected in [1, 2, 4, 8, 16, 32, 32, 32] {
        // Reads that were under way count once.
        (0..5).for_each(|_| hedges.late(SLOT));
        assert_eq!(hedges.slow(), SlotSet::default().with(SLOT));
        assert_eq!(avoided(&hedges).await, expected);
    }
    hedges.in_time(SLOT);
    hedges.late(SLOT);
    assert_eq!(avoided(&hedges).await, 1);
}
