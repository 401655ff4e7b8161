use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// How long a pass takes that does all its steps in time, in parts of the period.
fn takes(expected: u64, work: u64, late: Duration) -> f64 {
    let pace = Pace::new(30 * DAY, expected);
    let (step, mut age, mut done) = (1 << 20, late, 0);
    while done < work {
        age += pace.interval(step, done, age);
        done += step;
    }
    age.as_secs_f64() / pace.period.as_secs_f64()
}

#[test]
fn a_pass_takes_its_period() {
    let work = 10_000 << 20;
    assert!((takes(work, work, Duration::ZERO) - 1.0).abs() < 0.01);
    // It was away for a while, and makes up for it, but for the last eighth.
    assert!((takes(work, work, 15 * DAY) - 1.0).abs() < 0.1);
    // It was away for long: it hurries, within bounds.
    let late = takes(work, work, 60 * DAY);
    assert!(late > 2.1 && late < 2.6, "{late}");
    // There was less than was believed, or more.
    assert!((takes(work, work / 2, Duration::ZERO) - 0.5).abs() < 0.01);
    let more = takes(work, 2 * work, Duration::ZERO);
    assert!(more > 1.5 && more < 2.1, "{more}");
}

#[test]
fn nothing_waits_for_longer_than_a_pass() {
    let pace = Pace::new(DAY, 0);
    assert_eq!(pace.interval(u64::MAX, 0, Duration::ZERO), DAY);
    assert_eq!(pace.interval(0, u64::MAX, 9 * DAY), Duration::ZERO);
}

#[test]
fn users_are_given_way_for_a_moment() {
    assert_eq!(Pace::give_way(Duration::ZERO), GIVE_WAY.0);
    assert_eq!(Pace::give_way(DAY), GIVE_WAY.1);
    assert_eq!(Pace::note_every(30 * DAY), NOTE_EVERY);
    assert_eq!(Pace::start_after(Duration::from_secs(60)), Duration::from_secs(1));
}
