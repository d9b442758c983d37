//! Links courser-core into a program without std and runs a little of it.
#![no_std]
#![no_main]

use core::panic::PanicInfo;
use courser_core::smtp::command::Command;
use courser_core::smtp::data::Unstuffer;
use courser_core::smtp::reply::ReplyReader;

/// With std in the program this is a second one, and an error.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

// The C library starts the program and has memcpy and its like.
#[link(name = "c")]
unsafe extern "C" {}

// The host's `core` was built to unwind and names these; nothing here ever calls them.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    loop {}
}

/// Exit code 0 if the core did its work.
#[unsafe(no_mangle)]
extern "C" fn main(_: i32, _: *const *const u8) -> i32 {
    i32::from(!smtp_works() || !heap_works())
}

fn smtp_works() -> bool {
    let mut out = [0; 128];
    let line = b"MAIL FROM:<a@example.org> SIZE=1000";
    let written = Command::parse(line).map(|command| command.emit(&mut out));
    let mut reader = ReplyReader::new();
    let mut body = Unstuffer::new();
    let data = body.push(b"..dot\r\n").map(|part| part.body == b".dot\r\n");
    written == Ok(Ok(line.len() + 2))
        && reader.push(b"250 2.0.0 ok\r\n").is_ok()
        && reader.reply().is_some_and(|reply| reply.text == b"ok")
        && data == Ok(true)
}

#[cfg(not(feature = "alloc"))]
fn heap_works() -> bool {
    true
}

#[cfg(feature = "alloc")]
use heap::works as heap_works;

#[cfg(feature = "alloc")]
mod heap {
    extern crate alloc;

    use core::alloc::{GlobalAlloc, Layout};
    use core::ptr::null_mut;
    use core::sync::atomic::{AtomicUsize, Ordering};

    const HEAP_BYTES: usize = 1 << 16;

    #[repr(align(64))]
    struct Heap([u8; HEAP_BYTES]);
    static mut HEAP: Heap = Heap([0; HEAP_BYTES]);

    /// Gives memory out once and never takes it back.
    struct Bump(AtomicUsize);

    // SAFETY: every call hands out another, aligned part of the heap, or null.
    unsafe impl GlobalAlloc for Bump {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let room = layout.size() + layout.align();
            let start = self.0.fetch_add(room, Ordering::Relaxed);
            if start.saturating_add(room) > HEAP_BYTES {
                return null_mut();
            }
            let base = unsafe { &raw mut HEAP.0 }.cast::<u8>();
            let aligned = base.wrapping_add(start).align_offset(layout.align());
            base.wrapping_add(start + aligned)
        }
        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
    }

    #[global_allocator]
    static ALLOCATOR: Bump = Bump(AtomicUsize::new(0));

    pub(crate) fn works() -> bool {
        let mut numbers = alloc::vec::Vec::new();
        numbers.extend(0..100);
        numbers.iter().sum::<i32>() == 4950
    }
}
