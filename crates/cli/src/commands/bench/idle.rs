//! Connections that do nothing: what they weigh, and what they cost.

use super::report::{self, Usage, status_kb};
use crate::{
    adapter,
    app::App,
    end::End,
    options::{Bench, Common},
};
use pooka::{ConnectionHandle, Result};

struct Idle {
    options: Bench,
    peer: String,
    opened: Vec<ConnectionHandle<App<Self>>>,
    rss_kb: u64,
    from: Usage,
}

pub(super) fn run(common: &Common, options: &Bench, peer: &str) -> End {
    let idle = Idle { options: options.clone(), peer: peer.into(), opened: vec![], rss_kb: 0, from: Usage::now() };
    adapter::run(common, idle, |app, first| {
        app.work.rss_kb = status_kb("VmRSS:");
        open(app, first);
        Ok(())
    })
}

/// One after the other, as a program would that opens many.
fn open(app: &mut App<Idle>, first: &ConnectionHandle<App<Idle>>) {
    if app.work.opened.len() as u64 == app.work.options.messages {
        hold(app, first);
        return;
    }
    let end = first.clone();
    first.ioloop().connect(first.parameters().clone()).then(
        move |app: &mut App<Idle>, connection, opened: Result<()>| {
            if app.check(&end, opened.and_then(|()| connection.channel().send())).is_some() {
                app.work.opened.push(connection.clone());
                open(app, &end);
            }
        },
    );
}

fn hold(app: &mut App<Idle>, first: &ConnectionHandle<App<Idle>>) {
    app.work.from = Usage::now();
    let end = first.clone();
    first.ioloop().add_timeout(app.work.options.hold, move |app: &mut App<Idle>| {
        let to = Usage::now();
        let Idle { options, peer, opened, rss_kb, from } = &app.work;
        let each = (status_kb("VmRSS:").saturating_sub(*rss_kb)) as f64 / opened.len().max(1) as f64;
        let cpu = (to.cpu() - from.cpu()) / options.hold.as_secs_f64();
        let printed = report::print(peer, options, from, &to, &[("rss_kb_per_conn", each), ("cpu_s_per_s", cpu)]);
        let lost = opened.iter().filter(|connection| !connection.is_open()).count();
        opened.iter().for_each(|connection| drop(connection.close().send()));
        let end_with = match lost {
            0 => printed,
            lost => End::Lost(format!("{lost} connections were lost")),
        };
        app.end(&end, end_with);
    });
}
