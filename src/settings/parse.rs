//! From values to settings: every rule of the configuration but those of apps and URLs.

use std::net::SocketAddr;

use super::apps::Apps;
use super::error::{Error, quote};
use super::url::{api, base, proxy, web_of};
use super::values::{Item, MOST, Values};
use super::{
    Cache, Environment, Github, Listen, Log, LogFormat, LogLevel, Settings, Shutdown, prefetch, unsupported,
};
use crate::model::Dialect;

pub(super) fn settings(values: &Values, environment: &Environment) -> Result<Settings, Error> {
    unsupported::refuse(values)?;
    let apps = Apps::new(values, environment)?;
    let github = github(values)?;
    let prefetch = prefetch::read(values, &apps, github.dialect)?;
    let Apps { apps, default_app } = apps;
    Ok(Settings {
        listen: listen(values)?,
        github,
        apps,
        default_app,
        prefetch,
        cache: cache(values)?,
        shutdown: Shutdown {
            delay: values.get("shutdown.delay").duration()?,
            grace: values.get("shutdown.grace").duration()?,
            revoke: values.get("shutdown.revoke").flag()?,
        },
        worker_threads: values.get("runtime.worker_threads").number(1..=MAX_WORKER_THREADS)? as usize,
        log: log(values)?,
        audit_file: values.get("audit.file").path()?,
        webhook_secret_file: values.get("webhook.secret_file").path()?,
    })
}

fn listen(values: &Values) -> Result<Listen, Error> {
    let get = |key: &str| values.get(&format!("listen.{key}"));
    let (tcp, unix) = (get("tcp"), get("unix"));
    let listen = Listen {
        tcp: address(tcp)?,
        unix: unix.path()?,
        unix_mode: mode(get("unix_mode"))?,
        ops: address(get("ops"))?,
        allowed_hosts: get("allowed_hosts").list()?.into_iter().map(host).collect::<Result<_, _>>()?,
        require_client_header: get("require_client_header").flag()?,
        hop_limit_1: get("hop_limit_1").flag()?,
        max_connections: get("max_connections").number(1..=MAX_CONNECTIONS)? as usize,
    };
    match listen.tcp {
        Some(address) if !address.ip().is_loopback() => {
            return Err(tcp.error(format!(
                "{address} is not loopback, and whoever reaches it would get tokens: use 127.0.0.1 or [::1]; to \
                 share tokens with other containers use listen.unix, to expose health and metrics listen.ops"
            )));
        }
        None if listen.unix.is_none() => {
            let unix = unix.origin();
            let problem =
                format!("is off, and so is listen.unix ({unix}): nobody could ask for a token; set one");
            return Err(tcp.error(problem));
        }
        _ => {}
    }
    if let Some(path) = &listen.unix
        && path.as_os_str().len() > MAX_SOCKET_PATH
    {
        let length = path.as_os_str().len();
        return Err(unix.error(format!("has {length} bytes: a socket's path has at most {MAX_SOCKET_PATH}")));
    }
    Ok(listen)
}

fn address(item: Item<'_>) -> Result<Option<SocketAddr>, Error> {
    let Some(text) = item.non_empty()? else { return Ok(None) };
    let address = text.parse().map_err(|_| {
        item.error(format!("{} is not an address with a port such as \"127.0.0.1:7171\"", quote(text)))
    })?;
    Ok(Some(address))
}

fn mode(item: Item<'_>) -> Result<u32, Error> {
    let text = item.text()?;
    let octal = text.len() <= 4 && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = octal.then(|| u32::from_str_radix(text, 8).ok()).flatten().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| item.error(format!("{} is not an octal mode from \"0000\" to \"0777\"", quote(text))))
}

fn host(item: Item<'_>) -> Result<String, Error> {
    let text = item.text()?;
    let within = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if !text.bytes().all(within) {
        return Err(item.error(format!("{} is not a host such as \"ghtokend.local\"", quote(text))));
    }
    Ok(text.to_ascii_lowercase())
}

fn github(values: &Values) -> Result<Github, Error> {
    let get = |key: &str| values.get(&format!("github.{key}"));
    let api_url = api(get("api_url"))?;
    let web_url = match get("web_url").non_empty()? {
        Some(_) => base(get("web_url"))?,
        None => web_of(&api_url),
    };
    Ok(Github {
        api_url,
        web_url,
        dialect: get("dialect").word(&Dialect::ALL.map(|dialect| (dialect.as_str(), dialect)))?,
        api_version: api_version(get("api_version"))?,
        ca_file: get("ca_file").path()?,
        proxy: proxy(get("proxy"))?,
        connect_timeout: get("connect_timeout").timeout()?,
        request_timeout: get("request_timeout").timeout()?,
        mints_per_minute: get("mints_per_minute").number(0..=MAX_MINTS)? as u32,
    })
}

fn api_version(item: Item<'_>) -> Result<Option<String>, Error> {
    let Some(text) = item.non_empty()? else { return Ok(None) };
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)) {
        return Err(item.error(format!("{} is not a version such as \"2022-11-28\"", quote(text))));
    }
    Ok(Some(text.to_owned()))
}

fn cache(values: &Values) -> Result<Cache, Error> {
    let get = |key: &str| values.get(&format!("cache.{key}"));
    for (longer, shorter) in [("renew_before", "min_validity"), ("min_validity", "grace")] {
        let (long, short) = (get(longer), get(shorter));
        if long.duration()? < short.duration()? {
            return Err(long.error(format!(
                "{} is less than cache.{shorter} = {} ({}): renew_before ≥ min_validity ≥ grace is wanted",
                long.shown(),
                short.shown(),
                short.origin()
            )));
        }
    }
    let max_bytes = get("max_bytes").bytes()?;
    if max_bytes < MIN_BYTES {
        return Err(get("max_bytes").error(format!("{} is less than 64KiB", get("max_bytes").shown())));
    }
    Ok(Cache {
        renew_before: get("renew_before").duration()?,
        min_validity: get("min_validity").duration()?,
        grace: get("grace").duration()?,
        settle: get("settle").duration()?,
        idle_after: get("idle_after").duration()?,
        max_entries: get("max_entries").number(1..=MOST)?,
        max_bytes,
    })
}

fn log(values: &Values) -> Result<Log, Error> {
    let format = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let level = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    Ok(Log { format: values.get("log.format").word(&format)?, level: values.get("log.level").word(&level)? })
}

/// `sun_path` of Linux has 108 bytes, one of them a NUL.
const MAX_SOCKET_PATH: usize = 107;
/// A token has up to 8 KiB, and a cache for less than a few of them is a mistake.
const MIN_BYTES: u64 = 64 << 10;
// The rest only keeps slips of the finger out.
const MAX_CONNECTIONS: u64 = 1_000_000;
const MAX_MINTS: u64 = 1_000_000;
const MAX_WORKER_THREADS: u64 = 1024;
