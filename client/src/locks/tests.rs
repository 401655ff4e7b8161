use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn exclusive_ranges_wait_only_where_they_meet() {
    let locks = RangeLocks::default();
    let Poll::Ready(low) = poll(pin!(locks.lock(0, 3, true))) else { panic!("free") };
    assert!(poll(pin!(locks.lock(4, 9, true))).is_ready());
    let mut meets = pin!(locks.lock(3, 4, true));
    assert!(poll(meets.as_mut()).is_pending());
    drop(low);
    assert!(poll(meets).is_ready());
}

#[test]
fn shared_ranges_meet() {
    let locks = RangeLocks::default();
    let Poll::Ready(_one) = poll(pin!(locks.lock(0, 3, false))) else { panic!("free") };
    let Poll::Ready(_two) = poll(pin!(locks.lock(2, 5, false))) else { panic!("shared") };
    assert!(poll(pin!(locks.lock(5, 5, true))).is_pending());
}

#[test]
fn a_writer_is_not_overtaken_by_later_readers() {
    let locks = RangeLocks::default();
    let Poll::Ready(reader) = poll(pin!(locks.lock(0, 0, false))) else { panic!("free") };
    let mut writer = pin!(locks.lock(0, 0, true));
    assert!(poll(writer.as_mut()).is_pending());
    let mut late = pin!(locks.lock(0, 0, false));
    assert!(poll(late.as_mut()).is_pending());
    drop(reader);
    let Poll::Ready(held) = poll(writer) else { panic!("the writer's turn") };
    assert!(poll(late.as_mut()).is_pending());
    drop(held);
    assert!(poll(late).is_ready());
}

#[test]
fn a_wait_that_is_given_up_blocks_nobody() {
    let locks = RangeLocks::default();
    let Poll::Ready(reader) = poll(pin!(locks.lock(0, 0, false))) else { panic!("free") };
    {
        let writer = locks.lock(0, 0, true);
        assert!(poll(pin!(writer)).is_pending());
    }
    assert!(poll(pin!(locks.lock(0, 0, false))).is_ready());
    drop(reader);
    assert!(poll(pin!(locks.lock_all())).is_ready());
}
