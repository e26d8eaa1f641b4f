//! A private key of an app, as far as it may be shown.

/// A key in use, and its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInUse {
    /// As GitHub's settings page shows it.
    pub fingerprint: String,
    /// Whether it signs.
    pub status: KeyStatus,
}

/// What a key is among those of its app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStatus {
    /// The next app JWT is signed with it.
    Active,
    /// GitHub has not rejected it, but another one signs.
    Standby,
    /// GitHub has rejected it, and it is not tried again for some minutes unless there is no other.
    Rejected,
}

impl KeyStatus {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Active, Self::Standby, Self::Rejected];

    /// Its name in status and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Standby => "standby",
            Self::Rejected => "rejected",
        }
    }
}
