//! Ports on loopback: free ones, and whose they are.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Different ports that were free a moment ago. Somebody else may be faster: see [`belongs_to`].
pub(super) fn free<const N: usize>() -> io::Result<[u16; N]> {
    // All are held until the last one is found.
    let mut found = [0; N];
    let mut held = Vec::with_capacity(N);
    for port in &mut found {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(found)
}

/// Whether it is the process `pid` that listens there. An answer alone does not tell: when two tests pick the same port,
/// the server of the one answers to the other, until that one's is dropped.
pub(super) fn belongs_to(pid: u32, port: u16) -> bool {
    let Some(socket) = fs::read_to_string("/proc/net/tcp").ok().and_then(|table| listener(&table, port)) else {
        return false;
    };
    let opened = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    opened.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target.as_os_str() == socket.as_str())
}

/// The socket that listens on a port of 127.0.0.1, as links to it are called under /proc.
fn listener(table: &str, port: u16) -> Option<String> {
    const LISTENS: &str = "0A";
    let address = format!("{:08X}:{port:04X}", u32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets()));
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, _, _, _, _, _, inode, ..] = fields[..] else { return None };
        (local == address && state == LISTENS).then(|| format!("socket:[{inode}]"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_belongs_to_who_listens_on_it() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(belongs_to(std::process::id(), port));
        assert!(!belongs_to(std::os::unix::process::parent_id(), port));
        drop(listener);
        assert!(!belongs_to(std::process::id(), port));
    }

    #[test]
    fn free_ports_are_different_ones() {
        let ports: [u16; 20] = free().unwrap();
        assert_eq!(ports.iter().collect::<std::collections::BTreeSet<_>>().len(), 20);
    }
}
