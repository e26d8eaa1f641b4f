//! An installation access token, as GitHub granted it.

use std::collections::BTreeMap;

use super::{RepositoryId, Secret};

/// What GitHub answered to a mint. Opaque: neither length nor shape of the token means anything to us.
#[derive(Debug, Clone)]
pub struct InstallationToken {
    /// The token itself.
    pub secret: Secret,
    /// The end of its life, byte for byte as GitHub wrote it.
    pub expires_at: String,
    /// What it may do.
    pub grant: Grant,
}

/// The extent of a token, as far as GitHub said. A member that GitHub left out is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// Permission and level, spelt as GitHub spells them: its list grows, so it is not ours to close.
    pub permissions: Option<BTreeMap<String, String>>,
    /// `all` or `selected`.
    pub repository_selection: Option<String>,
    /// Id and bare name of each repository; GitHub lists them only if the request named some.
    pub repositories: Option<Vec<(RepositoryId, String)>>,
}
