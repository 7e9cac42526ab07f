//! The proxy of the failure tests does to a connection what it says, and nothing else.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test, in functions that tests share")]

#[path = "mod.rs"]
mod proxy;

use proxy::Proxy;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

#[tokio::test]
async fn bytes_pass_both_ways_until_both_ends_have_ended() {
    let lab = Lab::new().await;
    let (mut client, mut server) = lab.connection().await;
    passes(&mut client, &mut server).await;
    client.shutdown().await.unwrap();
    assert_eq!(soon(server.read(&mut [0])).await.unwrap(), 0);
    passes(&mut server, &mut client).await;
    drop(server);
    assert_eq!(soon(client.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn what_a_slow_reader_is_owed_arrives_whole() {
    let lab = Lab::new().await;
    let (mut client, mut server) = lab.connection().await;
    let sent: Vec<u8> = (0..16_000_000_u32).map(|n| (n >> 8) as u8).collect();
    let mut received = Vec::new();
    let sending = async {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
    };
    soon(async { tokio::join!(sending, server.read_to_end(&mut received)).1.unwrap() }).await;
    assert!(received == sent);
}

#[tokio::test]
async fn a_reset_is_handed_on() {
    let lab = Lab::new().await;
    let (client, mut server) = lab.connection().await;
    client.set_zero_linger().unwrap();
    drop(client);
    is_reset(&mut server).await;
}

#[tokio::test]
async fn a_cut_resets_both_ends_and_new_connections_work() {
    let lab = Lab::new().await;
    let (mut client, mut server) = lab.connection().await;
    let (mut other, _other) = lab.connection().await;
    lab.proxy.cut();
    is_reset(&mut client).await;
    is_reset(&mut server).await;
    is_reset(&mut other).await;
    let (mut client, mut server) = lab.connection().await;
    passes(&mut client, &mut server).await;
}

#[tokio::test]
async fn a_stall_holds_bytes_and_ends_of_both_sides_until_it_is_over() {
    let lab = Lab::new().await;
    let (mut client, mut server) = lab.connection().await;
    let (mut lost, lasting) = lab.connection().await;
    lab.proxy.stall();
    client.write_all(b"request").await.unwrap();
    client.shutdown().await.unwrap();
    server.write_all(b"reply").await.unwrap();
    lasting.set_zero_linger().unwrap();
    drop(lasting);
    let mut late = TcpStream::connect(lab.proxy.address()).await.unwrap();
    late.write_all(b"late").await.unwrap();
    time_passes().await;
    for held in [&client, &server, &lost, &late] {
        assert_eq!(held.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    lab.proxy.resume();
    reads(&mut server, b"request").await;
    assert_eq!(soon(server.read(&mut [0])).await.unwrap(), 0);
    reads(&mut client, b"reply").await;
    is_reset(&mut lost).await;
    reads(&mut soon(lab.listener.accept()).await.unwrap().0, b"late").await;
}

#[tokio::test]
async fn a_cut_ends_what_is_stalled_and_loses_what_was_held() {
    let lab = Lab::new().await;
    let (mut client, mut server) = lab.connection().await;
    lab.proxy.stall();
    client.write_all(b"request").await.unwrap();
    time_passes().await;
    lab.proxy.cut();
    is_reset(&mut client).await;
    is_reset(&mut server).await;
}

#[tokio::test]
async fn what_is_refused_is_reset_and_the_rest_goes_on() {
    let lab = Lab::new().await;
    let (mut client, mut server) = lab.connection().await;
    lab.proxy.refuse(true);
    is_reset(&mut TcpStream::connect(lab.proxy.address()).await.unwrap()).await;
    passes(&mut client, &mut server).await;
    lab.proxy.refuse(false);
    let (mut client, mut server) = lab.connection().await;
    passes(&mut client, &mut server).await;
}

#[tokio::test]
async fn a_delay_holds_each_chunk_unless_it_is_taken_back() {
    let lab = Lab::new().await;
    let (mut client, mut server) = lab.connection().await;
    let (delay, started) = (Duration::from_millis(30), Instant::now());
    lab.proxy.delay(delay);
    passes(&mut client, &mut server).await;
    passes(&mut server, &mut client).await;
    assert!(started.elapsed() >= 2 * delay);

    lab.proxy.delay(Duration::from_secs(3600));
    client.write_all(b"request").await.unwrap();
    time_passes().await;
    assert_eq!(server.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    lab.proxy.delay(Duration::ZERO);
    reads(&mut server, b"request").await;
}

#[tokio::test]
async fn swallowed_replies_are_lost_while_requests_arrive() {
    let lab = Lab::new().await;
    let (mut client, mut server) = lab.connection().await;
    lab.proxy.swallow_replies();
    server.write_all(b"reply").await.unwrap();
    passes(&mut client, &mut server).await;
    time_passes().await;
    lab.proxy.cut();
    is_reset(&mut client).await;
    let (mut client, mut server) = lab.connection().await;
    passes(&mut server, &mut client).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_reset() {
    let Lab { proxy, listener } = Lab::new().await;
    drop(listener);
    is_reset(&mut TcpStream::connect(proxy.address()).await.unwrap()).await;

    proxy.stall();
    let mut held = TcpStream::connect(proxy.address()).await.unwrap();
    time_passes().await;
    assert_eq!(held.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    proxy.resume();
    is_reset(&mut held).await;
}

#[tokio::test]
async fn a_dropped_proxy_leaves_nothing() {
    let lab = Lab::new().await;
    let (mut client, mut server) = lab.connection().await;
    let (mut held, _held) = lab.connection().await;
    lab.proxy.stall();
    held.write_all(b"request").await.unwrap();
    let address = lab.proxy.address();
    drop(lab.proxy);
    is_reset(&mut client).await;
    is_reset(&mut server).await;
    is_reset(&mut held).await;
    let gone = async { while TcpStream::connect(address).await.is_ok() {} };
    soon(gone).await;
}

#[tokio::test]
async fn a_port_is_had_again_as_soon_as_its_proxy_is_dropped() {
    let mut lab = Lab::new().await;
    let port = lab.proxy.address().port();
    for _ in 0..3 {
        let (mut client, server) = lab.connection().await;
        // The server ends it, and so does the proxy: its side of the connection is remembered for a minute.
        drop(server);
        assert_eq!(soon(client.read(&mut [0])).await.unwrap(), 0);
        drop(client);
        let server = lab.listener.local_addr().unwrap().to_string();
        drop(lab.proxy);
        lab.proxy = Proxy::at(port, server).await.unwrap();
        assert_eq!(lab.proxy.address().port(), port);
        let (mut client, mut server) = lab.connection().await;
        passes(&mut client, &mut server).await;
    }
}

#[tokio::test]
async fn a_port_that_another_has_is_an_error() {
    let lab = Lab::new().await;
    let taken = Proxy::at(lab.proxy.address().port(), "127.0.0.1:1").await;
    assert_eq!(taken.unwrap_err().kind(), ErrorKind::AddrInUse);
}

/// A server that only listens, behind a proxy.
struct Lab {
    proxy: Proxy,
    listener: TcpListener,
}

impl Lab {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::to(listener.local_addr().unwrap().to_string()).await.unwrap();
        Self { proxy, listener }
    }

    /// A client's end and the server's.
    async fn connection(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.proxy.address()).await.unwrap();
        (client, soon(self.listener.accept()).await.unwrap().0)
    }
}

async fn passes(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"something").await.unwrap();
    reads(to, b"something").await;
}

async fn reads(from: &mut TcpStream, expected: &[u8]) {
    let mut read = vec![0; expected.len()];
    soon(from.read_exact(&mut read)).await.unwrap();
    assert_eq!(read, expected);
}

/// It is, and nothing came before.
async fn is_reset(stream: &mut TcpStream) {
    assert_eq!(soon(stream.read(&mut [0])).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// As much as any byte needs that nothing holds: others make many round trips through a proxy of their own.
async fn time_passes() {
    let lab = Lab::new().await;
    let (mut client, mut server) = lab.connection().await;
    for _ in 0..50 {
        passes(&mut client, &mut server).await;
        passes(&mut server, &mut client).await;
    }
}

/// The output of what never waits long, so that a test fails instead of hanging.
#[expect(clippy::disallowed_methods, reason = "sockets have no clock that a test could inject")]
async fn soon<F: IntoFuture>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it should not wait")
}
