//! The container runtime interface of containerd, version 1 of the protocol (containerd 1.6 and later).
//!
//! Every call connects anew: the socket is another one after each start of containerd. Every call has a deadline.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use k8s_cri::v1::{
    ImageSpec, ListImagesRequest, ListPodSandboxRequest, PullImageRequest, RemoveImageRequest, StatusRequest,
    VersionRequest, image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient,
};
use registry_mirror_core::containerd::{Version, VersionError};
use thiserror::Error;
use tokio::{
    net::UnixStream,
    time::{Instant, sleep, timeout},
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// CRI answers from memory, but a node under heavy load has been seen to take seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// containerd answers once all of its plugins are loaded or have failed; one that is missing after this time stays so.
const PLUGIN_GRACE: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A node's list of containers is larger than tonic's 4 MiB default when it runs many with long labels.
const LARGEST_ANSWER: usize = 16 << 20;

/// A conversation with CRI failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CriError {
    /// Nothing listens on the socket.
    #[error("containerd does not answer on {}: {why}", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// The reason.
        why: String,
    },
    /// No answer in time.
    #[error("containerd did not answer {what} on {} within {} s", socket.display(), after.as_secs())]
    Slow {
        /// The socket.
        socket: PathBuf,
        /// The call, for people.
        what: &'static str,
        /// How long we waited.
        after: Duration,
    },
    /// containerd runs without its CRI plugin.
    #[error(
        "containerd runs on {}, but its CRI plugin is not loaded ({said}): `journalctl -u containerd` on the host says \
         why, look for `failed to load plugin`",
        socket.display()
    )]
    NotLoaded {
        /// The socket.
        socket: PathBuf,
        /// What it answered.
        said: String,
    },
    /// It answered with an error.
    #[error("containerd answered {what} with an error: {said}")]
    Refused {
        /// The call, for people.
        what: &'static str,
        /// What it answered.
        said: String,
    },
    /// Its version is in a form that no containerd uses.
    #[error("the runtime behind {} cannot be used: {error}", socket.display())]
    Version {
        /// The socket.
        socket: PathBuf,
        /// What is wrong.
        error: VersionError,
    },
    /// Another runtime answers on the socket.
    #[error("the runtime behind {} is {name}, not containerd: only containerd reads hosts.toml files", socket.display())]
    NotContainerd {
        /// The socket.
        socket: PathBuf,
        /// The runtime's name.
        name: String,
    },
    /// It did not become ready in time.
    #[error("containerd's CRI was not ready within {} s: {last}", after.as_secs())]
    NotReady {
        /// How long we waited.
        after: Duration,
        /// What it said last.
        last: String,
    },
}

/// CRI's answer to `Status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CriStatus {
    /// The condition `RuntimeReady`.
    pub runtime_ready: bool,
    /// Why it is not ready, in CRI's words.
    pub message: String,
}

/// One containerd, by its socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cri {
    /// As this process opens it (`/host/run/…`).
    opened: PathBuf,
    /// As the host names it, for messages.
    shown: PathBuf,
}

impl Cri {
    /// The containerd that listens on a socket: `opened` is its path for this process (`/host/run/…`), `shown` the one
    /// that the host's people know.
    #[must_use]
    pub const fn new(opened: PathBuf, shown: PathBuf) -> Self {
        Self { opened, shown }
    }

    /// The socket as this process opens it.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.opened
    }

    async fn channel(&self) -> Result<Channel, CriError> {
        let unreachable = |why: String| CriError::Unreachable { socket: self.shown.clone(), why };
        // Looked at first, because tonic hides the reason in a chain of errors.
        let probe = timeout(CONNECT_TIMEOUT, UnixStream::connect(&self.opened)).await;
        match probe {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable("no connection within 2 s".to_owned())),
        }
        let socket = self.opened.clone();
        // The address is never used: the connector opens the socket. It becomes the `:authority` header.
        let endpoint = Endpoint::from_static("http://localhost").connect_timeout(CONNECT_TIMEOUT);
        endpoint
            .connect_with_connector(service_fn(move |_: Uri| {
                let socket = socket.clone();
                async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
            }))
            .await
            .map_err(|error| unreachable(error.to_string()))
    }

    async fn runtime(&self) -> Result<RuntimeServiceClient<Channel>, CriError> {
        Ok(RuntimeServiceClient::new(self.channel().await?).max_decoding_message_size(LARGEST_ANSWER))
    }

    async fn answer<T>(
        &self,
        what: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, CriError> {
        match timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.translate(what, &status)),
            Err(_) => Err(CriError::Slow { socket: self.shown.clone(), what, after: limit }),
        }
    }

    fn translate(&self, what: &'static str, status: &Status) -> CriError {
        let (socket, said) = (self.shown.clone(), status.message().to_owned());
        match status.code() {
            // `unknown service runtime.v1.RuntimeService`: the plugin is disabled or failed to load.
            Code::Unimplemented => CriError::NotLoaded { socket, said },
            Code::Unavailable | Code::Cancelled => CriError::Unreachable { socket, why: said },
            _ => CriError::Refused { what, said },
        }
    }

    /// containerd's release.
    ///
    /// # Errors
    /// No answer, another runtime than containerd, or a version in an unknown form.
    pub async fn version(&self) -> Result<Version, CriError> {
        let mut client = self.runtime().await?;
        let request = client.version(VersionRequest { version: String::new() });
        let answer = self.answer("a question for its version", CALL_TIMEOUT, request).await?;
        if answer.runtime_name != "containerd" {
            return Err(CriError::NotContainerd { socket: self.shown.clone(), name: answer.runtime_name });
        }
        answer.runtime_version.parse().map_err(|error| CriError::Version { socket: self.shown.clone(), error })
    }

    /// Whether the runtime is ready, and what it says of its configuration.
    ///
    /// # Errors
    /// No answer.
    pub async fn status(&self) -> Result<CriStatus, CriError> {
        let mut client = self.runtime().await?;
        let request = client.status(StatusRequest { verbose: true });
        let answer = self.answer("a question for its status", CALL_TIMEOUT, request).await?;
        let conditions = answer.status.map(|status| status.conditions).unwrap_or_default();
        let runtime = conditions.into_iter().find(|condition| condition.r#type == "RuntimeReady");
        Ok(CriStatus {
            runtime_ready: runtime.as_ref().is_some_and(|condition| condition.status),
            message: match runtime {
                Some(condition) if condition.message.is_empty() => condition.reason,
                Some(condition) => condition.message,
                None => "no RuntimeReady condition".to_owned(),
            },
        })
    }

    /// Waits until the runtime says that it is ready. That the network plugin is not is no matter: a node that joins
    /// the cluster has none yet.
    ///
    /// # Errors
    /// It is not ready after `limit`; what it said last stands in the error. The plugin is not loaded: at once.
    pub async fn wait_ready(&self, limit: Duration) -> Result<(), CriError> {
        let until = Instant::now() + limit;
        let mut missing_since = None;
        loop {
            let status = self.status().await;
            if let Err(error @ CriError::NotLoaded { .. }) = &status {
                let since = *missing_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= PLUGIN_GRACE {
                    return Err(error.clone());
                }
            } else {
                missing_since = None;
            }
            let last = match status {
                Ok(status) if status.runtime_ready => return Ok(()),
                Ok(status) => status.message,
                Err(error) => error.to_string(),
            };
            if Instant::now() >= until {
                return Err(CriError::NotReady { after: limit, last });
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Asks for an image. What the registry answers is in the error, in containerd's words.
    ///
    /// # Errors
    /// The pull failed, which is what a proof expects.
    pub async fn pull_image(&self, reference: &str, limit: Duration) -> Result<String, CriError> {
        let mut client = ImageServiceClient::new(self.channel().await?);
        let image = ImageSpec { image: reference.to_owned(), ..ImageSpec::default() };
        let request = client.pull_image(PullImageRequest { image: Some(image), ..PullImageRequest::default() });
        Ok(self.answer("a pull", limit, request).await?.image_ref)
    }

    /// The tags of all images that it has.
    ///
    /// # Errors
    /// No answer.
    pub async fn image_tags(&self) -> Result<Vec<String>, CriError> {
        let client = ImageServiceClient::new(self.channel().await?);
        let mut client = client.max_decoding_message_size(LARGEST_ANSWER);
        let request = client.list_images(ListImagesRequest { filter: None });
        let answer = self.answer("a question for its images", CALL_TIMEOUT, request).await?;
        Ok(answer.images.into_iter().flat_map(|image| image.repo_tags).collect())
    }

    /// Removes an image under all of its names, with what it alone has on disk. One that is not there is removed.
    ///
    /// # Errors
    /// It stays.
    pub async fn remove_image(&self, reference: &str) -> Result<(), CriError> {
        let mut client = ImageServiceClient::new(self.channel().await?);
        let image = ImageSpec { image: reference.to_owned(), ..ImageSpec::default() };
        let request = client.remove_image(RemoveImageRequest { image: Some(image) });
        self.answer("the removal of an image", CALL_TIMEOUT, request).await.map(drop)
    }

    /// Whether this containerd runs the pod with this UID.
    ///
    /// # Errors
    /// No answer.
    pub async fn owns_pod(&self, uid: &str) -> Result<bool, CriError> {
        let mut client = self.runtime().await?;
        let request = client.list_pod_sandbox(ListPodSandboxRequest { filter: None });
        let answer = self.answer("a question for its pods", CALL_TIMEOUT, request).await?;
        Ok(answer.items.iter().any(|sandbox| sandbox.metadata.as_ref().is_some_and(|pod| pod.uid == uid)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_is_not_there_is_named() {
        let error = Cri::new("/nonexistent/containerd.sock".into(), "/nonexistent/containerd.sock".into())
            .version()
            .await
            .expect_err("nobody listens");
        assert_eq!(
            error.to_string(),
            "containerd does not answer on /nonexistent/containerd.sock: No such file or directory (os error 2)"
        );
    }

    /// A listener that accepts and never answers must not hold us up.
    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_hangs_is_given_up() {
        let dir = tempfile::tempdir().expect("tempdir");
        let socket = dir.path().join("c.sock");
        let _listener = tokio::net::UnixListener::bind(&socket).expect("bind");
        let error = Cri::new(socket.clone(), socket).status().await.expect_err("it hangs");
        assert!(matches!(error, CriError::Slow { .. } | CriError::Unreachable { .. }), "{error}");
    }
}
