//! The two APIs of GitHub by which apps have asked for tokens.

/// Which API of GitHub's is spoken. How each is spoken is known to `github::dialect` alone.
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

    /// All there are.
    pub const ALL: [Self; 2] = [Self::Apps, Self::Integrations];

    /// What it can do.
    pub const fn capabilities(self) -> Capabilities {
        match self {
            Self::Apps => Capabilities {
                installation_lookup: true,
                repository_lookup: true,
                enterprise_lookup: true,
                narrowing: true,
                user_tokens: false,
            },
            Self::Integrations => Capabilities {
                installation_lookup: false,
                repository_lookup: false,
                enterprise_lookup: false,
                narrowing: false,
                user_tokens: true,
            },
        }
    }
}

/// What a dialect can do, for those who must know before anything is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Installations are looked up one by one; else they are found in the list of all of them.
    pub installation_lookup: bool,
    /// An installation can be found by a repository.
    pub repository_lookup: bool,
    /// An installation can be found by an enterprise.
    pub enterprise_lookup: bool,
    /// Tokens can be narrowed to repositories and permissions.
    pub narrowing: bool,
    /// Installation tokens can act on behalf of a user.
    pub user_tokens: bool,
}
