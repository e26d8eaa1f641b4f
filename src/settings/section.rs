//! What a section of the configuration is made of: the macro by which `keys` describes each key once.

/// Defines a section by its keys: `name: Type = reader`, with the default in `config/ghtokend.toml`. A reader takes an
/// [`Item`](super::values::Item) and may refer to the keys above it.
macro_rules! section {
    (
        $(#[$about:meta])*
        $visibility:vis struct $Section:ident in $section:literal {
            $($(#[$about_key:meta])* $key:ident: $Type:ty = $reader:expr,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq)]
        $visibility struct $Section {
            $($(#[$about_key])* $visibility $key: $Type,)*
        }

        impl $Section {
            pub(crate) const KEYS: &[Key] = &[$(Key {
                name: concat!($section, ".", stringify!($key)),
                is_list: <$Type as Toml>::IS_LIST,
            }),*];

            pub(crate) fn read(values: &Section<'_>) -> Result<Self, Error> {
                $(let $key: $Type = ($reader)(values.get(stringify!($key)))?;)*
                Ok(Self { $($key),* })
            }

            pub(crate) fn table(&self) -> Table {
                let lines = vec![$((stringify!($key), self.$key.toml())),*];
                Table { name: $section.into(), lines }
            }

            /// The keys whose values differ.
            pub(crate) fn differences(&self, other: &Self) -> Vec<&'static str> {
                let differs = [$(self.$key != other.$key),*];
                Self::KEYS.iter().zip(differs).filter(|(_, differs)| *differs).map(|(key, _)| key.name).collect()
            }
        }
    };
}

pub(super) use section;

/// A key that there is.
#[derive(Debug)]
pub(crate) struct Key {
    /// With its section, such as `listen.tcp`.
    pub(super) name: &'static str,
    /// Whether a variable holds several values with commas between them.
    pub(super) is_list: bool,
}

/// A table of the effective configuration.
#[derive(Debug)]
pub(crate) struct Table {
    /// Such as `listen`; `prefetch.1` is the first `[[prefetch]]`.
    pub(super) name: String,
    /// Keys and their values as TOML, secrets masked.
    pub(super) lines: Vec<(&'static str, String)>,
}
