//! async-io's sockets, which wake their task one by one.

use amqp_core::{
    TcpOptions,
    hub::{Interest, Network, Token},
    task::Task,
};
use async_io::Async;
use std::{
    io::{self, IoSlice, Read, Write},
    net::{SocketAddr, TcpStream},
    task::{Context, Poll, Waker},
};

/// The sockets of a loop.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) task: Task,
}

/// A socket that registers for a wake-up whenever it cannot read or write.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Async<TcpStream>,
    waker: Waker,
}

impl Network for Sockets {
    type Socket = Socket;

    const EDGE_TRIGGERED: bool = true;

    fn resolve(&mut self, host: &str, port: u16, then: Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>) {
        pooka_sockets::resolve(host, port, then);
    }

    fn connect(&mut self, address: SocketAddr, token: Token) -> io::Result<Socket> {
        let stream = Async::new_nonblocking(pooka_sockets::connect(address)?)?;
        let socket = Socket { stream, waker: self.task.waker(token) };
        socket.await_room();
        Ok(socket)
    }

    fn tune(&mut self, socket: &Socket, options: &TcpOptions) -> io::Result<()> {
        pooka_sockets::tune(socket.stream.get_ref(), options)
    }

    fn connected(&mut self, socket: &Socket) -> io::Result<bool> {
        let connected = pooka_sockets::connected(socket.stream.get_ref())?;
        if !connected {
            socket.await_room();
        }
        Ok(connected)
    }

    fn watch(&mut self, _: &Socket, _: Token, _: Interest) -> io::Result<()> {
        Ok(()) // each read or write that cannot go on asks to be woken
    }

    fn forget(&mut self, socket: Socket, _: Token) {
        drop(socket);
    }
}

impl Socket {
    /// Wakes the task when the socket can be written, and so is connected or refused.
    fn await_room(&self) {
        // Ready at once: the reactor's thread has heard of it already, and it is told once.
        if self.stream.poll_writable(&mut Context::from_waker(&self.waker)).is_ready() {
            self.waker.wake_by_ref();
        }
    }

    /// Tries; if that would block, the task is woken when it is worth trying again.
    fn or_wait<T>(
        &self,
        poll: fn(&Async<TcpStream>, &mut Context<'_>) -> Poll<io::Result<()>>,
        mut attempt: impl FnMut(&TcpStream) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match attempt(self.stream.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            // Ready at once is readiness from before the attempt.
            match poll(&self.stream, &mut Context::from_waker(&self.waker)) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
            }
        }
    }
}

impl Read for Socket {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        self.or_wait(Async::poll_readable, |mut stream| stream.read(octets))
    }
}

impl Write for Socket {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.or_wait(Async::poll_writable, |mut stream| stream.write(octets))
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.or_wait(Async::poll_writable, |mut stream| stream.write_vectored(pieces))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
