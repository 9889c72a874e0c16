//! Runs the server on its own thread and its own runtime.
//!
//! A test therefore need not be async. A test that pauses or blocks its own runtime does not stop the mock provider.

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

/// Maximum time that a shutdown waits for batch rows that are being processed.
const DRAIN: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted. The usual cause is a lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs a mock provider until this value is dropped. Dropping the value closes all open connections. Batches keep
/// their state in the data folder.
pub struct MockProvider {
    port: u16,
    world: Arc<World>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl MockProvider {
    /// Starts the server. The server listens on 127.0.0.1 when this function returns.
    pub fn start(options: Options) -> Result<Self, MockProviderError> {
        let listen = |port, source| MockProviderError::Listen { port, source };
        let port = options.port;
        let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|source| listen(port, source))?;
        listener.set_nonblocking(true).map_err(|source| listen(port, source))?;
        let port = listener.local_addr().map_err(|source| listen(port, source))?.port();
        let world = Arc::new(World::open(options)?);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(MockProviderError::Thread)?;
        // The first count builds tables. Build them here, so that no request waits for them.
        count_tokens("warm");

        let (stop, stopped) = oneshot::channel();
        let served = world.clone();
        let thread = std::thread::Builder::new()
            .name("mock".into())
            .spawn(move || run(runtime, listener, served, stopped))
            .map_err(MockProviderError::Thread)?;
        Ok(Self { port, world, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns the base URL for OpenAI clients, which append `/embeddings` and other paths.
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}{}", self.port, self.world.options.root)
    }

    /// Returns the endpoint of Comprehend.
    pub fn comprehend_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns all charges and refusals until now.
    pub fn charges(&self) -> Charges {
        self.world.ledger().charges()
    }

    /// Replaces all fault rules.
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
                        // Send small replies without waiting for acknowledgements.
                        let _ = stream.set_nodelay(true);
                        let world = world.clone();
                        let service = service_fn(move |request| route::serve(world.clone(), request));
                        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                        // An error here is a client that disconnected, or a fault that a test set.
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
