//! Names the environment variable that a value came from, wherever an error names its flag.

use std::env;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Error, Parser};

use super::Cli;

/// Parses the command line; what is to be printed instead, as for `--help`, is an error too.
pub(crate) fn parse() -> Result<Cli, Error> {
    Cli::try_parse().map_err(with_variable)
}

/// Adds to the error about a value which variable that came from, if it came from one.
fn with_variable(mut error: Error) -> Error {
    let variables = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) => flags(arg).filter_map(variable).collect(),
        _ if error.kind() == ErrorKind::InvalidUtf8 => not_utf8(),
        _ => Vec::new(),
    };
    if !variables.is_empty() {
        let tip = format!("the value is that of {} in the environment", variables.join(", "));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// Adds to a message which of the flags that it names have their values from variables.
pub(crate) fn explained(message: &str) -> String {
    let mut named: Vec<(&str, String)> = Vec::new();
    for flag in flags(message) {
        if let Some(variable) = variable(flag).filter(|it| named.iter().all(|(_, of)| of != it)) {
            named.push((flag, variable));
        }
    }
    let notes = named.iter().map(|(flag, variable)| format!("; --{flag} is from {variable}"));
    message.to_owned() + &notes.collect::<String>()
}

/// Returns the flags that `text` names, without their hyphens: `key-file` for `--key-file <FILE>`.
fn flags(text: &str) -> impl Iterator<Item = &str> {
    let end = |c: char| !c.is_ascii_lowercase() && c != '-';
    text.split("--").skip(1).filter_map(move |rest| rest.split(end).next())
}

/// Returns the variable that a flag has its value from; `None` if the flag is on the command line,
/// or has a default.
fn variable(flag: &str) -> Option<String> {
    let name = format!("HIT7_{}", flag.to_uppercase().replace('-', "_"));
    let is_it =
        |arg: &str| arg.strip_prefix("--").is_some_and(|it| it.split('=').next() == Some(flag));
    let is_given = env::args_os().any(|arg| is_it(&arg.to_string_lossy()));
    (!is_given && env::var_os(&name).is_some()).then_some(name)
}

/// Returns the variables of hit7 whose values are no text in UTF-8.
fn not_utf8() -> Vec<String> {
    let all = env::vars_os().filter(|(_, value)| value.to_str().is_none());
    let names = all.filter_map(|(name, _)| name.into_string().ok());
    names.filter(|name| name.starts_with("HIT7_")).collect()
}
