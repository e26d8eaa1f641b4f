//! A private key of an app, as far as it may be shown.

/// A key in use, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInUse {
    /// As GitHub's settings page shows it.
    pub fingerprint: String,
    /// How it stands.
    pub standing: Standing,
}

/// How a key stands among those of its app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The next app JWT is signed with it.
    Signs,
    /// GitHub has not refused it, but another one signs.
    Spare,
    /// GitHub has refused it, and it is not tried again for some minutes unless there is no other.
    Refused,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Signs, Self::Spare, Self::Refused];

    /// Its name in status and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signs => "signs",
            Self::Spare => "spare",
            Self::Refused => "refused",
        }
    }
}
