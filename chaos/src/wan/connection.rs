//! One connection over a distance: each direction is a queue of what is under way, with the moment at which it arrives.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// Bytes that are read at once.
const PIECE_BYTES: usize = 16 * 1024;
/// Pieces under way in one direction, 8 MiB at most: as much as a wide link of this length holds. Whoever sends more waits.
const PIECES: usize = 512;

/// A connection that is being made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    /// To the other end and back.
    pub(super) round_trip: Duration,
    /// When the caller called.
    pub(super) called: Instant,
}

/// What is under way, and when it arrives.
struct Piece {
    due: Instant,
    bytes: Vec<u8>,
}

impl Connection {
    /// Carries everything between the caller and `address` until both have ended.
    pub(super) async fn carry(self, caller: TcpStream, address: SocketAddr) {
        if let Err(error) = self.try_carry(caller, address).await {
            // As over a real distance: the caller sees that the connection ended, and nothing of why.
            tracing::debug!(%address, %error, "a connection over a distance ended");
        }
    }

    async fn try_carry(self, caller: TcpStream, address: SocketAddr) -> io::Result<()> {
        let one_way = self.round_trip / 2;
        sleep_until(self.called + one_way).await;
        let connected = TcpStream::connect(address).await;
        // A refusal, too, has its way back. The caller's system says "connected" at once; a real one would only now.
        let opened = self.called + self.round_trip;
        let Ok(callee) = connected else {
            sleep_until(opened).await;
            return connected.map(drop);
        };
        caller.set_nodelay(true)?;
        callee.set_nodelay(true)?;
        let (from_caller, to_caller) = caller.into_split();
        let (from_callee, to_callee) = callee.into_split();
        tokio::join!(
            direction(from_caller, to_callee, opened, one_way),
            direction(from_callee, to_caller, self.called, one_way),
        );
        Ok(())
    }
}

/// Carries one direction until its sender has ended or its receiver is gone. Nothing counts as sent before `opened`.
async fn direction(from: OwnedReadHalf, to: OwnedWriteHalf, opened: Instant, one_way: Duration) {
    let (under_way, arriving) = mpsc::channel(PIECES);
    tokio::join!(depart(from, under_way, opened, one_way), arrive(to, arriving));
}

async fn depart(mut from: OwnedReadHalf, under_way: mpsc::Sender<Piece>, opened: Instant, one_way: Duration) {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        // The end is a piece without bytes: it arrives as late as anything else.
        let count = tokio::select! {
            () = under_way.closed() => return,
            read = from.read(&mut buffer) => read.unwrap_or(0),
        };
        let piece = Piece {
            due: Instant::now().max(opened) + one_way,
            bytes: buffer[..count].to_vec(),
        };
        if under_way.send(piece).await.is_err() || count == 0 {
            return;
        }
    }
}

async fn arrive(mut to: OwnedWriteHalf, mut arriving: mpsc::Receiver<Piece>) {
    while let Some(piece) = arriving.recv().await {
        sleep_until(piece.due).await;
        if piece.bytes.is_empty() {
            // Whoever is gone needs not be told that nothing more comes.
            let _ = to.shutdown().await;
            return;
        }
        if to.write_all(&piece.bytes).await.is_err() {
            return;
        }
    }
}
