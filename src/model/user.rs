//! Users of GitHub: on whose behalf tokens act, and who have brought a nonce.

use super::UserId;

/// A user, as GitHub described that user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// GitHub's number for the user.
    pub id: UserId,
    /// GitHub's object, byte for byte: JSON that has been read once and is passed on unread.
    pub json: String,
}

/// The user who has brought a nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: User,
    /// Where the repositories are listed that the user and the installation both see.
    pub repositories_url: String,
}
