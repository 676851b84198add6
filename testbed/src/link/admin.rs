//! The link's admin routes, and their client: `GET /counts`, `GET /status`, `POST /profile`, `/cut`, `/pause`,
//! `/restore`. The changing ones answer with the new status.

use std::net::SocketAddr;

use http::Method;

use super::counts::Counts;
use super::proxy::{Link, Status};
use super::{Profile, ProfileError};
use crate::httpd::{Admin, AdminClient, AdminError, Answer};

impl Admin for Link {
    fn handle(&self, method: &Method, path: &str, body: &[u8]) -> Answer {
        match (method.as_str(), path) {
            ("GET", "/counts") => return Answer::json(&self.counts()),
            ("GET", "/status") => {}
            ("POST", "/profile") => {
                return Answer::apply(body, |profile: Profile| {
                    profile.check().map_err(|error: ProfileError| error.to_string())?;
                    self.set_profile(profile);
                    Ok(self.status())
                });
            }
            ("POST", "/cut") => self.cut(),
            ("POST", "/pause") => self.pause(),
            ("POST", "/restore") => self.restore(),
            _ => return Answer::NotFound,
        }
        Answer::json(&self.status())
    }
}

/// Calls a running link's admin listener. Cheap to copy; every call opens a connection and waits 10 s at most.
#[derive(Clone, Copy, Debug)]
pub struct LinkAdmin(AdminClient);

impl LinkAdmin {
    /// For the admin listener at `addr`.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        Self(AdminClient::new(addr))
    }

    /// What the link has counted since it started.
    ///
    /// # Errors
    /// When the listener can't be reached or refuses.
    pub async fn counts(&self) -> Result<Counts, AdminError> {
        self.0.get("/counts").await
    }

    /// The link as it stands.
    ///
    /// # Errors
    /// When the listener can't be reached or refuses.
    pub async fn status(&self) -> Result<Status, AdminError> {
        self.0.get("/status").await
    }

    /// Sets delays and bandwidth for every chunk read from now on, on open connections too.
    ///
    /// # Errors
    /// When the listener can't be reached, or finds a delay out of range.
    pub async fn set_profile(&self, profile: &Profile) -> Result<Status, AdminError> {
        self.0.post("/profile", profile).await
    }

    /// Resets all connections and every new one, until [`LinkAdmin::restore`].
    ///
    /// # Errors
    /// When the listener can't be reached or refuses.
    pub async fn cut(&self) -> Result<Status, AdminError> {
        self.0.post("/cut", &()).await
    }

    /// Lets no byte arrive anywhere, until [`LinkAdmin::restore`]: what a client sees of a network that swallows
    /// packets.
    ///
    /// # Errors
    /// When the listener can't be reached or refuses.
    pub async fn pause(&self) -> Result<Status, AdminError> {
        self.0.post("/pause", &()).await
    }

    /// Ends a cut or a pause. Connections that were reset stay so; held bytes go on in order.
    ///
    /// # Errors
    /// When the listener can't be reached or refuses.
    pub async fn restore(&self) -> Result<Status, AdminError> {
        self.0.post("/restore", &()).await
    }
}
