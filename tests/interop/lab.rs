//! A lab: a temporary directory, running programs and addresses for them; everything is removed when it is
//! dropped.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Time limit of every wait.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Environment of one test.
pub struct Lab {
    dir: tempfile::TempDir,
    kids: RefCell<Vec<Child>>,
    names: Cell<u32>,
    has_addresses: bool,
}

/// Two addresses that are added to this machine while a lab exists, which needs root. Transmission accepts
/// one peer per address, so it needs an address of its own; libtorrent connects only within its own network.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 77, 1), Ipv4Addr::new(10, 77, 77, 2)];

/// A program that runs in a lab.
#[derive(Clone, Copy)]
pub struct Kid<'a> {
    lab: &'a Lab,
    index: usize,
}

impl Lab {
    /// Returns an empty lab. Its directory is on a disk, because a tmpfs would use memory.
    pub fn new() -> Lab {
        let mut lab = Lab::on_loopback();
        addresses("add");
        lab.has_addresses = true;
        lab
    }

    /// Returns a lab in which every client has an address 127.x.y.z.
    pub fn on_loopback() -> Lab {
        let dir = tempfile::Builder::new().prefix("rill-interop-").tempdir_in(std::env::temp_dir()).unwrap();
        // opentracker drops root before it reads its list, so the directory must be readable.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Lab { dir, kids: RefCell::default(), names: Cell::new(0), has_addresses: false }
    }

    /// Returns a path in the lab.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Creates an empty directory whose name begins with `name`.
    pub fn new_dir(&self, name: &str) -> PathBuf {
        self.names.set(self.names.get() + 1);
        let path = self.at(format!("{name}-{}", self.names.get()));
        fs::create_dir(&path).unwrap();
        path
    }

    /// Starts a program. Its output goes to a file, which [`Lab::words`] reads.
    pub fn start(&self, command: &mut Command) -> Kid<'_> {
        for variable in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(variable);
        }
        let index = self.kids.borrow().len();
        let log = File::create(self.at(format!("log-{index}"))).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        self.kids.borrow_mut().push(child);
        Kid { lab: self, index }
    }

    /// Returns the last output of every program, for a failing test.
    pub fn words(&self) -> String {
        (0..self.kids.borrow().len()).map(|i| format!("program {i}:\n{}", self.last_words(i))).collect()
    }

    fn last_words(&self, index: usize) -> String {
        let said = fs::read(self.at(format!("log-{index}"))).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        // Some programs redraw a line, so the output is cut.
        let lines: Vec<&str> =
            said.split(['\r', '\n']).map(str::trim).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(12)..].iter().map(|line| format!("    {line:.200}\n")).collect()
    }

    /// Waits until `done` returns true.
    pub fn wait_for(&self, what: &str, mut done: impl FnMut() -> bool) {
        self.wait_up_to(PATIENCE, what, &mut done);
    }

    /// Waits until `done` returns true. Panics after `patience`.
    pub fn wait_up_to(&self, patience: Duration, what: &str, done: &mut dyn FnMut() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < patience, "not within {patience:?}: {what}\n{}", self.words());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in self.kids.get_mut() {
            signal(child, "KILL");
            let _ = child.wait();
        }
        if self.has_addresses {
            addresses("del");
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn addresses(what: &str) {
    for address in ADDRESSES.iter().filter(|_| is_root()) {
        // A failure shows at the next bind.
        let _ = Command::new("ip")
            .args(["addr", what, &format!("{address}/24"), "dev", "lo"])
            .stderr(Stdio::null())
            .status();
    }
}

impl Kid<'_> {
    fn child<T>(&self, f: impl FnOnce(&mut Child) -> T) -> T {
        f(&mut self.lab.kids.borrow_mut()[self.index])
    }

    /// Returns the exit status if the program has ended.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child(|child| child.try_wait().unwrap())
    }

    /// Waits for the program's end. Returns its exit code, or -1 if a signal killed it.
    pub fn code(&self) -> i32 {
        self.code_within(PATIENCE)
    }

    /// Waits at most `patience` for the program's end. Returns its exit code.
    pub fn code_within(&self, patience: Duration) -> i32 {
        let mut status = None;
        self.lab.wait_up_to(patience, &format!("program {} ends", self.index), &mut || {
            status = self.ended();
            status.is_some()
        });
        status.and_then(|s| s.code()).unwrap_or(-1)
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child(|child| child.id())
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        self.child(|child| signal(child, name));
    }

    /// Kills the program and waits for its end.
    pub fn kill(&self) {
        self.signal("KILL");
        self.child(|child| child.wait().unwrap());
    }

    /// Returns the program's output so far.
    pub fn words(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.lab.at(format!("log-{}", self.index))).unwrap()).into_owned()
    }
}

/// Sends a signal to the child's process group. Errors are ignored, because the group may have ended.
fn signal(child: &mut Child, name: &str) {
    if matches!(child.try_wait(), Ok(None)) {
        let group = format!("-{}", child.id());
        let _ = Command::new("kill").args(["-s", name, "--", &group]).stderr(Stdio::null()).status();
    }
}

/// Returns the address of every client but Transmission. It is 127.0.0.1 only if there is no other, because
/// some clients accept no peer there.
pub fn host() -> IpAddr {
    if is_root() {
        return ADDRESSES[0].into();
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    // Connecting a UDP socket sends nothing; it makes the kernel choose a route and with it the local
    // address.
    let address = socket.connect((Ipv4Addr::new(203, 0, 113, 1), 9)).and_then(|()| socket.local_addr());
    address.map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

/// Returns Transmission's address.
pub fn other_host() -> IpAddr {
    ADDRESSES[1].into()
}

/// Returns a free port for TCP and UDP, below the kernel's range for outgoing connections.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let port = 20_000
            + (std::process::id() as u16).wrapping_mul(7).wrapping_add(NEXT.fetch_add(1, Relaxed)) % 10_000;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
            && UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
        {
            return port;
        }
    }
}

/// Returns whether all programs are installed. If not, prints the missing ones, and panics under `CI=true`.
pub fn have(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|p| !installed(p)).collect();
    if !missing.is_empty() {
        let word = format!("skipped, not installed: {}", missing.join(", "));
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{word}");
        eprintln!("{word}");
    }
    missing.is_empty()
}

fn installed(program: &str) -> bool {
    if program == "transmission-cli" && !is_root() {
        return false; // Transmission needs an address of its own
    }
    if program == "libtorrent" {
        let import = Command::new("python3").args(["-c", "import libtorrent"]).stderr(Stdio::null()).status();
        return import.is_ok_and(|status| status.success());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Ends the test early if a program is missing.
#[macro_export]
macro_rules! need {
    ($($program:expr),+) => {
        if !$crate::lab::have(&[$($program),+]) {
            return;
        }
    };
}
