//! A connection as Go makes it, so that a probe waits where containerd waits and nowhere else.

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    time::sleep,
};

/// How long the first family of addresses is tried alone (`fallbackDelay` of Go's net.Dialer; RFC 6555).
const FALLBACK_DELAY: Duration = Duration::from_millis(300);

/// Connects to a host by name or address.
///
/// # Errors
/// Where the name has no address, or none of them takes the connection.
pub(super) async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
    let is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (primary, fallback): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == is_v6);
    race(&primary, &fallback).await
}

/// Both families at once, the second a little later; the first connection counts. Where one fails the other decides.
async fn race(primary: &[SocketAddr], fallback: &[SocketAddr]) -> io::Result<TcpStream> {
    if fallback.is_empty() {
        return TcpStream::connect(primary).await;
    }
    let mut first = pin!(TcpStream::connect(primary));
    let mut second = pin!(async {
        sleep(FALLBACK_DELAY).await;
        TcpStream::connect(fallback).await
    });
    tokio::select! {
        connected = &mut first => match connected {
            Ok(stream) => Ok(stream),
            Err(error) => TcpStream::connect(fallback).await.map_err(|_| error),
        },
        connected = &mut second => match connected {
            Ok(stream) => Ok(stream),
            Err(_) => first.await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        net::{TcpListener, TcpSocket},
        time::timeout,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// An address that drops every further connection: its queue is full, and nobody takes anything from it.
    async fn hole() -> (SocketAddr, Vec<TcpStream>, TcpListener) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("bound");
        let listener = socket.listen(1).expect("it listens");
        let address = listener.local_addr().expect("its address");
        let mut queued = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            queued.push(stream);
        }
        (address, queued, listener)
    }

    #[tokio::test]
    async fn a_family_that_drops_everything_costs_the_delay_alone() {
        let (hole, _queued, _listener) = hole().await;
        let good = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("it listens");
        let good = (good.local_addr().expect("its address"), good);
        for (primary, fallback) in [(hole, good.0), (good.0, hole)] {
            let stream = timeout(LONG, race(&[primary], &[fallback])).await.expect("in time").expect("connected");
            assert_eq!(stream.peer_addr().expect("a peer"), good.0);
        }
    }

    #[tokio::test]
    async fn where_one_refuses_the_other_decides() {
        let refusing = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port").local_addr().expect("it");
        let good = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("it listens");
        let address = good.local_addr().expect("its address");
        assert!(timeout(LONG, race(&[refusing], &[address])).await.expect("in time").is_ok());
        let error = timeout(LONG, race(&[refusing], &[refusing])).await.expect("in time").expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
