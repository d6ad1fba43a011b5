//! The examples do what they say, on a real RabbitMQ.
#![allow(clippy::unwrap_used)]

use pooka_testkit::broker_url;
use std::{path::PathBuf, process::Command, sync::LazyLock};

/// Where the examples are. Without `--test` cargo has built them already, with it none or old ones.
static EXAMPLES: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap();
    let profile = folder.file_name().unwrap().to_str().unwrap().replace("debug", "dev");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "-q", "--workspace", "--all-features", "--examples", "--profile", &profile, "--target-dir"]);
    assert!(cargo.arg(folder.parent().unwrap()).status().unwrap().success());
    folder.join("examples")
});

/// An example, to be run with a broker.
fn command(example: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(EXAMPLES.join(example));
    command.args(arguments).env("AMQP_URL", broker_url().unwrap());
    command
}

/// What an example prints.
fn output(example: &str, arguments: &[&str]) -> String {
    let output = command(example, arguments).output().unwrap();
    assert!(output.status.success(), "{example}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_quickstart_publishes_and_consumes_with_each_poller() {
    for poller in pooka::PollerKind::available() {
        let said = output("quickstart", &["--poller", &poller.to_string()]);
        assert!(said.starts_with(&format!("waiting with {poller}\nconnected to RabbitMQ")), "{said}");
        let messages: Vec<_> = said.lines().filter(|line| line.starts_with("got ")).collect();
        let expected: Vec<_> = (1..=10).map(|n| format!("got \"message {n}\"")).collect();
        assert_eq!(messages, expected);
        assert!(said.ends_with("10 published and confirmed, 10 consumed and acknowledged\n"), "{said}");
    }
}

#[test]
fn two_connections_share_a_loop() {
    assert_eq!(output("two_connections_one_loop", &[]), "5 messages went from one connection to the other\n");
}

#[test]
fn what_the_asynchronous_publisher_publishes_the_asynchronous_consumer_consumes() {
    let said = output("asynchronous_publisher", &["--messages", "7"]);
    assert!(said.ends_with("7 published, 7 acked, 0 nacked\n"), "{said}");
    let said = output("asynchronous_consumer", &["--messages", "7"]);
    assert!(said.contains("received message # 7: message 7 مفتاح قيمة 键 值 キー 値"), "{said}");
    assert!(said.ends_with("7 messages consumed\n"), "{said}");
}

/// A test for each adapter that the example knows.
macro_rules! every_adapter {
    ($($test:ident: $adapter:literal;)*) => { $(
        #[test]
        fn $test() {
            let said = output("every_adapter", &["--adapter", $adapter]);
            let messages: String = (1..=10).map(|n| format!("got \"message {n}\"\n")).collect();
            let end = "10 published and confirmed, 10 consumed and acknowledged\n";
            assert_eq!(said, format!("connected\n{messages}{end}"));
        }
    )* };
}

every_adapter! {
    one_program_runs_on_select: "select";
    one_program_runs_on_mio: "mio";
    one_program_runs_on_tokio: "tokio";
    one_program_runs_on_smol: "smol";
}
