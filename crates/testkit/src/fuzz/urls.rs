//! URLs: what a URL says is what its parameters say, and a password is never shown.

use amqp_core::{ConnectionParameters, uri::redacted};

/// Any text as a URL; the same in the places of a URL that says a password.
pub fn urls(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    parse(&text);
    assert!(redacted(&text).len() <= text.len() + "***".len());

    let (before, after) = text.split_at_checked(text.len() / 2).unwrap_or(("", &text));
    for url in [
        format!("amqp://user:{SECRET}{text}@host"),
        format!("amqp://user:{SECRET}@host{text}"),
        format!("amqps://us{before}er:{SECRET}@{after}"),
        format!("amqp://user:{before}{SECRET}@host/vhost?{after}"),
        format!("amqp://host/vhost?{text}"),
    ] {
        parse(&url);
    }
    comes_back(octets);
}

/// Parses it, and the same text says the same once more.
fn parse(url: &str) {
    match (url.parse::<ConnectionParameters>(), url.parse::<ConnectionParameters>()) {
        (Ok(parameters), Ok(again)) => {
            let shown = format!("{parameters:?}");
            assert_eq!(shown, format!("{again:?}"));
            assert!(!shown.contains(SECRET), "{shown}");
            assert!(parameters.endpoints().iter().all(|endpoint| !endpoint.host().is_empty()), "{shown}");
            // What was built can be built again.
            assert!(parameters.into_builder().build().is_ok(), "{shown}");
        }
        (Err(error), Err(again)) => {
            assert_eq!(error, again);
            let shown = format!("{error} {error:?} {error:#?}");
            assert!(!shown.contains(SECRET), "{shown}");
        }
        (one, other) => panic!("{one:?} and then {other:?}"),
    }
}

/// What is percent-encoded is what is decoded.
fn comes_back(octets: &[u8]) {
    let third = octets.len() / 3;
    let (user, rest) = octets.split_at_checked(third).unwrap_or((octets, &[]));
    let (password, vhost) = rest.split_at_checked(third).unwrap_or((rest, &[]));
    let (Ok(user), Ok(vhost)) = (std::str::from_utf8(user), std::str::from_utf8(vhost)) else { return };
    if user.contains('\0') || password.contains(&0) || vhost.contains('\0') || vhost.is_empty() || vhost.len() > 255 {
        return;
    }
    let url = format!("amqp://{}:{}@host/{}", encoded(user.as_bytes()), encoded(password), encoded(vhost.as_bytes()));
    let parameters: ConnectionParameters = match url.parse() {
        Ok(parameters) => parameters,
        Err(error) => panic!("{url}: {error}"),
    };
    assert_eq!(parameters.virtual_host(), vhost, "{url}");
    let response = parameters.credentials().response();
    let expected = [b"\0", user.as_bytes(), b"\0", password].concat();
    assert_eq!(response.expose(), expected, "{url}");
}

fn encoded(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("%{octet:02X}")).collect()
}

/// A word that no other part of a URL has.
const SECRET: &str = "hunter2hunter2";
