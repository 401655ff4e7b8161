use proptest::prelude::*;

use super::*;

#[test]
fn too_few_answers_say_nothing() {
    let latencies = Latencies::default();
    for _ in 1..ENOUGH {
        latencies.record(Class::Look, Duration::from_millis(1));
        assert_eq!(latencies.quantile(Class::Look, 0.5), None);
    }
    latencies.record(Class::Look, Duration::from_millis(1));
    assert!(latencies.quantile(Class::Look, 0.5).is_some());
    assert_eq!(latencies.quantile(Class::Long, 0.5), None);
}

#[test]
fn what_is_recent_counts_most() {
    let latencies = Latencies::default();
    (0..10 * HALVED_AT).for_each(|_| latencies.record(Class::Change, Duration::from_micros(100)));
    let before = latencies.quantile(Class::Change, 0.9).unwrap();
    assert!(before < Duration::from_micros(130), "{before:?}");
    (0..HALVED_AT).for_each(|_| latencies.record(Class::Change, Duration::from_millis(80)));
    let after = latencies.quantile(Class::Change, 0.5).unwrap();
    assert!(after > Duration::from_millis(80), "{after:?}");
}

proptest! {
    /// A bucket ends where the next one begins, and is no wider than a quarter of its octave.
    #[test]
    fn a_latency_is_told_to_a_quarter(micros in 16_u64..30_000_000) {
        let (latency, end) = (Duration::from_micros(micros), end_of(bucket_of(Duration::from_micros(micros))));
        prop_assert!(latency < end && end <= latency * 5 / 4 + Duration::from_micros(1), "{latency:?} {end:?}");
        prop_assert!(bucket_of(end) == bucket_of(latency) + 1);
    }

    #[test]
    fn a_quantile_is_what_so_many_did_not_exceed(
        micros in prop::collection::vec(16_u64..1_000_000, ENOUGH as usize..500),
        share in 0.01_f64..1.0,
    ) {
        let latencies = Latencies::default();
        micros.iter().for_each(|m| latencies.record(Class::Look, Duration::from_micros(*m)));
        let mut sorted = micros;
        sorted.sort_unstable();
        let exact = sorted[(sorted.len() as f64 * share).ceil() as usize - 1];
        prop_assert_eq!(
            latencies.quantile(Class::Look, share).unwrap(),
            end_of(bucket_of(Duration::from_micros(exact)))
        );
    }
}

#[test]
fn anything_fits() {
    let latencies = Latencies::default();
    for latency in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(3600), Duration::MAX] {
        (0..ENOUGH).for_each(|_| latencies.record(Class::Other, latency));
        assert!(latencies.quantile(Class::Other, 1.0).is_some());
    }
}
