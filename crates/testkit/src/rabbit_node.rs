//! A private RabbitMQ node, from its start to its end.

use crate::{
    authority::Authority,
    folder::Folder,
    handshake,
    installation::Installation,
    leash::Leash,
    lifeline,
    ports::{self, Ports},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use std::{
    env,
    ffi::OsString,
    fs, io,
    net::TcpStream,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// A RabbitMQ broker that belongs to this process alone.
///
/// Dropping it ends the node and its epmd and removes the data folder. The same happens, from outside, when this process is
/// killed. With `POOKA_KEEP=1` in the environment the data folder stays and its path is printed.
#[derive(Debug)]
pub struct RabbitNode {
    name: String,
    ports: Ports,
    installation: Installation,
    authority: Authority,
    // Dropped in this order: the folder goes last, when nobody writes to it any more.
    server: Option<Leash>,
    epmd: Leash,
    folder: Folder,
}

impl RabbitNode {
    /// Starts a node and returns when it has opened an AMQP connection, usually after five seconds, at the latest after two
    /// minutes.
    ///
    /// The server is the one in the folder `POOKA_RABBITMQ_ROOT`, or the system's. The error of a node that does not come up
    /// carries the last lines of its log.
    ///
    /// A RabbitMQ that can refuse deprecated features (4) refuses them, as one of the future will.
    pub fn start() -> io::Result<Self> {
        Self::start_with("")
    }

    /// Starts a node as [`start`](Self::start) does, with lines of `rabbitmq.conf` that are read after the usual ones.
    pub fn start_with(configuration: &str) -> io::Result<Self> {
        lifeline::follow();
        let mut attempts = 3;
        loop {
            attempts -= 1;
            match Self::start_on(Ports::free()?, configuration) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
                outcome => return outcome,
            }
        }
    }

    /// `AddrInUse` when somebody seems to have taken one of the ports meanwhile.
    fn start_on(ports: Ports, more: &str) -> io::Result<Self> {
        let installation = Installation::find()?;
        let folder = Folder::create()?;
        let name = folder.name();
        let authority = Authority::new()?;
        let issued = authority.server(&["localhost", "127.0.0.1", "::1"])?;
        folder.write(CA, &authority.certificate())?;
        folder.write("server.pem", &issued.certificate)?;
        folder.write("server.key", &issued.key)?;
        let denied = if installation.major() < 4 { "" } else { DEPRECATED_FEATURES_DENIED };
        folder.write("rabbitmq.conf", &(configuration(&ports, folder.path()) + denied + more))?;
        folder.write("advanced.config", "[].\n")?;
        folder.write("enabled_plugins", "[rabbitmq_auth_mechanism_ssl].\n")?;

        let epmd_port = ports.epmd.to_string();
        let mut epmd = installation.command("epmd");
        epmd.args(["-port", &epmd_port, "-address", "127.0.0.1"]).env("HOME", folder.path());
        let epmd = Leash::start(&epmd, &folder.path().join("epmd.log"))?;
        let mut node = Self { name, ports, installation, authority, server: None, epmd, folder };
        node.await_epmd()?;
        node.boot()?;
        Ok(node)
    }

    /// Starts a node for so many connections, which need as many open files here and there.
    ///
    /// # Errors
    /// As [`start`](Self::start), and where `ulimit -Hn` allows less.
    pub fn start_for(connections: u64) -> io::Result<Self> {
        let files = connections + FILES;
        let limit = getrlimit(Resource::Nofile);
        if limit.current.is_some_and(|current| current < files) {
            // The node inherits it.
            setrlimit(Resource::Nofile, Rlimit { current: Some(files), ..limit }).map_err(|error| {
                io::Error::other(format!("{connections} connections need {files} open files, see ulimit -Hn: {error}"))
            })?;
        }
        Self::start()
    }

    /// `amqp://guest:guest@127.0.0.1:PORT/%2F`; it stays the same over [`restart`](Self::restart).
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2F", self.ports.amqp)
    }

    /// The same over TLS, with the node's CA: `amqps://guest:guest@127.0.0.1:PORT/%2F?cacertfile=PATH`.
    ///
    /// The node's certificate is for localhost and its addresses. A client may present a certificate of the
    /// [authority](Self::authority)'s, and log in with EXTERNAL as the user of its common name.
    pub fn tls_url(&self) -> String {
        format!("amqps://guest:guest@127.0.0.1:{}/%2F?cacertfile={}", self.ports.amqps, encoded(&self.ca_file()))
    }

    /// The port on 127.0.0.1 where AMQP is spoken over TLS.
    pub fn tls_port(&self) -> u16 {
        self.ports.amqps
    }

    /// The certificate of the node's authority.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join(CA)
    }

    /// Who has issued the node's certificate, and whose clients it trusts.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The port on 127.0.0.1 where AMQP is spoken. It lies below the ports that the system hands out to outgoing connections, so
    /// that nobody gets it while the node is down.
    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// The first number of the version of its RabbitMQ.
    pub fn major(&self) -> u32 {
        self.installation.major()
    }

    /// The process id of the Erlang machine; `None` while the node is down.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Leash::pid)
    }

    /// Data, configuration and logs; also the home of the Erlang cookie.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `rabbitmqctl` on this node and returns what it printed, without headings. Takes about half a second.
    ///
    /// The error carries what it complained about. It does not return while the node is paused.
    pub fn ctl(&self, arguments: &[&str]) -> io::Result<String> {
        let port = ports::free()?;
        let output = self
            .command(self.installation.rabbitmqctl())
            .env("RABBITMQ_CTL_DIST_PORT_MIN", port.to_string())
            .env("RABBITMQ_CTL_DIST_PORT_MAX", port.saturating_add(100).to_string())
            .env("RABBITMQ_CTL_ERL_ARGS", LOOPBACK_ONLY)
            .args(["--silent", "--node", &self.node_name()])
            .args(arguments)
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(said);
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("rabbitmqctl {} failed: {said}{complaint}", arguments.join(" "))))
    }

    /// Kills the node as a power cut would; returns when its process is gone. A node that is down stays down.
    pub fn kill_9(&mut self) {
        self.server = None;
    }

    /// Starts the node again on the same data folder and port, ready when this returns; a node that runs is stopped first.
    pub fn restart(&mut self) -> io::Result<()> {
        self.stop()?;
        self.boot()
    }

    /// Lets the node shut down by itself (it closes connections with 320); kills it if that takes longer than twenty seconds.
    pub fn stop(&mut self) -> io::Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        server.signal(Signal::CONT)?;
        server.signal(Signal::TERM)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline && !server.has_ended()? {
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Stops the node's process (SIGSTOP): its sockets stay open and nobody answers on them.
    pub fn pause(&mut self) -> io::Result<()> {
        self.running()?.signal(Signal::STOP)
    }

    /// Lets a paused node go on (SIGCONT).
    pub fn resume(&mut self) -> io::Result<()> {
        self.running()?.signal(Signal::CONT)
    }

    fn running(&mut self) -> io::Result<&mut Leash> {
        self.server.as_mut().ok_or_else(|| io::Error::other(format!("{} is down", self.name)))
    }

    /// A server that finds no epmd would start one that nobody ends.
    fn await_epmd(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(("127.0.0.1", self.ports.epmd)).is_err() {
            if self.epmd.has_ended()? || Instant::now() >= deadline {
                return Err(self.failure("its epmd did not start"));
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Starts the server and waits until it opens a connection.
    fn boot(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        let mut server = Leash::start(&self.server_command(), &self.folder.path().join("server.log"))?;
        loop {
            if self.epmd.has_ended()? {
                return Err(self.failure("its epmd ended"));
            }
            if server.has_ended()? {
                return Err(self.failure("it ended by itself"));
            }
            // TLS comes last. The name and the certificate tell our node from another one that has got our port.
            if handshake::answers(self.ports.amqp, &self.name).is_ok() {
                match self.authority.is_served_at(self.ports.amqps) {
                    Ok(()) => {
                        self.server = Some(server);
                        return Ok(());
                    }
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(error) => {
                        let what = format!("somebody else is at its port for TLS: {error}");
                        return Err(io::Error::new(io::ErrorKind::AddrInUse, what));
                    }
                }
            }
            if Instant::now() >= deadline {
                return Err(self.failure("it opened no connection in two minutes"));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn server_command(&self) -> Command {
        let mut command = self.command(self.installation.server());
        let folder = self.folder.path();
        command
            // The server then replaces the shell that starts it, and our pid is its pid.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("RABBITMQ_NODENAME", self.node_name())
            .env("RABBITMQ_DIST_PORT", self.ports.distribution.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", LOOPBACK_ONLY)
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", folder.join("advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder)
            .env("RABBITMQ_LOGS", self.log())
            .env("RABBITMQ_PID_FILE", folder.join("pid"));
        command
    }

    /// What the server and rabbitmqctl have in common, and nothing of the settings of a broker of the system.
    fn command(&self, program: PathBuf) -> Command {
        let mut command = self.installation.command(program);
        for variable in env::vars_os().map(|(name, _)| name).filter(is_a_setting) {
            command.env_remove(variable);
        }
        command
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("LC_ALL", "C.UTF-8")
            .env("ERL_EPMD_PORT", self.ports.epmd.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null");
        command
    }

    fn node_name(&self) -> String {
        format!("{}@localhost", self.name)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("rabbit.log")
    }

    /// An error with the ends of all logs.
    fn failure(&self, what: &str) -> io::Error {
        let log: String = ["epmd.log", "server.log", "rabbit.log"]
            .iter()
            .filter_map(|file| fs::read(self.folder.path().join(file)).ok())
            .map(|log| last_lines(&String::from_utf8_lossy(&log), 20))
            .collect();
        // An epmd whose port is taken ends without a word, and then there is no log at all.
        let clash = log.is_empty() || CLASHES.iter().any(|clash| log.contains(clash));
        let kind = if clash { io::ErrorKind::AddrInUse } else { io::ErrorKind::Other };
        let server = self.installation.server();
        io::Error::new(kind, format!("no RabbitMQ node from {}: {what}; its last words:\n{log}", server.display()))
    }
}

fn configuration(ports: &Ports, folder: &Path) -> String {
    let (folder, Ports { amqp, amqps, .. }) = (folder.display(), ports);
    format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp}
listeners.ssl.1 = 127.0.0.1:{amqps}
ssl_options.cacertfile = {folder}/{CA}
ssl_options.certfile = {folder}/server.pem
ssl_options.keyfile = {folder}/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
ssl_cert_login_from = common_name
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = AMQPLAIN
auth_mechanisms.3 = EXTERNAL
disk_free_limit.absolute = 1MB
log.console = false
"
    )
}

/// For the query of a URL.
fn encoded(path: &Path) -> String {
    percent_encode(path.as_os_str().as_bytes(), IN_A_PATH).to_string()
}

const IN_A_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');

/// All that RabbitMQ 4.0 permits unless a configuration denies it.
const DEPRECATED_FEATURES_DENIED: &str = "deprecated_features.permit.amqp_address_v1 = false
deprecated_features.permit.global_qos = false
deprecated_features.permit.queue_master_locator = false
deprecated_features.permit.ram_node_type = false
deprecated_features.permit.transient_nonexcl_queues = false
";
const CA: &str = "ca.pem";

fn is_a_setting(variable: &OsString) -> bool {
    let name = variable.to_string_lossy();
    name.starts_with("RABBITMQ_") || name.starts_with("ERL_") || name == "NOTIFY_SOCKET"
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(count)).map(|line| format!("  {line}\n")).collect()
}

/// What Erlang and RabbitMQ say when a port is taken.
const CLASHES: [&str; 3] = ["eaddrinuse", "address already in use", "Address already in use"];
const LOOPBACK_ONLY: &str = "-kernel inet_dist_use_interface {127,0,0,1}";
/// Open files that are no connections: the node reserves a hundred for itself, and has a few hundred more.
const FILES: u64 = 1000;
const START_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_encoded_for_a_url() {
        assert_eq!(encoded(Path::new("/tmp/a b+c/ä&%.pem")), "/tmp/a%20b%2Bc/%C3%A4%26%25.pem");
    }

    #[test]
    fn only_the_last_lines_are_told() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "  b\n  c\n");
        assert_eq!(last_lines("a\n", 2), "  a\n");
    }

    #[test]
    #[cfg(feature = "broker-tests")]
    fn a_taken_port_is_told_from_other_failures() {
        for take in [|ports: &Ports| ports.amqp, |ports: &Ports| ports.amqps, |ports: &Ports| ports.epmd] {
            let ports = Ports::free().unwrap();
            let _taken = std::net::TcpListener::bind(("127.0.0.1", take(&ports))).unwrap();
            let error = RabbitNode::start_on(ports, "").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        }
    }
}
