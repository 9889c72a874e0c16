//! The server, on a thread and a runtime of its own.
//!
//! So a test need not be async, and one that pauses or blocks its own runtime does not stop the mock provider.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::batches;
use crate::charges::Charges;
use crate::embeddings::count_tokens;
use crate::error::MockProviderError;
use crate::faults::Rule;
use crate::options::Options;
use crate::route;
use crate::world::World;

/// How long the end waits for rows that are being worked on.
const DRAIN: Duration = Duration::from_secs(10);
/// After a connection could not be accepted, mostly for want of descriptors.
const PAUSE: Duration = Duration::from_millis(20);

/// A running mock provider. It ends when this is dropped: open connections are closed, batches stay where they are.
pub struct MockProvider {
    port: u16,
    world: Arc<World>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl MockProvider {
    /// Listens on 127.0.0.1 when this returns.
    pub fn start(options: Options) -> Result<Self, MockProviderError> {
        let listen = |port, source| MockProviderError::Listen { port, source };
        let port = options.port;
        let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|source| listen(port, source))?;
        listener.set_nonblocking(true).map_err(|source| listen(port, source))?;
        let port = listener.local_addr().map_err(|source| listen(port, source))?.port();
        let world = Arc::new(World::open(options)?);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(MockProviderError::Thread)?;
        // The first count builds tables; no request should wait for that.
        count_tokens("warm");

        let (stop, stopped) = oneshot::channel();
        let served = world.clone();
        let thread = std::thread::Builder::new()
            .name("mock".into())
            .spawn(move || run(runtime, listener, served, stopped))
            .map_err(MockProviderError::Thread)?;
        Ok(Self { port, world, stop: Some(stop), thread: Some(thread) })
    }

    /// What a client puts before `/embeddings`.
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// Where Comprehend is.
    pub fn comprehend_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Everything that was charged and refused until now.
    pub fn charges(&self) -> Charges {
        self.world.ledger().charges()
    }

    /// Puts other faults in the place of all that are set.
    pub fn set_faults(&self, rules: Vec<Rule>) -> Result<(), MockProviderError> {
        self.world.faults().set(rules).map_err(MockProviderError::Faults)
    }
}

impl Drop for MockProvider {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(runtime: Runtime, listener: TcpListener, world: Arc<World>, stopped: oneshot::Receiver<()>) {
    runtime.block_on(async move {
        batches::resume(&world);
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
        let accepting = async {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        // Small replies should not wait for their acknowledgement.
                        let _ = stream.set_nodelay(true);
                        let world = world.clone();
                        let service = service_fn(move |request| route::serve(world.clone(), request));
                        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                        // Its error is the client's loss or a fault that was asked for.
                        tokio::spawn(async move { drop(connection.await) });
                    }
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            _ = stopped => {}
        }
    });
    runtime.shutdown_timeout(DRAIN);
}
