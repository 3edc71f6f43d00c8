//! A client some of whose requests do not arrive, as over a network that lost its way.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::http::{Method, Request, Uri};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tokio::sync::watch;
use tower::{Layer, Service};

/// Holds back the requests whose method, path and query contain each word of a text.
#[derive(Debug, Clone)]
pub struct Gate {
    text: Arc<watch::Sender<Option<&'static str>>>,
    held: Arc<watch::Sender<usize>>,
}

impl Gate {
    pub fn open() -> Self {
        Self { text: Arc::new(watch::channel(None).0), held: Arc::new(watch::channel(0).0) }
    }

    /// A client whose requests go through the gate.
    pub fn client(&self, config: Config) -> Client {
        ClientBuilder::try_from(config).expect("a client").with_layer(self).build()
    }

    /// From now on; `None` lets all of them go.
    pub fn hold_back(&self, text: impl Into<Option<&'static str>>) {
        self.text.send_replace(text.into());
    }

    /// Resolves when a request is held back.
    pub async fn holds_one(&self) {
        self.held.subscribe().wait_for(|held| *held > 0).await.expect("the gate is there");
    }

    async fn pass(&self, method: &Method, uri: &Uri) {
        let line = format!("{method} {uri}");
        let may_go = |text: &Option<&str>| text.is_none_or(|text| !text.split(' ').all(|word| line.contains(word)));
        if may_go(&self.text.borrow()) {
            return;
        }
        let _held = Held::new(&self.held);
        self.text.subscribe().wait_for(may_go).await.expect("the gate is there");
    }
}

/// One request that waits, or is given up.
struct Held<'g>(&'g watch::Sender<usize>);

impl<'g> Held<'g> {
    fn new(count: &'g watch::Sender<usize>) -> Self {
        count.send_modify(|held| *held += 1);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|held| *held -= 1);
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: self.clone(), inner }
    }
}

pub struct Gated<S> {
    gate: Gate,
    inner: S,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>>,
    S::Response: 'static,
    S::Error: 'static,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (gate, method, uri) = (self.gate.clone(), request.method().clone(), request.uri().clone());
        // Nothing is sent before it is awaited.
        let answer = self.inner.call(request);
        Box::pin(async move {
            gate.pass(&method, &uri).await;
            answer.await
        })
    }
}
