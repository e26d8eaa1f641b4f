//! What GitHub granted a token.

use std::collections::BTreeMap;

use super::RepositoryId;

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
