//! Calls of sockets and of the event loop.

use super::*;

export! {
    fn socket(domain: c_int, sort: c_int, protocol: c_int) -> c_int {
        opened(intercept_plain(Kind::socket, || unsafe { real!(socket(c_int, c_int, c_int) -> c_int)(domain, sort, protocol) }), SOCKET)
    }
    fn bind(fd: c_int, address: *const c_void, len: c_uint) -> c_int {
        intercept_plain(Kind::bind, || unsafe { real!(bind(c_int, *const c_void, c_uint) -> c_int)(fd, address, len) })
    }
    fn listen(fd: c_int, backlog: c_int) -> c_int {
        intercept_plain(Kind::listen, || unsafe { real!(listen(c_int, c_int) -> c_int)(fd, backlog) })
    }
    fn connect(fd: c_int, address: *const c_void, len: c_uint) -> c_int {
        intercept_plain(Kind::connect, || unsafe { real!(connect(c_int, *const c_void, c_uint) -> c_int)(fd, address, len) })
    }
    fn accept4(fd: c_int, address: *mut c_void, len: *mut c_uint, flags: c_int) -> c_int {
        let call = || unsafe { real!(accept4(c_int, *mut c_void, *mut c_uint, c_int) -> c_int)(fd, address, len, flags) };
        opened(intercept_plain(Kind::accept, call), SOCKET)
    }
    fn epoll_create1(flags: c_int) -> c_int {
        intercept_plain(Kind::epoll_create, || unsafe { real!(epoll_create1(c_int) -> c_int)(flags) })
    }
    fn epoll_ctl(fd: c_int, what: c_int, of: c_int, event: *mut c_void) -> c_int {
        intercept_plain(Kind::epoll_ctl, || unsafe { real!(epoll_ctl(c_int, c_int, c_int, *mut c_void) -> c_int)(fd, what, of, event) })
    }
    fn epoll_wait(fd: c_int, events: *mut c_void, most: c_int, timeout: c_int) -> c_int {
        let call = || unsafe { real!(epoll_wait(c_int, *mut c_void, c_int, c_int) -> c_int)(fd, events, most, timeout) };
        intercept_plain(Kind::epoll_wait, call)
    }
    fn eventfd(value: c_uint, flags: c_int) -> c_int {
        intercept_plain(Kind::eventfd, || unsafe { real!(eventfd(c_uint, c_int) -> c_int)(value, flags) })
    }
    fn recv(fd: c_int, into: *mut c_void, len: usize, flags: c_int) -> isize {
        let call = |len| unsafe { real!(recv(c_int, *mut c_void, usize, c_int) -> isize)(fd, into, len, flags) };
        if class(fd) == SOCKET { intercept(Kind::recv, len, call) } else { call(len) }
    }
    fn readv(fd: c_int, parts: *const iovec, count: c_int) -> isize {
        let real = real!(readv(c_int, *const iovec, c_int) -> isize);
        if class(fd) != SOCKET || count < 1 || count > 2 {
            return unsafe { real(fd, parts, count) };
        }
        let given = unsafe { std::slice::from_raw_parts(parts, count as usize) };
        let window = is_window(given[0].base as usize);
        let begin = moment();
        let all = given.iter().map(|p| p.len).sum();
        let n = intercept(if window { Kind::window } else { Kind::readv }, all, |len| {
            let mut few = [given[0], given[given.len() - 1]];
            few[0].len = few[0].len.min(len);
            few[1].len = few[1].len.min(len - few[0].len);
            unsafe { real(fd, few.as_ptr(), count) }
        });
        if window && n > 0 {
            let landed = (n as usize).min(given[0].len);
            note(Entry::Land, begin, [given[0].base as i64, 0, 0], &given[..1], landed);
        }
        n
    }
    fn writev(fd: c_int, parts: *const iovec, count: c_int) -> isize {
        let real = real!(writev(c_int, *const iovec, c_int) -> isize);
        if class(fd) != SOCKET {
            return unsafe { real(fd, parts, count) };
        }
        match fate(Kind::writev) {
            Fate::Pass => unsafe { real(fd, parts, count) },
            Fate::Fail(errno) => fail(errno),
            Fate::Short(most) => {
                let first = unsafe { *parts };
                let few = iovec { base: first.base, len: first.len.min(most) };
                unsafe { real(fd, if few.len > 0 { &few } else { null() }, c_int::from(few.len > 0)) }
            }
        }
    }
}
