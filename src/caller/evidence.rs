//! What a proof shows of a caller.

/// The other end of a connection, as far as the system knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Any process of this machine, or one that is forwarded to.
    Tcp,
    /// A process that the mode of the socket lets in.
    Unix {
        /// Its user, if the system says so.
        uid: Option<u32>,
    },
}

/// What a proof shows; `None` for what it does not speak of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Evidence<'a> {
    /// The caller's name, for log and audit.
    pub(super) name: Option<&'a str>,
    /// The user that its process runs as.
    pub(super) uid: Option<u32>,
    /// What its fair share goes by.
    pub(super) share: Option<Share<'a>>,
}

/// What tells one client's fair share from another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Share<'a> {
    /// The user of a process.
    Uid(u32),
    /// What a client calls itself.
    Name(&'a str),
}

impl Evidence<'_> {
    /// Both together: where they differ, the stronger one counts.
    pub(super) fn or(self, weaker: Self) -> Self {
        Self {
            name: self.name.or(weaker.name),
            uid: self.uid.or(weaker.uid),
            share: self.share.or(weaker.share),
        }
    }
}
