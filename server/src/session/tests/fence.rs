//! An owner's earlier connection is over before its next one begins.

use net_raid_proto::ids::{Generation, VolumeId};
use net_raid_proto::message::Holder;
use tokio::time::{Instant, timeout};

use super::*;

fn own(epoch: u64) -> Request {
    let holder = Holder { host: "h".into(), pid: 1, started_ticks: 1, boot: "b".into() };
    let (volume, generation) = (VolumeId([1; 16]), Generation(1));
    Request::Own { volume, epoch: Epoch(epoch), generation, holder, take_over: false }
}

/// An owner's connection.
async fn owner(context: &Arc<Context<Fake>>, epoch: u64) -> Client {
    let mut client = Client::to(context.clone(), 64 * 1024);
    client.hello().await;
    client.send(1, &own(epoch), &[]).await;
    assert_eq!(client.receive().await.1, Ok(Reply::Done));
    client
}

fn context(slow: SlowWork) -> Arc<Context<Fake>> {
    Arc::new(Context::new(Fake::default(), slow, || 42))
}

#[tokio::test]
async fn waits_for_work_in_flight() {
    let context = context(SlowWork::Threads);
    let mut first = owner(&context, 3).await;
    first.send(2, &Request::Checkpoint { generation: Generation(1) }, &[]).await;
    first.send(3, &Request::Ping, &[]).await;
    assert_eq!(first.receive().await.0.request, RequestId(3));

    let mut second = Client::to(context.clone(), 64 * 1024);
    second.hello().await;
    second.send(1, &own(3), &[]).await;
    assert!(timeout(Duration::from_millis(50), second.stream.read(&mut [0])).await.is_err());
    context.service.open_gate();
    assert_eq!(second.receive().await.1, Ok(Reply::Done));
    first.expect_end().await;
}

#[tokio::test(start_paused = true)]
async fn requests_left_in_the_first_socket_are_never_done() {
    let context = context(SlowWork::Inline);
    let mut first = owner(&context, 3).await;
    // The session stands still, because nobody takes its answers; more requests wait behind these.
    for id in 2..40 {
        first.send(id, &read(1 << 20), &[]).await;
    }
    first.stream.shutdown().await.unwrap();
    let start = Instant::now();
    let _second = owner(&context, 3).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    let handled = context.service.handled.load(Ordering::Relaxed);
    // Making room would let a session that still lives go on.
    first.stream.read_to_end(&mut Vec::new()).await.unwrap();
    first.session.await.unwrap();
    assert_eq!(context.service.handled.load(Ordering::Relaxed), handled);
    assert!(handled < 40);
}

#[tokio::test]
async fn another_epoch_cuts_nobody() {
    let context = context(SlowWork::Inline);
    let mut first = owner(&context, 3).await;
    let mut second = owner(&context, 4).await;
    for client in [&mut first, &mut second] {
        client.send(2, &Request::Ping, &[]).await;
        assert_eq!(client.receive().await.1, Ok(Reply::Done));
    }
}

#[tokio::test]
async fn the_same_connection_may_own_again() {
    let context = context(SlowWork::Inline);
    let mut first = owner(&context, 3).await;
    first.send(2, &own(3), &[]).await;
    assert_eq!(first.receive().await.1, Ok(Reply::Done));
    drop(first.stream);
    first.session.await.unwrap();
    owner(&context, 3).await;
}
