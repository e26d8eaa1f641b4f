//! What URLs in bodies and headers begin with.

/// The two base URLs, without a slash at the end.
#[derive(Debug)]
pub(crate) struct Urls {
    /// That of the API.
    pub(crate) api: String,
    /// That of the web site.
    pub(crate) web: String,
}
