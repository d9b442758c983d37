//! Single operations of io_uring on a socket, each one submission and one completion.
//!
//! tokio-uring's own sockets can't bind before they connect and copy more than they need to, so
//! the operations are built here on its public one-shot type.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use bytes::Bytes;
use io_uring::{cqueue, opcode, squeue, types};
use socket2::SockAddr;
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, UnsubmittedOneshot};

/// A descriptor that lives as long as anyone, the kernel included, uses it.
pub(super) type SharedFd = Rc<OwnedFd>;

fn result(cqe: &cqueue::Entry) -> io::Result<usize> {
    usize::try_from(cqe.result()).map_err(|_| io::Error::from_raw_os_error(-cqe.result()))
}

fn submit<D, T>(data: D, transform: T, sqe: squeue::Entry) -> InFlightOneshot<D, T>
where
    T: OneshotOutputTransform<StoredData = D>,
{
    UnsubmittedOneshot::new(data, transform, sqe).submit()
}

/// A receive under way; resolves to the buffer with what arrived appended.
pub type Receive = InFlightOneshot<ReceiveData, ReceiveDone>;

/// What the kernel holds during a receive.
pub struct ReceiveData {
    buf: Vec<u8>,
    _fd: SharedFd,
}

/// How a receive ends.
pub struct ReceiveDone;

impl OneshotOutputTransform for ReceiveDone {
    type Output = (io::Result<usize>, Vec<u8>);
    type StoredData = ReceiveData;

    fn transform_oneshot_output(self, mut data: ReceiveData, cqe: cqueue::Entry) -> Self::Output {
        let n = result(&cqe);
        if let Ok(n) = n {
            let len = data.buf.len() + n;
            debug_assert!(len <= data.buf.capacity());
            // SAFETY: the kernel wrote `n` bytes behind the old length, within the capacity that
            // it was given.
            unsafe { data.buf.set_len(len) };
        }
        (n, data.buf)
    }
}

/// Receives into the spare capacity of `buf`; zero bytes is the end of the stream.
pub(super) fn receive(fd: &SharedFd, mut buf: Vec<u8>) -> Receive {
    let spare = buf.spare_capacity_mut();
    debug_assert!(
        !spare.is_empty(),
        "a receive into nothing looks like the end of the stream"
    );
    let sqe = opcode::Recv::new(
        types::Fd(fd.as_raw_fd()),
        spare.as_mut_ptr().cast(),
        u32::try_from(spare.len()).unwrap_or(u32::MAX),
    )
    .build();
    submit(
        ReceiveData {
            buf,
            _fd: fd.clone(),
        },
        ReceiveDone,
        sqe,
    )
}

/// A vectored send under way; resolves to the bytes sent and the parts.
pub type Send = InFlightOneshot<SendData, SendDone>;

/// What the kernel holds during a send.
pub struct SendData {
    parts: Vec<Bytes>,
    // The kernel reads these while the send is under way; they point into `parts` and at one
    // another, so neither moves.
    _iov: Vec<libc::iovec>,
    _header: Box<libc::msghdr>,
    _fd: SharedFd,
}

/// How a send ends.
pub struct SendDone;

impl OneshotOutputTransform for SendDone {
    type Output = (io::Result<usize>, Vec<Bytes>);
    type StoredData = SendData;

    fn transform_oneshot_output(self, data: SendData, cqe: cqueue::Entry) -> Self::Output {
        (result(&cqe), data.parts)
    }
}

/// The most parts that one send takes (`UIO_MAXIOV`).
pub const SEND_PARTS_MAX: usize = 1024;

/// Sends all of `parts` (at most [`SEND_PARTS_MAX`]) in one operation; the kernel itself goes on
/// after a partial send (`MSG_WAITALL`), but older ones may still come back short.
pub(super) fn send(fd: &SharedFd, parts: Vec<Bytes>) -> Send {
    debug_assert!(parts.len() <= SEND_PARTS_MAX);
    let mut iov: Vec<libc::iovec> = parts
        .iter()
        .map(|p| libc::iovec {
            iov_base: p.as_ptr() as *mut libc::c_void,
            iov_len: p.len(),
        })
        .collect();
    // SAFETY: all zeroes is a valid msghdr: no name, no parts, no control data.
    let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
    header.msg_iov = iov.as_mut_ptr();
    header.msg_iovlen = iov.len();
    let sqe = opcode::SendMsg::new(types::Fd(fd.as_raw_fd()), &*header)
        .flags((libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32)
        .build();
    submit(
        SendData {
            parts,
            _iov: iov,
            _header: header,
            _fd: fd.clone(),
        },
        SendDone,
        sqe,
    )
}

/// A connect under way.
pub(super) type Connect = InFlightOneshot<ConnectData, ConnectDone>;

/// What the kernel holds during a connect.
pub(super) struct ConnectData {
    _address: Box<SockAddr>,
    _fd: SharedFd,
}

/// How a connect ends.
pub(super) struct ConnectDone;

impl OneshotOutputTransform for ConnectDone {
    type Output = io::Result<()>;
    type StoredData = ConnectData;

    fn transform_oneshot_output(self, _: ConnectData, cqe: cqueue::Entry) -> Self::Output {
        result(&cqe).map(|_| ())
    }
}

/// Connects.
pub(super) fn connect(fd: &SharedFd, to: SocketAddr) -> Connect {
    let address = Box::new(SockAddr::from(to));
    let sqe = opcode::Connect::new(
        types::Fd(fd.as_raw_fd()),
        address.as_ptr().cast(),
        address.len(),
    )
    .build();
    submit(
        ConnectData {
            _address: address,
            _fd: fd.clone(),
        },
        ConnectDone,
        sqe,
    )
}

/// An accept under way.
pub(super) type Accept = InFlightOneshot<AcceptData, AcceptDone>;

/// What the kernel holds during an accept.
pub(super) struct AcceptData {
    _fd: SharedFd,
}

/// How an accept ends.
pub(super) struct AcceptDone;

impl OneshotOutputTransform for AcceptDone {
    type Output = io::Result<OwnedFd>;
    type StoredData = AcceptData;

    fn transform_oneshot_output(self, _: AcceptData, cqe: cqueue::Entry) -> Self::Output {
        let fd = result(&cqe)?;
        // SAFETY: the kernel made this descriptor for us, and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
    }
}

/// Accepts one connection. Never under a time-out: an abandoned accept takes the next connection.
pub(super) fn accept(fd: &SharedFd) -> Accept {
    let sqe = opcode::Accept::new(
        types::Fd(fd.as_raw_fd()),
        std::ptr::null_mut(),
        std::ptr::null_mut(),
    )
    .flags(libc::SOCK_CLOEXEC)
    .build();
    submit(AcceptData { _fd: fd.clone() }, AcceptDone, sqe)
}
