//! A process that takes along all nodes that were started below it.

use std::{
    env,
    io::{self, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{self, Command},
    sync::Once,
    thread,
};

/// Held by a process that starts others: when it dies, every process below it that has started a
/// [`RabbitNode`](crate::RabbitNode) ends, and its nodes with it.
///
/// A node already ends with its owner. But the owner may be a grandchild of the process that gets killed (`pooka-broker` →
/// `cargo test` → a test), and nobody tells grandchildren. So they stay connected to us, and hear the connection break.
#[derive(Debug)]
pub struct Lifeline {
    address: SocketAddr,
}

impl Lifeline {
    /// Holds the line until this process ends.
    pub fn hold() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            // `incoming` never ends; what is collected stays open.
            let _followers: Vec<_> = listener.incoming().collect();
        });
        Ok(Self { address })
    }

    /// Makes `command`, and what it starts, follow this process.
    pub fn give_to(&self, command: &mut Command) {
        command.env(VARIABLE, self.address.to_string());
    }
}

/// Ends this process when the holder of its lifeline, if it has one, dies.
pub(crate) fn follow() {
    static FOLLOWS: Once = Once::new();
    FOLLOWS.call_once(|| {
        if let Ok(address) = env::var(VARIABLE) {
            thread::spawn(move || {
                wait_for_the_end(&address);
                eprintln!("the process that this was started for is gone");
                process::exit(1);
            });
        }
    });
}

/// Returns when the connection breaks, or cannot be made because the holder is gone already; nothing is ever sent on it.
fn wait_for_the_end(address: &str) {
    let _ = TcpStream::connect(address).and_then(|mut holder| holder.read(&mut [0]));
}

const VARIABLE: &str = "POOKA_LIFELINE";
