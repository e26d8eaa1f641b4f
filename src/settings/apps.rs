//! The apps and where their private keys are.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::{Error, quote};
use super::sources::SYSTEM_FILE;
use super::values::{Item, MOST, Values};
use super::{App, Environment, Keys};
use crate::model::{AppName, InstallationId, Secret};

pub(super) struct Apps {
    pub(super) apps: BTreeMap<AppName, App>,
    pub(super) default_app: Option<AppName>,
}

impl Apps {
    pub(super) fn new(values: &Values, environment: &Environment) -> Result<Self, Error> {
        let single = single_app_origin(values, environment)?;
        let names = values.names("apps");
        let (Some(name), Some(single)) = (names.first(), single) else {
            return if names.is_empty() {
                Self::single(values, environment)
            } else {
                Self::several(values, &names)
            };
        };
        let named = origin_of_app(values, name);
        Err(Error::new(
            single,
            format!("there is [apps.NAME] too ({named}): name every app, or have only one"),
        ))
    }

    fn single(values: &Values, environment: &Environment) -> Result<Self, Error> {
        let section = Section { values, name: "app".into() };
        let app = section.app(inline_key(environment)?)?;
        let default_app = app.is_some().then(AppName::default);
        Ok(Self { apps: default_app.clone().into_iter().zip(app).collect(), default_app })
    }

    fn several(values: &Values, names: &[&str]) -> Result<Self, Error> {
        let mut apps = BTreeMap::new();
        let mut default: Option<(AppName, Item<'_>)> = None;
        for name in names {
            let section = Section { values, name: format!("apps.{name}") };
            let name: AppName = name.parse().map_err(|_| Error::new(*name, "is not an app's name"))?;
            let Some(app) = section.app(None)? else {
                let problem =
                    format!("[{}] has no id and no key: set its id and private_key_file", section.name);
                return Err(Error::new(origin_of_app(values, name.as_str()), problem));
            };
            apps.insert(name.clone(), app);
            let Some(item) = values.find(&format!("{}.default", section.name)) else { continue };
            if !item.flag()? {
                continue;
            }
            if let Some((_, first)) = default {
                return Err(item.error(format!("there is a default already ({}): keep one", first.origin())));
            }
            default = Some((name, item));
        }
        let only = || apps.keys().next().filter(|_| apps.len() == 1).cloned();
        let default_app = default.map(|(name, _)| name).or_else(only);
        Ok(Self { apps, default_app })
    }
}

/// What says how to configure an app, for commands that cannot do without.
pub(super) fn none_configured() -> Error {
    let problem = format!(
        "no app is configured: set GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY_FILE (or GITHUB_APP_PRIVATE_KEY), \
         or id and private_key_file below [app] in {SYSTEM_FILE}"
    );
    Error::new("configuration", problem)
}

/// `[app]` or `[apps.NAME]`.
struct Section<'a> {
    values: &'a Values,
    name: String,
}

impl<'a> Section<'a> {
    /// The app, or nothing if nothing of it is set.
    fn app(&self, inline: Option<Secret>) -> Result<Option<App>, Error> {
        let id = self.item("id");
        let files = self.item("private_key_file");
        let installation = self.item("installation");
        let paths = files.list()?.into_iter().map(|item| Ok(item.path()?.unwrap_or_default()));
        let paths = paths.collect::<Result<Vec<_>, Error>>()?;
        let keys = match (inline, paths.is_empty()) {
            (Some(_), false) => {
                let problem = format!("there is a key file too ({}): keep one of the two", files.origin());
                return Err(Error::new(INLINE_KEY, problem));
            }
            (Some(pem), true) => Some((INLINE_KEY, Keys::Inline { variable: INLINE_KEY, pem })),
            (None, false) => Some((files.origin(), Keys::Files(paths))),
            (None, true) => None,
        };
        let number = installation.number(0..=MOST)?;
        match (app_id(id)?, keys) {
            (Some(id), Some((_, keys))) => {
                Ok(Some(App { id, keys, installation: InstallationId::new(number) }))
            }
            (Some(_), None) => {
                Err(id.error(format!("no private key for this app: set {}", self.key_names())))
            }
            (None, Some((origin, _))) => {
                Err(Error::new(origin, format!("no id for this key's app: set {}", self.id_names())))
            }
            (None, None) if number > 0 => {
                Err(installation.error(format!("no app for it: set {} and its key", self.id_names())))
            }
            (None, None) => Ok(None),
        }
    }

    fn item(&self, key: &str) -> Item<'a> {
        let own = self.values.find(&format!("{}.{key}", self.name));
        own.unwrap_or_else(|| self.values.get(&format!("app.{key}")))
    }

    fn id_names(&self) -> String {
        format!("{}.id{}", self.name, if self.name == "app" { " or GITHUB_APP_ID" } else { "" })
    }

    fn key_names(&self) -> String {
        let variables = ", GITHUB_APP_PRIVATE_KEY_FILE or GITHUB_APP_PRIVATE_KEY";
        format!("{}.private_key_file{}", self.name, if self.name == "app" { variables } else { "" })
    }
}

fn app_id(item: Item<'_>) -> Result<Option<String>, Error> {
    let id = item.text_or_number()?;
    let within = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.';
    let number_above_zero = || !id.bytes().all(|byte| byte == b'0');
    match id.as_str() {
        "" => Ok(None),
        text if text.len() <= MAX_ID_LENGTH && text.bytes().all(within) && number_above_zero() => {
            Ok(Some(id))
        }
        text => Err(item.error(format!("{} is not an app id (12345) or a client id (Iv23li…)", quote(text)))),
    }
}

/// The variable's PEM, with base64 and `\n` undone. What it holds never shows.
fn inline_key(environment: &Environment) -> Result<Option<Secret>, Error> {
    let Some(secret) = environment.non_empty(INLINE_KEY) else { return Ok(None) };
    // Files for `docker --env-file` often have quotes, which docker takes literally.
    let text = secret.expose().trim().trim_matches(['"', '\'']);
    if text.contains(PEM_BEGIN) {
        let without_returns: Secret = text.replace("\\r", "").into();
        return Ok(Some(without_returns.expose().replace("\\n", "\n").into()));
    }
    let compact: Secret = text.split_whitespace().collect::<String>().into();
    let decoded = STANDARD.decode(compact.expose()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded.map(Secret::from) {
        Some(pem) if pem.expose().contains(PEM_BEGIN) => Ok(Some(pem)),
        _ => {
            let problem = "is not a private key: PEM, base64 of it, or PEM with \\n for line ends is allowed \
                           (for a path, use GITHUB_APP_PRIVATE_KEY_FILE)";
            Err(Error::new(INLINE_KEY, problem))
        }
    }
}

/// Where the one app of `[app]` and `GITHUB_APP_*` is set, if it is.
fn single_app_origin<'a>(values: &'a Values, environment: &Environment) -> Result<Option<&'a str>, Error> {
    if environment.non_empty(INLINE_KEY).is_some() {
        return Ok(Some(INLINE_KEY));
    }
    let (id, files, installation) =
        (values.get("app.id"), values.get("app.private_key_file"), values.get("app.installation"));
    let set = if !id.text_or_number()?.is_empty() {
        Some(id)
    } else if !files.list()?.is_empty() {
        Some(files)
    } else {
        Some(installation).filter(|item| item.number(0..=MOST).is_ok_and(|number| number > 0))
    };
    Ok(set.map(Item::origin))
}

fn origin_of_app<'a>(values: &'a Values, name: &str) -> &'a str {
    let keys = ["id", "private_key_file", "installation", "default"];
    let found = keys.iter().find_map(|key| values.find(&format!("apps.{name}.{key}")));
    found.map_or("configuration", Item::origin)
}

const INLINE_KEY: &str = "GITHUB_APP_PRIVATE_KEY";
const PEM_BEGIN: &str = "-----BEGIN";
/// A client id has 20 characters; a client secret, which must not pass for one, has 40.
const MAX_ID_LENGTH: usize = 32;
