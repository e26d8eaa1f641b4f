//! Secret file: a small file that is read bounded in size, into memory that is wiped, and without waiting for ever.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::str::Utf8Error;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zeroize::Zeroizing;

/// What a path may lead to; symbolic links are followed in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accept {
    /// A regular file only, as for what is read again and again.
    RegularFile,
    /// A pipe or a device too, such as `<(command)` and `/dev/stdin`.
    Stream,
}

/// What a file holds, and its permission bits.
pub(crate) struct Contents {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) mode: u32,
}

/// Why a file cannot be read. Says what is allowed, and nothing of the content.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("is a directory")]
    Directory,
    #[error("is not a regular file")]
    NotAFile,
    #[error("is larger than {} KiB", .0 >> 10)]
    TooLarge(usize),
    #[error("cannot be read: it is a pipe or a device that has been silent for {MAX_SILENCE_SECONDS} s")]
    Silent,
}

impl Contents {
    pub(crate) fn text(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(&self.bytes)
    }
}

/// The whole of a file with at most `max_bytes`.
pub(crate) fn read(path: &Path, accept: Accept, max_bytes: usize) -> Result<Contents, ReadError> {
    // Without NONBLOCK, opening a named pipe would wait for a writer.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    let metadata = file.metadata()?;
    match accept {
        Accept::RegularFile if metadata.is_dir() => return Err(ReadError::Directory),
        Accept::RegularFile if !metadata.is_file() => return Err(ReadError::NotAFile),
        _ => {}
    }
    // Room for all at once: a buffer that grows would leave copies behind.
    let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    let room = if metadata.is_file() { size.min(max_bytes) } else { max_bytes };
    let mut bytes = Zeroizing::new(Vec::with_capacity(room + 1));
    read_to_end(&file, &mut bytes, max_bytes as u64 + 1)?;
    if bytes.len() > max_bytes {
        return Err(ReadError::TooLarge(max_bytes));
    }
    Ok(Contents { bytes, mode: metadata.permissions().mode() & 0o7777 })
}

fn read_to_end(file: &File, bytes: &mut Vec<u8>, max_bytes: u64) -> Result<(), ReadError> {
    let mut reader = file.take(max_bytes);
    loop {
        // A named pipe without a writer would look like an empty file; a poll waits for the first writer.
        match poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&MAX_SILENCE)) {
            Ok(0) => return Err(ReadError::Silent),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(ReadError::Unreadable(error.into())),
        }
        match reader.read_to_end(bytes) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(ReadError::Unreadable(error)),
        }
    }
}

/// Long enough for a command that fetches a secret.
const MAX_SILENCE_SECONDS: i64 = 10;
const MAX_SILENCE: Timespec = Timespec { tv_sec: MAX_SILENCE_SECONDS, tv_nsec: 0 };

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn stream_is_read_to_its_end_across_pauses() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        let writer = std::thread::spawn({
            let pipe = pipe.clone();
            move || {
                let mut pipe = OpenOptions::new().write(true).open(pipe).unwrap();
                for part in ["one ", "two"] {
                    pipe.write_all(part.as_bytes()).unwrap();
                    // Until the reader has taken it, so that it meets an empty pipe.
                    while rustix::io::ioctl_fionread(&pipe).unwrap() > 0 {
                        std::thread::yield_now();
                    }
                }
            }
        });
        let contents = read(&pipe, Accept::Stream, 64).unwrap();
        assert_eq!(contents.text(), Ok("one two"));
        writer.join().unwrap();
    }

    #[test]
    fn endless_device_is_cut_off_at_the_limit() {
        let read = read(Path::new("/dev/zero"), Accept::Stream, 4096).map(|contents| contents.bytes.len());
        assert_eq!(read.unwrap_err().to_string(), "is larger than 4 KiB");
    }

    #[test]
    fn silent_pipe_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for (accept, expected) in [(Accept::RegularFile, "regular file"), (Accept::Stream, "silent for 10 s")]
        {
            let read = read(&pipe, accept, 4096).map(|contents| contents.bytes.len());
            assert!(read.unwrap_err().to_string().contains(expected));
        }
    }
}
