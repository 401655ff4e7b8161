use super::*;

fn check(outcomes: &[Outcome], expected: Verdict) {
    let outcomes: Vec<(Slot, Outcome)> =
        outcomes.iter().enumerate().map(|(slot, outcome)| (Slot(slot as u8), outcome.clone())).collect();
    assert_eq!(judge(&outcomes), expected, "{outcomes:?}");
}

#[test]
fn verdicts() {
    let (done, lost) = (Outcome::Done, Outcome::Lost("gone".into()));
    let (full, exists) = (Outcome::Errno(libc::ENOSPC), Outcome::Errno(libc::EEXIST));
    let only = |slot| [Slot(slot)].into_iter().collect();
    check(&[done.clone(), done.clone()], Verdict::Done);
    check(&[done.clone(), lost.clone()], Verdict::Done);
    check(&[lost.clone(), lost.clone()], Verdict::Nobody);
    check(&[exists.clone(), exists.clone()], Verdict::Refused(libc::EEXIST));
    check(&[exists.clone(), lost.clone()], Verdict::Refused(libc::EEXIST));
    check(&[exists.clone(), full.clone()], Verdict::Refused(libc::ENOSPC));
    check(&[done.clone(), full.clone()], Verdict::Undo(libc::ENOSPC));
    check(&[done.clone(), full.clone(), lost.clone()], Verdict::Undo(libc::ENOSPC));
    check(&[done.clone(), exists.clone()], Verdict::Differs(only(1), libc::EEXIST));
    check(&[exists, done, lost], Verdict::Differs(only(0), libc::EEXIST));
}
