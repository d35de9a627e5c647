//! Threads that read, each on its own connection, so that no reader waits for the writer.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use rusqlite::Connection;

/// A read that waits for a thread.
pub(super) type Read = Box<dyn FnOnce(&Connection) + Send>;

pub(super) type Queue = SyncSender<Read>;

/// Starts a thread for each connection; they end when all senders of `reads` are gone.
pub(super) fn start(connections: Vec<Connection>, reads: Receiver<Read>) -> io::Result<Vec<JoinHandle<()>>> {
    let reads = Arc::new(Mutex::new(reads));
    let threads = connections.into_iter().enumerate().map(|(number, connection)| {
        let reads = Arc::clone(&reads);
        Builder::new().name(format!("store-reader-{number}")).spawn(move || run(&connection, &reads))
    });
    threads.collect()
}

fn run(connection: &Connection, reads: &Mutex<Receiver<Read>>) {
    loop {
        // One thread waits for the next read, the others for the lock.
        let next = reads.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(read) = next else { return };
        read(connection);
    }
}
