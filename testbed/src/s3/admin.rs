//! The server's admin routes, and their client: `GET /counts`, `GET /faults`, `POST /faults`.

use std::net::SocketAddr;

use http::Method;

use super::faults::Faults;
use super::front::{Counts, Front};
use crate::httpd::{Admin, AdminClient, AdminError, Answer};

impl Admin for Front {
    fn handle(&self, method: &Method, path: &str, body: &[u8]) -> Answer {
        match (method.as_str(), path) {
            ("GET", "/counts") => Answer::json(&self.counts()),
            ("GET", "/faults") => Answer::json(&*self.faults()),
            ("POST", "/faults") => Answer::apply(body, |faults: Faults| {
                faults.check().map_err(|error| error.to_string())?;
                self.set_faults(faults.clone());
                Ok(faults)
            }),
            _ => Answer::NotFound,
        }
    }
}

/// Calls a running S3 server's admin listener. Cheap to copy; every call opens a connection and waits 10 s at most.
#[derive(Clone, Copy, Debug)]
pub struct S3Admin(AdminClient);

impl S3Admin {
    /// For the admin listener at `addr`.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        Self(AdminClient::new(addr))
    }

    /// What the server has counted since it started.
    ///
    /// # Errors
    /// When the listener can't be reached or refuses.
    pub async fn counts(&self) -> Result<Counts, AdminError> {
        self.0.get("/counts").await
    }

    /// The faults in force.
    ///
    /// # Errors
    /// When the listener can't be reached or refuses.
    pub async fn faults(&self) -> Result<Faults, AdminError> {
        self.0.get("/faults").await
    }

    /// Replaces all faults; requests stalled by the old ones go on.
    ///
    /// # Errors
    /// When the listener can't be reached, or finds a rate or status that makes no sense.
    pub async fn set_faults(&self, faults: &Faults) -> Result<(), AdminError> {
        self.0.post::<_, Faults>("/faults", faults).await.map(|_| ())
    }
}
