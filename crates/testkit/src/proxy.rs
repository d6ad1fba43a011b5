//! A network between a client and its broker that fails when it is told to.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// Passes octets on between whoever connects and a broker, until it is told not to.
///
/// It takes connections as long as it lives; those that it has made go on.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    network: Arc<Network>,
}

#[derive(Debug, Default)]
struct Network {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: [bool; 2],
    /// Octets that are passed on together at most.
    chop: Option<usize>,
    sockets: Vec<TcpStream>,
    over: bool,
}

/// Which way octets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the broker.
    ToBroker,
    /// From the broker to the client.
    ToClient,
}

impl Proxy {
    /// Listens on a port of its own, for a broker that is reached at this host and port.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start(host: &str, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let network = Arc::new(Network::default());
        let (passing, host) = (network.clone(), host.to_owned());
        thread::spawn(move || {
            for client in listener.incoming() {
                if passing.lock().over {
                    return;
                }
                // A broker that is not there hangs up on the client.
                let _ = client.and_then(|client| Network::join(&passing, client, TcpStream::connect((&*host, port))?));
            }
        });
        Ok(Self { address, network })
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Nothing goes this way any more; the kernel's buffers fill up.
    pub fn hold(&self, way: Way) {
        self.set(way, true);
    }

    /// From now on no more than so many octets are passed on together, either way.
    pub fn chop(&self, octets: usize) {
        self.network.lock().chop = Some(octets.max(1));
    }

    /// What was held goes on.
    pub fn release(&self, way: Way) {
        self.set(way, false);
    }

    fn set(&self, way: Way, held: bool) {
        if let Some(place) = self.network.lock().held.get_mut(way as usize) {
            *place = held;
        }
        self.network.changed.notify_all();
    }

    /// Ends all connections that it has made.
    pub fn cut(&self) {
        for socket in self.network.lock().sockets.drain(..) {
            // One that has ended already is cut too.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.network.lock().over = true;
        self.network.changed.notify_all();
        self.cut();
        // Its thread waits for somebody to connect.
        let _ = TcpStream::connect(self.address);
    }
}

impl Network {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(network: &Arc<Self>, client: TcpStream, broker: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        network.lock().sockets.extend([client.try_clone()?, broker.try_clone()?]);
        let pairs = [(Way::ToBroker, client.try_clone()?, broker.try_clone()?), (Way::ToClient, broker, client)];
        for (way, from, to) in pairs {
            let network = network.clone();
            thread::spawn(move || {
                // However it ends, the other side hears of it.
                let _ = network.pass(way, &from, &to);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
        Ok(())
    }

    fn pass(&self, way: Way, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        let mut octets = [0; 16 * 1024];
        loop {
            self.wait(way);
            let most = self.lock().chop.unwrap_or(octets.len()).min(octets.len());
            let read = from.read(octets.get_mut(..most).unwrap_or_default())?;
            if read == 0 {
                return Ok(());
            }
            self.wait(way);
            to.write_all(octets.get(..read).unwrap_or_default())?;
        }
    }

    /// Returns when octets may go this way.
    fn wait(&self, way: Way) {
        let held = |state: &mut State| !state.over && state.held.get(way as usize) == Some(&true);
        drop(self.changed.wait_while(self.lock(), held));
    }
}
