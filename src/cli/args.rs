//! Arguments that several commands share.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use url::{Url, form_urlencoded};

use super::failure::Failure;
use super::runtime::block_on;
use crate::client::{Address, Client};
use crate::model::token_parameters::Source;
use crate::model::{AppName, Secret};
use crate::secret_file::{self, Accept};
use crate::settings::{Environment, Flag, Settings, Sources};

/// The configuration of a daemon.
#[derive(Debug, Args)]
pub(super) struct Configuration {
    /// Configuration file [default: $GHTOKEND_CONFIG, else /etc/ghtokend/ghtokend.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Configuration {
    pub(super) fn load(self, flags: Vec<Flag>) -> Result<Settings, Failure> {
        Settings::load(&self.sources(flags)).map_err(Failure::configuration)
    }

    /// Where the settings come from, for who reads them more than once.
    pub(super) fn sources(self, flags: Vec<Flag>) -> Sources {
        Sources::of_process(self.config, flags)
    }
}

/// Which token: the parameters of `GET /token` that the command line takes.
#[derive(Debug, Default)]
pub(super) struct TokenArgs {
    given: Vec<(&'static str, String)>,
}

impl Args for TokenArgs {
    fn augment_args(command: Command) -> Command {
        Source::CommandLine.parameters().fold(command, |command, parameter| {
            let arg = Arg::new(parameter.name)
                .long(parameter.flag)
                .value_name(parameter.placeholder)
                .help(parameter.help);
            // Of a group, clap takes one at most.
            command.arg(if parameter.is_selector() { arg.group("selector") } else { arg })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for TokenArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |name| matches.get_one::<String>(name).cloned();
        let parameters = Source::CommandLine.parameters();
        let given =
            parameters.filter_map(|parameter| Some((parameter.name, value(parameter.name)?))).collect();
        Ok(Self { given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl TokenArgs {
    /// `path` with these as its query.
    pub(super) fn target(&self, path: &str) -> String {
        if self.given.is_empty() {
            return path.to_owned();
        }
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.given).finish();
        format!("{path}?{query}")
    }
}

/// Where the running daemon is, and which app of it is meant.
#[derive(Debug, Args)]
pub(super) struct Endpoint {
    /// Address of the daemon [default: $GHTOKEND_URL, else the configured one, else http://127.0.0.1:7171]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Unix socket of the daemon [default: $GHTOKEND_SOCKET]
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    socket: Option<PathBuf>,
    /// Which app, if several are configured
    #[arg(long, value_name = "NAME")]
    app: Option<AppName>,
    /// File with the secret that proves who you are [default: $GHTOKEND_SECRET_FILE]
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl Endpoint {
    /// The body of the response to `GET target`, if it is a success.
    pub(super) fn get(self, target: &str, accept: &str) -> Result<Bytes, Failure> {
        let client = self.client()?;
        block_on(get(&client, target, accept))
    }

    pub(super) fn client(self) -> Result<Client, Failure> {
        let environment = Environment::of_process();
        let secret_file =
            self.secret_file.or_else(|| environment.value("GHTOKEND_SECRET_FILE").map(PathBuf::from));
        let secret = secret_file.as_deref().map(read_secret).transpose()?;
        let address = match (self.url, self.socket) {
            (Some(url), _) => http_address("--url", &url)?,
            (None, Some(path)) => Address::Unix(path),
            (None, None) => default_address(&environment)?,
        };
        Ok(Client { address, app: self.app, secret })
    }
}

/// The body of the response to `GET target`, if it is a success.
pub(super) async fn get(client: &Client, target: &str, accept: &str) -> Result<Bytes, Failure> {
    let response = client.get(target, accept).await.map_err(Failure::unreachable)?;
    if response.status.is_success() { Ok(response.body) } else { Err(Failure::error_response(&response)) }
}

fn default_address(environment: &Environment) -> Result<Address, Failure> {
    match (environment.value("GHTOKEND_URL"), environment.value("GHTOKEND_SOCKET")) {
        (Some(_), Some(_)) => {
            Err(Failure::usage("GHTOKEND_URL and GHTOKEND_SOCKET are both set: unset one of them"))
        }
        (Some(url), None) => http_address("GHTOKEND_URL", &url),
        (None, Some(path)) => Ok(Address::Unix(path.into())),
        (None, None) => {
            let sources =
                Sources { environment: environment.of_listeners(), ..Sources::of_process(None, Vec::new()) };
            let settings = Settings::load(&sources).map_err(Failure::configuration)?;
            let socket = settings.listen.unix.map(Address::Unix);
            let tcp = settings.listen.tcp.map(|address| Address::Tcp(address.to_string()));
            tcp.or(socket).ok_or_else(|| Failure::configuration("listen.tcp and listen.unix are both off"))
        }
    }
}

fn http_address(origin: &str, url: &str) -> Result<Address, Failure> {
    // Not quoted where it may hold a password.
    let quoted = if url.contains('@') { String::new() } else { format!("{url:?} ") };
    let expected = || Failure::usage(format!("{origin}: {quoted}is not of the form http://HOST:PORT"));
    let url = Url::parse(url).ok().filter(|url| url.scheme() == "http" && url.username().is_empty());
    let url = url.filter(|url| url.path() == "/" && url.query().is_none() && url.fragment().is_none());
    let url = url.ok_or_else(expected)?;
    let (host, port) = url.host_str().zip(url.port_or_known_default()).ok_or_else(expected)?;
    Ok(Address::Tcp(format!("{host}:{port}")))
}

fn read_secret(path: &Path) -> Result<Secret, Failure> {
    // `--secret-file <(command)` is a pipe.
    let contents = secret_file::read(path, Accept::Stream, MAX_SECRET_FILE_BYTES);
    let contents =
        contents.map_err(|error| Failure::configuration(format!("{}: {error}", path.display())))?;
    let text = contents.text().unwrap_or_default();
    // Two lines are two valid secrets, for rotation: either will do.
    let first = text.lines().next().unwrap_or_default().trim().to_owned();
    if first.is_empty() || !first.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message =
            format!("{}: contains no secret: its first line must be one word of plain ASCII", path.display());
        return Err(Failure::configuration(message));
    }
    Ok(Secret::from(first))
}

const MAX_SECRET_FILE_BYTES: usize = 4096;
