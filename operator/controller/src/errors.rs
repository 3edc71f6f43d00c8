//! What ends the controller, and what only ends a pass.

use std::net::SocketAddr;

use registry_mirror_core::status::object::PublishFailure;
use thiserror::Error;

/// The controller ended without being told to. Its pod is started anew.
#[derive(Debug, Error)]
pub enum ControllerError {
    /// The port is taken, or the address is not this pod's.
    #[error("health and metrics cannot be served on {listen}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A part without which the rest would look well and do nothing.
    #[error("the controller's task `{0}` ended, which it never should; the process ends with it, to start anew")]
    TaskEnded(&'static str),
    /// Another controller may lead any moment: nothing more is written.
    #[error(
        "the Lease could not be renewed for {0:?}; the process ends, before another controller leads, and starts anew"
    )]
    LeaseLost(std::time::Duration),
    /// Somebody wrote another holder into it.
    #[error("the Lease is held by `{0}` now; the process ends and starts anew, to stand for it again")]
    LeaseTaken(String),
}

/// One pass could not be finished; it is tried again.
#[derive(Debug, Error)]
pub(crate) enum PassError {
    /// The API server refused or did not answer.
    #[error("{what} failed: {source}")]
    Api {
        /// Which call.
        what: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The bundle could not be packed.
    #[error("the bundle could not be packed: {0}")]
    Pack(#[from] std::io::Error),
    /// The bundle's Secret is another one than was read.
    #[error("the bundle's Secret was written or deleted by someone else in between; it is read again")]
    Overtaken,
    /// It took too long.
    #[error("the API server did not answer in {0:?}")]
    TimedOut(std::time::Duration),
}

impl PassError {
    pub fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Api { what, source: Box::new(source) }
    }
}

/// What a write of the bundle that failed means for its objects.
pub(crate) fn publish_failure(error: &kube::Error) -> PublishFailure {
    match error {
        kube::Error::Api(status) => PublishFailure::Refused(status.message.clone()),
        _ => PublishFailure::NoAnswer,
    }
}
