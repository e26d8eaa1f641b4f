//! `ghtokend demo`: the daemon against the embedded GitHub, ready to be curled.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use super::failure::Failure;
use super::runtime::runtime;
use super::serve::{start_log, stop};
use crate::app::{self, App};
use crate::clock::SystemClock;
use crate::fake_github::{FakeGithub, Options};
use crate::settings::{Environment, Settings, Sources};
use crate::shutdown::Signals;

/// Run the daemon against an embedded fake GitHub. Reads no configuration; takes a free port if 7171 is busy.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  ghtokend demo
  then, in a second terminal, the curl lines that it prints. Ctrl-C ends it.")]
pub(super) struct Args {}

pub(super) fn run(Args {}: Args) -> Result<ExitCode, Failure> {
    runtime(0)?.block_on(demo())?;
    Ok(ExitCode::SUCCESS)
}

async fn demo() -> Result<(), Failure> {
    let signals = Signals::listen()?;
    let github = FakeGithub::start(Options::default()).await?;
    let mut settings = settings(&github)?;
    let _log = start_log(&settings)?;
    let keys = app::load_keys(&settings)?;
    let app = App::build(&settings, &keys, Arc::new(SystemClock))?;
    let listeners = match app::bind(&settings.listen).await {
        Ok(listeners) => listeners,
        Err(_) => {
            settings.listen.tcp = Some(([127, 0, 0, 1], 0).into());
            app::bind(&settings.listen).await?
        }
    };
    let tcp = listeners.tcp.as_ref().map(tokio::net::TcpListener::local_addr).transpose()?;
    let address = tcp.map(|address| format!("http://{address}")).unwrap_or_default();
    let mut stdout = std::io::stdout();
    stdout.write_all(instructions(&address, &github).as_bytes())?;
    stdout.flush()?;
    app.serve(listeners, stop(signals)).await;
    Ok(())
}

fn settings(github: &FakeGithub) -> Result<Settings, Failure> {
    let app = github.app("demo").ok_or_else(|| anyhow::anyhow!("the demo world has no app \"demo\""))?;
    let environment = Environment::from_iter([
        ("GITHUB_APP_ID", app.client_id),
        ("GITHUB_APP_PRIVATE_KEY", app.private_key_pem),
        ("GITHUB_APP_INSTALLATION_ID", ACME.to_string()),
        ("GITHUB_API_URL", github.api_url()),
    ]);
    Settings::load(&Sources { environment, ..Sources::default() }).map_err(Failure::configuration)
}

fn instructions(daemon: &str, github: &FakeGithub) -> String {
    let (api, control) = (github.api_url(), github.control_url());
    format!(
        "\
ghtokend is at {daemon}, its fake GitHub at {api}. Ctrl-C ends both.

In a second terminal, a token for the app's installation on the organisation acme:

curl -fsS -H 'Ghtokend-Client: demo' {daemon}/token

One that can do no more than read one repository:

curl -fsS -H 'Ghtokend-Client: demo' '{daemon}/token?repo=acme/widgets&permissions=contents:read'

A token put to use: the repositories that (the fake) GitHub shows it:

curl -fsS -H \"Authorization: Bearer $(curl -fsS -H 'Ghtokend-Client: demo' '{daemon}/token?format=text')\" {api}/installation/repositories

What the daemon has cached, and how often it has called GitHub:

curl -fsS {daemon}/status
curl -fsS {control}/counters

What to try next: ask again and see that no call reaches GitHub; ask for owner=octocat or enterprise=acme-enterprise;
leave the header out; make GitHub fail ({control}/ lists how). Then README.md: point it at the real GitHub.
"
    )
}

/// The installation of the demo app on the organisation acme.
const ACME: u64 = 1;
