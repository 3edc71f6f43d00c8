//! A registry that admits users by repository, as Harbor and GitLab do: the node's own user may pull what is public, a
//! pod's user also what is private.
//!
//! docker-registry knows no such rule, so a stand-in asks for the user and hands the request on to the bed's mirror.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

use anyhow::{Context, Result, ensure};
use testbed::{Bed, Node};

use crate::traffic::TAG;

/// Where the stand-in listens.
pub(crate) const ADDRESS: &str = "10.88.0.1:5071";
/// The registry as images name it; nothing answers there.
pub(crate) const REGISTRY: &str = "reg.test";
/// What the node sends for pulls that bring no user.
pub(crate) const NODE: (&str, &str) = ("node", "n0de");
/// A pull secret.
const POD: &str = "pod:p0d";

const PUBLIC: &str = "public/x";
const PRIVATE: &str = "private/x";
/// The two users as requests carry them.
const NODE_HEADER: &str = "Basic bm9kZTpuMGRl";
const POD_HEADER: &str = "Basic cG9kOnAwZA==";
const MIRROR: ([u8; 4], u16) = ([10, 88, 0, 1], 5000);

/// Starts the stand-in for as long as this program runs or the bed is there.
///
/// # Errors
/// When the images cannot be pushed, or the address is taken.
pub(crate) fn serve(bed: &Bed) -> Result<()> {
    for repository in [PUBLIC, PRIVATE] {
        bed.push("mirror", repository, TAG, &testbed::Image::filler("users", 1))?;
    }
    let (ready, listening) = mpsc::channel();
    thread::scope(|scope| {
        // Only this thread, and those that it starts, go into the bed's network.
        scope.spawn(move || {
            let listener = bed.enter_network().and_then(|()| Ok(TcpListener::bind(ADDRESS)?));
            let _ = ready.send(listener.map(|listener| {
                thread::spawn(move || {
                    for client in listener.incoming().flatten() {
                        thread::spawn(move || answer(client));
                    }
                });
            }));
        });
        listening.recv().context("the stand-in's thread is gone")?.context("the stand-in cannot listen")
    })
}

/// One request; containerd makes another connection for the next.
fn answer(mut client: TcpStream) -> io::Result<()> {
    let mut head = String::new();
    let mut lines = BufReader::new(client.try_clone()?);
    while lines.read_line(&mut head)? > 2 {}
    let path = head.split(' ').nth(1).unwrap_or_default();
    let user = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then_some(value.trim())
    });
    let refused = match user {
        Some(user) if user == POD_HEADER => None,
        Some(user) if user == NODE_HEADER => {
            path.starts_with(&format!("/v2/{PRIVATE}/")).then_some("403 Forbidden\r\n")
        }
        Some(_) | None => Some("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"stand-in\"\r\n"),
    };
    if let Some(refused) = refused {
        return write!(client, "HTTP/1.1 {refused}Connection: close\r\nContent-Length: 0\r\n\r\n");
    }
    let rest: Vec<&str> = head
        .lines()
        .filter(|line| {
            let name = line.split(':').next().unwrap_or_default();
            !line.is_empty() && !["authorization", "connection"].contains(&name.to_ascii_lowercase().as_str())
        })
        .collect();
    let mut mirror = TcpStream::connect(SocketAddr::from(MIRROR))?;
    write!(mirror, "{}\r\nConnection: close\r\n\r\n", rest.join("\r\n"))?;
    let mut buffer = [0; 16 << 10];
    loop {
        match mirror.read(&mut buffer)? {
            0 => return Ok(()),
            read => client.write_all(&buffer[..read])?,
        }
    }
}

/// Sees that a pull without a user goes as the node's, and that a pull secret counts where there is one.
pub(crate) fn each_pulls_as_itself(node: &Node) -> Result<()> {
    let image = |repository: &str| format!("{REGISTRY}/{repository}:{TAG}");
    let pull = |repository: &str, user: Option<&str>| -> Result<()> {
        let image = image(repository);
        match user {
            Some(user) => node.pull_as(&image, user)?,
            None => node.pull(&image)?,
        };
        node.remove_image(&image)
    };
    pull(PUBLIC, None).context("a pod without a pull secret")?;
    pull(PRIVATE, Some(POD)).context("a pod with a pull secret")?;
    ensure!(node.pull(&image(PRIVATE)).is_err(), "the node's own user may pull {PRIVATE}, which proves nothing");
    Ok(())
}
