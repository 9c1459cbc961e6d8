//! Generates manual pages and shell completions from the command-line arguments.

use std::fs;
use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;

/// Returns the completion script for `shell`.
pub(crate) fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "hit7", &mut script);
    script
}

/// Returns the manual page of the program, in roff.
pub(crate) fn manual() -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(without_help()).render(&mut page)?;
    Ok(page)
}

/// Writes the manual pages of the program and of each command into a folder.
pub(crate) fn write_manuals(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(without_help(), dir)
}

/// Returns the clap command for manual pages: without the subcommand `help`, whose page would be
/// empty, and without the program's name in the description, as the section NAME adds that.
fn without_help() -> Command {
    let command = Cli::command().disable_help_subcommand(true);
    command.about("introduces peers one minute at a time")
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn the_script_of_every_shell_has_every_command() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(completions(*shell)).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }

    #[test]
    fn every_command_has_its_manual_page() {
        let dir = tempfile::tempdir().unwrap();
        let man = dir.path().join("man");
        write_manuals(&man).unwrap();
        for command in Cli::command().get_subcommands() {
            let page = man.join(format!("hit7-{}.1", command.get_name()));
            assert!(fs::read_to_string(&page).unwrap().contains(".TH"), "{}", page.display());
        }
        let page = manual().unwrap();
        let name = "hit7 \\- introduces peers one minute at a time";
        assert!(String::from_utf8_lossy(&page).contains(name));
        assert!(fs::read(man.join("hit7.1")).unwrap() == page && !page.is_empty());
    }
}
