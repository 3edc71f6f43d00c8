//! The registry that a proof asks: one image or none, by plain HTTP on loopback, and whether somebody has asked for it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use super::image::{Blob, TinyImage};

/// A request head is a few hundred bytes.
const LARGEST_REQUEST: usize = 16 << 10;
/// For one request to arrive whole.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// How a TLS handshake begins. containerd tries HTTPS first at a loopback address whose directory it has no file for (from
/// 1.6.25 and 1.7.8 on), and goes on with HTTP when it is answered in plain HTTP.
const TLS_HANDSHAKE: u8 = 0x16;

/// What the registry has.
#[derive(Debug)]
pub(super) struct Content {
    /// The repository that this proof asks for: it tells its requests from those of an earlier one.
    pub repository: String,
    /// What is in it; without an image every request is answered with 404.
    pub image: Option<TinyImage>,
}

/// It serves until it is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    address: SocketAddr,
    arrived: Arc<AtomicBool>,
    _server: JoinSet<()>,
}

impl Listener {
    pub(super) async fn open(content: Content) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let arrived = Arc::new(AtomicBool::new(false));
        let mut server = JoinSet::new();
        server.spawn(serve(listener, Arc::new(content), Arc::clone(&arrived)));
        Ok(Self { address, arrived, _server: server })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the manifest was asked for.
    pub(super) fn was_asked(&self) -> bool {
        self.arrived.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, content: Arc<Content>, arrived: Arc<AtomicBool>) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(answer(stream, Arc::clone(&content), Arc::clone(&arrived)));
            }
            // Out of file descriptors: the pull fails by itself, and its limit ends this task.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(mut stream: TcpStream, content: Arc<Content>, arrived: Arc<AtomicBool>) {
    let mut head = Vec::new();
    let read = async {
        let mut chunk = [0; 2048];
        while !is_whole(&head) && head.len() < LARGEST_REQUEST {
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(length) => head.extend_from_slice(&chunk[..length]),
            }
        }
    };
    if timeout(REQUEST_LIMIT, read).await.is_err() {
        return;
    }
    let Response { bytes, is_manifest } = respond(&head, &content);
    if is_manifest {
        arrived.store(true, Ordering::SeqCst);
    }
    // A pull whose answer does not get through fails.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
}

fn is_whole(head: &[u8]) -> bool {
    head.first() == Some(&TLS_HANDSHAKE) || head.windows(4).any(|window| window == b"\r\n\r\n")
}

#[derive(Debug, PartialEq, Eq)]
struct Response {
    bytes: Vec<u8>,
    /// Whether the request was for the manifest of this proof.
    is_manifest: bool,
}

/// `HEAD /v2/registry-mirror-proof/<nonce>/manifests/x?ns=127.0.0.1%3A1 HTTP/1.1`
fn respond(head: &[u8], Content { repository, image }: &Content) -> Response {
    if head.first() == Some(&TLS_HANDSHAKE) {
        return Response { bytes: response("400 Bad Request", "", &[]), is_manifest: false };
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let asked = path.strip_prefix("/v2/").and_then(|path| path.strip_prefix(repository.as_str()));
    let Some(asked) = asked.and_then(|path| path.strip_prefix('/')) else {
        return Response { bytes: response("404 Not Found", "Content-Length: 0\r\n", &[]), is_manifest: false };
    };
    let bytes = match image.as_ref().and_then(|image| image.at(asked)) {
        None => response("404 Not Found", "Content-Length: 0\r\n", &[]),
        Some(Blob { media_type, digest, content }) => {
            let headers = format!(
                "Content-Type: {media_type}\r\nDocker-Content-Digest: {digest}\r\nContent-Length: {}\r\n",
                content.len()
            );
            response("200 OK", &headers, if method == "HEAD" { &[] } else { content })
        }
    };
    Response { bytes, is_manifest: asked.starts_with("manifests/") }
}

fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nDocker-Distribution-API-Version: registry/2.0\r\n{headers}Connection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(image: bool) -> Content {
        let image = image.then(|| TinyImage::new("00ff").expect("an image"));
        Content { repository: "registry-mirror-proof/00ff".to_owned(), image }
    }

    fn ask(line: &str, content: &Content) -> (String, bool) {
        let Response { bytes, is_manifest } = respond(format!("{line}\r\nHost: x\r\n\r\n").as_bytes(), content);
        (String::from_utf8_lossy(&bytes).into_owned(), is_manifest)
    }

    #[test]
    fn only_this_proofs_request_counts() {
        let nothing = content(false);
        let (said, counts) = ask("HEAD /v2/registry-mirror-proof/00ff/manifests/x?ns=127.0.0.1%3A1 HTTP/1.1", &nothing);
        assert!(said.starts_with("HTTP/1.1 404") && counts);
        for other in [
            "HEAD /v2/registry-mirror-proof/00fe/manifests/x HTTP/1.1",
            "HEAD /v2/registry-mirror-proof/00ff0/manifests/x HTTP/1.1",
            "GET /v2/registry-mirror-proof/00ff/blobs/x HTTP/1.1",
            "HEAD /v2/ HTTP/1.1\r\nX: /v2/registry-mirror-proof/00ff/manifests/x",
            "",
        ] {
            assert!(!ask(other, &nothing).1, "{other}");
        }
    }

    #[test]
    fn the_image_is_served_and_a_head_has_no_body() {
        let content = content(true);
        let image = content.image.as_ref().expect("an image");
        let (head, _) = ask("HEAD /v2/registry-mirror-proof/00ff/manifests/x HTTP/1.1", &content);
        assert!(head.starts_with("HTTP/1.1 200 OK") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(head.contains(&format!("Docker-Content-Digest: {}", image.manifest.digest)), "{head}");
        let (manifest, _) = ask("GET /v2/registry-mirror-proof/00ff/manifests/x HTTP/1.1", &content);
        assert_eq!(manifest, format!("{head}{}", String::from_utf8_lossy(&image.manifest.content)));
        let blob = format!("GET /v2/registry-mirror-proof/00ff/blobs/{} HTTP/1.1", image.config.digest);
        let config = String::from_utf8_lossy(&image.config.content);
        assert!(ask(&blob, &content).0.ends_with(&format!("Connection: close\r\n\r\n{config}")));
    }

    #[tokio::test]
    async fn a_head_in_two_pieces_is_one_request_and_a_handshake_is_answered_in_plain_http() {
        let listener = Listener::open(content(false)).await.expect("listens");
        let ask = |pieces: &'static [&'static [u8]]| {
            let address = listener.address();
            async move {
                let mut stream = TcpStream::connect(address).await.expect("connect");
                for piece in pieces {
                    stream.write_all(piece).await.expect("write");
                    stream.flush().await.expect("flush");
                }
                let mut said = String::new();
                stream.read_to_string(&mut said).await.expect("read");
                said
            }
        };
        assert!(ask(&[b"\x16\x03\x01"]).await.starts_with("HTTP/1.1 400"));
        assert!(!listener.was_asked());
        let said = ask(&[b"HEAD /v2/registry-mirror-proof/00ff/mani", b"fests/x HTTP/1.1\r\nHost: x\r\n\r\n"]).await;
        assert!(said.starts_with("HTTP/1.1 404"), "{said}");
        assert!(listener.was_asked());
    }
}
