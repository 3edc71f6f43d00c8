//! A limit on the time of every call.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Body, Bytes},
};
use thiserror::Error;
use tower::{BoxError, Layer, Service};

/// The answer that did not come.
#[derive(Debug, Error)]
#[error("the API server did not answer in {0:?}")]
pub struct NoAnswer(Duration);

/// Gives up each call that is not answered in time, body and all. What is given up takes its connection with it, so the
/// next call has a new one.
#[derive(Debug, Clone, Copy)]
pub struct TimeLimit(pub Duration);

impl<S> Layer<S> for TimeLimit {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner, limit: self.0 }
    }
}

/// A service with the limit.
#[derive(Debug, Clone)]
pub struct Limited<S> {
    inner: S,
    limit: Duration,
}

impl<S, Q, A> Service<Request<Q>> for Limited<S>
where
    S: Service<Request<Q>, Response = Response<A>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    A: Body<Data = Bytes> + Send + 'static,
    A::Error: Into<BoxError>,
{
    type Response = Response<UnsyncBoxBody<Bytes, BoxError>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let limit = self.limit;
        let goes_on = is_watch(request.uri().query());
        let answer = self.inner.call(request);
        let whole = async move {
            let (head, body) = answer.await.map_err(Into::into)?.into_parts();
            let body = if goes_on {
                body.map_err(Into::into).boxed_unsync()
            } else {
                let bytes = body.collect().await.map_err(Into::into)?.to_bytes();
                Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
            };
            Ok(Response::from_parts(head, body))
        };
        Box::pin(
            async move { tokio::time::timeout(limit, whole).await.unwrap_or_else(|_| Err(NoAnswer(limit).into())) },
        )
    }
}

/// A watch begins at once and goes on for minutes; kube gives up one that says nothing for longer than it asked for.
fn is_watch(query: Option<&str>) -> bool {
    query.unwrap_or_default().split('&').any(|parameter| parameter == "watch=true")
}
