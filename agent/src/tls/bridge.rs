//! Carries datagrams between a stream and the tunnel's own port, both ways, until one of them ends.
//!
//! ```text
//!   stream ──▶ frames ──▶ a socket of its own on loopback ──▶ the tunnel's port
//!          ◀── frames ◀── what waits there, a batch at a time ◀──
//! ```
//! Datagrams wait nowhere but in the socket's buffer, which the kernel bounds: a stream that is slow
//! loses what comes too fast.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::UdpSocket,
    time::timeout,
};

use super::{
    count::Counts,
    frame::{self, BadFrame, Frames, LONGEST},
};
use crate::datapath::{BRIDGES, Datapath};

/// Bytes written to a stream at once: two TLS records, or little more.
const BATCH: usize = 32 << 10;
/// A stream that takes nothing for so long is dead.
const STUCK: Duration = Duration::from_secs(10);

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the other end closed it")]
    Closed,
    #[error("nothing came for {}s", .0.as_secs())]
    Silent(Duration),
    #[error("nothing could be written for {}s", STUCK.as_secs())]
    Stuck,
    #[error(transparent)]
    Frame(#[from] BadFrame),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A socket on loopback that speaks with the tunnel's port alone, and the port that it is known by.
pub(super) async fn socket(tunnel: u16) -> io::Result<(UdpSocket, u16)> {
    let socket = UdpSocket::bind((BRIDGES, 0)).await?;
    socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, tunnel))).await?;
    let port = socket.local_addr()?.port();
    Ok((socket, port))
}

/// A bridge that the data path may know: it forgets it before its port is free for another, if this is
/// dropped before the socket.
pub(super) struct Crossing<'a>(&'a Datapath, u16);

impl<'a> Crossing<'a> {
    pub(super) fn of(datapath: &'a Datapath, port: u16) -> Self {
        Self(datapath, port)
    }
}

impl Drop for Crossing<'_> {
    fn drop(&mut self) {
        self.0.drop_bridge(self.1);
    }
}

/// Until the stream ends. `idle`: after so long without a byte it has.
pub(super) async fn run(
    stream: impl AsyncRead + AsyncWrite,
    socket: &UdpSocket,
    idle: Duration,
    counts: &Counts,
) -> Ended {
    let (reading, writing) = split(stream);
    let ended = tokio::select! {
        ended = inwards(reading, socket, idle, counts) => ended,
        ended = outwards(writing, socket, counts) => ended,
    };
    ended.unwrap_or_else(|ended| ended)
}

async fn inwards(
    mut stream: ReadHalf<impl AsyncRead>,
    socket: &UdpSocket,
    idle: Duration,
    counts: &Counts,
) -> Result<Ended, Ended> {
    let mut frames = Frames::default();
    loop {
        let read = timeout(idle, stream.read(frames.room())).await;
        let bytes = read.map_err(|_| Ended::Silent(idle))??;
        if bytes == 0 {
            return Ok(Ended::Closed);
        }
        frames.filled(bytes);
        counts.rx_bytes.fetch_add(bytes as u64, Relaxed);
        while let Some(datagram) = frames.take()? {
            // What the tunnel's port does not take is lost, as with any datagram.
            let _ = socket.send(datagram).await;
        }
    }
}

async fn outwards(
    mut stream: WriteHalf<impl AsyncWrite>,
    socket: &UdpSocket,
    counts: &Counts,
) -> Result<Ended, Ended> {
    let mut datagram = vec![0; LONGEST + 1];
    let mut out = Vec::with_capacity(BATCH + LONGEST + 2);
    loop {
        socket.readable().await?;
        out.clear();
        while out.len() < BATCH {
            match socket.try_recv(&mut datagram) {
                Ok(length) => frame::append(&datagram[..length], &mut out),
                // An ICMP error of an earlier one is told once; what follows is read all the same.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let written = timeout(STUCK, async {
            stream.write_all(&out).await?;
            stream.flush().await
        });
        written.await.map_err(|_| Ended::Stuck)??;
        counts.tx_bytes.fetch_add(out.len() as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    const IDLE: Duration = Duration::from_secs(20);

    /// A bridge's socket, and the tunnel's end of it.
    async fn pair() -> (UdpSocket, UdpSocket) {
        let tunnel = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (socket, port) = socket(tunnel.local_addr().unwrap().port()).await.unwrap();
        tunnel.connect((BRIDGES, port)).await.unwrap();
        (socket, tunnel)
    }

    #[tokio::test]
    async fn a_datagram_crosses_both_ways_and_a_bad_frame_ends_the_bridge() {
        let ((socket, tunnel), (near, mut far)) = (pair().await, duplex(1 << 16));
        let counts = Counts::default();
        let script = async {
            tunnel.send(&[7; 148]).await.unwrap();
            let mut frame = [0; 150];
            far.read_exact(&mut frame).await.unwrap();
            assert_eq!(frame[..3], [0, 148, 7]);
            far.write_all(&frame).await.unwrap();
            let mut datagram = [0; 200];
            assert_eq!(tunnel.recv(&mut datagram).await.unwrap(), 148);
            far.write_all(&[0, 0]).await.unwrap();
        };

        let (ended, ()) = tokio::join!(run(near, &socket, IDLE, &counts), script);

        assert!(matches!(ended, Ended::Frame(BadFrame::Empty)), "{ended}");
        assert_eq!((counts.state().rx_bytes, counts.state().tx_bytes), (152, 150));
    }

    #[tokio::test]
    async fn a_stream_that_is_not_read_costs_its_own_datagrams_alone() {
        let ((slow, to_slow), (quick, to_quick)) = (pair().await, pair().await);
        let (near, _unread) = duplex(1 << 10);
        let (other, mut read) = duplex(1 << 20);
        let counts = Counts::default();
        let script = async {
            for _ in 0..2000 {
                to_slow.send(&[1; 1400]).await.unwrap();
            }
            to_quick.send(&[2; 100]).await.unwrap();
            let mut frame = [0; 102];
            read.read_exact(&mut frame).await.unwrap();
            frame
        };

        let frame = tokio::select! {
            frame = script => frame,
            ended = run(near, &slow, IDLE, &counts) => panic!("{ended}"),
            ended = run(other, &quick, IDLE, &counts) => panic!("{ended}"),
        };

        assert_eq!(frame[..3], [0, 100, 2]);
    }

    #[tokio::test]
    async fn a_silent_stream_ends() {
        let ((socket, _tunnel), (near, _far)) = (pair().await, duplex(64));
        let ended = run(near, &socket, Duration::from_millis(1), &Counts::default()).await;
        assert!(matches!(ended, Ended::Silent(_)), "{ended}");
    }
}
