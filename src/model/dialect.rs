//! The two APIs of GitHub by which apps have asked for tokens.

/// Which API of GitHub's is spoken. What each can say is known to `github` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Today's: GitHub Apps.
    #[default]
    Apps,
    /// The preview of 2016: Integrations. Its tokens are never narrowed, but may act on behalf of a user.
    Integrations,
}

impl Dialect {
    /// Its name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Apps => "apps",
            Self::Integrations => "integrations",
        }
    }
}
