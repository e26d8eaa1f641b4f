//! The apps and where their private keys are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::Error;
use super::key_names::DEFAULT;
use super::key_table::AppKeys;
use super::read;
use super::sources::{Environment, SYSTEM_FILE};
use super::values::{Item, Section, Values};
use crate::model::{AppName, InstallationId, Secret};

/// One GitHub App.
#[derive(Debug, Clone)]
pub struct App {
    /// App id or client id, as `iss` of the app JWT.
    pub id: String,
    /// Where its private keys are, newest first.
    pub keys: Keys,
    /// The installation for requests that name none; `None` by default.
    pub installation: Option<InstallationId>,
}

/// Where private keys come from.
#[derive(Debug, Clone)]
pub enum Keys {
    /// PEM files, newest first.
    Files(Vec<PathBuf>),
    /// PEM text from the environment, with the variable's name for messages.
    Inline {
        /// Where the text came from, such as `GITHUB_APP_PRIVATE_KEY`.
        variable: &'static str,
        /// The PEM itself: base64 and `\n` escapes are already undone.
        pem: Secret,
    },
}

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
        let app = app(&values.section("app"), inline_key(environment)?)?;
        let default_app = app.is_some().then(AppName::default);
        Ok(Self { apps: default_app.clone().into_iter().zip(app).collect(), default_app })
    }

    fn several(values: &Values, names: &[&str]) -> Result<Self, Error> {
        let mut apps = BTreeMap::new();
        let mut default: Option<(AppName, Item<'_>)> = None;
        for name in names {
            let section = values.section(format!("apps.{name}"));
            let name: AppName = name.parse().map_err(|_| Error::new(*name, "is not an app's name"))?;
            let Some(app) = app(&section, None)? else {
                let problem =
                    format!("[{}] has no id and no key: set its id and private_key_file", section.name);
                return Err(Error::new(origin_of_app(values, name.as_str()), problem));
            };
            apps.insert(name.clone(), app);
            let Some(item) = values.find(&format!("{}.{DEFAULT}", section.name)) else { continue };
            if !read::flag(item)? {
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

/// How to configure an app, for commands that need one.
pub(super) fn none_configured() -> Error {
    let problem = format!(
        "no app is configured: set GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY_FILE (or GITHUB_APP_PRIVATE_KEY), \
         or id and private_key_file below [app] in {SYSTEM_FILE}"
    );
    Error::new("configuration", problem)
}

/// The app of `[app]` or `[apps.NAME]`, or nothing if nothing of it is set.
fn app(section: &Section<'_>, inline: Option<Secret>) -> Result<Option<App>, Error> {
    let AppKeys { id, private_key_file: paths, installation } = AppKeys::read(section)?;
    let files = section.get("private_key_file").origin();
    let keys = match inline {
        Some(_) if !paths.is_empty() => {
            let problem = format!("there is a key file too ({files}): keep one of the two");
            return Err(Error::new(INLINE_KEY, problem));
        }
        Some(pem) => Some((INLINE_KEY, Keys::Inline { variable: INLINE_KEY, pem })),
        None => Some((files, Keys::Files(paths)))
            .filter(|(_, keys)| !matches!(keys, Keys::Files(paths) if paths.is_empty())),
    };
    let name = &section.name;
    // What the environment sets is the one app of `[app]`.
    let or = |variables: &'static str| if name == "app" { variables } else { "" };
    let id_names = format!("{name}.id{}", or(" or GITHUB_APP_ID"));
    match (id, keys) {
        (Some(id), Some((_, keys))) => {
            Ok(Some(App { id, keys, installation: InstallationId::new(installation) }))
        }
        (Some(_), None) => {
            let variables = or(", GITHUB_APP_PRIVATE_KEY_FILE or GITHUB_APP_PRIVATE_KEY");
            let problem = format!("no private key for this app: set {name}.private_key_file{variables}");
            Err(section.get("id").error(problem))
        }
        (None, Some((origin, _))) => {
            Err(Error::new(origin, format!("no id for this key's app: set {id_names}")))
        }
        (None, None) if installation > 0 => {
            let problem = format!("no app for it: set {id_names} and its key");
            Err(section.get("installation").error(problem))
        }
        (None, None) => Ok(None),
    }
}

/// The variable's PEM, with base64 and `\n` undone. Its content never shows.
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
    let set = AppKeys::read(&values.section("app"))?.differences(&AppKeys::default());
    Ok(set.first().map(|key| values.get(key).origin()))
}

fn origin_of_app<'a>(values: &'a Values, name: &str) -> &'a str {
    let keys = AppKeys::KEYS.iter().filter_map(|key| key.name.strip_prefix("app."));
    let mut items = keys.chain([DEFAULT]).filter_map(|key| values.find(&format!("apps.{name}.{key}")));
    items.next().map_or("configuration", Item::origin)
}

const INLINE_KEY: &str = "GITHUB_APP_PRIVATE_KEY";
const PEM_BEGIN: &str = "-----BEGIN";
