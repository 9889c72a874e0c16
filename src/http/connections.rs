//! Limits the number of open connections. At the limit, a new connection causes another connection to be closed: the
//! oldest that has not sent a complete request. Connections that are idle or half open therefore cannot keep other
//! clients out.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::Notify;

/// Holds the open connections of a server, in the order of their arrival.
#[derive(Clone, Default)]
pub struct Connections(Rc<RefCell<Open>>);

#[derive(Default)]
struct Open {
    next: u64,
    all: BTreeMap<u64, Connection>,
}

struct Connection {
    /// Signal that tells the connection to close.
    close: Rc<Notify>,
    /// True after the connection has sent its first complete request header.
    has_request: bool,
}

/// Counts one connection as open until this value is dropped.
pub struct Place {
    connections: Connections,
    id: u64,
    close: Rc<Notify>,
}

impl Connections {
    /// Adds a connection. If `max` connections are open already, closes the oldest connection that has sent no complete
    /// request. If all open connections have sent requests, returns `None` and refuses the new connection.
    pub fn enter(&self, max: usize) -> Option<Place> {
        let mut open = self.0.borrow_mut();
        if open.all.len() >= max {
            let id = open.all.iter().find(|(_, connection)| !connection.has_request).map(|(id, _)| *id)?;
            if let Some(oldest) = open.all.remove(&id) {
                oldest.close.notify_one();
            }
        }
        let (id, close) = (open.next, Rc::new(Notify::new()));
        open.next += 1;
        open.all.insert(id, Connection { close: close.clone(), has_request: false });
        Some(Place { connections: self.clone(), id, close })
    }
}

impl Place {
    /// Marks that the connection has sent a request. From then on, no new connection replaces this connection.
    pub fn has_request(&self) {
        if let Some(connection) = self.connections.0.borrow_mut().all.get_mut(&self.id) {
            connection.has_request = true;
        }
    }

    /// Waits until a new connection replaces this connection.
    pub async fn closed(&self) {
        self.close.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.0.borrow_mut().all.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_oldest_connection_without_a_request_makes_way() {
        let connections = Connections::default();
        let (first, second) = (connections.enter(2).unwrap(), connections.enter(2).unwrap());
        first.has_request();
        let third = connections.enter(2).unwrap();
        assert!(first.closed().now_or_never().is_none(), "it is being answered");
        assert!(second.closed().now_or_never().is_some(), "it had no request");
        assert!(third.closed().now_or_never().is_none());
        third.has_request();
        assert!(connections.enter(2).is_none(), "all are being answered");
        drop(first);
        assert!(connections.enter(2).is_some());
    }
}
