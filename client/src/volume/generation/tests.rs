use std::task::{Context, Poll, Waker};

use super::*;

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn changes_belong_to_the_present_generation() {
    let generations = Generations::starting_with(Generation(7));
    assert!(!generations.used_after(Generation(6)));
    let first = generations.enter();
    assert_eq!((first.generation(), generations.now()), (Generation(7), Generation(7)));
    assert!(generations.used_after(Generation(6)) && !generations.used_after(Generation(7)));
    assert_eq!(generations.advance(), Generation(7));
    assert!(!generations.used_after(Generation(7)), "nothing was changed since");
    assert_eq!(generations.enter().generation(), Generation(8));
    assert!(generations.used_after(Generation(7)), "a concluded change counts too");
    assert_eq!(first.generation(), Generation(7));
}

#[test]
fn a_generation_is_drained_when_its_last_change_and_all_before_are_concluded() {
    let generations = Generations::starting_with(Generation(1));
    let (a, b) = (generations.enter(), generations.enter());
    generations.advance();
    let later = generations.enter();
    generations.advance();
    let mut first = pin!(generations.drained(Generation(1)));
    let mut second = pin!(generations.drained(Generation(2)));
    assert!(poll(first.as_mut()).is_pending());
    drop(a);
    assert!(poll(first.as_mut()).is_pending());
    drop(later);
    assert!(poll(second.as_mut()).is_pending(), "a change of an earlier generation is under way");
    // Changes of later generations hold up nobody.
    let _newest = generations.enter();
    drop(b);
    assert!(poll(first.as_mut()).is_ready());
    assert!(poll(second.as_mut()).is_ready());
}

#[test]
fn nothing_under_way_is_drained_at_once() {
    let generations = Generations::starting_with(Generation(3));
    assert!(poll(pin!(generations.drained(Generation(3)))).is_ready());
    drop(generations.enter());
    assert!(poll(pin!(generations.drained(Generation(3)))).is_ready());
}

#[test]
fn changes_from_many_threads_are_all_waited_for() {
    let generations = Generations::starting_with(Generation(1));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| drop(generations.enter())));
        }
        scope.spawn(|| (0..100).for_each(|_| assert!(generations.advance() >= Generation(1))));
    });
    assert_eq!(generations.now(), Generation(101));
    assert!(poll(pin!(generations.drained(Generation(101)))).is_ready());
}
