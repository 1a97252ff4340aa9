//! One connection through the proxy.

use std::{io, net::SocketAddr, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    time::timeout,
};

use crate::fault::{Direction, Gate};

/// How long the broker may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How many bytes are read at a time, and the most that are held.
const HELD: usize = 64 << 10;

/// Moves bytes in both directions until both have ended, or the gate is closed.
pub(super) async fn serve(mut client: TcpStream, upstream: SocketAddr, gate: &Gate) {
    // Send small packets at once, because the peer waits for them.
    let _ = client.set_nodelay(true);
    tokio::select! {
        biased;
        () = gate.cut_off() => {}
        () = async {
            if let Err(error) = carry(&mut client, upstream, gate).await {
                tracing::debug!(%error, "a connection through the proxy has broken");
            }
            // The client sees the end of the connection only when the gate lets it pass.
            gate.outlive(&client).await;
            gate.pass(Direction::ToClient).await;
        } => {}
    }
}

async fn carry(client: &mut TcpStream, upstream: SocketAddr, gate: &Gate) -> io::Result<()> {
    let mut broker = timeout(CONNECT, TcpStream::connect(upstream)).await??;
    broker.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_broker, to_broker) = broker.split();
    tokio::try_join!(upwards(from_client, to_broker, gate), downwards(from_broker, to_client, gate))?;
    Ok(())
}

async fn upwards(mut client: ReadHalf<'_>, mut broker: WriteHalf<'_>, gate: &Gate) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(HELD);
    while gate.read(&mut client, &mut buffer).await? > 0 {
        broker.write_all_buf(&mut buffer).await?;
        buffer.reserve(HELD);
    }
    broker.shutdown().await
}

async fn downwards(mut broker: ReadHalf<'_>, mut client: WriteHalf<'_>, gate: &Gate) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(HELD);
    while broker.read_buf(&mut buffer).await? > 0 {
        let mut chunk = buffer.split().freeze();
        while !chunk.is_empty() {
            gate.write(client.as_ref(), &mut chunk).await?;
        }
        buffer.reserve(HELD);
    }
    // The end must not overtake the bytes before it.
    gate.pass(Direction::ToClient).await;
    client.shutdown().await
}
