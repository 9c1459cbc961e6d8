//! The file with the keys of a private registry, one a line. Clients sign with the first key.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::cookie::{Key, KeyError};

/// The largest key file that is accepted, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// The reason why a key file cannot be used.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum KeyFileError {
    #[error("cannot read the key file {}: {source}; give another --key-file", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "others can read the key file {} (mode {mode:03o}): close it with chmod 600 {}",
        path.display(), path.display()
    )]
    Open { path: PathBuf, mode: u32 },
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
    // The mode of the open file, not of the path, where another file may be put meanwhile.
    let file = File::open(path).map_err(read_error)?;
    let mode = file.metadata().map_err(read_error)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open { path: path.to_owned(), mode });
    }
    let text = read_text(file).map_err(read_error)?;
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
    let parse = |(index, text): (usize, &str)| {
        let (path, line) = (path.to_owned(), index + 1);
        Key::from_text(text).map_err(|source| KeyFileError::Key { path, line, source })
    };
    let keys = lines.map(parse).collect::<Result<Vec<Key>, KeyFileError>>()?;
    if keys.is_empty() {
        return Err(KeyFileError::Empty { path: path.to_owned() });
    }
    Ok(keys)
}

fn read_text(file: File) -> io::Result<String> {
    let mut text = String::new();
    match file.take(MAX_BYTES + 1).read_to_string(&mut text)? as u64 > MAX_BYTES {
        true => Err(io::Error::other("it is longer than 64 KiB, which no keys are")),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
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
    fn a_file_that_others_can_read_is_refused() {
        for mode in [0o640, 0o604, 0o660] {
            let (_dir, path) = file("correct horse battery", mode);
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
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
        let (_dir, path) = file(&"x".repeat(65 << 10), 0o600);
        assert!(read(&path).unwrap_err().to_string().contains("longer than 64 KiB"));
    }
}
