//! The manual. The front page, README.md, leads here.
//!
//! Pages are Markdown, so that the repository host shows them too. Their links are references: at its end each page
//! says where they lead on the host, and `rustdoc-links.md`, which stands before each page here and so comes first,
//! says where they lead in this documentation. `tests/it/docs/links.rs` compares the two and follows all of them.

macro_rules! pages {
    ($($name:ident $file:literal)*) => {$(
        #[doc = include_str!("guide/rustdoc-links.md")]
        #[doc = include_str!($file)]
        pub mod $name {}
    )*};
}

pages! {
    kubernetes "guide/kubernetes.md"
    tokens "guide/tokens.md"
    http_api "guide/http-api.md"
    git "guide/git.md"
    sdks "guide/sdks.md"
    cli "guide/cli.md"
    configuration "guide/configuration.md"
    keys "guide/keys.md"
    webhooks "guide/webhooks.md"
    reliability "guide/reliability.md"
    operations "guide/operations.md"
    security "guide/security.md"
    emulator "guide/emulator.md"
}
