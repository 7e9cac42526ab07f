//! A TCP proxy on loopback for tests of failures: it cuts, stalls, delays and loses what passes between clients and a server.
//!
//! All of that is state which every connection reads, so that it takes effect on open ones too. A test binary elsewhere
//! includes this file by its path; it needs of tokio `io-util`, `macros`, `net`, `rt`, `sync` and `time`.

#![allow(dead_code, reason = "each test binary uses its share")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

/// Stands between clients and one server, which need not be there yet. Dropping it cuts all connections and ends its address.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
}

impl Proxy {
    /// Listens on a port of its own. The server is `host:port`.
    pub(crate) async fn to(server: impl Into<String>) -> io::Result<Self> {
        Self::at(0, server).await
    }

    /// Listens on that port, where the server itself sends its clients. A proxy that has just been dropped may keep it for another moment.
    pub(crate) async fn at(port: u16, server: impl Into<String>) -> io::Result<Self> {
        let listener = listen(port).await?;
        let address = listener.local_addr()?;
        let line = watch::Sender::new(Line::default());
        tokio::spawn(serve(listener, server.into(), line.subscribe()));
        Ok(Self { address, line })
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every open connection with a reset, at both of its ends. What is on its way is lost; new connections work.
    pub(crate) fn cut(&self) {
        self.line.send_modify(|line| {
            line.cuts += 1;
            line.mute = false;
        });
    }

    /// From now on no byte passes and no connection ends, also none that begins meanwhile, as if the network were gone.
    pub(crate) fn stall(&self) {
        self.line.send_modify(|line| line.stalled = true);
    }

    /// Ends a [`stall`](Self::stall): what was sent meanwhile passes.
    pub(crate) fn resume(&self) {
        self.line.send_modify(|line| line.stalled = false);
    }

    /// Whether new connections are reset at once. Open ones go on.
    pub(crate) fn refuse(&self, refused: bool) {
        self.line.send_modify(|line| line.refused = refused);
    }

    /// How long each chunk is held. The next is read when it has passed, so this bounds the throughput as well.
    pub(crate) fn delay(&self, delay: Duration) {
        self.line.send_modify(|line| line.delay = delay);
    }

    /// Loses all that the server answers until the next [`cut`](Self::cut), while requests arrive: their outcome is unknown.
    pub(crate) fn swallow_replies(&self) {
        self.line.send_modify(|line| line.mute = true);
    }
}

/// What holds for all connections.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    cuts: u64,
    stalled: bool,
    refused: bool,
    mute: bool,
    delay: Duration,
}

/// Connections of an earlier proxy that are still winding down do not count: tokio sets `SO_REUSEADDR`.
async fn listen(port: u16) -> io::Result<TcpListener> {
    let patient = Instant::now() + Duration::from_secs(2);
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < patient => {
                sleep_until(Instant::now() + Duration::from_millis(5)).await;
            }
            other => return other,
        }
    }
}

async fn serve(listener: TcpListener, server: String, line: watch::Receiver<Line>) {
    let mut proxy = line.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            // Resolves when the proxy is dropped, and for no other reason.
            _ = proxy.wait_for(|_| false) => return,
            accepted = listener.accept() => accepted,
        };
        let now = *line.borrow();
        match accepted {
            Ok((client, _)) if now.refused => reset(client),
            Ok((client, _)) => drop(tokio::spawn(connect(client, server.clone(), line.clone(), now.cuts))),
            // It failed before it was accepted; the next may not.
            Err(_) => {}
        }
    }
}

async fn connect(mut client: TcpStream, server: String, mut line: watch::Receiver<Line>, cuts: u64) {
    let server = TcpStream::connect(server).await;
    // How connecting went is held back as well.
    drop(line.wait_for(|line| !line.stalled || line.cuts != cuts).await);
    let Ok(mut server) = server else {
        return reset(client);
    };
    let mut cut = line.clone();
    let ended = tokio::select! {
        biased;
        _ = cut.wait_for(|line| line.cuts != cuts) => false,
        ended = relay(&mut client, &mut server, line, cuts) => ended.is_ok(),
    };
    if !ended {
        reset(client);
        reset(server);
    }
}

async fn relay(
    client: &mut TcpStream,
    server: &mut TcpStream,
    line: watch::Receiver<Line>,
    cuts: u64,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (requests, to_client) = client.split();
    let (replies, to_server) = server.split();
    let there = Way { line: line.clone(), cuts, replies: false };
    let back = Way { line, cuts, replies: true };
    tokio::try_join!(there.carry(requests, to_server), back.carry(replies, to_client))?;
    Ok(())
}

/// One direction of a connection that was opened after so many cuts.
struct Way {
    line: watch::Receiver<Line>,
    cuts: u64,
    replies: bool,
}

impl Way {
    /// Carries bytes, and at last their end. How reading went is held back like what was read.
    async fn carry(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut chunk).await;
            let arrived = Instant::now();
            self.clear(arrived).await?;
            let mut rest = &chunk[..read?];
            if rest.is_empty() {
                return to.shutdown().await;
            }
            while !rest.is_empty() {
                to.writable().await?;
                match self.pass(rest, &to) {
                    Ok(passed) => rest = &rest[passed..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.clear(arrived).await?,
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Waits until nothing holds back what arrived then.
    async fn clear(&mut self, arrived: Instant) -> io::Result<()> {
        loop {
            let Line { stalled, delay, .. } = *self.line.borrow_and_update();
            let due = arrived + delay;
            if !stalled && due <= Instant::now() {
                return Ok(());
            }
            tokio::select! {
                changed = self.line.changed() => changed.map_err(|_| io::ErrorKind::ConnectionAborted)?,
                () = sleep_until(due), if !stalled => {}
            }
        }
    }

    /// Hands on what can be without waiting. It holds the lock of the state, so that a change has come into force when the
    /// call that makes it returns.
    fn pass(&self, bytes: &[u8], to: &WriteHalf<'_>) -> io::Result<usize> {
        let line = self.line.borrow();
        if line.cuts != self.cuts {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else if line.stalled {
            Err(io::ErrorKind::WouldBlock.into())
        } else if line.mute && self.replies {
            Ok(bytes.len())
        } else {
            to.try_write(bytes)
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the network has no clock that a test could inject")]
async fn sleep_until(due: Instant) {
    tokio::time::sleep_until(due).await;
}

/// Without lingering, closing is a reset, and what was not sent is lost.
fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
    drop(stream);
}
