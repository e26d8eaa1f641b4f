//! The commands, run as programs.

use ghtokend::fake_github::{FakeGithub, Options, World as GithubWorld, permissions};
use rustix::process::Signal;

use crate::emulator::client::send;
use crate::support::program::{Daemon, borrowed, lines_of, program, run, variables_for};

async fn github(options: Options) -> FakeGithub {
    FakeGithub::start(Options { seed: Some(1), ..options }).await.unwrap()
}

#[tokio::test]
async fn every_command_has_help_with_an_example() {
    let (code, help, _) = run(&["--help"], &[]).await;
    assert_eq!(code, 0);
    for command in ["serve", "demo", "check", "token", "healthcheck", "fake-github"] {
        assert!(help.contains(&format!("  {command} ")), "{command} is not in\n{help}");
        let (code, help, _) = run(&[command, "--help"], &[]).await;
        assert_eq!(code, 0, "{command}");
        assert!(help.contains("Example") || help.contains("As a Kubernetes probe"), "{command}: {help}");
    }
    assert_eq!(run(&["--version"], &[]).await.1, format!("ghtokend {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn wrong_command_line_exits_2_with_the_reason() {
    for (arguments, says) in [
        (&["serv"][..], "a similar subcommand exists: 'serve'"),
        (&["serve", "--confg", "x"], "a similar argument exists: '--config'"),
        (&["token", "--owner", "a", "--repo", "a/b"], "cannot be used with '--repo"),
        (&["token", "--url", "http://x", "--socket", "y"], "cannot be used with"),
        (
            &["token", "--url", "https://localhost"],
            "--url: \"https://localhost\" is not of the form http://HOST:PORT",
        ),
        (&["token", "--url", "http://127.0.0.1:22x"], "--url: \"http://127.0.0.1:22x\" is not of the form"),
        (&["token", "--url", "http://me:marker@localhost"], "--url: is not of the form http://HOST:PORT"),
        (&["token", "--app", "No"], "\"No\" is not an app's name"),
        (&["fake-github", "--api", "nonsense"], "invalid value 'nonsense' for '--api"),
        (&[], "Usage: ghtokend <COMMAND>"),
    ] {
        let (code, stdout, stderr) = run(arguments, &[]).await;
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(says), "{arguments:?}: {stderr}");
    }
}

#[tokio::test]
async fn wrong_configuration_exits_78_before_binding() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("tokens.sock");
    let listen = socket.display().to_string();
    let base = [("GHTOKEND_LISTEN__UNIX", listen.as_str()), ("GHTOKEND_LISTEN__TCP", "")];
    for (variables, says) in [
        (&[][..], "GITHUB_APP_ID"),
        (&[("GITHUB_APP_ID", "1")], "private"),
        (&[("GITHUB_APP_ID", "1"), ("GITHUB_APP_PRIVATE_KEY_FILE", "/nowhere/key.pem")], "/nowhere/key.pem"),
        (&[("GITHUB_APP_ID", "1"), ("GITHUB_APP_PRIVATE_KEY", "ghs_marker")], "GITHUB_APP_PRIVATE_KEY"),
        (&[("GHTOKEND_CACHE__GRACE", "soon")], "GHTOKEND_CACHE__GRACE"),
        (&[("GHTOKEND_CACHE__GRADE", "30s")], "GHTOKEND_CACHE__GRACE"),
        (&[("GHTOKEND_CONFIG", "/nowhere/ghtokend.toml")], "/nowhere/ghtokend.toml"),
    ] {
        let variables: Vec<_> = base.iter().chain(variables).copied().collect();
        let (code, stdout, stderr) = run(&["serve"], &variables).await;
        assert_eq!((code, stdout.as_str()), (78, ""), "{variables:?}: {stderr}");
        assert!(stderr.starts_with("ghtokend: ") && stderr.contains(says), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(!stderr.contains("marker"), "{stderr}");
        assert!(!socket.exists());
    }
}

#[tokio::test]
async fn serve_exits_0_on_sigterm() {
    let github = github(Options::default()).await;
    let variables = variables_for(&github);
    for signal in [Signal::TERM, Signal::INT] {
        let daemon = Daemon::serve(&[], &borrowed(&variables)).await;
        let (code, token, stderr) = run(&["token", "--url", &daemon.url, "--owner", "acme"], &[]).await;
        assert_eq!((code, stderr.as_str()), (0, ""));
        assert!(token.ends_with('\n') && token.trim_end().len() > 520);
        daemon.signal(signal);
        let (code, log) = daemon.ended().await;
        assert_eq!(code, 0, "{log}");
        assert!(log.contains("draining") && log.contains("stopped"), "{log}");
    }
}

#[tokio::test]
async fn the_environments_proxies_are_not_used() {
    let github = github(Options::default()).await;
    let mut variables = variables_for(&github);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        variables.push((name, "http://127.0.0.1:1".to_owned()));
    }
    let daemon = Daemon::serve(&[], &borrowed(&variables)).await;
    assert_eq!(run(&["token", "--url", &daemon.url, "--owner", "acme"], &borrowed(&variables)).await.0, 0);
    variables.push(("GHTOKEND_GITHUB__PROXY", "http://127.0.0.1:1".to_owned()));
    let proxied = Daemon::serve(&[], &borrowed(&variables)).await;
    let (code, _, stderr) = run(&["token", "--url", &proxied.url, "--owner", "acme"], &[]).await;
    assert!(code == 1 && stderr.contains("github_unavailable"), "{stderr}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let github = github(Options::default()).await;
    let mut variables = variables_for(&github);
    variables.push(("GHTOKEND_SHUTDOWN__DELAY", "1h".to_owned()));
    let mut daemon = Daemon::serve(&[], &borrowed(&variables)).await;
    daemon.signal(Signal::TERM);
    daemon.says("draining").await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended().await.0, 1);
}

#[tokio::test]
async fn a_port_in_use_is_a_1_that_names_it() {
    let github = github(Options::default()).await;
    let variables = variables_for(&github);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = std::net::TcpListener::bind(taken).unwrap();
    let (code, _, stderr) = run(&["serve", "--listen", &taken.to_string()], &borrowed(&variables)).await;
    drop(listener);
    assert_eq!(code, 1);
    let last = stderr.lines().last().unwrap();
    let expected = format!(
        "ghtokend: listen.tcp = {taken}: Address already in use (os error 98); is another ghtokend running? Stop it, or \
         choose another address"
    );
    assert_eq!(last, expected);
}

#[tokio::test]
async fn without_an_audit_file_the_trail_is_in_the_log_at_any_level() {
    let github = github(Options::default()).await;
    let variables = variables_for(&github);
    let daemon = Daemon::serve(&[], &borrowed(&variables)).await;
    let address = daemon.url.clone();
    run(&["token", "--url", &address, "--owner", "acme"], &[]).await;
    run(&["token", "--url", &address, "--owner", "nobody"], &[]).await;
    daemon.signal(Signal::TERM);
    let (_, log) = daemon.ended().await;
    let lines = log.lines().filter(|line| line.contains("\"target\":\"audit\"")).collect::<Vec<_>>();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines[1].contains("\"selector\":\"owner=nobody\",\"scope\":\"full\""), "{}", lines[1]);
}

#[tokio::test]
async fn client_reads_closing_responses_of_our_server_only() {
    let github = github(Options::default()).await;
    let mut daemon = Daemon::serve(&[], &borrowed(&variables_for(&github))).await;
    let hold = github.hold("POST", "/app/installations");
    let waiting = tokio::spawn(program(&["token", "--url", &daemon.url, "--owner", "acme"], &[]).output());
    hold.reached(1).await;
    daemon.signal(Signal::TERM);
    daemon.says("draining").await;
    hold.release();
    assert!(waiting.await.unwrap().unwrap().status.success(), "the answer comes with Connection: close");
    let (code, stdout, stderr) = run(&["token", "--url", &github.api_url()], &[]).await;
    assert_eq!((code, stdout.as_str()), (69, ""), "{stderr}");
    assert!(stderr.contains("is not ghtokend"), "{stderr}");
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_error() {
    let github = github(Options::default()).await;
    let variables = variables_for(&github);
    let mut child = program(&["check"], &borrowed(&variables)).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn audit_has_a_line_for_each_first_vend_or_refusal() {
    let github = github(Options::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let audit = dir.path().join("audit.log");
    let mut variables = variables_for(&github);
    variables.push(("GHTOKEND_AUDIT__FILE", audit.display().to_string()));
    let daemon = Daemon::serve(&[], &borrowed(&variables)).await;
    run(&["token", "--url", &daemon.url, "--owner", "acme", "--permissions", "contents:read"], &[]).await;
    run(&["token", "--url", &daemon.url, "--owner", "nobody"], &[]).await;
    // A caller cannot talk its line off the record.
    let address = daemon.url.trim_start_matches("http://").parse().unwrap();
    let request =
        "GET /token HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: -----BEGIN PRIVATE KEY-----\r\n";
    crate::support::world::send(address, &format!("{request}Connection: close\r\n\r\n")).await.unwrap();
    daemon.signal(Signal::TERM);
    let (_, log) = daemon.ended().await;
    assert!(!log.contains("hashed_token"), "the audit goes to its file alone: {log}");
    let lines = std::fs::read_to_string(&audit).unwrap();
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [vended, refused, unnamed] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!((&vended["message"], &vended["client"]), (&"vended".into(), &"ghtokend-cli".into()));
    assert_eq!((&vended["installation"], &vended["cache"]), (&1.into(), &"minted".into()));
    assert_eq!(vended["scope"], "permissions=contents:read");
    assert_eq!(vended["hashed_token"].as_str().map(str::len), Some(44));
    assert_eq!((&refused["message"], &refused["code"]), (&"refused".into(), &"unknown_installation".into()));
    assert!(unnamed["request_id"].is_string() && unnamed["code"].is_string(), "{unnamed}");
    assert!(refused["request_id"].is_string() && refused["timestamp"].is_string());
}

#[tokio::test]
async fn token_command_prints_text_json_or_one_error_line() {
    let github = github(Options::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s").display().to_string();
    let daemon = Daemon::serve(&["--unix", &socket], &borrowed(&variables_for(&github))).await;
    let (_, by_url, _) = run(&["token", "--repo", "acme/widgets"], &[("GHTOKEND_URL", &daemon.url)]).await;
    let (_, by_socket, _) = run(&["token", "--repo", "acme/widgets", "--socket", &socket], &[]).await;
    assert_eq!(by_url, by_socket);
    let (code, json, _) =
        run(&["token", "--owner", "acme", "--format", "json"], &[("GHTOKEND_SOCKET", &socket)]).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["account"]), (0, &"acme".into()));
    for format in ["text", "json"] {
        let arguments = ["token", "--owner", "nobody", "--format", format, "--url", &daemon.url];
        let (code, stdout, stderr) = run(&arguments, &[]).await;
        assert_eq!((code, stdout.as_str()), (1, ""));
        assert!(
            stderr.starts_with(
                "ghtokend: unknown_installation: app default has no installation for owner nobody"
            ),
            "{stderr}"
        );
    }
}

#[tokio::test]
async fn missing_daemon_exits_69_with_its_address() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{nobody}");
    let (code, stdout, stderr) = run(&["token", "--url", &url], &[]).await;
    assert_eq!((code, stdout.as_str()), (69, ""));
    assert!(stderr.starts_with(&format!("ghtokend: cannot connect to ghtokend at {url}: ")), "{stderr}");
    let (code, _, stderr) = run(&["token"], &[("GHTOKEND_URL", &url), ("GHTOKEND_SOCKET", "/x")]).await;
    assert_eq!(
        (code, stderr.as_str()),
        (2, "ghtokend: GHTOKEND_URL and GHTOKEND_SOCKET are both set: unset one of them\n")
    );
    let configured = [("GHTOKEND_LISTEN__TCP", nobody.to_string())];
    assert!(
        run(&["token"], &borrowed(&configured)).await.2.contains(&url),
        "the configured address is the default"
    );
}

#[tokio::test]
async fn status_lists_cached_tokens_without_secrets() {
    let github = github(Options::default()).await;
    let daemon = Daemon::serve(&[], &borrowed(&variables_for(&github))).await;
    let show = async |flags: &[&str]| {
        let (code, shown, said) = run(&[&["status", "--url", &daemon.url], flags].concat(), &[]).await;
        assert_eq!((code, said.as_str()), (0, ""));
        shown
    };
    assert!(show(&[]).await.ends_with("\nNo token is cached.\n"));
    let (_, token, _) = run(&["token", "--owner", "acme", "--url", &daemon.url], &[]).await;
    let shown = show(&[]).await;
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[2], ["APP", "ID", "KEY", "STATUS"]);
    assert_eq!((lines[3][0], lines[3][3]), ("default", "active"));
    assert_eq!(lines[6][..6], ["default", "1", "acme", "-", "full", "fresh"], "{shown}");
    let json: serde_json::Value = serde_json::from_str(&show(&["--json"]).await).unwrap();
    assert_eq!((&json["tokens"][0]["state"], &json["ready"]), (&"fresh".into(), &true.into()));
    for shown in [shown, json.to_string()] {
        assert!(!shown.contains(token.trim()), "{shown}");
    }
    assert_eq!(run(&["status", "--url", "http://127.0.0.1:9"], &[]).await.0, 69);
}

#[tokio::test]
async fn healthcheck_tells_alive_from_ready() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let github = github(Options::default()).await;
    let mut variables = variables_for(&github);
    let ready = Daemon::serve(&[], &borrowed(&variables)).await;
    assert_eq!(run(&["token", "--owner", "acme", "--url", &ready.url], &[]).await.0, 0);
    assert_eq!(
        run(&["healthcheck", "--ready", "--url", &ready.url], &[]).await,
        (0, String::new(), String::new())
    );
    variables[0].1 = format!("http://{nobody}");
    let alone = Daemon::serve(&[], &borrowed(&variables)).await;
    assert_eq!(run(&["healthcheck", "--url", &alone.url], &[]).await.0, 0);
    let (code, _, stderr) = run(&["healthcheck", "--ready", "--url", &alone.url], &[]).await;
    assert_eq!(code, 1);
    assert!(
        stderr.starts_with("ghtokend: /readyz returned 503 Service Unavailable: app default: "),
        "{stderr}"
    );
}

#[tokio::test]
async fn check_walks_from_the_key_to_the_last_of_250_installations() {
    let github = github(Options { world: GithubWorld::with_installations(250), ..Options::default() }).await;
    let variables = variables_for(&github);
    let (code, report, stderr) = run(&["check"], &borrowed(&variables)).await;
    assert_eq!((code, stderr.as_str()), (0, ""), "{report}");
    let fingerprint = &github.app("demo").unwrap().keys[0].fingerprint;
    for says in [
        "[listen]",
        fingerprint.trim_start_matches("SHA256:"),
        "app default: GitHub accepts it as",
        "app default has 250",
        "250 on org-0250: contents:write metadata:read",
        "this machine's clock agrees with GitHub's",
        "Ready: the daemon would vend tokens.",
    ] {
        assert!(report.contains(says), "{says} is not in\n{report}");
    }
    assert_eq!(github.count("GET", "/app/installations"), 3);
    assert_eq!(github.counters().mint_requests, 0);
    let key = github.app("demo").unwrap().private_key_pem;
    assert!(!key.lines().any(|line| line.len() > 16 && report.contains(line)));
}

#[tokio::test]
async fn check_exits_1_with_the_fault() {
    let github = github(Options::default()).await;
    let good = variables_for(&github);
    let (_, report, _) = run(&["check", "--quiet"], &borrowed(&good)).await;
    assert!(!report.contains("[listen]"), "{report}");
    let with = |name: &'static str, value: &str| {
        let mut variables = good.clone();
        variables.retain(|(other, _)| *other != name);
        variables.push((name, value.to_owned()));
        variables
    };
    for (variables, says) in [
        (with("GITHUB_APP_ID", "4242"), "FAIL  app           app default: GitHub returned 401"),
        (
            with("GITHUB_APP_INSTALLATION_ID", "99"),
            "app.installation is 99, and the app has no such installation",
        ),
        (with("GITHUB_API_URL", "http://127.0.0.1:1"), "could not connect"),
    ] {
        let (code, report, _) = run(&["check"], &borrowed(&variables)).await;
        assert_eq!(code, 1, "{report}");
        assert!(
            report.contains(says) && report.contains("Not ready: fix the checks marked FAIL."),
            "{says} is not in\n{report}"
        );
    }
    let (code, _, stderr) = run(&["check"], &[("GITHUB_APP_ID", "1")]).await;
    assert_eq!(code, 78, "{stderr}");
}

#[tokio::test]
async fn check_reports_suspension_grants_and_clock() {
    let github = github(Options::default()).await;
    github.suspend(2);
    assert!(github.set_permissions(1, permissions("contents:read metadata:read")));
    github.skew(1200);
    let variables = variables_for(&github);
    let (code, report, _) = run(&["check"], &borrowed(&variables)).await;
    assert_eq!(code, 0, "{report}");
    for says in [
        "WARN  installation  app default: 2 on octocat: contents:read metadata:read: suspended",
        "WARN  installation  app default: 1 on acme: contents:read metadata:read: the app asks for contents:write",
        "s behind GitHub's: ghtokend corrects for it",
    ] {
        assert!(report.contains(says), "{says} is not in\n{report}");
    }
    github.suspend(1);
    github.suspend(3);
    let (code, report, _) = run(&["check"], &borrowed(&variables)).await;
    assert_eq!(code, 1);
    assert!(report.contains("app default has 3, all suspended"), "{report}");
}

#[tokio::test]
async fn fake_github_speaks_the_preview_unless_it_is_retired() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().display().to_string();
    let plain = [].as_slice();
    for (flag, status) in [(plain, 415), (&["--preview", "2017"], 415), (&["--preview", "retired"], 404)] {
        let arguments = [&["fake-github", "--key-dir", &keys], flag].concat();
        let mut child = program(&arguments, &[]).spawn().unwrap();
        let line = lines_of(&mut child).next_line().await.unwrap().unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        let url = format!("{}/integration/installations", ready["api_url"].as_str().unwrap());
        assert_eq!(send("GET", &url, &[], "").await.status, status, "{flag:?}");
    }
}

#[tokio::test]
async fn fake_github_prints_one_line_that_is_enough_to_use_it() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys").display().to_string();
    let mut child = program(&["fake-github", "--key-dir", &keys, "--product", "ghes", "--seed", "7"], &[])
        .spawn()
        .unwrap();
    let line = lines_of(&mut child).next_line().await.unwrap().unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    let app = &ready["apps"][0];
    let id = app["id"].to_string();
    let variables = [
        ("GITHUB_API_URL", ready["api_url"].as_str().unwrap()),
        ("GITHUB_APP_ID", &id),
        ("GITHUB_APP_PRIVATE_KEY_FILE", app["private_key_file"].as_str().unwrap()),
    ];
    assert!(variables[0].1.ends_with("/api/v3") && ready["control_url"].is_string());
    let (code, report, stderr) = run(&["check"], &variables).await;
    assert_eq!(code, 0, "{report}{stderr}");
    let (code, _, stderr) = run(&["fake-github", "--world", "/nowhere.json"], &[]).await;
    assert_eq!(code, 65);
    assert!(stderr.starts_with("ghtokend: --world /nowhere.json: "), "{stderr}");
}

#[tokio::test]
async fn silent_pipe_hangs_no_command() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    let pipe = pipe.display().to_string();
    let client = ["token", "--secret-file", &pipe];
    let configuration = ["check", "--config", &pipe];
    let webhook = ["--webhook-url", "http://127.0.0.1:1/", "--webhook-secret-file", &pipe];
    let emulator = [&["fake-github", "--key-dir", &pipe][..], &webhook].concat();
    let (client, configuration, emulator) =
        tokio::join!(run(&client, &[]), run(&configuration, &[]), run(&emulator, &[]));
    for ((code, stdout, stderr), expected) in [(client, 78), (configuration, 78), (emulator, 65)] {
        assert_eq!((code, stdout.as_str()), (expected, ""), "{stderr}");
        assert!(stderr.contains(&format!("{pipe}: cannot be read: it is a pipe or a device")), "{stderr}");
    }
}
