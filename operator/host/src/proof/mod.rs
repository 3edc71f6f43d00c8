//! The proof that containerd reads a directory of hosts.toml files: a pull of a made-up registry that must arrive at
//! a listener of our own.
//!
//! It holds for every version: it sees a colon list that the transfer service takes for one directory (2.1 to 2.4), a
//! wrong directory, and a daemon that has not restarted since its file changed. `config dump` sees none of these. The
//! registry is `127.0.0.1:1`, so that no name is looked up and no proxy asked (Go asks none for a loopback address).
//! Where several nodes share the directory each has an address of its own in 127.0.0.0/8, so that none takes another
//! one's proof away. There are two of them:
//!
//! - [`prove`] ends at a 404, so that no image comes to be. Verified against containerd 1.6.20, 1.7.35, 2.1.9 and 2.4.2:
//!   7 to 15 ms.
//! - [`pull_through`] and [`pull_by_any_way`] pull an image of a few hundred bytes, and so see what comes after the
//!   answer of a registry: checking and unpacking. They are for the time around our own restart.

mod image;
pub(crate) mod left_behind;
mod listener;

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use registry_mirror_core::digest::Digest;
use tokio::time::Instant;

pub use self::left_behind::{is_directory, left_behind};
use self::{
    image::TinyImage,
    left_behind::{FIRST_LINE, PORT},
    listener::{Content, Listener},
};
use crate::{
    cri::{Cri, CriError},
    fault,
    files::{Attributes, HostWriter, Owner},
    guard::unfinished,
    root::{FileError, HostRoot},
    shared,
};

/// The repositories that proofs ask for lie below it; nobody else's images do.
const REPOSITORY: &str = "registry-mirror-proof";
/// All of a proof, both attempts together.
const LIMIT: Duration = Duration::from_secs(5);
/// A pull with all that belongs to it: snapshotters that make a file system for each layer take seconds on a slow disk.
const WHOLE_LIMIT: Duration = Duration::from_secs(20);

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

/// What a pull of a whole image found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WholePull {
    /// containerd has the image: fetched, checked, unpacked.
    Works,
    /// containerd answered that it cannot.
    Refused {
        /// CRI's answer.
        cri_said: String,
    },
    /// Nothing was learnt.
    Failed {
        /// Why, in a sentence.
        why: String,
    },
}

/// How a pull finds our listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The registry is made up, and the directory says where to go.
    Directory,
    /// The registry is the listener itself: containerd asks loopback addresses by plain HTTP unless it is told
    /// otherwise.
    Straight,
}

/// Asks the containerd behind `cri` whether it reads `certs_d` (a host path). Takes 5 s at most.
///
/// Writes `hosts.toml` in the [`directory`] of the made-up registry and removes it again; what a proof that was cut short left there is
/// replaced by the next one.
pub async fn prove(writer: &HostWriter, certs_d: &Path, cri: &Cri) -> ProofResult {
    let until = Instant::now() + LIMIT;
    let proof = match Proof::of(writer, certs_d, cri) {
        Ok(proof) => proof,
        Err(error) => return ProofResult::Failed { why: error.to_string() },
    };
    let result = match proof.attempt(until).await {
        // Once more: `node apply` by hand may have proved at the same moment.
        ProofResult::NotEffective { .. } if Instant::now() < until => proof.attempt(until).await,
        other => other,
    };
    proof.clean_up();
    result
}

/// Pulls a tiny image, which is removed again, through `certs_d`. Takes 20 s at most.
pub async fn pull_through(writer: &HostWriter, certs_d: &Path, cri: &Cri) -> WholePull {
    whole(writer, certs_d, cri, &[Way::Directory]).await
}

/// The same, through `certs_d` or else straight from the listener: whether containerd can pull at all, whichever
/// directory it reads. Takes 40 s at most.
///
/// The directory comes first, for where it is read its `_default` may lead a pull from a loopback address elsewhere.
pub async fn pull_by_any_way(writer: &HostWriter, certs_d: &Path, cri: &Cri) -> WholePull {
    whole(writer, certs_d, cri, &[Way::Directory, Way::Straight]).await
}

async fn whole(writer: &HostWriter, certs_d: &Path, cri: &Cri, ways: &[Way]) -> WholePull {
    let proof = match Proof::of(writer, certs_d, cri) {
        Ok(proof) => proof,
        Err(error) => return WholePull::Failed { why: error.to_string() },
    };
    let mut result = WholePull::Failed { why: "no way to pull was tried".to_owned() };
    for way in ways {
        result = match proof.pull_image(*way).await {
            Ok(Pulled { answer: Ok(_), .. }) => WholePull::Works,
            Ok(Pulled { answer: Err(CriError::Refused { said, .. }), .. }) => WholePull::Refused { cri_said: said },
            Ok(Pulled { answer: Err(error), .. }) => WholePull::Failed { why: error.to_string() },
            Err(why) => WholePull::Failed { why },
        };
        if result == WholePull::Works {
            break;
        }
    }
    proof.clean_up();
    result
}

/// Removes what a proof that was cut short has left: its file and its image.
pub async fn clean_up(writer: &HostWriter, certs_d: &Path, cri: &Cri) {
    match Proof::of(writer, certs_d, cri) {
        Ok(proof) => proof.clean_up(),
        Err(error) => tracing::warn!("what a proof has left could not be looked for: {error}"),
    }
    remove_images(cri).await;
}

/// Removes the images that pulls of a proof have left in containerd, also those of a process that was killed.
async fn remove_images(cri: &Cri) {
    let removed = async {
        for tag in cri.image_tags().await?.iter().filter(|tag| is_image_of_proof(tag)) {
            cri.remove_image(tag).await?;
        }
        Ok::<_, CriError>(())
    };
    if let Err(error) = removed.await {
        tracing::warn!("the proof's own image of some bytes stays until the next proof: {error}");
    }
}

/// `127.0.0.1:1/registry-mirror-proof/<nonce>:x`
fn is_image_of_proof(tag: &str) -> bool {
    let mut parts = tag.split('/');
    parts.next().is_some_and(|registry| registry.starts_with("127.")) && parts.next() == Some(REPOSITORY)
}

/// One proof on one host.
struct Proof<'a> {
    writer: &'a HostWriter,
    cri: &'a Cri,
    /// The address of the made-up registry.
    registry: Ipv4Addr,
    /// Its directory.
    directory: PathBuf,
}

/// A pull that was asked for.
struct Pulled {
    /// Whether the request arrived at the listener.
    arrived: bool,
    reference: String,
    answer: Result<String, CriError>,
    took: Duration,
}

impl<'a> Proof<'a> {
    fn of(writer: &'a HostWriter, certs_d: &Path, cri: &'a Cri) -> Result<Self, FileError> {
        let registry = address(writer.root(), certs_d)?;
        Ok(Self { writer, cri, registry, directory: certs_d.join(directory_name(registry)) })
    }

    async fn attempt(&self, until: Instant) -> ProofResult {
        let limit = until.saturating_duration_since(Instant::now());
        match self.pull(&nonce(), None, Way::Directory, limit).await {
            Ok(Pulled { arrived: true, took, .. }) => ProofResult::Effective { took },
            Ok(Pulled { answer: Err(CriError::Refused { said, .. }), .. }) => {
                ProofResult::NotEffective { cri_said: said }
            }
            Ok(Pulled { answer: Err(error), .. }) => ProofResult::Failed { why: error.to_string() },
            Ok(Pulled { answer: Ok(image), reference, .. }) => {
                let why = format!("CRI says that it pulled the made-up image {reference} as {image}");
                ProofResult::Failed { why }
            }
            Err(why) => ProofResult::Failed { why },
        }
    }

    async fn pull_image(&self, way: Way) -> Result<Pulled, String> {
        let nonce = nonce();
        let image = TinyImage::new(&nonce).map_err(|error| format!("the proof's image cannot be made: {error}"))?;
        let pulled = self.pull(&nonce, Some(image), way, WHOLE_LIMIT).await?;
        fault::point("proof:pulled");
        remove_images(self.cri).await;
        Ok(pulled)
    }

    async fn pull(&self, nonce: &str, image: Option<TinyImage>, way: Way, limit: Duration) -> Result<Pulled, String> {
        let repository = format!("{REPOSITORY}/{nonce}");
        let listener = Listener::open(Content { repository: repository.clone(), image }).await;
        let listener = listener.map_err(|error| format!("cannot listen on 127.0.0.1: {error}"))?;
        let registry = match way {
            Way::Directory => {
                self.write(listener.address()).map_err(|error| error.to_string())?;
                SocketAddr::from((self.registry, PORT))
            }
            Way::Straight => listener.address(),
        };
        let reference = format!("{registry}/{repository}:x");
        let started = Instant::now();
        let answer = self.cri.pull_image(&reference, limit).await;
        Ok(Pulled { arrived: listener.was_asked(), reference, answer, took: started.elapsed() })
    }

    fn write(&self, address: SocketAddr) -> Result<(), FileError> {
        if let Some(certs_d) = self.directory.parent() {
            self.writer.create_dir(certs_d, 0o755)?;
        }
        self.writer.create_dir(&self.directory, 0o755)?;
        let attributes = Attributes { mode: 0o644, owner: Owner::Root };
        self.writer.write(&self.directory.join("hosts.toml"), hosts_toml(address).as_bytes(), attributes).map(drop)
    }

    fn clean_up(&self) {
        let hosts = self.directory.join("hosts.toml");
        // A process that was killed may have left the first half of a write.
        let files = [unfinished(&hosts), hosts];
        let removed = files
            .iter()
            .try_for_each(|file| self.writer.remove(file).map(drop))
            .and_then(|()| self.writer.remove_dir_if_empty(&self.directory).map(drop));
        if let Err(error) = removed {
            tracing::warn!("the proof's own directory stays until the next proof: {error}");
        }
    }
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

/// The address of the made-up registry on this node.
fn address(root: &HostRoot, certs_d: &Path) -> Result<Ipv4Addr, FileError> {
    match shared::may_be_shared(root, certs_d)? {
        true => Ok(own_address(&shared::node_id(root)?)),
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

/// Where the proof writes below a certs.d.
///
/// # Errors
/// On what the kernel says.
pub fn directory(root: &HostRoot, certs_d: &Path) -> Result<PathBuf, FileError> {
    Ok(certs_d.join(directory_name(address(root, certs_d)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proofs_images_are_removed() {
        assert!(is_image_of_proof("127.0.0.1:1/registry-mirror-proof/00ff:x"));
        assert!(is_image_of_proof("127.9.8.7:40001/registry-mirror-proof/00ff:x"));
        assert!(!is_image_of_proof("127.0.0.1:5000/team/registry-mirror-proof:x"));
        assert!(!is_image_of_proof("docker.io/registry-mirror-proof/00ff:x"));
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
}
