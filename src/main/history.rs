//! `hit7 history`: prints the documents of past windows.

use hit7::archive::{Archive, Document, ReadError};
use hit7::store::Disk;
use hit7::view;

use super::Failure;
use super::show::{print_line, print_lines, print_message};
use crate::cli;

pub(crate) fn history(args: &cli::History) -> Result<(), Failure> {
    if !args.data.is_dir() {
        let data = view::escape_controls(&args.data.display().to_string());
        return Err(Failure::Message(format!("no folder {data}; name the registry's with --data")));
    }
    let archive = Archive::new(Disk, args.data.join("windows"));
    if let Some(window) = args.window {
        let document = archive.read(window)?;
        return match args.json {
            true => print_lines([view::document_json(&document)]),
            false => print_lines(view::document_lines(&document)),
        };
    }
    show_windows(&archive, if args.json { view::history_json } else { view::history_line })
}

/// Prints a line for each window on disk. A document that cannot be read is reported and skipped,
/// and fails the command at the end.
fn show_windows(archive: &Archive, line: fn(&Document) -> String) -> Result<(), Failure> {
    let mut failed: Option<ReadError> = None;
    for listed in archive.windows()? {
        match archive.read(listed.window) {
            Ok(document) => print_line(&line(&document))?,
            // A running registry has removed this document meanwhile.
            Err(ReadError::Missing { .. }) => {}
            Err(error) => {
                let earlier = failed.replace(error);
                earlier.iter().for_each(|error| print_message(&error.to_string()));
            }
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}
