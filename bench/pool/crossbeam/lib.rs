// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pool that a Rust programmer would write first: a crossbeam queue of addresses, for pool/crossbeam.c.
use crossbeam_queue::{ArrayQueue, SegQueue};

#[no_mangle]
pub extern "C" fn pool_seg_queue_new() -> *mut SegQueue<usize> {
    Box::into_raw(Box::new(SegQueue::new()))
}

/// # Safety
/// `queue` is of pool_seg_queue_new and not freed; so for the others.
#[no_mangle]
pub unsafe extern "C" fn pool_seg_queue_push(queue: *const SegQueue<usize>, buffer: usize) {
    (*queue).push(buffer);
}

/// 0 when the queue is empty.
#[no_mangle]
pub unsafe extern "C" fn pool_seg_queue_pop(queue: *const SegQueue<usize>) -> usize {
    (*queue).pop().unwrap_or(0)
}

#[no_mangle]
pub unsafe extern "C" fn pool_seg_queue_free(queue: *mut SegQueue<usize>) {
    drop(Box::from_raw(queue));
}

#[no_mangle]
pub extern "C" fn pool_array_queue_new(capacity: usize) -> *mut ArrayQueue<usize> {
    Box::into_raw(Box::new(ArrayQueue::new(capacity)))
}

/// False when the queue is full.
#[no_mangle]
pub unsafe extern "C" fn pool_array_queue_push(queue: *const ArrayQueue<usize>, buffer: usize) -> bool {
    (*queue).push(buffer).is_ok()
}

#[no_mangle]
pub unsafe extern "C" fn pool_array_queue_pop(queue: *const ArrayQueue<usize>) -> usize {
    (*queue).pop().unwrap_or(0)
}

#[no_mangle]
pub unsafe extern "C" fn pool_array_queue_free(queue: *mut ArrayQueue<usize>) {
    drop(Box::from_raw(queue));
}
