//! As whom the server runs: as us, or, when we are root, as someone else.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::Spec;

use super::Error;

/// Who may run a server when we are root, in the order of preference.
const STAND_INS: [&str; 2] = ["postgres", "nobody"];

/// How the server's programs are started.
#[derive(Debug, Clone)]
pub(super) struct Account {
    /// The other user's uid and gid; `None` to run as ourselves.
    ids: Option<(u32, u32)>,
    /// A `setpriv` that can send a signal at the parent's death.
    setpriv: Option<PathBuf>,
}

impl Account {
    /// # Errors
    /// [`Error::NoAccount`] when we are root and there is nobody else.
    pub(super) fn detect() -> Result<Self, Error> {
        let ids = if rustix::process::geteuid().is_root() {
            let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
            Some(STAND_INS.iter().find_map(|name| ids_of(&passwd, name)).ok_or(Error::NoAccount)?)
        } else {
            None
        };
        Ok(Self { ids, setpriv: find_setpriv() })
    }

    /// Gives a file or directory to the one who runs the server.
    pub(super) fn own(&self, path: &Path) -> Result<(), Error> {
        let Some((uid, gid)) = self.ids else { return Ok(()) };
        chown(path, Some(uid), Some(gid)).map_err(|source| Error::Io {
            action: "give the server's user",
            path: path.to_owned(),
            source,
        })
    }

    /// A child of that user; with `setpriv`, one that gets SIGINT (a fast stop) from the kernel when we die.
    pub(super) fn spec(&self, name: &str, program: &Path, dir: &Path) -> Spec {
        let spec = match (&self.setpriv, self.ids) {
            (Some(setpriv), ids) => {
                let spec = Spec::new(name, setpriv).args(["--pdeathsig", "INT"]);
                let spec = match ids {
                    Some((uid, gid)) => {
                        spec.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg("--clear-groups")
                    }
                    None => spec,
                };
                spec.arg("--").arg(program)
            }
            (None, Some((uid, gid))) => Spec::new(name, program).ids(uid, gid),
            (None, None) => Spec::new(name, program),
        };
        // The server writes its messages in the language of its environment, and we read them.
        spec.current_dir(dir).env("LC_ALL", "C").env("TZ", "UTC")
    }
}

/// uid and gid of a user, from the text of a passwd file; root's own are no use.
pub(super) fn ids_of(passwd: &str, user: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != user {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0).then_some((uid, gid))
    })
}

/// The `setpriv` of util-linux; BusyBox has one of that name that knows neither option.
fn find_setpriv() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let program = std::env::split_paths(&path).map(|dir| dir.join("setpriv")).find(|file| file.is_file())?;
    let help = Command::new(&program).arg("--help").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&help.stdout);
    (text.contains("--pdeathsig") && text.contains("--clear-groups")).then_some(program)
}
