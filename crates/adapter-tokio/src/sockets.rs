//! tokio's sockets, which wake their task one by one.

use amqp_core::{
    TcpOptions,
    hub::{Interest, Network, Token},
    task::Task,
};
use std::{
    io::{self, IoSlice, Read, Write},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll, Waker},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, lookup_host},
};

/// The sockets of a loop. They belong to the runtime in which the loop is polled.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) task: Task,
}

/// A socket that registers for a wake-up whenever it cannot read or write.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    waker: Waker,
    /// What tokio remembers of the socket is not enough for the next read.
    doubted: bool,
}

impl Network for Sockets {
    type Socket = Socket;

    const EDGE_TRIGGERED: bool = true;

    fn resolve(&mut self, host: &str, port: u16, then: Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>) {
        if let Ok(address) = host.parse::<IpAddr>() {
            return then(Ok(vec![(address, port).into()]));
        }
        let host = host.to_owned();
        tokio::spawn(async move { then(lookup_host((host, port)).await.map(Iterator::collect)) });
    }

    fn connect(&mut self, address: SocketAddr, token: Token) -> io::Result<Socket> {
        let stream = TcpStream::from_std(pooka_sockets::connect(address)?)?;
        let socket = Socket { stream, waker: self.task.waker(token), doubted: false };
        socket.await_room();
        Ok(socket)
    }

    fn tune(&mut self, socket: &Socket, options: &TcpOptions) -> io::Result<()> {
        pooka_sockets::tune(&socket.stream, options)
    }

    fn connected(&mut self, socket: &Socket) -> io::Result<bool> {
        let connected = pooka_sockets::connected(&socket.stream)?;
        if !connected {
            socket.await_room();
        }
        Ok(connected)
    }

    fn watch(&mut self, _: &Socket, _: Token, _: Interest) -> io::Result<()> {
        Ok(()) // each read or write that cannot go on asks to be woken
    }

    fn doubt(&mut self, socket: &mut Socket) {
        socket.doubted = true;
    }

    fn forget(&mut self, socket: Socket, _: Token) {
        drop(socket);
    }
}

impl Socket {
    /// Wakes the task when the socket can be written, and so is connected or refused.
    fn await_room(&self) {
        // Not cleared if it is there already: another thread may have heard of it, and it is told once.
        if self.stream.poll_write_ready(&mut Context::from_waker(&self.waker)).is_ready() {
            self.waker.wake_by_ref();
        }
    }
}

fn now_or_blocked<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Read for Socket {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(octets);
        let mut context = Context::from_waker(&self.waker);
        match Pin::new(&mut self.stream).poll_read(&mut context, &mut buffer) {
            Poll::Ready(result) => result.map(|()| buffer.filled().len()),
            // The task is woken as soon as tokio hears of it, and that may be after the deadline.
            Poll::Pending if self.doubted => {
                let read = pooka_sockets::read(&self.stream, octets);
                self.doubted = !matches!(&read, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
                read
            }
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        now_or_blocked(Pin::new(&mut self.stream).poll_write(&mut Context::from_waker(&self.waker), octets))
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut context = Context::from_waker(&self.waker);
        now_or_blocked(Pin::new(&mut self.stream).poll_write_vectored(&mut context, pieces))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
