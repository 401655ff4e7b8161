use super::*;

const MIB: u64 = 1 << 20;

fn ms(millis: f64) -> Duration {
    Duration::from_secs_f64(millis / 1000.0)
}

/// Latencies of which one of a hundred takes `slowest` and the others between 1 and 2 ms.
fn latency(number: u64, slowest: f64) -> Duration {
    if number % 100 == 37 { ms(slowest) } else { ms(1.0 + (number * 7919 % 100) as f64 / 100.0) }
}

fn known() -> Throttle {
    let mut throttle = Throttle::default();
    (0..10_000).for_each(|number| throttle.note_alone(Kind::Read, latency(number, 5.0)));
    throttle
}

#[test]
fn what_is_usual_is_the_99th_percentile() {
    let usual = known().usual[Kind::Read as usize];
    assert!((1_900.0..5_500.0).contains(&usual), "{usual} us");
    assert_eq!(known().usual[Kind::Write as usize], 0.0);
}

/// Where the tail grows with the rate, it comes to rest where that has grown by a half.
#[test]
fn users_take_half_as_long_again() {
    let mut throttle = known();
    let usual = throttle.usual[Kind::Read as usize] / 1000.0;
    // At 200 MB/s the slowest hundredth takes twice as long as usual.
    let tail = |rate: f64| usual * (1.0 + rate / 200e6);
    let mut rates = Vec::new();
    for number in 0..100_000 {
        let took = latency(number, tail(throttle.rate));
        throttle.note_beside(Kind::Read, took, ms(number as f64));
        rates.push(throttle.rate);
    }
    let late = &rates[50_000..];
    let mean = late.iter().sum::<f64>() / late.len() as f64;
    assert!((60e6..140e6).contains(&mean), "{mean} bytes a second");
}

#[test]
fn it_never_stops_and_never_loses_count() {
    let mut throttle = known();
    (0..10_000).for_each(|number| throttle.note_beside(Kind::Read, ms(500.0), ms(number as f64 * 30.0)));
    assert_eq!(throttle.rate, RATE_MIN);
    (0..10_000).for_each(|number| throttle.note_beside(Kind::Read, ms(1.0), ms(number as f64)));
    assert_eq!(throttle.rate, RATE_MAX);
    // Of what is not known nothing follows.
    throttle.note_beside(Kind::Sync, ms(1e6), ms(1e6));
    assert_eq!(throttle.rate, RATE_MAX);
}

#[test]
fn what_one_cause_makes_slow_counts_once() {
    let mut throttle = known();
    (0..20).for_each(|_| throttle.note_beside(Kind::Read, ms(500.0), ms(1000.0)));
    assert!((RATE_FIRST / 2.0..RATE_FIRST).contains(&throttle.rate), "{}", throttle.rate);
}

#[test]
fn copies_are_admitted_at_the_rate_and_not_while_the_usual_is_measured() {
    let mut throttle = Throttle::default();
    let begin = Duration::from_millis(5_500);
    let mut last = begin;
    let mut bytes = 0;
    while last < begin + Duration::from_secs(10) {
        last = throttle.admit(MIB, begin);
        bytes += MIB;
        assert!(last.subsec_millis() >= 100, "{last:?}");
    }
    let rate = bytes as f64 / (last - begin).as_secs_f64();
    assert!((0.85 * RATE_FIRST..0.95 * RATE_FIRST).contains(&rate), "{rate}");
    throttle.forgive(begin);
    assert_eq!(throttle.admit(1, begin), begin);
    assert_eq!(throttle.admit(1, begin), begin + Duration::from_secs_f64(FILE_COST as f64 / RATE_FIRST));
}
