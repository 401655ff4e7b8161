//! `Hello` and what comes instead of it.

use super::*;

#[tokio::test]
async fn welcome_carries_what_was_agreed() {
    let mut client = Client::connect(SlowWork::Inline);
    client.send(5, &Request::Hello { version_min: 0, version_max: 900, features: u64::MAX }, &[]).await;
    let (header, answer, _) = client.receive().await;
    let brick = Box::new(BrickState::Unusable { why: "fake at 42".into() });
    assert_eq!(answer, Ok(Reply::Welcome { version: VERSION_MAX, features: 0, brick }));
    assert_eq!((header.version, header.request, header.epoch), (VERSION_MAX, RequestId(5), Epoch(3)));
}

#[tokio::test]
async fn no_common_version_ends_the_connection() {
    for (version_min, version_max) in [(VERSION_MAX + 1, 900), (0, 0), (2, 1)] {
        let mut client = Client::connect(SlowWork::Inline);
        client.send(1, &Request::Hello { version_min, version_max, features: 0 }, &[]).await;
        assert_eq!(client.receive().await.1, Err(Fault::Version { min: 1, max: VERSION_MAX }));
        let context = client.context.clone();
        client.expect_end().await;
        assert_eq!(context.service.handled.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn any_header_version_may_say_hello_but_not_go_on() {
    let mut client = Client::connect(SlowWork::Inline);
    let mut future = header(1);
    future.version = 900;
    client.stream.write_all(&sealed(future, &hello(), &[])).await.unwrap();
    assert!(client.receive().await.1.is_ok());
    client.stream.write_all(&sealed(future, &Request::Ping, &[])).await.unwrap();
    client.expect_end().await;
}

#[tokio::test]
async fn other_first_requests_end_the_connection() {
    for request in [Request::Ping, Request::Checkpoint { generation: Generation(1) }, echo("x")] {
        let mut client = Client::connect(SlowWork::Threads);
        client.send(1, &request, &[]).await;
        let context = client.context.clone();
        client.expect_end().await;
        assert_eq!(context.service.handled.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn strangers_get_no_memory() {
    for (body, payload) in [(1025, 0), (64 * 1024, 0), (20, 1), (20, 4 << 20)] {
        let mut client = Client::connect(SlowWork::Inline);
        let mut large = header(1);
        (large.body_len, large.payload_len) = (body, payload);
        client.stream.write_all(&large.encode()).await.unwrap();
        client.expect_end().await;
    }
}

#[tokio::test]
async fn a_second_hello_is_refused() {
    let mut client = Client::welcome(SlowWork::Inline).await;
    client.send(2, &hello(), &[]).await;
    assert!(matches!(client.receive().await.1, Err(Fault::Refused(_))));
    client.send(3, &Request::Ping, &[]).await;
    assert_eq!(client.receive().await.1, Ok(Reply::Done));
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_session() {
    for said_hello in [false, true] {
        let mut client = Client::connect(SlowWork::Inline);
        if said_hello {
            client.hello().await;
        }
        drop(client.stream);
        client.session.await.unwrap();
    }
}
