//! Secrets: passwords and tokens, redacted in `Debug` and wiped when dropped.

use std::fmt;

use zeroize::Zeroizing;

/// A password or a token: never shown, and wiped from memory when it is dropped.
///
/// What is copied out with [`expose`](Self::expose), into the buffer that goes to the broker for example, is the
/// business of the code that copies it.
///
/// ```
/// # use amqp_core::secret::Secret;
/// let password = Secret::from("rabbit");
/// assert_eq!(format!("{password:?} {password}"), "[redacted] [redacted]");
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Returns the octets themselves. Keep them out of logs and errors.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Returns whether there are no octets at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for Secret {
    fn from(octets: Vec<u8>) -> Self {
        Self(Zeroizing::new(octets))
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        text.as_bytes().to_vec().into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::from("hunter2");
        let nested = Some(("user", secret.clone()));
        assert_eq!(format!("{secret} {secret:?} {secret:#?}"), "[redacted] [redacted] [redacted]");
        assert_eq!(format!("{nested:?}"), r#"Some(("user", [redacted]))"#);
        assert_eq!(format!("{:?}", Secret::default()), "[redacted]", "not even whether there is one");
    }

    #[test]
    fn a_secret_is_exposed_to_whoever_asks_by_name() {
        assert_eq!(Secret::from("a\0b").expose(), b"a\0b");
        assert_eq!(Secret::from(String::from("a")), Secret::from(vec![b'a']));
        assert!(Secret::default().is_empty());
        assert!(!Secret::from("x").is_empty());
    }
}
