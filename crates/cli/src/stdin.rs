//! What is published: one body, repeated, or what comes from stdin, which is read on a thread of its own.

use crate::options::Publish;
use std::{
    io::{self, BufRead, Read},
    sync::mpsc::{Receiver, TryRecvError, sync_channel},
    thread,
};

/// Bodies to publish.
pub(crate) enum Input {
    Repeated {
        body: Vec<u8>,
        left: u64,
    },
    /// Stdin as one body, which is then repeated.
    Whole {
        arrives: Receiver<io::Result<Batch>>,
        count: u64,
    },
    Lines {
        arrives: Receiver<io::Result<Batch>>,
        batch: std::vec::IntoIter<Vec<u8>>,
    },
}

type Batch = Vec<Vec<u8>>;

/// What [`Input::next`] has.
pub(crate) enum Next {
    Body(Vec<u8>),
    /// There is none yet; `ring` is called when there is.
    Later,
    Over,
    Failed(io::Error),
}

/// How many lines the reader hands over together, if they come that fast.
const LINES: usize = 1000;

/// How many batches may wait; the rest stays in the pipe until these are published.
const BATCHES: usize = 2;

impl Input {
    /// `ring` is called, from another thread, whenever there is more.
    pub(crate) fn new(options: &Publish, ring: impl Fn() + Send + 'static) -> Self {
        if let Some(body) = &options.body {
            return Self::Repeated { body: body.clone().into_bytes(), left: options.count };
        }
        let (hand_over, arrives) = sync_channel(BATCHES);
        let lines = options.lines;
        let give = move |batch| {
            let taken = hand_over.send(batch).is_ok();
            ring();
            taken
        };
        thread::spawn(move || if lines { read_lines(give) } else { read_all(give) });
        if lines {
            Self::Lines { arrives, batch: vec![].into_iter() }
        } else {
            Self::Whole { arrives, count: options.count }
        }
    }

    pub(crate) fn next(&mut self) -> Next {
        loop {
            match self {
                Self::Repeated { left: 0, .. } => return Next::Over,
                Self::Repeated { body, left } => {
                    *left -= 1;
                    return Next::Body(body.clone());
                }
                Self::Whole { arrives, count } => match arrives.try_recv() {
                    Ok(Ok(batch)) => {
                        let body = batch.into_iter().next().unwrap_or_default();
                        *self = Self::Repeated { body, left: *count };
                    }
                    Ok(Err(error)) => return Next::Failed(error),
                    Err(TryRecvError::Empty) => return Next::Later,
                    Err(TryRecvError::Disconnected) => return Next::Over,
                },
                Self::Lines { arrives, batch } => {
                    if let Some(line) = batch.next() {
                        return Next::Body(line);
                    }
                    match arrives.try_recv() {
                        Ok(Ok(more)) if more.is_empty() => return Next::Over,
                        Ok(Ok(more)) => *batch = more.into_iter(),
                        Ok(Err(error)) => return Next::Failed(error),
                        Err(TryRecvError::Empty) => return Next::Later,
                        Err(TryRecvError::Disconnected) => return Next::Over,
                    }
                }
            }
        }
    }
}

fn read_all(give: impl Fn(io::Result<Batch>) -> bool) {
    let mut body = vec![];
    let read = io::stdin().lock().read_to_end(&mut body);
    give(read.map(|_| vec![body]));
}

/// Hands over lines as they come: a batch ends where no more has been read yet.
fn read_lines(give: impl Fn(io::Result<Batch>) -> bool) {
    let mut stdin = io::BufReader::with_capacity(128 * 1024, io::stdin());
    loop {
        let mut batch = vec![];
        while batch.len() < LINES {
            let mut line = vec![];
            match stdin.read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) => {
                    if line.last() == Some(&b'\n') {
                        line.pop();
                    }
                    batch.push(line);
                }
                Err(error) => {
                    give(Err(error));
                    return;
                }
            }
            if stdin.buffer().is_empty() {
                break;
            }
        }
        // An empty batch is the end.
        let over = batch.is_empty();
        if !give(Ok(batch)) || over {
            return;
        }
    }
}
