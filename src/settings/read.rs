//! Reading the value of a key: one reader for each type of value, which is never guessed.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use tracing::Level;

use super::error::{Error, quote};
use super::types::{ByteSize, UnixMode};
use super::values::{Item, MAX_NUMBER};

/// One of a few words.
pub(super) fn word<T: Copy>(item: Item<'_>, words: &[(&str, T)]) -> Result<T, Error> {
    let text = item.text()?;
    words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        item.error(format!("{} is not one of {}", quote(text), allowed.join(", ")))
    })
}

/// `true` or `false`.
pub(super) fn flag(item: Item<'_>) -> Result<bool, Error> {
    item.parsed(str::parse).ok_or_else(|| item.error(format!("{} is not true or false", item.shown())))
}

/// A number within `range`.
pub(super) fn whole<T: TryFrom<u64>>(item: Item<'_>, range: RangeInclusive<u64>) -> Result<T, Error> {
    let number = item.number().filter(|number| range.contains(number));
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
        let allowed = match (range.start(), range.end()) {
            (least, &MAX_NUMBER) => format!("of at least {least}"),
            (least, most) => format!("from {least} to {most}"),
        };
        item.error(format!("{} is not a whole number {allowed}", item.shown()))
    })
}

/// A duration such as `"1h30m"`, a day at most: no token lives longer.
pub(super) fn duration(item: Item<'_>) -> Result<Duration, Error> {
    let parsed = item.parsed(str::parse::<SignedDuration>);
    let duration = parsed.and_then(|parsed| Duration::try_from(parsed).ok());
    duration.filter(|duration| *duration <= MAX_DURATION).ok_or_else(|| {
        let shape = "a duration such as \"500ms\", \"30s\" or \"1h30m\", at most 24h";
        item.error(format!("{} is not {shape}", item.shown()))
    })
}

/// A duration above zero.
pub(super) fn timeout(item: Item<'_>) -> Result<Duration, Error> {
    let duration = duration(item)?;
    if duration.is_zero() {
        return Err(item.error("is zero: nothing would ever finish in time"));
    }
    Ok(duration)
}

/// A size such as `"64MiB"`, or a number of bytes.
pub(super) fn cache_size(item: Item<'_>) -> Result<ByteSize, Error> {
    let with_unit = |text: &str| {
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let unit = UNITS.iter().find(|(name, _)| *name == unit.trim()).map(|(_, bytes)| *bytes);
        number.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit)).ok_or(())
    };
    let bytes = item.number().or_else(|| item.parsed(with_unit)).ok_or_else(|| {
        item.error(format!("{} is not a size such as \"512KiB\", \"64MiB\" or \"1GiB\"", item.shown()))
    })?;
    if bytes < MIN_CACHE_BYTES {
        return Err(item.error(format!("{} is less than 64KiB", item.shown())));
    }
    Ok(ByteSize(bytes))
}

/// A path, or `None` if it is empty.
pub(super) fn path(item: Item<'_>) -> Result<Option<PathBuf>, Error> {
    let Some(text) = item.non_empty()? else { return Ok(None) };
    if text.contains(|char: char| char.is_control()) {
        return Err(item.error("has a control character in it, such as a line end: a path is wanted"));
    }
    Ok(Some(text.into()))
}

/// Paths, none of them empty.
pub(super) fn paths(item: Item<'_>) -> Result<Vec<PathBuf>, Error> {
    let paths = item.list()?.into_iter().map(path).collect::<Result<Vec<_>, _>>()?;
    Ok(paths.into_iter().flatten().collect())
}

/// The path of a socket.
pub(super) fn socket(item: Item<'_>) -> Result<Option<PathBuf>, Error> {
    let path = path(item)?;
    match path.as_ref().map(|path| path.as_os_str().len()) {
        Some(length) if length > MAX_SOCKET_PATH => {
            Err(item.error(format!("has {length} bytes: a socket's path has at most {MAX_SOCKET_PATH}")))
        }
        _ => Ok(path),
    }
}

/// An address to listen on, or `None` if it is empty.
pub(super) fn address(item: Item<'_>) -> Result<Option<SocketAddr>, Error> {
    let Some(text) = item.non_empty()? else { return Ok(None) };
    let address = text.parse().map_err(|_| {
        item.error(format!("{} is not an address with a port such as \"127.0.0.1:7171\"", quote(text)))
    })?;
    Ok(Some(address))
}

/// The address of the listener for tokens.
pub(super) fn loopback(item: Item<'_>) -> Result<Option<SocketAddr>, Error> {
    match address(item)? {
        Some(address) if !address.ip().is_loopback() => Err(item.error(format!(
            "{address} is not loopback, and everyone who can connect to it would get tokens: use 127.0.0.1 or [::1]; to \
             share tokens with other containers use listen.unix, to expose health and metrics listen.ops"
        ))),
        address => Ok(address),
    }
}

/// An octal mode.
pub(super) fn mode(item: Item<'_>) -> Result<UnixMode, Error> {
    let text = item.text()?;
    let octal = text.len() <= 4 && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = octal.then(|| u32::from_str_radix(text, 8).ok()).flatten().filter(|mode| *mode <= 0o777);
    let mode = mode.ok_or_else(|| {
        item.error(format!("{} is not an octal mode from \"0000\" to \"0777\"", quote(text)))
    })?;
    Ok(UnixMode(mode))
}

/// Values of `Host`, in lower case.
pub(super) fn hosts(item: Item<'_>) -> Result<Vec<String>, Error> {
    let host = |item: Item<'_>| {
        let text = item.text()?;
        let within = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        if !text.bytes().all(within) {
            return Err(item.error(format!("{} is not a host such as \"ghtokend.local\"", quote(text))));
        }
        Ok(text.to_ascii_lowercase())
    };
    item.list()?.into_iter().map(host).collect()
}

/// A version of GitHub's API, or `None` if it is empty.
pub(super) fn api_version(item: Item<'_>) -> Result<Option<String>, Error> {
    let Some(text) = item.non_empty()? else { return Ok(None) };
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)) {
        return Err(item.error(format!("{} is not a version such as \"2022-11-28\"", quote(text))));
    }
    Ok(Some(text.to_owned()))
}

/// An app id or a client id, or `None` if it is empty.
pub(super) fn app_id(item: Item<'_>) -> Result<Option<String>, Error> {
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

/// Levels of the log.
pub(super) const LEVELS: [(&str, Level); 5] = [
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];
const MAX_DURATION: Duration = Duration::from_hours(24);
const UNITS: [(&str, u64); 5] = [("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
/// A token has up to 8 KiB, and a cache for less than a few of them is a mistake.
const MIN_CACHE_BYTES: u64 = 64 << 10;
/// `sun_path` of Linux has 108 bytes, one of them a NUL.
const MAX_SOCKET_PATH: usize = 107;
/// A client id has 20 characters; a client secret, which must not pass for one, has 40.
const MAX_ID_LENGTH: usize = 32;
