//! Bytes that are no frames.

use proptest::prelude::*;

use super::*;
use crate::session::trouble::Troubles;

/// Sends `bytes` after `Hello` and closes; returns what was handled in all.
async fn handled_after(bytes: &[u8]) -> usize {
    let mut client = Client::welcome(SlowWork::Inline).await;
    // The session may end before it took everything.
    let _ = client.stream.write_all(bytes).await;
    let _ = client.stream.shutdown().await;
    let context = client.context.clone();
    client.expect_end().await;
    context.service.handled.load(Ordering::Relaxed)
}

#[tokio::test]
async fn truncated_at_every_byte() {
    let whole = frame(1, &echo("some name"), b"and a payload");
    for cut in 0..whole.len() {
        assert_eq!(handled_after(&whole[..cut]).await, 1, "cut at {cut}");
    }
}

#[tokio::test]
async fn every_flipped_bit_is_noticed() {
    let whole = frame(1, &Request::Release { id: ObjectId::ROOT }, b"payload");
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(handled_after(&flipped).await, 1, "bit {bit}");
    }
}

#[tokio::test]
async fn lengths_over_the_limit_end_the_connection_at_once() {
    for (body, payload) in [(BODY_MAX + 1, 0), (PAGE_BODY_MAX, 0), (8, (4 << 20) + 1), (u32::MAX as usize, 0)] {
        let mut client = Client::welcome(SlowWork::Inline).await;
        let mut large = header(1);
        (large.body_len, large.payload_len) = (body as u32, payload as u32);
        client.stream.write_all(&large.encode()).await.unwrap();
        client.expect_end().await;
    }
}

#[tokio::test]
async fn answers_unknown_requests_and_trailing_bytes_end_the_connection() {
    let mut answer = header(1);
    answer.kind = FrameKind::Answer;
    assert_eq!(handled_after(&sealed(answer, &Request::Ping, &[])).await, 1);
    for body in [vec![], vec![0xff; 4], vec![9, 0, 0, 0, 0], vec![0; BODY_MAX]] {
        let mut odd = header(1);
        (odd.body_len, odd.content_crc) = (body.len() as u32, crc32c::crc32c(&body));
        let bytes = [&odd.encode()[..], &body].concat();
        assert_eq!(handled_after(&bytes).await, 1);
    }
}

#[test]
fn garbage_never_panics() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    proptest!(ProptestConfig::with_cases(128), |(bytes in prop::collection::vec(any::<u8>(), 0..300))| {
        prop_assert_eq!(runtime.block_on(handled_after(&bytes)), 1);
    });
}

#[test]
fn one_line_a_minute_and_address() {
    let troubles = Troubles::default();
    let (one, two) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    assert_eq!(troubles.admit(one, 0), Some(0));
    assert_eq!(troubles.admit(one, 1), None);
    assert_eq!(troubles.admit(two, 1), Some(0));
    assert_eq!(troubles.admit(one, 59_999), None);
    assert_eq!(troubles.admit(one, 60_000), Some(2));
    assert_eq!(troubles.admit(one, 120_000), Some(0));
    for i in 0..5000u32 {
        troubles.admit(std::net::Ipv4Addr::from(i).into(), 120_000);
    }
}
