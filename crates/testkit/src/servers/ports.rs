//! Finds free ports on loopback, and checks which process listens on a port.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Returns different ports that were free a moment ago. Another process may bind one of the ports before the caller
/// does (see [`belongs_to`]).
pub(super) fn free<const N: usize>() -> io::Result<[u16; N]> {
    // All ports stay bound until the last one is found.
    let mut found = [0; N];
    let mut held = Vec::with_capacity(N);
    for port in &mut found {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(found)
}

/// Returns whether the process `pid` listens on the port. It is not enough that the port answers: if two tests pick
/// the same port, the server of one test also answers the other test.
pub(super) fn belongs_to(pid: u32, port: u16) -> bool {
    let Some(socket) = fs::read_to_string("/proc/net/tcp").ok().and_then(|table| listener(&table, port)) else {
        return false;
    };
    let opened = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    opened.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target.as_os_str() == socket.as_str())
}

/// Returns the name of the socket that listens on this port of 127.0.0.1, such as `socket:[12345]`. The links under
/// `/proc/PID/fd` use the same names. `table` is the content of `/proc/net/tcp`.
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
