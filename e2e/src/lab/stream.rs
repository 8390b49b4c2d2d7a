//! One TCP connection that carries so many bytes each way, every one of them compared.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Namespace;

/// No divisor of a power of two: a block that is lost or doubled shifts what follows.
const PATTERN: usize = 65_521;

/// Sends `bytes` from one namespace to an address of another, then as many back. Returns how long
/// that took; bytes that differ, or silence for `limit`, are an error.
pub fn transfer(
    from: &Namespace,
    to: (&Namespace, IpAddr),
    bytes: usize,
    limit: Duration,
) -> anyhow::Result<Duration> {
    let target = SocketAddr::new(to.1, 0);
    let listener = to.0.run(move || TcpListener::bind(target)).context("binding a listener")?;
    let target = listener.local_addr().context("asking for the port")?;
    let start = Instant::now();
    let connect = move || TcpStream::connect_timeout(&target, limit);
    let client = from.run(connect).with_context(|| format!("connecting to {target}"))?;
    let server = accept(&listener, limit).context("accepting")?;
    let pattern: Vec<u8> = (0..PATTERN).map(|at| (at * 167 / 13) as u8).collect();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(limit)).context("setting a timeout")?;
        stream.set_write_timeout(Some(limit)).context("setting a timeout")?;
    }
    for (source, sink, way) in [(&client, &server, "there"), (&server, &client, "back")] {
        let (wrote, read) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| write(source, &pattern, bytes));
            let read = read(sink, &pattern, bytes);
            // A reader that gave up must not leave a writer that waits for it.
            if read.is_err() {
                let _ = sink.shutdown(Shutdown::Both);
            }
            (writer.join().expect("writing does not panic"), read)
        });
        read.with_context(|| format!("reading on the way {way}"))?;
        wrote.with_context(|| format!("writing on the way {way}"))?;
    }
    Ok(start.elapsed())
}

/// The last message of TCP's opening may get lost while its sender believes to be connected.
fn accept(listener: &TcpListener, limit: Duration) -> anyhow::Result<TcpStream> {
    let limit = Timespec::try_from(limit)?;
    let ready = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&limit))?;
    anyhow::ensure!(ready == 1, "nobody is connected yet");
    Ok(listener.accept()?.0)
}

fn write(mut stream: &TcpStream, pattern: &[u8], bytes: usize) -> std::io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let length = left.min(pattern.len());
        stream.write_all(&pattern[..length])?;
        left -= length;
    }
    Ok(())
}

fn read(mut stream: &TcpStream, pattern: &[u8], bytes: usize) -> anyhow::Result<()> {
    let mut buffer = vec![0; pattern.len()];
    let mut left = bytes;
    while left > 0 {
        let length = left.min(pattern.len());
        let at = || format!("{left} of {bytes} bytes are missing");
        stream.read_exact(&mut buffer[..length]).with_context(at)?;
        let same = buffer[..length] == pattern[..length];
        anyhow::ensure!(same, "other bytes than were sent, {left} before the end");
        left -= length;
    }
    Ok(())
}
