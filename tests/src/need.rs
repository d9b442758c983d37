//! Programs that a test needs: found, installed, or named as missing.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Debian's package for each program that the tests use.
const PACKAGES: &[(&str, &str)] = &[
    ("swaks", "swaks"),
    ("curl", "curl"),
    ("msmtp", "msmtp"),
    ("nsd", "nsd"),
    ("postfix", "postfix"),
    ("smtp-sink", "postfix"),
    ("smtp-source", "postfix"),
    ("python3", "python3"),
    ("python3-venv", "python3-venv"),
    ("strace", "strace"),
    ("valgrind", "valgrind"),
    ("faketime", "faketime"),
    ("zstd", "zstd"),
    ("opendkim", "opendkim"),
    ("openssl", "openssl"),
    ("unbound", "unbound"),
    ("ldns-signzone", "ldnsutils"),
    ("ldns-keygen", "ldnsutils"),
    ("gnutls-cli", "gnutls-bin"),
    ("mkfs.ext4", "e2fsprogs"),
    ("setpriv", "util-linux"),
    ("gsasl", "gsasl"),
    ("saslpasswd2", "sasl2-bin"),
    ("argon2", "argon2"),
];

static KNOWN: Mutex<Option<HashMap<String, bool>>> = Mutex::new(None);

/// Where `program` is, if it is installed.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into(), "/usr/local/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// True when every program is there, after installing what can be installed. Otherwise prints
/// `skipped: needs X`, and the test returns.
#[must_use]
pub fn need(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|p| !available(p)).collect();
    if missing.is_empty() {
        return true;
    }
    skip(&missing.join(", "));
    false
}

/// Says that a test is skipped because `what` is missing; seen although the test passes. With
/// `COURSER_SKIP=fail` it doesn't: that shows that every test ran.
///
/// # Panics
/// When nothing may be skipped.
pub fn skip(what: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let may = std::env::var_os("COURSER_SKIP").is_none_or(|v| v != "fail");
    assert!(may, "{test} needs {what}, and COURSER_SKIP=fail");
    crate::say(&format!("{test} skipped: needs {what}\n"));
}

/// A Python with these packages of PyPI, in an environment of its own under the target directory.
/// Where it can't be had, prints `skipped: needs X`.
///
/// # Panics
/// When a test doesn't know its own program.
#[must_use]
pub fn python(packages: &[&str]) -> Option<PathBuf> {
    if !need(&["python3"]) {
        return None;
    }
    let python = environment(packages);
    if python.is_none() {
        skip(&packages.join(", "));
    }
    python
}

/// One at a time over all test processes.
fn environment(packages: &[&str]) -> Option<PathBuf> {
    let test = std::env::current_exe().expect("a test knows its program");
    // target/<profile>/deps/<test>
    let name: String = packages
        .join("_")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let folder = test.ancestors().nth(3)?.join("python").join(name);
    std::fs::create_dir_all(folder.parent()?).ok()?;
    let lock = File::create(folder.with_extension("lock")).ok()?;
    // SAFETY: the descriptor is open as long as `lock`.
    unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) };
    let (python, whole) = (folder.join("bin/python"), folder.join("whole"));
    if whole.is_file() {
        return Some(python);
    }
    let quiet = |command: &mut Command| {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    // Debian keeps venv's parts in a package of their own.
    let venv = || {
        quiet(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&folder),
        )
    };
    let _ = venv() || (install("python3-venv") && venv());
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    let there = quiet(Command::new(&python).args(pip).args(packages));
    (there && std::fs::write(whole, "").is_ok()).then_some(python)
}

fn available(program: &str) -> bool {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_with(HashMap::new);
    if let Some(&there) = known.get(program) {
        return there;
    }
    let there = find(program).is_some() || (install(program) && find(program).is_some());
    known.insert(program.to_owned(), there);
    there
}

/// One apt at a time over all test processes; `false` where we are not root or apt fails.
fn install(program: &str) -> bool {
    if !may_install() {
        return false;
    }
    let Some(&(_, package)) = PACKAGES.iter().find(|(p, _)| *p == program) else {
        return false;
    };
    install_package(package, || find(program).is_some())
}

/// Whether perl has `module`, after installing Debian's `package` where that may be; otherwise
/// prints `skipped: needs X`.
#[must_use]
pub fn perl_module(module: &str, package: &str) -> bool {
    let there = || {
        let mut perl = Command::new("perl");
        let asked = perl.arg(format!("-M{module}")).args(["-e", "1"]);
        asked
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    let found = there() || (may_install() && install_package(package, there) && there());
    if !found {
        skip(package);
    }
    found
}

/// Whether Cyrus SASL has the plug-in `name`, after installing Debian's `package` where that may be;
/// otherwise prints `skipped: needs X`.
#[must_use]
pub fn sasl_plugin(name: &str, package: &str) -> bool {
    let there = || {
        let all = std::fs::read_dir("/usr/lib")
            .into_iter()
            .flatten()
            .flatten();
        all.map(|folder| folder.path().join("sasl2").join(name))
            .any(|file| file.is_file())
    };
    let found = there() || (may_install() && install_package(package, there) && there());
    if !found {
        skip(package);
    }
    found
}

fn may_install() -> bool {
    // SAFETY: geteuid only reads.
    unsafe { libc::geteuid() == 0 && find("apt-get").is_some() }
}

/// Installs a package unless `there` says that meanwhile another test did.
fn install_package(package: &str, there: impl Fn() -> bool) -> bool {
    let Ok(lock) = File::create(std::env::temp_dir().join("courser-tests-apt.lock")) else {
        return false;
    };
    // SAFETY: the descriptor is open as long as `lock`.
    unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) };
    if there() {
        return true;
    }
    if package == "postfix" {
        // Without a configuration Debian's package starts no mail server of its own.
        let _ = Command::new("sh")
            .args(["-c", "echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections"])
            .status();
    }
    let apt = |words: &[&str]| {
        Command::new("apt-get")
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    let install = ["install", "-y", "--no-install-recommends", package];
    apt(&install) || (apt(&["update"]) && apt(&install))
}
