//! A task runner for tests.

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::tasks::Tasks;

/// Runs tasks until it is dropped.
#[derive(Default)]
pub struct TestTasks {
    running: Mutex<Vec<JoinHandle<()>>>,
}

impl Tasks for TestTasks {
    #[allow(clippy::disallowed_methods, reason = "this is the supervisor of tests")]
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        self.running.lock().push(tokio::spawn(task));
    }
}

impl Drop for TestTasks {
    fn drop(&mut self) {
        for task in self.running.lock().drain(..) {
            task.abort();
        }
    }
}
