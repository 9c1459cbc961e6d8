//! A thread that reads the disk for request handlers, which must not block. The thread is started
//! with the server, when an error can be reported: later, the system may have none to give.

use std::sync::{Arc, mpsc};

use tokio::sync::{Semaphore, oneshot};

use crate::thread::{self, ThreadError};

type Job = Box<dyn FnOnce() + Send>;

/// A thread that runs one job at a time; dropping its handle ends it.
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
    /// One permit, held by the running job: clients that wait for it, or disconnect, queue no job.
    idle: Arc<Semaphore>,
}

impl Worker {
    /// Starts the worker's thread, named `name`.
    pub(super) fn start(name: &'static str) -> Result<Worker, ThreadError> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let work = move || queue.into_iter().for_each(|job| job());
        thread::start(name, work)?;
        Ok(Worker { jobs, idle: Arc::new(Semaphore::new(1)) })
    }

    /// Runs `work` on the thread after the jobs before it; returns `None` if the thread is gone. The
    /// work is told whether its client still waits, and should end soon if not.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
    ) -> Option<T> {
        let permit = self.idle.clone().acquire_owned().await.ok()?;
        let (done, result) = oneshot::channel();
        let job = move || {
            let result = work(&|| !done.is_closed());
            // The client may have disconnected meanwhile.
            let _ = done.send(result);
            drop(permit);
        };
        self.jobs.send(Box::new(job)).ok()?;
        result.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn jobs_are_done_one_after_the_other_and_none_is_queued_for_a_client_that_left() {
        let worker = Worker::start("worker").unwrap();
        let (go, wait) = mpsc::channel::<()>();
        {
            let mut left = pin!(worker.run(move |_| wait.recv()));
            let mut next = pin!(worker.run(|_| panic!("its client left before its turn")));
            let mut context = Context::from_waker(Waker::noop());
            assert!(left.as_mut().poll(&mut context).is_pending());
            assert!(next.as_mut().poll(&mut context).is_pending());
        }
        go.send(()).unwrap();
        assert_eq!(worker.run(|_| 7).await, Some(7));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_job_is_told_that_its_client_has_left() {
        let worker = Worker::start("worker").unwrap();
        let endless = |is_wanted: &dyn Fn() -> bool| {
            while is_wanted() {
                std::thread::yield_now();
            }
        };
        {
            let mut left = pin!(worker.run(endless));
            assert!(left.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!(worker.run(|is_wanted| is_wanted()).await, Some(true));
    }
}
