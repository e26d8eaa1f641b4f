//! Configuration: what is taken from where, and what is said about mistakes.

use std::path::PathBuf;
use std::time::Duration;

use ghtokend::model::AppName;
use ghtokend::settings::{Environment, Error, Flag, Keys, Settings, Sources};
use tracing::Level;

type Variables<'a> = &'a [(&'a str, &'a str)];

#[test]
fn configuration_error_names_place_and_allowed_values() {
    let mut wrong = Vec::new();
    for (name, file, environment, expected) in MISTAKES {
        let message = load(file, environment).expect_err(name).to_string();
        if message != *expected {
            wrong.push(format!("{name}\n  is:     {message}\n  wanted: {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[rustfmt::skip]
const MISTAKES: &[(&str, &str, Variables<'_>, &str)] = &[
    // The file itself.
    ("no TOML", "[listen]\ntcp = \n", &[], "g.toml:2:7: is not TOML: string values must be quoted, expected literal string"),
    ("a key twice", "[log]\nlevel = 'info'\nlevel = 'warn'\n", &[], "g.toml:3:1: is not TOML: duplicate key"),
    ("a PEM without quotes", "[app]\nprivate_key = -----BEGIN RSA PRIVATE KEY-----\nMIIMARKER\n", &[], "g.toml:3:10: is not TOML: key with no value, expected `=`"),
    ("lines of a PEM as they are", "[app]\nid = 1\nMIIMARKERMARKERMARKERMARKERMARKERMARKERMARKERMARKERMARKERMARKERM\n", &[], "g.toml:3:65: is not TOML: key with no value, expected `=`"),
    ("a line of a PEM as a key", "[app]\nMIIMARKERMARKERMARKERMARKERMARKERMARKERMARKERMARKERMARKERMARKERM=\"\"\n", &[], "g.toml:2:1: this is not a known key; the nearest one is app.id"),
    // Keys.
    ("an unknown key", "[listen]\ntpc = '127.0.0.1:1'\n", &[], "g.toml:2:1: listen.tpc is not a known key; the nearest one is listen.tcp"),
    ("a key in the wrong section", "\n\n[listen]\n  api_url = 'https://api.github.com'\n", &[], "g.toml:4:3: listen.api_url is not a known key; the nearest one is github.api_url"),
    ("a key without its section", "level = 'info'\n", &[], "g.toml:1:1: level is not a known key; the nearest one is log.level"),
    ("an unknown section", "[listne]\ntcp = ''\n", &[], "g.toml:1:1: listne is not a known section; the nearest one is [listen]"),
    ("an unknown, empty section", "  [telemetry]\n", &[], "g.toml:1:3: telemetry is not a known section; the nearest one is [prefetch]"),
    ("a section as a value", "cache = '10m'\n", &[], "g.toml:1:1: cache is a section: write [cache] and its keys below"),
    ("a value as a section", "[listen.tcp]\nport = 7171\n", &[], "g.toml:1:1: listen.tcp: is a table where a plain value belongs"),
    ("another case", "[Log]\nlevel = 'info'\n", &[], "g.toml:1:1: Log is not a known section; the nearest one is [log]"),
    ("a key's text in the file", "[app]\nprivate_key = '''-----BEGIN RSA PRIVATE KEY-----\nMARKER'''\n", &[], "g.toml:2:1: app.private_key is not a known key; the nearest one is app.private_key_file"),
    ("an unknown variable", "", &[("GHTOKEND_LISTEN__TPC", "127.0.0.1:1")], "GHTOKEND_LISTEN__TPC: is not a known key; the nearest one is GHTOKEND_LISTEN__TCP"),
    ("an unknown section in a variable", "", &[("GHTOKEND_WEB__URL", "MARKER")], "GHTOKEND_WEB__URL: is not a known key; the nearest one is GHTOKEND_WEBHOOK__SECRET_FILE"),
    ("an unknown key of an app in a variable", "", &[("GHTOKEND_APPS__ONE__KEY_FILE", "MARKER")], "GHTOKEND_APPS__ONE__KEY_FILE: is not a known key; the nearest one is GHTOKEND_APPS__ONE__PRIVATE_KEY_FILE"),
    ("a name with two separators", "", &[("GHTOKEND____TCP", "MARKER")], "GHTOKEND____TCP: is not a known key; the nearest one is GHTOKEND_LISTEN__MAX_CONNECTIONS"),
    ("tables in the environment", "", &[("GHTOKEND_CALLERS__0__NAME", "x")], "GHTOKEND_CALLERS__0__NAME: [[callers]] tables are only in the file"),
    // Types.
    ("no number", "", &[("GHTOKEND_LISTEN__MAX_CONNECTIONS", "abc")], "GHTOKEND_LISTEN__MAX_CONNECTIONS: \"abc\" is not a whole number from 1 to 1000000"),
    ("a number out of range", "[listen]\nmax_connections = 0\n", &[], "g.toml:2:19: listen.max_connections: 0 is not a whole number from 1 to 1000000"),
    ("a negative number", "[cache]\nmax_entries = -1\n", &[], "g.toml:2:15: cache.max_entries: -1 is not a whole number of at least 1"),
    ("a fraction", "[github]\nmints_per_minute = 1.5\n", &[], "g.toml:2:20: github.mints_per_minute: a fraction is not a whole number from 0 to 1000000"),
    ("no entries", "[cache]\nmax_entries = 0\n", &[], "g.toml:2:15: cache.max_entries: 0 is not a whole number of at least 1"),
    ("too large for any number", "[cache]\nmax_entries = 99999999999999999999\n", &[], "g.toml:2:15: cache.max_entries: is too large a number for any key"),
    ("an empty number", "", &[("GHTOKEND_APP__INSTALLATION", "")], "GHTOKEND_APP__INSTALLATION: \"\" is not a whole number of at least 0"),
    ("a number for a text", "[listen]\ntcp = 7171\n", &[], "g.toml:2:7: listen.tcp: is a number, and text in quotes is wanted"),
    ("a number for a mode", "[listen]\nunix_mode = 660\n", &[], "g.toml:2:13: listen.unix_mode: is a number, and text in quotes is wanted"),
    ("no octal mode", "[listen]\nunix_mode = '0698'\n", &[], "g.toml:2:13: listen.unix_mode: \"0698\" is not an octal mode from \"0000\" to \"0777\""),
    ("a mode with more than permissions", "[listen]\nunix_mode = '4755'\n", &[], "g.toml:2:13: listen.unix_mode: \"4755\" is not an octal mode from \"0000\" to \"0777\""),
    ("no boolean", "", &[("GHTOKEND_LISTEN__HOP_LIMIT_1", "yes")], "GHTOKEND_LISTEN__HOP_LIMIT_1: \"yes\" is not true or false"),
    ("a duration without a unit", "[cache]\ngrace = 30\n", &[], "g.toml:2:9: cache.grace: 30 is not a duration such as \"500ms\", \"30s\" or \"1h30m\", at most 24h"),
    ("a duration without a unit in a variable", "", &[("GHTOKEND_CACHE__GRACE", "30")], "GHTOKEND_CACHE__GRACE: \"30\" is not a duration such as \"500ms\", \"30s\" or \"1h30m\", at most 24h"),
    ("a negative duration", "[shutdown]\ndelay = '-1s'\n", &[], "g.toml:2:9: shutdown.delay: \"-1s\" is not a duration such as \"500ms\", \"30s\" or \"1h30m\", at most 24h"),
    ("a duration beyond a day", "[cache]\nidle_after = '25h'\n", &[], "g.toml:2:14: cache.idle_after: \"25h\" is not a duration such as \"500ms\", \"30s\" or \"1h30m\", at most 24h"),
    ("no time at all", "[github]\nrequest_timeout = '0s'\n", &[], "g.toml:2:19: github.request_timeout: is zero: nothing would ever finish in time"),
    ("no size", "[cache]\nmax_bytes = '64 megs'\n", &[], "g.toml:2:13: cache.max_bytes: \"64 megs\" is not a size such as \"512KiB\", \"64MiB\" or \"1GiB\""),
    ("a size too small", "[cache]\nmax_bytes = '63KiB'\n", &[], "g.toml:2:13: cache.max_bytes: \"63KiB\" is less than 64KiB"),
    ("a date", "[log]\nlevel = 2026-11-22\n", &[], "g.toml:2:9: log.level: is a date, and no key takes one"),
    ("no such word", "[log]\nlevel = 'verbose'\n", &[], "g.toml:2:9: log.level: \"verbose\" is not one of error, warn, info, debug, trace"),
    ("an empty word", "", &[("GHTOKEND_LOG__FORMAT", "")], "GHTOKEND_LOG__FORMAT: \"\" is not one of auto, text, json"),
    ("a list with a hole", "", &[("GHTOKEND_LISTEN__ALLOWED_HOSTS", "a,,b")], "GHTOKEND_LISTEN__ALLOWED_HOSTS: has an empty item in its list: remove it"),
    ("a list of numbers", "[listen]\nallowed_hosts = ['a',\n 1]\n", &[], "g.toml:3:2: listen.allowed_hosts: is a number, and text in quotes is wanted"),
    ("a URL as a host", "[listen]\nallowed_hosts = ['http://a']\n", &[], "g.toml:2:18: listen.allowed_hosts: \"http://a\" is not a host such as \"ghtokend.local\""),
    // Listeners.
    ("no address", "[listen]\ntcp = 'localhost:7171'\n", &[], "g.toml:2:7: listen.tcp: \"localhost:7171\" is not an address with a port such as \"127.0.0.1:7171\""),
    ("every address", "[listen]\ntcp = '0.0.0.0:7171'\n", &[], "g.toml:2:7: listen.tcp: 0.0.0.0:7171 is not loopback, and everyone who can connect to it would get tokens: use 127.0.0.1 or [::1]; to share tokens with other containers use listen.unix, to expose health and metrics listen.ops"),
    ("every address of IPv6", "", &[("GHTOKEND_LISTEN__TCP", "[::]:7171")], "GHTOKEND_LISTEN__TCP: [::]:7171 is not loopback, and everyone who can connect to it would get tokens: use 127.0.0.1 or [::1]; to share tokens with other containers use listen.unix, to expose health and metrics listen.ops"),
    ("loopback in disguise", "", &[("GHTOKEND_LISTEN__TCP", "[::ffff:127.0.0.1]:7171")], "GHTOKEND_LISTEN__TCP: [::ffff:127.0.0.1]:7171 is not loopback, and everyone who can connect to it would get tokens: use 127.0.0.1 or [::1]; to share tokens with other containers use listen.unix, to expose health and metrics listen.ops"),
    ("no listener", "[listen]\ntcp = ''\n", &[("GHTOKEND_LISTEN__UNIX", "")], "g.toml:2:7: listen.tcp: is off, and so is listen.unix (GHTOKEND_LISTEN__UNIX): no caller could connect; set one"),
    ("a long socket path", "[listen]\nunix = '/run/a-path-that-is-longer-than-a-socket-may-have/a-path-that-is-longer-than-a-socket-may-have/ghtokend.sock'\n", &[], "g.toml:2:8: listen.unix: has 108 bytes: a socket's path has at most 107"),
    ("a port for ops", "[listen]\nops = '9171'\n", &[], "g.toml:2:7: listen.ops: \"9171\" is not an address with a port such as \"127.0.0.1:7171\""),
    // GitHub.
    ("no URL", "", &[("GITHUB_API_URL", "api.github.com")], "GITHUB_API_URL: \"api.github.com\" is not a URL such as https://github.example.com"),
    ("the web host", "", &[("GITHUB_API_URL", "https://github.com/")], "GITHUB_API_URL: is the web host: the API of github.com is https://api.github.com"),
    ("plain HTTP", "[github]\napi_url = 'http://ghes.example.com/api/v3'\n", &[], "g.toml:2:11: github.api_url: is http://, which would send tokens in the clear: use https:// (http:// is for loopback)"),
    ("another scheme", "[github]\napi_url = 'ftp://ghes.example.com'\n", &[], "g.toml:2:11: github.api_url: \"ftp://ghes.example.com\" is not a URL such as https://github.example.com"),
    ("a password in the API's URL", "[github]\napi_url = 'https://user:MARKER@ghes.example.com'\n", &[], "g.toml:2:11: github.api_url: has a user or password in it: apps authenticate by their private key"),
    ("a password in no URL", "[github]\nweb_url = 'user:MARKER@ghes.example.com'\n", &[], "g.toml:2:11: github.web_url: the value (not shown) is not a URL such as https://github.example.com"),
    ("a query", "[github]\nweb_url = 'https://ghes.example.com/?token=MARKER'\n", &[], "g.toml:2:11: github.web_url: has a query or fragment: a base URL ends with its path"),
    ("a fragment", "[github]\nweb_url = 'https://ghes.example.com/#x'\n", &[], "g.toml:2:11: github.web_url: has a query or fragment: a base URL ends with its path"),
    ("a proxy without a scheme", "[github]\nproxy = 'user:MARKER@proxy.example.com:3128'\n", &[], "g.toml:2:9: github.proxy: is not a proxy's URL such as http://proxy.example.com:3128"),
    ("a proxy of another kind", "[github]\nproxy = 'socks5://user:MARKER@proxy.example.com'\n", &[], "g.toml:2:9: github.proxy: is not a proxy's URL such as http://proxy.example.com:3128"),
    ("no version", "[github]\napi_version = \"2022\\r\\nX: MARKER\"\n", &[], "g.toml:2:15: github.api_version: the value (not shown) is not a version such as \"2022-11-28\""),
    ("a key's text as roots", "[github]\nca_file = '-----BEGIN CERTIFICATE----- MARKER'\n", &[], "g.toml:2:11: github.ca_file: is the text of a key or certificate: name the path of a file that holds it"),
    // The cache's windows.
    ("windows in disorder", "[cache]\nrenew_before = '4m'\n", &[], "g.toml:2:16: cache.renew_before: \"4m\" is less than cache.min_validity = \"5m\" (the default of cache.min_validity): renew_before ≥ min_validity ≥ grace is wanted"),
    ("windows in disorder by two sources", "[cache]\nmin_validity = '20s'\n", &[("GHTOKEND_CACHE__GRACE", "25s")], "g.toml:2:16: cache.min_validity: \"20s\" is less than cache.grace = \"25s\" (GHTOKEND_CACHE__GRACE): renew_before ≥ min_validity ≥ grace is wanted"),
    // Apps and keys.
    ("an id without a key", "[app]\nid = 1\n", &[], "g.toml:2:6: app.id: no private key for this app: set app.private_key_file, GITHUB_APP_PRIVATE_KEY_FILE or GITHUB_APP_PRIVATE_KEY"),
    ("an id without a key in a variable", "", &[("GITHUB_APP_ID", "1")], "GITHUB_APP_ID: no private key for this app: set app.private_key_file, GITHUB_APP_PRIVATE_KEY_FILE or GITHUB_APP_PRIVATE_KEY"),
    ("a key without an id", "[app]\nprivate_key_file = 'a.pem'\n", &[], "g.toml:2:20: app.private_key_file: no id for this key's app: set app.id or GITHUB_APP_ID"),
    ("a key variable without an id", "", &[("GITHUB_APP_PRIVATE_KEY", PEM)], "GITHUB_APP_PRIVATE_KEY: no id for this key's app: set app.id or GITHUB_APP_ID"),
    ("an installation without an app", "", &[("GITHUB_APP_INSTALLATION_ID", "7")], "GITHUB_APP_INSTALLATION_ID: no app for it: set app.id or GITHUB_APP_ID and its key"),
    ("no id", "[app]\nid = 'my app'\nprivate_key_file = 'a.pem'\n", &[], "g.toml:2:6: app.id: \"my app\" is not an app id (12345) or a client id (Iv23li…)"),
    ("zero as an id", "[app]\nid = 0\nprivate_key_file = 'a.pem'\n", &[], "g.toml:2:6: app.id: \"0\" is not an app id (12345) or a client id (Iv23li…)"),
    ("a key as an id", "", &[("GITHUB_APP_ID", PEM)], "GITHUB_APP_ID: is the text of a key or certificate: name the path of a file that holds it"),
    ("a token as an id", "", &[("GITHUB_APP_ID", "ghp_MARKER")], "GITHUB_APP_ID: the value (not shown) is not an app id (12345) or a client id (Iv23li…)"),
    ("a fraction as an id", "[app]\nid = 1.0\n", &[], "g.toml:2:6: app.id: is a fraction, and text in quotes is wanted"),
    ("no installation", "", &[("GITHUB_APP_INSTALLATION_ID", "acme")], "GITHUB_APP_INSTALLATION_ID: \"acme\" is not a whole number of at least 0"),
    ("a key's text as a path", "", &[("GITHUB_APP_ID", "1"), ("GITHUB_APP_PRIVATE_KEY_FILE", PEM)], "GITHUB_APP_PRIVATE_KEY_FILE: is the text of a key or certificate: name the path of a file that holds it"),
    ("base64 of a key as a path", "[app]\nprivate_key_file = 'LS0tLS1CRUdJTiBNARKER'\n", &[], "g.toml:2:20: app.private_key_file: is the text of a key or certificate: name the path of a file that holds it"),
    ("DER of a key as a path", "[app]\nprivate_key_file = 'MIIEowIBAAKCMARKERMARKERMARKERMARKERMARKERMARKERMARKERMARKERMARKER'\n", &[], "g.toml:2:20: app.private_key_file: is the text of a key or certificate: name the path of a file that holds it"),
    ("a path of two lines", "", &[("GHTOKEND_AUDIT__FILE", "/var/log/MARKER\n/var")], "GHTOKEND_AUDIT__FILE: has a control character in it, such as a line end: a path is wanted"),
    ("an empty path", "[app]\nprivate_key_file = ['a.pem', '']\n", &[], "g.toml:2:30: app.private_key_file: has an empty item in its list: remove it"),
    ("a path as a key", "", &[("GITHUB_APP_ID", "1"), ("GITHUB_APP_PRIVATE_KEY", "/run/MARKER.pem")], "GITHUB_APP_PRIVATE_KEY: is not a private key: PEM, base64 of it, or PEM with \\n for line ends is allowed (for a path, use GITHUB_APP_PRIVATE_KEY_FILE)"),
    ("base64 of something else", "", &[("GITHUB_APP_ID", "1"), ("GITHUB_APP_PRIVATE_KEY", "TUFSS0VS")], "GITHUB_APP_PRIVATE_KEY: is not a private key: PEM, base64 of it, or PEM with \\n for line ends is allowed (for a path, use GITHUB_APP_PRIVATE_KEY_FILE)"),
    ("key and key file", "[app]\nid = 1\nprivate_key_file = 'a.pem'\n", &[("GITHUB_APP_PRIVATE_KEY", PEM)], "GITHUB_APP_PRIVATE_KEY: there is a key file too (g.toml:3:20: app.private_key_file): keep one of the two"),
    ("key and key file in variables", "", &[("GITHUB_APP_ID", "1"), ("GITHUB_APP_PRIVATE_KEY", PEM), ("GITHUB_APP_PRIVATE_KEY_FILE", "a.pem")], "GITHUB_APP_PRIVATE_KEY: there is a key file too (GITHUB_APP_PRIVATE_KEY_FILE): keep one of the two"),
    ("one app and several", "[app]\nid = 1\n[apps.one]\nid = 2\n", &[], "g.toml:2:6: app.id: there is [apps.NAME] too (g.toml:4:6: apps.one.id): name every app, or have only one"),
    ("one app in variables and several", "[apps.one]\nid = 2\n", &[("GITHUB_APP_ID", "1")], "GITHUB_APP_ID: there is [apps.NAME] too (g.toml:2:6: apps.one.id): name every app, or have only one"),
    ("a key variable and several apps", "[apps.one]\nid = 2\n", &[("GITHUB_APP_PRIVATE_KEY", PEM)], "GITHUB_APP_PRIVATE_KEY: there is [apps.NAME] too (g.toml:2:6: apps.one.id): name every app, or have only one"),
    ("an installation and several apps", "[apps.one]\nid = 2\n", &[("GITHUB_APP_INSTALLATION_ID", "1")], "GITHUB_APP_INSTALLATION_ID: there is [apps.NAME] too (g.toml:2:6: apps.one.id): name every app, or have only one"),
    ("two defaults", "[apps.one]\nid = 1\nprivate_key_file = 'a'\ndefault = true\n[apps.two]\nid = 2\nprivate_key_file = 'b'\ndefault = true\n", &[], "g.toml:8:11: apps.two.default: there is a default already (g.toml:4:11: apps.one.default): keep one"),
    ("an app's name", "[apps.My-App]\nid = 1\n", &[], "g.toml:1:1: [apps.NAME]: \"My-App\" is not an app's name: a-z, 0-9 and _ are allowed"),
    ("an empty app", "[apps.one]\n", &[], "g.toml:1:1: [apps.one] is empty: set its id and private_key_file"),
    ("an app without id and key", "[apps.one]\ninstallation = 0\n", &[], "g.toml:2:16: apps.one.installation: [apps.one] has no id and no key: set its id and private_key_file"),
    ("a named app without a key", "", &[("GHTOKEND_APPS__ONE__ID", "1")], "GHTOKEND_APPS__ONE__ID: no private key for this app: set apps.one.private_key_file"),
    ("a default that is none", "[apps.one]\nid = 1\nprivate_key_file = 'a'\ndefault = 'sure'\n", &[], "g.toml:4:11: apps.one.default: \"sure\" is not true or false"),
    ("default without a name", "[app]\ndefault = true\n", &[], "g.toml:2:1: app.default is not a known key; the nearest one is app.id"),
    ("no dialect", "[github]\ndialect = 'graphql'\n", &[], "g.toml:2:11: github.dialect: \"graphql\" is not one of apps, integrations"),
    // Tokens to mint at start.
    ("prefetch with one bracket", "[prefetch]\nowner = 'acme'\n", &[], "g.toml:1:1: [[prefetch]] is a list of tables: two brackets, and its keys below"),
    ("prefetch of plain values", "prefetch = ['acme']\n", &[], "g.toml:1:1: [[prefetch]] is a list of tables: two brackets, and its keys below"),
    ("prefetch with an unknown key", "[[prefetch]]\nowner = 'acme'\nrepos = ['x']\n", &[], "g.toml:3:1: prefetch.repos: is not a known key; the nearest one is repo"),
    ("prefetch of two installations", "[log]\nlevel = 'info'\n[[prefetch]]\nowner = 'acme'\n\n[[prefetch]]\nowner = 'acme'\ninstallation = 1\n", &[], "g.toml:6:1: [[prefetch]]: installation and owner each name an installation: keep one"),
    ("prefetch narrowed twice", "[[prefetch]]\nrepo = 'acme/x'\nrepositories = ['y']\n", &[], "g.toml:2:1: prefetch.repo: already narrows the token to one repository: leave repositories and repository_ids out, or choose by owner"),
    ("prefetch with a secret as a repository's name", "[[prefetch]]\nrepo = 'acme/ghs_MARKER_0123456!'\n", &[], "g.toml:2:1: prefetch.repo: the value (not shown) is not what belongs here"),
    ("prefetch of a name with a colon", "[[prefetch]]\npermissions = { 'a:b' = 'read' }\n", &[], "g.toml:2:17: prefetch.permissions.a:b: \"a:b\" is not a permission: use letters, digits and '_', as in pull_requests"),
    ("prefetch of an empty name", "[[prefetch]]\nrepositories = ['a', '']\n", &[], "g.toml:2:22: prefetch.repositories: an item is empty: leave it out"),
    ("prefetch of no repository", "[[prefetch]]\nrepo = 'acme'\n", &[], "g.toml:2:1: prefetch.repo: \"acme\" is not a repository: use OWNER/NAME, as acme/widgets"),
    ("prefetch of no login", "[[prefetch]]\nowner = 'a/b'\n", &[], "g.toml:2:1: prefetch.owner: \"a/b\" is not a GitHub login: use 1 to 100 letters, digits, '-' or '_'"),
    ("prefetch of a secret", "[[prefetch]]\nowner = 'ghs_MARKER.x'\n", &[], "g.toml:2:1: prefetch.owner: the value (not shown) is not what belongs here"),
    ("prefetch without repositories", "[[prefetch]]\nrepositories = []\n", &[], "g.toml:2:1: prefetch.repositories: is empty: name some, or leave it out for all of them"),
    ("prefetch of a word for a list", "[[prefetch]]\nrepositories = 'a,b'\n", &[], "g.toml:2:1: prefetch.repositories: is text, and a list is wanted"),
    ("prefetch of a level", "[[prefetch]]\npermissions = { contents = 'own' }\n", &[], "g.toml:2:17: prefetch.permissions.contents: \"own\" is not a permission level: use read, write or admin"),
    ("prefetch of permissions as in a query", "[[prefetch]]\npermissions = 'contents:read'\n", &[], "g.toml:2:1: prefetch.permissions: is text, and a table such as { contents = \"read\" } is wanted"),
    ("prefetch for nobody's app", "[app]\nid = 1\nprivate_key_file = 'a'\n[[prefetch]]\napp = 'other'\n", &[], "g.toml:5:1: prefetch.app: no app other is configured: there are default"),
    ("prefetch for one of several apps", "[apps.one]\nid = 1\nprivate_key_file = 'a'\n[apps.two]\nid = 2\nprivate_key_file = 'b'\n[[prefetch]]\nowner = 'acme'\n", &[], "g.toml:7:1: [[prefetch]]: several apps are configured (one, two): choose one with app"),
    ("prefetch for a user", "[[prefetch]]\nuser = 5\n", &[], "g.toml:1:1: [[prefetch]]: user: dialect \"apps\" has no tokens on behalf of users: leave it out"),
    ("prefetch that the preview cannot narrow", "[github]\ndialect = 'integrations'\n[[prefetch]]\nrepo = 'acme/x'\n", &[], "g.toml:3:1: [[prefetch]]: dialect \"integrations\" narrows no token: use owner or installation alone"),
    ("prefetch of an enterprise of the preview", "[github]\ndialect = 'integrations'\n[[prefetch]]\nenterprise = 'acme'\n", &[], "g.toml:3:1: [[prefetch]]: enterprise: dialect \"integrations\" knows none: use owner or installation"),
    ("prefetch from the environment", "", &[("GHTOKEND_PREFETCH__OWNER", "acme")], "GHTOKEND_PREFETCH__OWNER: [[prefetch]] tables are only in the file"),
    // What this version does not do.
    ("callers", "[log]\nlevel = 'info'\n\n[[callers]]\nname = 'MARKER'\nuid = 1000\nallow = [{ owner = 'acme' }]\n", &[], "g.toml:4:1: [[callers]] is not enforced by this version, so it will not start with it: remove the entries, or guard the unix socket by its mode"),
    ("callers with one bracket", "[callers]\nname = 'MARKER'\n", &[], "g.toml:1:1: [[callers]] is not enforced by this version, so it will not start with it: remove the entries, or guard the unix socket by its mode"),
    ("callers inline", "callers = [{ name = 'MARKER' }]\n", &[], "g.toml:1:1: [[callers]] is not enforced by this version, so it will not start with it: remove the entries, or guard the unix socket by its mode"),
];

#[test]
fn prefetch_entries_use_query_parameter_names() {
    let file = "[app]\nid = 1\nprivate_key_file = 'a'\n\n[[prefetch]]\napp = 'default'\nowner = 'Acme'\n\
                repositories = ['b', 'A']\nrepository_ids = [7, 3]\npermissions = { issues = 'write', contents = 'read' }\n\n\
                [[prefetch]]\nrepo = 'acme/widgets'\n\n[[prefetch]]\ninstallation = 5\n\n[[prefetch]]\nenterprise = 'x'\n\n\
                [[prefetch]]\n";
    let settings = load(file, &[]).unwrap();
    let shown: Vec<_> = settings
        .prefetch
        .iter()
        .map(|prefetch| {
            format!(
                "{} {} {:?}",
                prefetch.selector,
                prefetch.scope,
                prefetch.app.as_ref().map(AppName::as_str)
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "owner=acme repositories=a,b repository_ids=3,7 permissions=contents:read,issues:write Some(\"default\")",
            "repo=acme/widgets repositories=widgets None",
            "installation=5 full None",
            "enterprise=x full None",
            "default full None",
        ]
    );
    let effective = settings.effective();
    assert_eq!(load(&effective, &[]).unwrap().prefetch, settings.prefetch);
    let user = "[github]\ndialect = 'integrations'\n[[prefetch]]\nowner = 'acme'\nuser = 5\n";
    let settings = load(user, &[]).unwrap();
    assert_eq!(load(&settings.effective(), &[]).unwrap().prefetch, settings.prefetch);
    assert_eq!(settings.prefetch[0].user.map(|user| user.get()), Some(5));
}

const PEM: &str = "-----BEGIN RSA PRIVATE KEY-----\nMARKER\n-----END RSA PRIVATE KEY-----\n";

#[test]
fn defaults_equal_the_documented_file() {
    let nothing = Settings::load(&Sources::default()).unwrap();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/ghtokend.toml");
    let documented = Settings::load(&Sources { file: Some(file.into()), ..Sources::default() }).unwrap();
    assert_eq!(documented.effective(), nothing.effective());
    assert_eq!(nothing.effective(), DEFAULTS);
    assert!(nothing.apps.is_empty() && nothing.default_app.is_none());
}

/// The numbers of the contract, in words of their own: changing one in the file alone is not enough.
const DEFAULTS: &str = r#"[listen]
tcp = "127.0.0.1:7171"
unix = ""
unix_mode = "0660"
ops = ""
allowed_hosts = []
require_client_header = true
hop_limit_1 = true
max_connections = 1024

[github]
api_url = "https://api.github.com"
web_url = "https://github.com"
dialect = "apps"
api_version = "2022-11-28"
ca_file = ""
proxy = ""
connect_timeout = "5s"
request_timeout = "15s"
mints_per_minute = 150

[cache]
renew_before = "10m"
min_validity = "5m"
grace = "30s"
settle = "5s"
idle_after = "30m"
max_entries = 10000
max_bytes = "64MiB"

[shutdown]
delay = "0s"
grace = "10s"
revoke = false

[runtime]
worker_threads = 1

[log]
format = "auto"
level = "info"

[audit]
file = ""

[webhook]
secret_file = ""
"#;

#[test]
fn the_effective_configuration_can_be_used_as_a_file() {
    let file = r#"
        callers = []
        prefetch = []
        [listen]
        tcp = "[::1]:0"
        unix = "/run/\"odd\".sock"
        unix_mode = "600"
        ops = "0.0.0.0:9171"
        allowed_hosts = ["GHtokend.Local", "localhost:7171"]
        max_connections = 0x10
        [github]
        api_url = "https://GHES.example.com:8443/api/v3/"
        dialect = "integrations"
        api_version = ""
        proxy = "http://proxy.example.com:3128"
        connect_timeout = "1h 30m"
        request_timeout = "500ms"
        [apps.one]
        id = 12345
        private_key_file = "one.pem"
        [apps.two]
        id = "Iv23liAbCdEfGhIjKlMn"
        private_key_file = ["new.pem", "old.pem"]
        installation = 7
        default = true
        [cache]
        max_bytes = 65536
        settle = "PT2S"
    "#;
    let settings = load(file, &[]).unwrap();
    let effective = settings.effective();
    assert_eq!(load(&effective, &[]).unwrap().effective(), effective);
    for line in [
        r#"unix = "/run/\"odd\".sock""#,
        r#"unix_mode = "0600""#,
        r#"allowed_hosts = ["ghtokend.local", "localhost:7171"]"#,
        "max_connections = 16",
        r#"api_url = "https://ghes.example.com:8443/api/v3""#,
        r#"web_url = "https://ghes.example.com:8443""#,
        r#"dialect = "integrations""#,
        r#"connect_timeout = "1h30m""#,
        r#"request_timeout = "500ms""#,
        r#"settle = "2s""#,
        r#"max_bytes = "64KiB""#,
        "[apps.one]\nid = \"12345\"\nprivate_key_file = [\"one.pem\"]\ninstallation = 0",
        "private_key_file = [\"new.pem\", \"old.pem\"]\ninstallation = 7\ndefault = true",
    ] {
        assert!(effective.contains(&format!("{line}\n")), "{line}\n{effective}");
    }
}

#[test]
fn every_file_in_config_loads() {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/config")).unwrap();
    for entry in folder {
        let file = Some(entry.unwrap().path());
        Settings::load(&Sources { file, ..Sources::default() }).unwrap();
    }
}

#[test]
fn the_commented_examples_of_the_documented_file_load() {
    let text = include_str!("../../../config/ghtokend.toml");
    let examples = text.split("# For ").skip(1).map(|example| {
        let lines = example.lines().filter_map(|line| line.strip_prefix("# "));
        lines.collect::<Vec<_>>().join("\n")
    });
    let loaded: Vec<Settings> = examples.map(|example| load(&example, &[]).unwrap()).collect();
    let (with_apps, others): (Vec<_>, Vec<_>) =
        loaded.into_iter().partition(|settings| !settings.apps.is_empty());
    assert_eq!(others.iter().map(|settings| settings.prefetch.len()).collect::<Vec<_>>(), [2]);
    let loaded = with_apps;
    let names: Vec<Vec<&str>> =
        loaded.iter().map(|settings| settings.apps.keys().map(|name| name.as_str()).collect()).collect();
    assert_eq!(names, [vec!["default"], vec!["release", "triage"]]);
    let defaults = loaded.iter().map(|settings| settings.default_app.as_ref().unwrap().as_str());
    assert_eq!(defaults.collect::<Vec<_>>(), ["default", "release"]);
}

#[test]
fn source_precedence_is_flag_env_github_env_file_default() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.toml");
    std::fs::write(&path, "[github]\napi_url = 'https://file.example.com'\n").unwrap();
    let flag = |value: &str| Flag { name: "--api-url", key: "github.api_url", value: value.into() };
    let mut sources = Sources {
        flags: vec![flag("https://flag.example.com")],
        environment: variables(&[
            ("GHTOKEND_GITHUB__API_URL", "https://variable.example.com"),
            ("GITHUB_API_URL", "https://well-known.example.com"),
        ]),
        file: Some(path),
        fallback: None,
    };
    let host =
        |sources: &Sources| Settings::load(sources).unwrap().github.api_url.host_str().unwrap().to_owned();
    assert_eq!(host(&sources), "flag.example.com");
    sources.flags.clear();
    assert_eq!(host(&sources), "variable.example.com");
    sources.environment = variables(&[("GITHUB_API_URL", "https://well-known.example.com")]);
    assert_eq!(host(&sources), "well-known.example.com");
    sources.environment = variables(&[("GITHUB_API_URL", "")]);
    assert_eq!(host(&sources), "file.example.com");
    sources.file = None;
    assert_eq!(host(&sources), "api.github.com");
    sources.flags = vec![flag("nonsense")];
    let message = Settings::load(&sources).unwrap_err().to_string();
    assert_eq!(message, "--api-url: \"nonsense\" is not a URL such as https://github.example.com");
    sources.flags = vec![Flag { name: "--api-url", key: "github.url", value: String::new() }];
    let message = Settings::load(&sources).unwrap_err().to_string();
    assert_eq!(message, "--api-url: stands for github.url, which is not a known key");
}

#[test]
fn configuration_file_is_flag_else_env_else_system() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, level: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("[log]\nlevel = '{level}'\n")).unwrap();
        path
    };
    let (flag, variable, system) = (file("flag", "error"), file("variable", "warn"), file("system", "debug"));
    let load = |file: Option<&PathBuf>, variable: &str, fallback: &PathBuf| {
        let environment = variables(&[("GHTOKEND_CONFIG", variable)]);
        let (file, fallback) = (file.cloned(), Some(fallback.clone()));
        Settings::load(&Sources { file, environment, fallback, ..Sources::default() })
    };
    let level = |loaded: Result<Settings, Error>| loaded.unwrap().log.level;
    let (variable, missing) = (variable.to_str().unwrap(), folder.path().join("missing"));
    assert_eq!(level(load(Some(&flag), variable, &system)), Level::ERROR);
    assert_eq!(level(load(None, variable, &system)), Level::WARN);
    assert_eq!(level(load(None, "", &system)), Level::DEBUG);
    assert_eq!(level(load(None, "", &missing)), Level::INFO);
    let expected = format!("{}: cannot be read: No such file or directory (os error 2)", missing.display());
    for named in [load(Some(&missing), "", &system), load(None, missing.to_str().unwrap(), &system)] {
        assert_eq!(named.unwrap_err().to_string(), expected);
    }
    let folder = folder.path().to_owned();
    let error = load(Some(&folder), "", &system).unwrap_err().to_string();
    assert_eq!(error, format!("{}: cannot be read: Is a directory (os error 21)", folder.display()));
    let binary = folder.join("binary");
    std::fs::write(&binary, [0xff, 0xfe]).unwrap();
    let error = load(Some(&binary), "", &system).unwrap_err().to_string();
    assert_eq!(error, format!("{}: is not UTF-8 text", binary.display()));
}

#[test]
fn variables_that_kubernetes_makes_for_services_are_ignored() {
    let environment = &[
        ("GHTOKEND_SERVICE_HOST", "10.0.0.1"),
        ("GHTOKEND_SERVICE_PORT", "7171"),
        ("GHTOKEND_PORT", "tcp://10.0.0.1:7171"),
        ("GHTOKEND_PORT_7171_TCP", "tcp://10.0.0.1:7171"),
        ("GHTOKEND_PORT_7171_TCP_ADDR", "10.0.0.1"),
        ("GHTOKEND_URL", "http://127.0.0.1:1"),
        ("GHTOKEND_LISTEN_TCP", "nonsense"),
        ("GHTOKEN__LISTEN__TCP", "nonsense"),
        ("OTHER__LISTEN__TCP", "nonsense"),
        ("GITHUB_TOKEN", "MARKER"),
    ];
    assert_eq!(load("", environment).unwrap().effective(), DEFAULTS);
}

#[test]
fn a_variable_is_typed_by_its_key() {
    let settings = load(
        "[listen]\nallowed_hosts = ['file']\nunix = '/file.sock'\n",
        &[
            ("GHTOKEND_APP__ID", "123\n"),
            ("GHTOKEND_APP__PRIVATE_KEY_FILE", "new.pem, 007"),
            ("GHTOKEND_APP__INSTALLATION", "42"),
            ("GHTOKEND_CACHE__MAX_BYTES", "65536"),
            ("GHTOKEND_CACHE__GRACE", "1m30s"),
            ("GHTOKEND_LISTEN__ALLOWED_HOSTS", ""),
            ("GHTOKEND_LISTEN__UNIX", ""),
            ("GHTOKEND_LISTEN__HOP_LIMIT_1", "false"),
            ("GHTOKEND_GITHUB__API_VERSION", ""),
        ],
    );
    let settings = settings.unwrap();
    let app = settings.apps.values().next().unwrap();
    assert_eq!((app.id.as_str(), app.installation.unwrap().get()), ("123", 42));
    let Keys::Files(paths) = &app.keys else { panic!("{app:?}") };
    assert_eq!(*paths, [PathBuf::from("new.pem"), PathBuf::from("007")]);
    assert_eq!((settings.cache.max_bytes.0, settings.cache.grace), (65536, Duration::from_secs(90)));
    assert!(settings.listen.allowed_hosts.is_empty() && settings.listen.unix.is_none());
    assert!(!settings.listen.hop_limit_1 && settings.github.api_version.is_none());
}

#[test]
fn windows_may_be_equal() {
    load("[cache]\nrenew_before = '30s'\nmin_validity = '30s'\ngrace = '30s'\n", &[]).unwrap();
}

#[test]
fn an_app_id_is_a_number_or_a_string() {
    for id in ["123", "'123'", "'Iv23liAbCdEfGhIjKlMn'", "'Iv1.ab1112223334445c'"] {
        let settings = load(&format!("[app]\nid = {id}\nprivate_key_file = 'a.pem'\n"), &[]).unwrap();
        assert_eq!(settings.apps.values().next().unwrap().id, id.replace('\'', ""));
    }
}

#[test]
fn private_key_variable_accepts_pem_escaped_or_base64() {
    const PEM: &str = include_str!("../keys/rsa.pem");
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, PEM);
    let folded = base64.as_bytes().chunks(76).map(|line| str::from_utf8(line).unwrap()).collect::<Vec<_>>();
    for (name, value) in [
        ("PEM", PEM.to_owned()),
        ("CRLF", PEM.replace('\n', "\r\n")),
        ("escaped", PEM.replace('\n', "\\n")),
        ("escaped CRLF", PEM.replace('\n', "\\r\\n")),
        ("escaped in quotes", format!("\"{}\"", PEM.replace('\n', "\\n"))),
        ("base64", base64.clone()),
        ("base64 in lines", folded.join("\n")),
        ("base64 with a newline", format!("{base64}\n")),
    ] {
        let environment = [("GITHUB_APP_ID", "1"), ("GITHUB_APP_PRIVATE_KEY", value.as_str())];
        let settings = load("", &environment).unwrap();
        let app = settings.apps.values().next().unwrap();
        let Keys::Inline { variable, pem } = &app.keys else { panic!("{name}") };
        let key = ghtokend::github::key::Key::parse(pem.expose(), variable).unwrap();
        assert_eq!(key.fingerprint(), "SHA256:Vht+hOEign3QfJYquWKQqmnDvkUMma6QHJDaQdNWKhw=", "{name}");
        let effective = settings.effective();
        assert!(effective.contains("# the private key is in GITHUB_APP_PRIVATE_KEY\n"), "{effective}");
        assert!(!format!("{effective}{settings:?}").contains("MII"), "{name}");
    }
}

#[test]
fn empty_well_known_names_are_unset() {
    let names = [
        "GITHUB_APP_ID",
        "GITHUB_APP_PRIVATE_KEY",
        "GITHUB_APP_PRIVATE_KEY_FILE",
        "GITHUB_APP_INSTALLATION_ID",
        "GITHUB_API_URL",
    ];
    assert_eq!(load("", &names.map(|name| (name, ""))).unwrap().effective(), DEFAULTS);
}

#[test]
fn settings_without_an_app_name_the_missing_keys() {
    let settings = load("[app]\nid = ''\nprivate_key_file = []\n", &[]).unwrap();
    assert_eq!(
        settings.require_apps().unwrap_err().to_string(),
        "configuration: no app is configured: set GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY_FILE (or \
         GITHUB_APP_PRIVATE_KEY), or id and private_key_file below [app] in /etc/ghtokend/ghtokend.toml"
    );
    let environment = &[("GITHUB_APP_ID", "1"), ("GITHUB_APP_PRIVATE_KEY_FILE", "a.pem")];
    load("", environment).unwrap().require_apps().unwrap();
}

#[test]
fn the_default_app_is_the_only_one_or_the_one_that_says_so() {
    let app = |name: &str, more: &str| format!("[apps.{name}]\nid = 1\nprivate_key_file = 'a'\n{more}\n");
    for (file, expected) in [
        (app("one", ""), Some("one")),
        (app("one", "") + &app("two", "default = false"), None),
        (app("one", "") + &app("two", "default = true"), Some("two")),
    ] {
        let settings = load(&file, &[]).unwrap();
        assert_eq!(settings.default_app.as_ref().map(|name| name.as_str()), expected, "{file}");
    }
    let environment = &[
        ("GHTOKEND_APPS__ONE__ID", "1"),
        ("GHTOKEND_APPS__ONE__PRIVATE_KEY_FILE", "a.pem,b.pem"),
        ("GHTOKEND_APPS__TWO__DEFAULT", "true"),
    ];
    let settings = load(&app("two", ""), environment).unwrap();
    assert_eq!(settings.default_app.unwrap().as_str(), "two");
    assert!(matches!(&settings.apps[&"one".parse().unwrap()].keys, Keys::Files(paths) if paths.len() == 2));
}

#[test]
fn an_app_called_default_among_several_is_written_as_such() {
    let file =
        "[apps.default]\nid = 1\nprivate_key_file = 'a'\n[apps.other]\nid = 2\nprivate_key_file = 'b'\n";
    let effective = load(file, &[]).unwrap().effective();
    assert!(effective.contains("[apps.default]\n"), "{effective}");
    assert_eq!(load(&effective, &[]).unwrap().effective(), effective);
}

#[test]
fn the_web_host_follows_from_the_api() {
    for (api, web) in [
        ("https://api.github.com/", "https://github.com/"),
        ("https://ghes.example.com/api/v3", "https://ghes.example.com/"),
        ("https://ghes.example.com:8443/api/v3/", "https://ghes.example.com:8443/"),
        ("https://api.acme.ghe.com", "https://acme.ghe.com/"),
        ("https://api.example.com", "https://api.example.com/"),
        ("http://localhost:8080", "http://localhost:8080/"),
        ("http://127.0.0.1:8080/api/v3", "http://127.0.0.1:8080/"),
        ("http://[::1]:8080", "http://[::1]:8080/"),
    ] {
        let github = load("", &[("GITHUB_API_URL", api)]).unwrap().github;
        assert_eq!(github.web_url.as_str(), web, "{api}");
    }
    let github = load("[github]\nweb_url = 'https://git.example.com/base//'\n", &[]).unwrap().github;
    assert_eq!(github.web_url.as_str(), "https://git.example.com/base");
}

#[test]
fn proxy_password_is_never_shown() {
    let settings = load("[github]\nproxy = 'http://user:MARKER@proxy.example.com:3128/'\n", &[]).unwrap();
    assert!(settings.effective().contains("proxy = \"http://[redacted]@proxy.example.com:3128\"\n"));
    let proxy = settings.github.proxy.unwrap();
    assert_eq!(proxy.expose().password(), Some("MARKER"));
    assert_eq!(format!("{proxy:?}"), "http://[redacted]@proxy.example.com:3128");
}

#[test]
fn no_key_shows_a_secret_that_was_put_there_by_mistake() {
    let keys = keys();
    assert_eq!(keys.len(), 35, "{keys:?}");
    let der = format!("MIIEowIBAAKCAQEA{}", "MARKER".repeat(200));
    let of_pem = format!("LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVkt{}", "MARKER".repeat(200));
    let escaped = PEM.replace('\n', "\\n");
    for secret in [PEM, &escaped, &der, &of_pem, "https://user:MARKER@example.com", "ghs_MARKER"] {
        for key in &keys {
            let (section, name) = key.split_once('.').unwrap();
            let variable = format!("GHTOKEND_{}", key.to_ascii_uppercase().replace('.', "__"));
            let values = ["'''@'''", "['''@''']", "{ x = '''@''' }", "@"];
            let file = |value: &str| format!("[{section}]\n{name} = {}\n", value.replace('@', secret));
            let files = values.map(|value| sources(&file(value), &[]));
            for (_folder, sources) in files.into_iter().chain([sources("", &[(&variable, secret)])]) {
                match Settings::load(&sources) {
                    Err(error) => assert!(!format!("{error} {error:?}").contains("MARKER"), "{key}: {error}"),
                    // A short word can be a file's name or an id; a key cannot.
                    Ok(settings) => {
                        let shown = settings.effective().contains("MARKER");
                        assert!(!shown || secret.len() < 40, "{key}: {secret}");
                    }
                }
            }
        }
    }
}

/// Every key, with its section.
fn keys() -> Vec<String> {
    let mut section = "";
    let mut keys = Vec::new();
    for line in include_str!("../../../config/ghtokend.toml").lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|line| line.split_once(']')) {
            Some((name, _)) => section = name,
            None => keys.extend(line.split_once(" = ").map(|(name, _)| format!("{section}.{name}"))),
        }
    }
    keys
}

#[test]
fn positions_count_characters_of_any_file() {
    for (file, expected) in [
        ("\u{feff}[log]\r\nlevel = 'x'\r\n", "g.toml:2:9: log.level"),
        ("log = { format = 'ä', level = 'x' }", "g.toml:1:18: log.format"),
        ("log.format = 'text' # ä\nlog.\"level\" = 'x'", "g.toml:2:15: log.level"),
        ("log = { format = 'text', 'lével' = 'x' }", "g.toml:1:26"),
    ] {
        let message = load(file, &[]).unwrap_err();
        assert!(message.starts_with(&format!("{expected}: ")), "{message}");
    }
}

/// Loads a file of this text and these variables. Messages call the file `g.toml`, and never show a secret.
fn load(file: &str, environment: Variables<'_>) -> Result<Settings, String> {
    let (folder, sources) = sources(file, environment);
    assert!(!format!("{sources:?}").contains("MARKER"));
    let loaded = Settings::load(&sources);
    if let Ok(settings) = &loaded {
        let shown = format!("{settings:?} {}", settings.effective());
        assert!(!shown.contains("MARKER"), "{shown}");
    }
    loaded.map_err(|error| {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("MARKER"), "{shown}");
        assert!(!error.to_string().contains('\n'), "{shown}");
        error.to_string().replace(&format!("{}/", folder.path().display()), "")
    })
}

fn sources(file: &str, environment: Variables<'_>) -> (tempfile::TempDir, Sources) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.toml");
    std::fs::write(&path, file).unwrap();
    (folder, Sources { file: Some(path), environment: variables(environment), ..Sources::default() })
}

fn variables(list: Variables<'_>) -> Environment {
    list.iter().copied().collect()
}
