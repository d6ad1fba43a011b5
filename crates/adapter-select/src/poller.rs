//! Readiness, by whichever call was chosen at run time.

use crate::descriptors::Descriptors;
use amqp_core::{Error, Result, hub::Interest};
use polling::{Events, PollMode};
use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd},
    str::FromStr,
    sync::Arc,
    task::{Wake, Waker},
    time::Duration,
};

/// Which readiness call the loop sleeps in.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PollerKind {
    /// The one that the environment variable `POOKA_POLLER` names; otherwise epoll, kqueue, poll or select, the first
    /// that there is.
    #[default]
    Auto,
    /// select(2): everywhere, and slow with many connections.
    Select,
    /// poll(2): everywhere on Unix, and slow with many connections.
    Poll,
    /// epoll(7): Linux.
    Epoll,
    /// kqueue(2): BSD and macOS.
    Kqueue,
}

const OS: PollerKind =
    if cfg!(any(target_os = "linux", target_os = "android")) { PollerKind::Epoll } else { PollerKind::Kqueue };

impl PollerKind {
    /// Returns what there is on this system, the best first.
    pub fn available() -> &'static [Self] {
        &[OS, Self::Poll, Self::Select]
    }

    /// Returns a poller that there is, instead of [`Auto`](Self::Auto).
    ///
    /// # Errors
    /// There is no such poller here, or `POOKA_POLLER` names one that there is not.
    pub fn resolve(self) -> Result<Self> {
        match self {
            Self::Auto => match std::env::var("POOKA_POLLER") {
                Ok(name) if !name.is_empty() => match name.parse()? {
                    Self::Auto => Ok(OS),
                    named => named.resolve(),
                },
                _ => Ok(OS),
            },
            kind if Self::available().contains(&kind) => Ok(kind),
            kind => Err(no_such(&kind.to_string())),
        }
    }
}

fn no_such(wanted: &str) -> Error {
    let available: Vec<_> = PollerKind::available().iter().map(ToString::to_string).collect();
    Error::NoSuchPoller { wanted: wanted.into(), available: available.join(", ").into() }
}

impl fmt::Display for PollerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Select => "select",
            Self::Poll => "poll",
            Self::Epoll => "epoll",
            Self::Kqueue => "kqueue",
        })
    }
}

impl FromStr for PollerKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let all = [Self::Auto, Self::Select, Self::Poll, Self::Epoll, Self::Kqueue];
        all.into_iter().find(|kind| kind.to_string() == name).ok_or_else(|| no_such(name))
    }
}

/// A socket that is ready. Errors and hang-ups count as readable, so that what is still there is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readiness {
    pub(crate) key: usize,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

/// Level-triggered readiness of any number of sockets.
#[derive(Debug)]
pub(crate) struct Poller {
    kind: PollerKind,
    backend: Backend,
}

#[derive(Debug)]
enum Backend {
    Portable(Descriptors),
    Os { poller: Arc<polling::Poller>, events: Events },
}

impl Poller {
    pub(crate) fn new(kind: PollerKind) -> Result<Self> {
        let kind = kind.resolve()?;
        let backend = match kind {
            PollerKind::Select | PollerKind::Poll => {
                Descriptors::new(kind == PollerKind::Select).map(Backend::Portable)
            }
            _ => polling::Poller::new().map(|poller| Backend::Os { poller: Arc::new(poller), events: Events::new() }),
        };
        let backend =
            backend.map_err(|error| Error::Io { what: format!("making {kind}").into(), cause: error.into() })?;
        Ok(Self { kind, backend })
    }

    pub(crate) fn kind(&self) -> PollerKind {
        self.kind
    }

    /// Ends a wait, from any thread; or the next one, if none is going on.
    pub(crate) fn waker(&self) -> Waker {
        match &self.backend {
            Backend::Portable(descriptors) => descriptors.waker(),
            Backend::Os { poller, .. } => Waker::from(Arc::new(Notify(poller.clone()))),
        }
    }

    /// Watches a socket until it is [deleted](Self::delete), which comes before it is closed.
    pub(crate) fn add(&mut self, source: impl AsFd, key: usize, interest: Interest) -> io::Result<()> {
        match &mut self.backend {
            Backend::Portable(descriptors) => descriptors.add(source.as_fd(), key, interest),
            Backend::Os { poller, .. } => add(poller, &source, event(key, interest)),
        }
    }

    pub(crate) fn modify(&mut self, source: impl AsFd, key: usize, interest: Interest) -> io::Result<()> {
        match &mut self.backend {
            Backend::Portable(descriptors) => descriptors.modify(key, interest),
            Backend::Os { poller, .. } => {
                // epoll tells of a hang-up also who wants nothing: once is enough, or the loop would turn without rest.
                let wanted = interest.readable || interest.writable;
                let mode = if wanted { PollMode::Level } else { PollMode::Oneshot };
                poller.modify_with_mode(source.as_fd(), event(key, interest), mode)
            }
        }
    }

    pub(crate) fn delete(&mut self, source: impl AsFd, key: usize) -> io::Result<()> {
        match &mut self.backend {
            Backend::Portable(descriptors) => descriptors.delete(key),
            Backend::Os { poller, .. } => poller.delete(source.as_fd()),
        }
    }

    /// Waits until something is ready, the time is over, or the waker says so; an interrupted wait is no error.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Readiness>) -> io::Result<()> {
        ready.clear();
        let waited = match &mut self.backend {
            Backend::Portable(descriptors) => descriptors.wait(timeout, ready),
            Backend::Os { poller, events } => {
                events.clear();
                let waited = poller.wait(events, timeout.map(whole_millis)).map(drop);
                ready.extend(events.iter().map(|event| {
                    let failed = event.is_err() == Some(true) || event.is_interrupt();
                    Readiness { key: event.key, readable: event.readable || failed, writable: event.writable }
                }));
                waited
            }
        };
        match waited {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            waited => waited,
        }
    }
}

/// Rounded up, so that a loop never wakes just before its deadline.
pub(crate) fn whole_millis(timeout: Duration) -> Duration {
    let millis = timeout.as_millis() + u128::from(timeout.subsec_nanos() % 1_000_000 != 0);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

fn event(key: usize, Interest { readable, writable }: Interest) -> polling::Event {
    polling::Event::new(key, readable, writable)
}

/// `polling` calls this unsafe because the source has to outlive its registration: [`Poller::delete`] comes before the
/// socket is closed, and the hub that owns both sees to it.
#[allow(unsafe_code)]
fn add(poller: &polling::Poller, source: &impl AsFd, event: polling::Event) -> io::Result<()> {
    // SAFETY: as above.
    unsafe { poller.add_with_mode(source.as_fd().as_raw_fd(), event, PollMode::Level) }
}

struct Notify(Arc<polling::Poller>);

impl Wake for Notify {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It fails only if the poller is broken, and then its wait says so.
        let _ = self.0.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Resource, Rlimit};
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        thread,
        time::Instant,
    };

    const READ: Interest = Interest { readable: true, writable: false };
    const BOTH: Interest = Interest { readable: true, writable: true };
    const NOTHING: Interest = Interest { readable: false, writable: false };

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        ours.set_nonblocking(true).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    fn each(test: impl Fn(Poller)) {
        for kind in PollerKind::available() {
            test(Poller::new(*kind).unwrap());
        }
    }

    fn ready(poller: &mut Poller, timeout: Duration) -> Vec<Readiness> {
        let mut events = vec![];
        poller.wait(Some(timeout), &mut events).unwrap();
        events
    }

    /// S2
    #[test]
    fn an_idle_wait_honours_its_timeout() {
        each(|mut poller| {
            let (ours, _theirs) = pair();
            poller.add(&ours, 7, READ).unwrap();
            let begun = Instant::now();
            assert_eq!(ready(&mut poller, Duration::ZERO), []);
            assert_eq!(ready(&mut poller, Duration::from_micros(20_300)), []);
            assert!(begun.elapsed() >= Duration::from_micros(20_300), "{:?} woke early", poller.kind());
        });
    }

    #[test]
    fn one_written_socket_of_many_gives_one_event_until_it_is_read() {
        each(|mut poller| {
            let mut pairs: Vec<_> = (0..20).map(|_| pair()).collect();
            for (key, (ours, _)) in pairs.iter().enumerate() {
                poller.add(ours, key, READ).unwrap();
            }
            pairs[13].1.write_all(b"x").unwrap();
            for _ in 0..2 {
                let events = ready(&mut poller, Duration::from_secs(5));
                assert_eq!(events, [Readiness { key: 13, readable: true, writable: false }], "{:?}", poller.kind());
            }
            assert_eq!(pairs[13].0.read(&mut [0; 9]).unwrap(), 1);
            poller.delete(&pairs[13].0, 13).unwrap();
            pairs[13].1.write_all(b"x").unwrap();
            assert_eq!(ready(&mut poller, Duration::ZERO), []);
        });
    }

    /// S1, S6
    #[test]
    fn writable_is_told_only_when_asked_for() {
        each(|mut poller| {
            let (ours, _theirs) = pair();
            poller.add(&ours, 1, READ).unwrap();
            assert_eq!(ready(&mut poller, Duration::ZERO), []);
            poller.modify(&ours, 1, BOTH).unwrap();
            let events = ready(&mut poller, Duration::from_secs(5));
            assert_eq!(events, [Readiness { key: 1, readable: false, writable: true }]);
        });
    }

    /// S8
    #[test]
    fn a_peer_that_hangs_up_is_readable_and_who_wants_nothing_hears_nothing() {
        each(|mut poller| {
            let (mut ours, theirs) = pair();
            poller.add(&ours, 1, READ).unwrap();
            drop(theirs);
            assert!(ready(&mut poller, Duration::from_secs(5))[0].readable);
            assert_eq!(ours.read(&mut [0; 9]).unwrap(), 0);
            poller.modify(&ours, 1, NOTHING).unwrap();
            assert_eq!(ready(&mut poller, Duration::ZERO), [], "{:?}", poller.kind());
        });
        each(|mut poller| {
            let (mut ours, theirs) = pair();
            ours.write_all(b"what is not read resets the connection").unwrap();
            poller.add(&ours, 1, READ).unwrap();
            drop(theirs);
            assert!(ready(&mut poller, Duration::from_secs(5))[0].readable);
            poller.modify(&ours, 1, NOTHING).unwrap();
            // epoll tells it once, or the loop would turn without rest.
            assert!(ready(&mut poller, Duration::ZERO).len() <= 1, "{:?}", poller.kind());
            assert_eq!(ready(&mut poller, Duration::ZERO), [], "{:?}", poller.kind());
            poller.modify(&ours, 1, READ).unwrap();
            for _ in 0..2 {
                assert!(ready(&mut poller, Duration::ZERO)[0].readable, "{:?}", poller.kind());
            }
            assert!(ours.read(&mut [0; 9]).is_err());
        });
    }

    #[test]
    fn a_wake_ends_the_wait_that_goes_on_or_else_the_next_one() {
        each(|mut poller| {
            let waker = poller.waker();
            waker.wake_by_ref();
            waker.wake_by_ref();
            let mut events = vec![];
            poller.wait(None, &mut events).unwrap();
            assert_eq!(ready(&mut poller, Duration::ZERO), []);
            let other = thread::spawn(move || waker.wake());
            poller.wait(None, &mut events).unwrap();
            other.join().unwrap();
        });
    }

    /// D2
    #[test]
    fn the_system_s_own_poller_comes_first_and_select_last() {
        assert_eq!(PollerKind::available(), [OS, PollerKind::Poll, PollerKind::Select]);
        assert_eq!(OS, if cfg!(target_os = "linux") { PollerKind::Epoll } else { PollerKind::Kqueue });
        if std::env::var_os("POOKA_POLLER").is_none() {
            assert_eq!(PollerKind::Auto.resolve(), Ok(OS));
        }
    }

    /// D1
    #[test]
    fn an_unknown_poller_is_an_error_that_names_the_others() {
        let error = "iocp".parse::<PollerKind>().unwrap_err().to_string();
        assert!(error.contains("\"iocp\"") && error.contains("select"), "{error}");
        assert!(PollerKind::Auto.resolve().is_ok());
        assert_eq!("poll".parse(), Ok(PollerKind::Poll));
    }

    /// S10: FD_SETSIZE is 1024: select's sets have to be as long as the highest descriptor wants them, and no fixed type.
    #[test]
    fn a_descriptor_over_1024_becomes_ready() {
        // Nothing else in this process minds a higher limit, so it stays.
        let limit = rustix::process::getrlimit(Resource::Nofile);
        if limit.current.is_some_and(|current| current < 2048) {
            let most = limit.maximum.map_or(2048, |maximum| maximum.min(2048));
            rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..limit }).unwrap();
            assert!(most > 1200, "this test has descriptors over 1100, ulimit -Hn allows {most}: raise it");
        }
        each(|mut poller| {
            let (below, mut theirs) = pair();
            let mut ours = TcpStream::from(rustix::io::fcntl_dupfd_cloexec(&below, 1100).unwrap());
            drop(below);
            assert!(ours.as_raw_fd() > 1024);
            poller.add(&ours, 1, READ).unwrap();
            assert_eq!(ready(&mut poller, Duration::ZERO), []);
            theirs.write_all(b"x").unwrap();
            let readable = Readiness { key: 1, readable: true, writable: false };
            assert_eq!(ready(&mut poller, Duration::from_secs(5)), [readable], "{:?}", poller.kind());
            poller.modify(&ours, 1, BOTH).unwrap();
            let both = Readiness { writable: true, ..readable };
            assert_eq!(ready(&mut poller, Duration::from_secs(5)), [both], "{:?}", poller.kind());
            assert_eq!(ours.read(&mut [0; 9]).unwrap(), 1);
        });
    }
}
