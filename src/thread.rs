//! Starts threads, and names what helps where the system gives none.

use std::io;
use std::thread::{Builder, JoinHandle, Scope};

use thiserror::Error;
use tokio::runtime;

/// The system gave no thread of this name.
#[derive(Debug, Error)]
#[error(
    "cannot start the thread '{name}': {source}; end some processes of this user, or allow it more \
     (ulimit -u; in a container, its limit of pids)"
)]
pub struct ThreadError {
    name: &'static str,
    source: io::Error,
}

/// Starts a thread named `name` that does `work`.
pub fn start<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, ThreadError> {
    let thread = Builder::new().name(name.to_owned()).spawn(work);
    thread.map_err(|source| ThreadError { name, source })
}

/// Starts a thread named `name` that does `work`, and ends before `scope` does.
pub fn start_within<'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &'static str,
    work: impl FnOnce() + Send + 'scope,
) -> Result<(), ThreadError> {
    let thread = Builder::new().name(name.to_owned()).spawn_scoped(scope, work);
    thread.map(drop).map_err(|source| ThreadError { name, source })
}

/// A runtime for one thread, which may be dropped anywhere: tokio's own panics if a thread that
/// could not be started drops it within a task of another runtime.
#[derive(Debug)]
pub struct Runtime(Option<runtime::Runtime>);

impl Runtime {
    /// Creates a runtime, which runs on the thread that calls [`Runtime::block_on`].
    pub fn new() -> io::Result<Runtime> {
        Ok(Runtime(Some(runtime::Builder::new_current_thread().enable_all().build()?)))
    }

    /// Runs a future to its end on the calling thread.
    pub fn block_on<F: Future>(&self, work: F) -> F::Output {
        self.inner().block_on(work)
    }

    /// Registers the sockets that the calling thread creates with this runtime, until the guard is dropped.
    pub fn enter(&self) -> runtime::EnterGuard<'_> {
        self.inner().enter()
    }

    fn inner(&self) -> &runtime::Runtime {
        self.0.as_ref().expect("only drop takes the runtime")
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(runtime::Runtime::shutdown_background);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_runtime_may_be_dropped_within_another() {
        drop(Runtime::new().unwrap());
    }

    #[test]
    fn a_thread_that_is_not_given_is_named_with_what_helps() {
        let source = io::ErrorKind::WouldBlock.into();
        let said = ThreadError { name: "archive", source }.to_string();
        assert!(said.contains("'archive'") && said.contains("ulimit -u"), "{said}");
    }
}
