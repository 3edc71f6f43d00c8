//! What the kubelet's probes are answered.
//!
//! The agent lives in the node's network, where any port can be another program's: a probe by HTTP would ask that program,
//! and the kubelet would end the agent for its answer. So the kubelet runs `registry-mirror agent-probe` in the pod, which
//! asks over an abstract socket with the pod's own name: no file, and no other pod's to take.

use std::{
    io::{self, Read as _},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener as Listener, UnixStream},
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, net::UnixListener, time::sleep};

/// An agent that does not answer for that long is stuck.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long until the socket is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How far an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Its loop runs; the node has not been looked at yet.
    Alive,
    /// The first pass over the node is done. The kubelet's view of this is how the controller knows that an agent lives.
    Started,
}

/// Whether this agent's first pass is done.
#[derive(Debug, Default)]
pub struct Startup {
    done: AtomicBool,
}

impl Startup {
    /// The first pass is done.
    pub fn set_done(&self) {
        self.done.store(true, Ordering::Relaxed);
    }

    fn progress(&self) -> Progress {
        if self.done.load(Ordering::Relaxed) { Progress::Started } else { Progress::Alive }
    }
}

/// Answers until the process ends. The loop and this task share one thread: an answer says that the loop is not stuck.
pub async fn answer(pod_uid: &str, startup: Arc<Startup>) {
    loop {
        let Err(error) = listen(pod_uid, &startup).await;
        tracing::warn!(%error, "the kubelet's probes cannot be answered; trying again");
        sleep(RETRY).await;
    }
}

async fn listen(pod_uid: &str, startup: &Startup) -> Result<std::convert::Infallible, io::Error> {
    let listener = Listener::bind_addr(&socket(pod_uid)?)?;
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    loop {
        let (mut asking, _) = listener.accept().await?;
        let byte = match startup.progress() {
            Progress::Alive => b'a',
            Progress::Started => b's',
        };
        // Whoever has gone away needs no answer.
        let _ = asking.write_all(&[byte]).await;
    }
}

/// Asks the agent of a pod, from within that pod.
///
/// # Errors
/// It does not listen, or does not answer in time.
pub fn ask(pod_uid: &str) -> io::Result<Progress> {
    let mut stream = UnixStream::connect_addr(&socket(pod_uid)?)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    Ok(if byte == *b"s" { Progress::Started } else { Progress::Alive })
}

fn socket(pod_uid: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("registry-mirror-agent/{pod_uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(pod_uid: String) -> io::Result<Progress> {
        tokio::task::spawn_blocking(move || ask(&pod_uid)).await.expect("it ends")
    }

    #[tokio::test]
    async fn the_agent_says_how_far_it_is() {
        let pod_uid = format!("test-{}", std::process::id());
        assert!(asked(pod_uid.clone()).await.is_err(), "nobody listens");
        let startup = Arc::new(Startup::default());
        let answering = tokio::spawn({
            let (pod_uid, startup) = (pod_uid.clone(), Arc::clone(&startup));
            async move { answer(&pod_uid, startup).await }
        });
        let first = tokio::time::timeout(PATIENCE, async {
            loop {
                match asked(pod_uid.clone()).await {
                    Ok(progress) => return progress,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        });
        assert_eq!(first.await.expect("it listens"), Progress::Alive);
        startup.set_done();
        assert_eq!(asked(pod_uid).await.expect("an answer"), Progress::Started);
        answering.abort();
    }
}
