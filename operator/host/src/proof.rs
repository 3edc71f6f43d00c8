//! The proof that containerd reads a directory of hosts.toml files: a pull of a made-up registry that must arrive at
//! a listener of our own.
//!
//! It holds for every version: it sees a colon list that the transfer service takes for one directory (2.1 to 2.4), a
//! wrong directory, and a daemon that has not restarted since its file changed. `config dump` sees none of these. The
//! registry is `127.0.0.1:1`, so that no name is looked up and no proxy asked; the answer is 404, so that no image
//! comes to be. Where several nodes share the directory each has an address of its own in 127.0.0.0/8, so that none
//! takes another one's proof away. Verified against containerd 1.6.20, 1.7.35, 2.1.9 and 2.4.2: 7 to 15 ms.

use std::{
    ffi::OsStr,
    hash::{BuildHasher, Hasher, RandomState},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use registry_mirror_core::digest::Digest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    cri::{Cri, CriError},
    files::{Attributes, HostWriter, Owner},
    root::{FileError, HostRoot, Kind},
    shared,
};

/// The port of the made-up registry; nothing listens there on a host's loopback.
const PORT: u16 = 1;
/// Begins a proof's file.
const FIRST_LINE: &str = "# registry-mirror-operator: a self-test, removed within seconds.";
/// All of a proof, both attempts together.
const LIMIT: Duration = Duration::from_secs(5);
/// A request head is a few hundred bytes.
const LARGEST_REQUEST: usize = 16 << 10;

/// What a proof found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProofResult {
    /// The request arrived.
    Effective {
        /// From asking CRI to its answer.
        took: Duration,
    },
    /// CRI answered, and the request did not arrive.
    NotEffective {
        /// CRI's answer.
        cri_said: String,
    },
    /// Nothing was learnt.
    Failed {
        /// Why, in a sentence.
        why: String,
    },
}

impl From<ProofResult> for registry_mirror_core::observed::Proof {
    fn from(result: ProofResult) -> Self {
        match result {
            ProofResult::Effective { .. } => Self::Effective,
            ProofResult::NotEffective { cri_said } => Self::NotEffective(cri_said),
            ProofResult::Failed { why } => Self::Failed(why),
        }
    }
}

/// Asks the containerd behind `cri` whether it reads `certs_d` (a host path). Takes 5 s at most.
///
/// Writes `hosts.toml` in the [`directory`] of the made-up registry and removes it again; what a proof that was cut short left there is
/// replaced by the next one.
pub async fn prove(writer: &HostWriter, certs_d: &Path, cri: &Cri) -> ProofResult {
    let until = Instant::now() + LIMIT;
    let address = match address(writer.root(), certs_d) {
        Ok(address) => address,
        Err(error) => return ProofResult::Failed { why: error.to_string() },
    };
    let directory = certs_d.join(directory_name(address));
    let result = match attempt(writer, &directory, address, cri, until).await {
        // Once more: `node apply` by hand may have proved at the same moment.
        ProofResult::NotEffective { .. } if Instant::now() < until => {
            attempt(writer, &directory, address, cri, until).await
        }
        other => other,
    };
    match remove(writer, &directory) {
        Ok(()) => result,
        Err(why) => {
            tracing::warn!("the proof's own directory stays until the next proof: {why}");
            result
        }
    }
}

async fn attempt(writer: &HostWriter, directory: &Path, registry: Ipv4Addr, cri: &Cri, until: Instant) -> ProofResult {
    let failed = |why: String| ProofResult::Failed { why };
    let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await {
        Ok(listener) => listener,
        Err(error) => return failed(format!("cannot listen on 127.0.0.1: {error}")),
    };
    let address = match listener.local_addr() {
        Ok(address) => address,
        Err(error) => return failed(format!("cannot listen on 127.0.0.1: {error}")),
    };
    let nonce = nonce();
    if let Err(error) = write(writer, directory, address) {
        return failed(error);
    }
    let arrived = Arc::new(AtomicBool::new(false));
    let mut server = JoinSet::new();
    server.spawn(serve(listener, nonce.clone(), Arc::clone(&arrived)));

    let started = Instant::now();
    let reference = format!("{registry}:{PORT}/proof/{nonce}:x");
    let answer = cri.pull_image(&reference, until.saturating_duration_since(started)).await;
    let took = started.elapsed();
    server.shutdown().await;

    if arrived.load(Ordering::SeqCst) {
        return ProofResult::Effective { took };
    }
    match answer {
        Err(CriError::Refused { said, .. }) => ProofResult::NotEffective { cri_said: said },
        Err(error) => failed(error.to_string()),
        Ok(image) => failed(format!("CRI says that it pulled the made-up image {reference} as {image}")),
    }
}

fn write(writer: &HostWriter, directory: &Path, address: SocketAddr) -> Result<(), String> {
    let sentence = |error: FileError| error.to_string();
    if let Some(certs_d) = directory.parent() {
        writer.create_dir(certs_d, 0o755).map_err(sentence)?;
    }
    writer.create_dir(directory, 0o755).map_err(sentence)?;
    let attributes = Attributes { mode: 0o644, owner: Owner::Root };
    writer.write(&directory.join("hosts.toml"), hosts_toml(address).as_bytes(), attributes).map_err(sentence)?;
    Ok(())
}

fn remove(writer: &HostWriter, directory: &Path) -> Result<(), String> {
    let sentence = |error: FileError| error.to_string();
    writer.remove(&directory.join("hosts.toml")).map_err(sentence)?;
    writer.remove_dir_if_empty(directory).map_err(sentence)?;
    Ok(())
}

/// The host is `server` too, so that containerd asks nobody else afterwards.
fn hosts_toml(address: SocketAddr) -> String {
    format!(
        "{FIRST_LINE}\nserver = \"http://{address}\"\n\n[host.\"http://{address}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
    )
}

/// Tells this proof's request from those of an earlier one.
fn nonce() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

async fn serve(listener: TcpListener, nonce: String, arrived: Arc<AtomicBool>) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(answer(stream, nonce.clone(), Arc::clone(&arrived)));
            }
            // Out of file descriptors: the pull fails by itself, and its limit ends this task.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, nonce: String, arrived: Arc<AtomicBool>) {
    let mut request = Vec::new();
    let head = async {
        let mut chunk = [0; 2048];
        while !request.windows(4).any(|window| window == b"\r\n\r\n") && request.len() < LARGEST_REQUEST {
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(length) => request.extend_from_slice(&chunk[..length]),
            }
        }
    };
    if timeout(LIMIT, head).await.is_err() {
        return;
    }
    if is_ours(&request, &nonce) {
        arrived.store(true, Ordering::SeqCst);
    }
    let response = b"HTTP/1.1 404 Not Found\r\nDocker-Distribution-API-Version: registry/2.0\r\n\
                     Content-Length: 0\r\nConnection: close\r\n\r\n";
    // The pull fails either way.
    let _ = stream.write_all(response).await;
    let _ = stream.shutdown().await;
}

/// `HEAD /v2/proof/<nonce>/manifests/x?ns=127.0.0.1%3A1 HTTP/1.1`
fn is_ours(request: &[u8], nonce: &str) -> bool {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let _method = words.next();
    words.next().is_some_and(|target| target.starts_with(&format!("/v2/proof/{nonce}/manifests/")))
}

/// The address of the made-up registry on this node.
fn address(root: &HostRoot, certs_d: &Path) -> Result<Ipv4Addr, FileError> {
    match shared::may_be_shared(root, certs_d)? {
        true => Ok(own_address(&shared::node_name(root)?)),
        false => Ok(Ipv4Addr::LOCALHOST),
    }
}

/// One of sixteen million; where two nodes hit the same, a proof is at worst asked for again.
fn own_address(node: &str) -> Ipv4Addr {
    let digest = Digest::of(node.as_bytes());
    let byte = |at: usize| digest.as_str().get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    let byte = |at: usize| byte(at).unwrap_or_default();
    // neither 127.0.0.0/16, where name servers listen, nor a broadcast address
    Ipv4Addr::new(127, byte(0).max(1), byte(2), byte(4).clamp(1, 254))
}

/// Where containerd looks for the made-up registry first.
fn directory_name(address: Ipv4Addr) -> String {
    format!("{address}_{PORT}_")
}

/// Whether a directory of this name below a certs.d is one that a proof writes into, on whichever node.
#[must_use]
pub fn is_directory(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("127.") && name.ends_with(&format!("_{PORT}_"))
}

/// Where the proof writes below a certs.d.
///
/// # Errors
/// On what the kernel says.
pub fn directory(root: &HostRoot, certs_d: &Path) -> Result<PathBuf, FileError> {
    Ok(certs_d.join(directory_name(address(root, certs_d)?)))
}

/// What proofs that were cut off have left in a certs.d, on whichever node.
///
/// # Errors
/// On what the kernel says.
pub fn left_behind(root: &HostRoot, certs_d: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut left = Vec::new();
    for entry in root.read_dir(certs_d)?.unwrap_or_default() {
        if entry.kind == Kind::Directory && is_directory(&entry.name) {
            let directory = certs_d.join(&entry.name);
            let hosts = root.read(&directory.join("hosts.toml"))?;
            if hosts.is_none_or(|content| content.starts_with(FIRST_LINE.as_bytes())) {
                left.push(directory);
            }
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_proofs_request_counts() {
        let head = b"HEAD /v2/proof/00ff/manifests/x?ns=127.0.0.1%3A1 HTTP/1.1\r\nHost: 127.0.0.1:4000\r\n\r\n";
        assert!(is_ours(head, "00ff"));
        assert!(!is_ours(head, "00fe"));
        assert!(!is_ours(b"HEAD /v2/ HTTP/1.1\r\nX: /v2/proof/00ff/manifests/x\r\n\r\n", "00ff"));
        assert!(!is_ours(b"", "00ff"));
    }

    #[test]
    fn nodes_have_addresses_of_their_own() {
        let addresses: std::collections::BTreeSet<_> =
            (0..100).map(|number| own_address(&format!("kind-worker{number}"))).collect();
        assert_eq!(addresses.len(), 100);
        assert!(addresses.iter().all(|address| address.is_loopback() && *address != Ipv4Addr::LOCALHOST));
        assert_eq!(own_address("kind-worker"), own_address("kind-worker"));
    }

    #[test]
    fn nobody_else_is_asked_after_the_listener() {
        insta::assert_snapshot!(hosts_toml(SocketAddr::from((Ipv4Addr::LOCALHOST, 4000))), @r#"
        # registry-mirror-operator: a self-test, removed within seconds.
        server = "http://127.0.0.1:4000"

        [host."http://127.0.0.1:4000"]
          capabilities = ["pull", "resolve"]
        "#);
    }

    #[tokio::test]
    async fn the_listener_notes_the_request_and_answers_404() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
        let address = listener.local_addr().expect("address");
        let arrived = Arc::new(AtomicBool::new(false));
        let mut server = JoinSet::new();
        server.spawn(serve(listener, "abc".to_owned(), Arc::clone(&arrived)));
        let mut stream = TcpStream::connect(address).await.expect("connect");
        // In two pieces: a request head need not come in one read.
        stream.write_all(b"HEAD /v2/proof/abc/mani").await.expect("write");
        stream.flush().await.expect("flush");
        stream.write_all(b"fests/x HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("write");
        let mut response = String::new();
        stream.read_to_string(&mut response).await.expect("read");
        assert!(response.starts_with("HTTP/1.1 404"), "{response}");
        assert!(arrived.load(Ordering::SeqCst));
    }
}
