//! A string that cannot print itself.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A token, a key's text, a webhook secret. Has no `Display` and no `Serialize`, shows as `[redacted]`, and is
/// wiped when dropped. [`Secret::expose`] is the one way to its value.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The value itself. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_value() {
        assert_eq!(format!("{:?}", Secret::from("ghs_marker".to_owned())), "[redacted]");
    }
}
