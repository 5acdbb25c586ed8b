//! Holds a pod's namespaces and, as process 1 of a shared pid namespace, reaps what containers leave behind.

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;
const WNOHANG: i32 = 1;

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    fn pause() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn _exit(code: i32) -> !;
}

extern "C" fn stop(_: i32) {
    // SAFETY: _exit is safe to call in a signal handler.
    unsafe { _exit(0) }
}

extern "C" fn reap(_: i32) {
    // SAFETY: waitpid is safe to call in a signal handler, and may be told to drop the status.
    while unsafe { waitpid(-1, std::ptr::null_mut(), WNOHANG) } > 0 {}
}

fn main() {
    // SAFETY: both handlers call nothing that is not safe in one.
    unsafe {
        signal(SIGINT, stop);
        signal(SIGTERM, stop);
        signal(SIGCHLD, reap);
    }
    loop {
        // SAFETY: pause takes nothing and returns after a handler ran.
        unsafe { pause() };
    }
}
