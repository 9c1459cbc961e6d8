//! The file with the keys of a private registry, one a line. Clients sign with the first key.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::cookie::{Key, KeyError};

/// The largest key file that is accepted, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// The reason why a key file cannot be used.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum KeyFileError {
    #[error("cannot read the key file {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the key file {} is {what}, not a regular file", path.display())]
    NotRegular { path: PathBuf, what: &'static str },
    #[error(
        "others can read the key file {} (mode {mode:03o}): close it with chmod 600 {}; where that cannot \
         be done, copy it to a file of mode 600",
        path.display(), path.display()
    )]
    Open { path: PathBuf, mode: u32 },
    #[error(
        "line {line} of the key file {} is no text in UTF-8 (UTF-16, perhaps): save it as UTF-8",
        path.display()
    )]
    Encoding { path: PathBuf, line: usize },
    #[error("{} line {line}: {source}", path.display())]
    Key { path: PathBuf, line: usize, source: KeyError },
    #[error(
        "there is no key in {}: write one of at least 16 bytes into it, two while one replaces \
         the other",
        path.display()
    )]
    Empty { path: PathBuf },
}

/// Reads the keys of a file that only its owner can read. Fails if there is no key, or one shorter
/// than 16 bytes without the white space around it.
pub fn read(path: &Path) -> Result<Vec<Key>, KeyFileError> {
    let read_error = |source| KeyFileError::Read { path: path.to_owned(), source };
    // Without O_NONBLOCK, this waits until someone writes to a pipe.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(read_error)?;
    // Of the open file, not of the path, where another file may be put meanwhile.
    let metadata = file.metadata().map_err(read_error)?;
    if !metadata.is_file() {
        let what = kind(metadata.file_type());
        return Err(KeyFileError::NotRegular { path: path.to_owned(), what });
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open { path: path.to_owned(), mode });
    }
    let bytes = read_bytes(file).map_err(read_error)?;
    let mut keys = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let (path, number) = (path.to_owned(), index + 1);
        let Some(text) = key_text(line) else {
            return Err(KeyFileError::Encoding { path, line: number });
        };
        if !text.is_empty() {
            let key = Key::from_text(text);
            keys.push(key.map_err(|source| KeyFileError::Key { path, line: number, source })?);
        }
    }
    if keys.is_empty() {
        return Err(KeyFileError::Empty { path: path.to_owned() });
    }
    Ok(keys)
}

fn kind(of: FileType) -> &'static str {
    match of {
        of if of.is_dir() => "a folder",
        of if of.is_fifo() => "a pipe",
        _ => "a device",
    }
}

fn read_bytes(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match file.take(MAX_BYTES + 1).read_to_end(&mut bytes)? as u64 > MAX_BYTES {
        true => Err(io::Error::other("it is longer than 64 KiB, which no keys are")),
        false => Ok(bytes),
    }
}

/// Returns a line without a byte order mark, which editors write and nobody sees, and the white
/// space around it; `None` if it is not UTF-8 or has control characters, as UTF-16 has.
fn key_text(line: &[u8]) -> Option<&str> {
    let text = str::from_utf8(line).ok()?.trim_start_matches('\u{feff}').trim();
    (!text.chars().any(|c| c.is_control() && c != '\t')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn file(text: impl AsRef<[u8]>, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn each_line_is_a_key_without_the_space_around_it() {
        let (_dir, path) = file("  correct horse battery \n\nanother key, as long\r\n", 0o600);
        let keys = read(&path).unwrap();
        assert_eq!(keys.len(), 2);
        let same = Key::from_text("correct horse battery").unwrap();
        assert!(keys[0].verify(&same.mac(b"x"), b"x"));
        assert!(!keys[1].verify(&same.mac(b"x"), b"x"));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_key() {
        let plain = Key::from_text("correct horse battery").unwrap();
        for text in [
            "\u{feff}correct horse battery\r\n",
            "\u{feff}\r\n\r\n  correct horse battery\t\r\n\r\n",
            "\n\u{feff}correct horse battery",
        ] {
            let (_dir, path) = file(text, 0o600);
            let keys = read(&path).unwrap();
            assert_eq!((keys.len(), keys[0].mac(b"x")), (1, plain.mac(b"x")), "{text:?}");
        }
        let (_dir, path) = file("\u{feff}\r\n", 0o600);
        assert!(matches!(read(&path), Err(KeyFileError::Empty { .. })));
    }

    #[test]
    fn a_file_in_another_encoding_is_refused() {
        let utf16 = |text: &str, swap: bool| -> Vec<u8> {
            let bytes = |unit: u16| if swap { unit.to_be_bytes() } else { unit.to_le_bytes() };
            text.encode_utf16().flat_map(bytes).collect()
        };
        let key = "correct horse battery\r\n";
        for bytes in [
            utf16(key, false),
            utf16(key, true),
            utf16(key.trim(), false),
            utf16(&format!("\u{feff}{key}"), false),
            utf16(&format!("\u{feff}{key}"), true),
            b"contrase\xf1a de doce letras\n".to_vec(),
            b"correct horse battery\ranother key, as long\r".to_vec(),
        ] {
            let (_dir, path) = file(&bytes, 0o600);
            let error = read(&path).unwrap_err().to_string();
            assert!(error.starts_with("line 1 of the key file"), "{error}");
            assert!(error.ends_with("save it as UTF-8"), "{error}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        for mode in [0o640, 0o604, 0o660] {
            let (_dir, path) = file("correct horse battery", mode);
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
            // A secret of Docker or Kubernetes, or a file on FAT, cannot be closed.
            assert!(error.ends_with("copy it to a file of mode 600"), "{error}");
        }
    }

    #[test]
    fn what_is_no_file_is_named_and_neither_closed_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (path, what) in
            [(dir.path(), "a folder"), (&pipe, "a pipe"), (Path::new("/dev/null"), "a device")]
        {
            let error = read(path).unwrap_err().to_string();
            assert!(error.ends_with(&format!("is {what}, not a regular file")), "{error}");
        }
    }

    #[test]
    fn a_short_key_and_no_key_are_refused() {
        let (_dir, path) = file("correct horse battery\nshort\n", 0o600);
        assert!(
            read(&path).unwrap_err().to_string().contains("line 2: a key is at least 16 bytes")
        );
        let (_dir, path) = file("\n \n", 0o600);
        assert!(matches!(read(&path), Err(KeyFileError::Empty { .. })));
        assert!(matches!(read(Path::new("/nowhere/key")), Err(KeyFileError::Read { .. })));
        let (_dir, path) = file("x".repeat(65 << 10), 0o600);
        assert!(read(&path).unwrap_err().to_string().contains("longer than 64 KiB"));
    }
}
