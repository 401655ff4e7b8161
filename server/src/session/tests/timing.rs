//! Peers that say nothing, or too slowly, on a paused clock.

use tokio::time::{Instant, sleep};

use super::*;
use crate::session::{FRAME_TIMEOUT, HELLO_TIMEOUT, WRITE_TIMEOUT};

/// Waits for the end of the session and says how long that took.
async fn seconds_to_end(client: Client) -> u64 {
    let start = Instant::now();
    client.session.await.unwrap();
    start.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn silent_before_hello() {
    let client = Client::connect(SlowWork::Inline);
    assert_eq!(seconds_to_end(client).await, HELLO_TIMEOUT.as_secs());
    let mut client = Client::connect(SlowWork::Inline);
    client.stream.write_all(&frame(1, &hello(), &[])[..30]).await.unwrap();
    assert_eq!(seconds_to_end(client).await, HELLO_TIMEOUT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn silent_within_a_frame() {
    let whole = frame(1, &Request::Ping, b"payload");
    for cut in [1, HEADER_LEN, whole.len() - 1] {
        let mut client = Client::welcome(SlowWork::Inline).await;
        client.stream.write_all(&whole[..cut]).await.unwrap();
        assert_eq!(seconds_to_end(client).await, FRAME_TIMEOUT.as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn silent_between_frames_is_fine() {
    let mut client = Client::welcome(SlowWork::Inline).await;
    sleep(Duration::from_secs(100_000)).await;
    client.send(1, &Request::Ping, &[]).await;
    assert_eq!(client.receive().await.1, Ok(Reply::Done));
}

#[tokio::test(start_paused = true)]
async fn one_byte_at_a_time() {
    let mut client = Client::connect(SlowWork::Inline);
    for (id, request) in [hello(), echo("slowly"), Request::Ping].iter().enumerate() {
        for byte in frame(id as u64, request, &[]) {
            client.stream.write_all(&[byte]).await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
        assert!(client.receive().await.1.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing() {
    let mut client = Client::with_buffer(SlowWork::Inline, 1024);
    client.hello().await;
    client.send(1, &read(100_000), &[]).await;
    assert_eq!(seconds_to_end(client).await, WRITE_TIMEOUT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_a_little_at_a_time() {
    let mut client = Client::with_buffer(SlowWork::Inline, 1024);
    client.hello().await;
    client.send(1, &read(5_000), &[]).await;
    let mut taken = 0;
    let mut chunk = [0; 500];
    while taken < 5_000 {
        sleep(WRITE_TIMEOUT - Duration::from_secs(1)).await;
        taken += client.stream.read(&mut chunk).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_connection_has_in_flight_is_bounded() {
    let mut client = Client::with_buffer(SlowWork::Inline, 64 * 1024);
    client.hello().await;
    let (_reader, mut writer) = split(client.stream);
    // Nobody takes answers: the session must stop reading, and end.
    let sender = tokio::spawn(async move {
        let bytes = frame(1, &read(1 << 20), &[]);
        while writer.write_all(&bytes).await.is_ok() {}
    });
    client.session.await.unwrap();
    sender.await.unwrap();
    assert!(client.context.service.handled.load(Ordering::Relaxed) < 40);
}

#[tokio::test(start_paused = true)]
async fn a_stopping_server_waits_for_nobody_silent() {
    let silent = Client::connect(SlowWork::Inline);
    let idle = Client::welcome(SlowWork::Inline).await;
    for client in [silent, idle] {
        client.stop.send_replace(true);
        assert_eq!(seconds_to_end(client).await, 0);
    }
}
